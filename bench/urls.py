"""The URLs of the measured shop and of the other projects."""

from django.apps import apps
from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("admin/", admin.site.urls),
    path("i18n/", include("django.conf.urls.i18n")),
]
if apps.is_installed("oscar_bitsby"):
    urlpatterns.append(path("bitsby/", include("oscar_bitsby.urls")))
if apps.is_installed("bench.peers"):
    from bench.peers.views import bare

    urlpatterns += [
        path("bare/<uuid:invoice_id>/", bare),
        path("stripe/", include("djstripe.urls", namespace="djstripe")),
        path("payments/", include("payments.urls")),
    ]
urlpatterns.append(path("", include(apps.get_app_config("oscar").urls[0])))
