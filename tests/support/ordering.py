"""Orders of several products, with vouchers and offers."""

import datetime as dt
from decimal import Decimal

from django.contrib.auth.models import AnonymousUser
from django.utils import timezone
from oscar.core.loading import get_class, get_model
from oscar.test import factories

from oscar_bitsby.accounting import ledger

Applicator = get_class("offer.applicator", "Applicator")
Source = get_model("payment", "Source")
Voucher = get_model("voucher", "Voucher")


def create_plate(title="Plate", stock=20):
    """Return a product at 3 dollars."""
    return factories.create_product(
        title=title, price=Decimal("3.00"), num_in_stock=stock, partner_name="Shop"
    )


def create_voucher(usage=Voucher.SINGLE_USE):
    """Return the voucher ONCE of 20 percent."""
    yesterday = timezone.now() - dt.timedelta(days=1)
    return factories.create_voucher(code="ONCE", usage=usage, start_datetime=yesterday)


def create_site_offer(**limits):
    """Return the offer Sale of 20 percent, which every basket gets within these limits."""
    offer = factories.create_offer(name="Sale")
    for name, limit in limits.items():
        setattr(offer, name, limit)
    offer.save()
    return offer


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
