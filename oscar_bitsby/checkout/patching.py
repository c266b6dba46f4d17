"""Put the mixins in front of the shop's checkout views, stock or forked.

Oscar's checkout config keeps its view classes as attributes and builds its URLs from them later,
so replacing the attributes extends the shop without a fork. This has to happen after the checkout
config's own ``ready()``, which is why the app must come after it in ``INSTALLED_APPS``.
"""

from oscar_bitsby.checkout.mixins import PaymentDetailsMixin, PaymentMethodMixin
from oscar_bitsby.utils.patching import extend_view


def extend_checkout() -> None:
    """Extend the payment step and the preview; a view that has its mixin is left alone."""
    extend_view("checkout", "payment_method_view", PaymentMethodMixin, patched_by_app=True)
    extend_view("checkout", "payment_details_view", PaymentDetailsMixin, patched_by_app=True)
