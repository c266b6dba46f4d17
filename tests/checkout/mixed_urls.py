"""A shop that uses the mixins in its own views, as EXTEND_CHECKOUT = False requires."""

import copy

from django.apps import apps
from django.urls import include, path
from oscar.core.loading import get_class

from oscar_bitsby.checkout.mixins import PaymentDetailsMixin, PaymentMethodMixin


class PaymentMethodView(PaymentMethodMixin, get_class("checkout.views", "PaymentMethodView")):
    """The shop's own."""


class PaymentDetailsView(PaymentDetailsMixin, get_class("checkout.views", "PaymentDetailsView")):
    """The shop's own."""


checkout = copy.copy(apps.get_app_config("checkout"))
checkout.payment_method_view = PaymentMethodView
checkout.payment_details_view = PaymentDetailsView

oscar = copy.copy(apps.get_app_config("oscar"))
oscar.checkout_app = checkout

urlpatterns = [
    path("i18n/", include("django.conf.urls.i18n")),
    path("bitsby/", include("oscar_bitsby.urls")),
    path("", include(oscar.urls[0])),
]
