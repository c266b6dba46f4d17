"""Put the mixins in front of the shop's checkout views, stock or forked."""

from oscar_bitsby.checkout.mixins import PaymentDetailsMixin, PaymentMethodMixin
from oscar_bitsby.utils.patching import extend_view


def extend_checkout() -> None:
    """Extend the payment step and the preview; a view that has its mixin is left alone.

    The checkout config's own ``ready()`` sets the views, so it has to run before this.
    """
    extend_view("checkout", "payment_method_view", PaymentMethodMixin, patched_by_app=True)
    extend_view("checkout", "payment_details_view", PaymentDetailsMixin, patched_by_app=True)
