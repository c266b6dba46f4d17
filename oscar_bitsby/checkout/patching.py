"""Puts the mixins in front of whatever checkout views the shop has, stock or forked.

Oscar's checkout config keeps its view classes as attributes and builds its URLs from them later,
so replacing the attributes extends the shop without a fork. It has to happen after the checkout
config's own ``ready()``, which is why the app must come after it in ``INSTALLED_APPS``.
"""

from __future__ import annotations

from typing import Any

from django.apps import apps

from oscar_bitsby.checkout.mixins import PaymentDetailsMixin, PaymentMethodMixin

#: The attribute of the checkout config, and the mixin for the view that it holds.
MIXINS = {
    "payment_method_view": PaymentMethodMixin,
    "payment_details_view": PaymentDetailsMixin,
}


def extend_checkout() -> None:
    """Put the mixins in front of the shop's views; a view that has its mixin is left alone."""
    config = apps.get_app_config("checkout")
    for attribute, mixin in MIXINS.items():
        view = getattr(config, attribute, None)
        if view is not None and not issubclass(view, mixin):
            setattr(config, attribute, extended(view, mixin))


def extended(view: type[Any], mixin: type[Any]) -> type[Any]:
    """Return a class that is ``mixin`` first and ``view`` second, with the view's name."""
    attributes = {"patched_by_app": True, "__module__": view.__module__, "__doc__": view.__doc__}
    return type(view.__name__, (mixin, view), attributes)
