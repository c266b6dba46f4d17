"""Orders of several products, with vouchers."""

from decimal import Decimal

from django.contrib.auth.models import AnonymousUser
from oscar.core.loading import get_class, get_model
from oscar.test import factories

from oscar_bitsby.accounting import ledger

Applicator = get_class("offer.applicator", "Applicator")
Source = get_model("payment", "Source")


def create_plate(title="Plate", stock=20):
    """Return a product at 3 dollars."""
    return factories.create_product(
        title=title, price=Decimal("3.00"), num_in_stock=stock, partner_name="Shop"
    )


def place_order(quantities, voucher=None, user=None):
    """Place an order of some products as the checkout does, with a voucher if given."""
    user = user or AnonymousUser()
    basket = factories.create_basket(empty=True)
    basket.strategy = get_class("partner.strategy", "Default")()
    for thing, quantity in quantities.items():
        basket.add_product(thing, quantity)
    if voucher is not None:
        basket.vouchers.add(voucher)
    Applicator().apply(basket, user)
    order = factories.create_order(number=f"{500000 + basket.pk}", basket=basket, user=user)
    Source.objects.create(
        order=order,
        source_type=ledger.source_type(),
        currency=order.currency,
        amount_allocated=order.total_incl_tax,
    )
    return order
