"""A shop that uses the mixins in its own views, as EXTEND_CHECKOUT = False requires."""

from oscar.core.loading import get_class

from oscar_bitsby.checkout.mixins import PaymentDetailsMixin, PaymentMethodMixin
from tests.checkout.stock_urls import shop_urls


class PaymentMethodView(PaymentMethodMixin, get_class("checkout.views", "PaymentMethodView")):
    """The shop's own."""


class PaymentDetailsView(PaymentDetailsMixin, get_class("checkout.views", "PaymentDetailsView")):
    """The shop's own."""


urlpatterns = shop_urls(PaymentMethodView, PaymentDetailsView)
