"""The shop with Oscar's own checkout views, for comparisons."""

import copy

from django.apps import apps
from django.urls import include, path
from oscar.core.loading import get_classes


def shop_urls(payment_method_view, payment_details_view):
    """Return the URLs of a shop with these checkout views."""
    checkout = copy.copy(apps.get_app_config("checkout"))
    checkout.payment_method_view = payment_method_view
    checkout.payment_details_view = payment_details_view
    oscar = copy.copy(apps.get_app_config("oscar"))
    oscar.checkout_app = checkout
    return [
        path("i18n/", include("django.conf.urls.i18n")),
        path("bitsby/", include("oscar_bitsby.urls")),
        path("", include(oscar.urls[0])),
    ]


urlpatterns = shop_urls(*get_classes("checkout.views", ["PaymentMethodView", "PaymentDetailsView"]))
