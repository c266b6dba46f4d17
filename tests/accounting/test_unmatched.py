"""Which order an unbound payment keeps and warns: the one that it fits best, and no other."""

import datetime as dt
from decimal import Decimal

import pytest
from django.utils import timezone

from oscar_bitsby.accounting.unmatched import likely_matches
from oscar_bitsby.choices import InvoiceStatus, RefundState
from oscar_bitsby.models import BitsbyRefund
from tests.support.unbound import receive

pytestmark = pytest.mark.django_db


def payments_for(invoice):
    """Return the payments that are probably meant for an invoice's order."""
    return [found.payment for found in likely_matches(invoice.order)]


def test_payment_counts_for_the_order_that_it_fits_best(offer):
    """Of four orders between half and double of it, one is warned."""
    near, *others = [offer(amount) for amount in ("14.00", "16.00", "8.00", "19.00")]
    payment = receive("13.00")

    assert payments_for(near) == [payment]
    assert [payments_for(other) for other in others] == [[], [], []]


def test_payment_of_another_orders_exact_amount_is_its_second_one(offer):
    """It warns the buyer who has paid twice, and nobody else."""
    paid = offer("10.00", InvoiceStatus.PAID)
    other = offer("11.00")
    payment = receive("10.00")

    assert payments_for(paid) == [payment]
    assert payments_for(other) == []


def test_payment_for_an_earlier_invoice_of_the_order_counts(offer, invoice_for):
    """The buyer may have paid the expired invoice before requesting a new one."""
    first = offer("10.00")
    newer = invoice_for(first.order, wallets=[])

    payment = receive("9.00")

    assert payments_for(newer) == [payment]


@pytest.mark.parametrize(
    "values",
    [
        {"is_dust": True},
        {"resolved_at": timezone.now(), "resolution": "dismissed"},
        {"booked_at": timezone.now()},
        {"review_reason": ""},
        {"transaction_at": timezone.now() + dt.timedelta(days=3)},
        {"amount": Decimal("4.90")},
    ],
    ids=["dust", "dismissed", "booked", "of another project", "days later", "too little"],
)
def test_other_payments_do_not_count(offer, values):
    """Only a likely payment that waits for a review does."""
    invoice = offer("10.00")
    receive(**({"amount": "9.00"} | values))

    assert payments_for(invoice) == []


@pytest.mark.parametrize(
    ("state", "counts"), [(RefundState.REQUESTED, False), (RefundState.CANCELLED, True)]
)
def test_payment_that_staff_refund_does_not_count(offer, state, counts):
    """A refund is a decision, unless it was cancelled."""
    invoice = offer("10.00")
    payment = receive("9.00")
    BitsbyRefund.objects.create(
        payment=payment, state=state, cryptocurrency="usdt", blockchain="tron", coin_amount=9
    )

    assert payments_for(invoice) == ([payment] if counts else [])


def test_without_a_payment_it_costs_one_query(offer, django_assert_num_queries):
    """Each view of an order's page pays for it."""
    order = offer("10.00").order
    invoices = list(order.bitsby_invoices.all())
    receive("500.00")

    with django_assert_num_queries(1):
        assert likely_matches(order, invoices) == []


def test_many_payments_cost_a_constant_number_of_queries(
    offer,
    django_assert_num_queries,
):
    """However many payments are unmatched, the rivals are read at once."""
    order = offer("10.00").order
    for amount in ("9.00", "9.50", "10.50", "11.00"):
        receive(amount)
        offer(amount, created_at=timezone.now() - dt.timedelta(days=9))
    invoices = list(order.bitsby_invoices.all())

    with django_assert_num_queries(2):
        assert len(likely_matches(order, invoices)) == 4
