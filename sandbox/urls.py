"""The URLs of the sandbox shop: Oscar's with a language prefix, the app's without one."""

from django.apps import apps
from django.conf import settings
from django.conf.urls.i18n import i18n_patterns
from django.conf.urls.static import static
from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("admin/", admin.site.urls),
    path("i18n/", include("django.conf.urls.i18n")),
    # Outside i18n_patterns: a delivery that is redirected to /en/ would lose its body.
    path("bitsby/", include("oscar_bitsby.urls")),
    *static(settings.MEDIA_URL, document_root=settings.MEDIA_ROOT),
    *i18n_patterns(path("", include(apps.get_app_config("oscar").urls[0]))),
]
