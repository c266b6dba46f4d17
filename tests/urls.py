"""The URLs of a stock Oscar shop, with the app included as the documentation says."""

from django.apps import apps
from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("admin/", admin.site.urls),
    path("i18n/", include("django.conf.urls.i18n")),
    path("bitsby/", include("oscar_bitsby.urls")),
    path("", include(apps.get_app_config("oscar").urls[0])),
]
