"""Refunds: what can be refunded, the steps until it is sent, and what each step writes."""

from decimal import Decimal

import pytest

from oscar_bitsby.choices import RefundState
from tests.support.refunds import book_payment, sent_refund
from tests.support.settling import booked


@pytest.fixture
def payment(invoice):
    """A booked payment of 10 dollars."""
    return book_payment(invoice)


def test_sent_refund_is_booked_by_its_hash(order, payment, staff_user):
    """Money out is a transaction whose reference is the transaction hash."""
    refund = sent_refund(staff_user, payment)

    assert (refund.state, refund.is_booked) == (RefundState.SENT, True)
    assert booked(order)[1:] == [(refund.transaction_hash, Decimal("10.00"))]
    source = order.sources.get()
    assert (source.amount_debited, source.amount_refunded) == (10, 10)
