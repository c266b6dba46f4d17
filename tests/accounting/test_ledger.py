"""The ledger: sources, transactions and payment events."""

from __future__ import annotations

from decimal import Decimal

import pytest
from oscar.core.loading import get_model

from oscar_bitsby import reconciliation
from oscar_bitsby.accounting import ledger
from tests import bitsby
from tests.support.ordering import create_plate, place_order

Source = get_model("payment", "Source")
SourceType = get_model("payment", "SourceType")

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize(
    ("debited", "refunded", "has"), [(0, 0, False), (10, 0, True), (10, 9, True), (10, 10, False)]
)
def test_money_is_what_was_debited_and_not_given_back(order, debited, refunded, has):
    """An order has money as long as some source holds more than it gave back."""
    card = SourceType.objects.create(name="Card", code="card")
    Source.objects.create(
        order=order, source_type=card, amount_debited=debited, amount_refunded=refunded
    )

    assert ledger.has_money(order) is has


def test_an_allocation_alone_is_no_money(order):
    """What was only allocated when the order was placed proves nothing."""
    assert order.sources.get().amount_allocated == Decimal("10.00")
    assert not ledger.has_money(order)


def test_there_is_one_source_type():
    """The source type of Bitsby's money is made once, with its public code."""
    assert ledger.source_type() == ledger.source_type()
    assert ledger.source_type().code == "bitsby"
    assert SourceType.objects.count() == 1


def test_a_payment_event_covers_every_line(invoice_for, fake, product):
    """The event names all lines with their whole quantities."""
    order = place_order({product: 2, create_plate(): 3})
    invoice = invoice_for(order)
    fake.payments = [bitsby.payment_item(invoice=bitsby.invoice_item(invoice, "paid"))]

    reconciliation.reconcile()

    quantities = order.payment_events.get().line_quantities.values_list("quantity", flat=True)
    assert sorted(quantities) == [2, 3]
