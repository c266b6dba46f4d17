"""The shop with Oscar's own checkout views, for comparisons."""

import copy

from django.apps import apps
from django.urls import include, path
from oscar.core.loading import get_class

checkout = copy.copy(apps.get_app_config("checkout"))
checkout.payment_method_view = get_class("checkout.views", "PaymentMethodView")
checkout.payment_details_view = get_class("checkout.views", "PaymentDetailsView")

oscar = copy.copy(apps.get_app_config("oscar"))
oscar.checkout_app = checkout

urlpatterns = [
    path("i18n/", include("django.conf.urls.i18n")),
    path("bitsby/", include("oscar_bitsby.urls")),
    path("", include(oscar.urls[0])),
]
