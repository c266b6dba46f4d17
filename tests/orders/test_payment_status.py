"""The payment status of an order whose payment was not exactly right."""

import datetime as dt
from decimal import Decimal

import pytest
from django.utils import timezone

from oscar_bitsby.choices import InvoiceStatus, RefundState, ReviewReason
from oscar_bitsby.models import BitsbyPayment, BitsbyRefund
from oscar_bitsby.orders.payment_status import SeenPayment, get_payment_status
from tests.support.amounts import ask_for_rest, book, book_and_pay
from tests.support.unbound import receive, wallets

pytestmark = pytest.mark.django_db

DAY = dt.timedelta(days=1)


def amounts_of(status):
    return status.asked, status.received, status.missing, status.shortfall, status.surplus


@pytest.mark.parametrize(
    ("amount", "reason", "shortfall", "surplus"),
    [("8.00", "short", 2, 0), ("500.00", "over", 0, 490), ("20.00", "second", 0, 10)],
)
def test_paid_order_tells_the_open_difference(order, invoice, amount, reason, shortfall, surplus):
    """Asked, received and difference are known, and that staff have not decided yet."""
    book_and_pay(invoice, amount, reason)

    status = get_payment_status(order)

    assert (status.state, status.is_undecided, status.can_pay) == ("paid", True, False)
    assert amounts_of(status) == (10, Decimal(amount), 0, shortfall, surplus)


def test_difference_that_staff_accepted_is_no_longer_open(order, invoice):
    """The amounts stay, and nothing is undecided."""
    payment = book_and_pay(invoice, "8.00", "short")
    before = get_payment_status(order)
    BitsbyPayment.objects.filter(pk=payment.pk).update(resolved_at=timezone.now())

    status = get_payment_status(order)

    assert (status.is_undecided, status.received) == (False, 8)
    assert status.version != before.version


@pytest.mark.parametrize(
    ("rest", "state", "can_pay"),
    [
        (None, "new", True),
        ({}, "waiting", True),
        ({"status": InvoiceStatus.EXPIRED}, "expired", True),
        ({"expires_at": timezone.now() - DAY}, "expired", True),
        ({"status": InvoiceStatus.CREATING, "bitsby_id": None}, "new", True),
        ({"amount": Decimal(10)}, "new", True),
        ({"failure": "Bitsby reports it as paid without naming the payment"}, "under_review", 0),
    ],
    ids=["no invoice", "live", "expired", "overdue", "creating", "for the total", "paid unnamed"],
)
def test_order_whose_rest_is_asked_for_waits_for_the_rest(
    order, invoice, invoice_for, rest, state, can_pay
):
    """It is never shown as paid, and what is missing is what has not arrived."""
    ask_for_rest(invoice, "6.00")
    if rest is not None:
        defaults = {"amount": Decimal(4), "is_for_rest": True, "wallets": wallets("4.00")}
        invoice_for(order, **(defaults | rest))

    status = get_payment_status(order)

    assert (status.state, status.can_pay) == (state, bool(can_pay))
    assert amounts_of(status) == (10, 6, 4 if can_pay else 0, 4, 0)
    assert status.to_pay == (4 if can_pay else 10)


def test_order_whose_rest_has_arrived_is_paid(order, invoice, invoice_for):
    """With both payments nothing is missing."""
    ask_for_rest(invoice, "6.00")
    rest = invoice_for(order, amount=Decimal(4), is_for_rest=True)
    book_and_pay(rest, "4.00")

    status = get_payment_status(order)

    assert (status.state, status.missing, status.is_undecided) == ("paid", 0, False)


def test_second_short_payment_leaves_a_smaller_rest(order, invoice, invoice_for):
    """Asked for again, only what still has not arrived is missing."""
    ask_for_rest(invoice, "6.00")
    ask_for_rest(invoice_for(order, amount=Decimal(4), is_for_rest=True), "3.00")

    status = get_payment_status(order)

    assert (status.state, status.missing) == ("new", 1)


def test_rest_can_be_paid_until_its_hold_is_over(order, invoice, move_time):
    """Then staff decide: the buyer must neither pay nor order again."""
    move_time(hours=20)
    ask_for_rest(invoice, "6.00")
    move_time(hours=23)
    assert get_payment_status(order).state == "new"
    move_time(hours=1)

    status = get_payment_status(order)

    assert (status.state, status.can_pay, status.can_reorder) == ("under_review", False, False)
    assert (status.received, status.missing) == (6, 0)


@pytest.mark.parametrize("reason", [ReviewReason.SHORT, ReviewReason.REST_MISSING])
def test_pending_order_with_a_short_payment_under_review_cannot_be_paid(order, invoice, reason):
    """While staff decide, its buyer is not asked for the rest."""
    ask_for_rest(invoice, "6.00")
    book(invoice, "1.00", reason)

    status = get_payment_status(order)

    assert (status.state, status.can_pay, status.is_undecided) == ("under_review", False, True)


def test_unbooked_payment_for_the_rest_is_under_review(order, invoice, invoice_for):
    """The amount that is known is told."""
    ask_for_rest(invoice, "6.00")
    rest = invoice_for(order, amount=Decimal(4), is_for_rest=True)
    BitsbyPayment.objects.filter(pk=book(rest, "0.01").pk).update(
        booked_at=None, review_reason="not_paid", amount=4, fiat_value=4
    )

    status = get_payment_status(order)

    assert (status.state, status.can_pay, status.missing) == ("under_review", False, 0)
    assert status.seen == (SeenPayment("4 USDT", Decimal(4), "USD"),)


def test_likely_payment_for_the_rest_is_a_possible_mismatch(order, invoice, invoice_for):
    """The rest may have been paid with another amount, too."""
    ask_for_rest(invoice, "6.00")
    invoice_for(order, amount=Decimal(4), is_for_rest=True, wallets=wallets("4.00"))
    receive("3.90")

    status = get_payment_status(order)

    assert (status.state, status.missing) == ("possible_mismatch", 4)
    assert status.seen == (SeenPayment("3.9 USDT", Decimal("3.90"), "USD"),)


def test_second_payment_of_a_paid_order_is_told(order, invoice):
    """It is unbound at Bitsby, and only its amount says whose it is."""
    book_and_pay(invoice, "10.00")
    before = get_payment_status(order)
    receive("10.00")

    status = get_payment_status(order)

    assert (status.state, status.seen[0].coins) == ("paid", "10 USDT")
    assert status.version != before.version


@pytest.mark.parametrize("amount", ["0.01", "4.99", "15.01"])
def test_payment_of_quite_another_amount_is_not_told(order, invoice, amount):
    """It is hardly this buyer's."""
    receive(amount)

    assert get_payment_status(order).state == "waiting"


def test_late_payment_of_a_cancelled_order_is_told(order, invoice):
    """Its buyer is not asked to order again while the shop holds the money."""
    order.set_status("Cancelled")
    book(invoice, "10.00", "late")

    status = get_payment_status(order)

    assert (status.state, status.received) == ("cancelled", 10)
    assert (status.is_undecided, status.can_reorder) == (True, False)


@pytest.mark.parametrize(
    ("state", "is_open"), [(RefundState.REQUESTED, True), (RefundState.SENT, False)]
)
def test_open_refund_of_a_paid_order_is_told(order, invoice, state, is_open):
    """The page must not say that there is nothing left to do."""
    payment = book_and_pay(invoice, "12.00")
    BitsbyRefund.objects.create(
        order=order,
        payment=payment,
        state=state,
        cryptocurrency="usdt",
        blockchain="tron",
        coin_amount=2,
    )

    assert get_payment_status(order).is_refund_open is is_open


def test_version_changes_with_every_amount(order, invoice, invoice_for):
    """An open page updates itself when money arrives or is asked for."""
    versions = [get_payment_status(order).version]
    ask_for_rest(invoice, "6.00")
    versions.append(get_payment_status(order).version)
    order.sources.get().debit(Decimal(1), reference="y")
    versions.append(get_payment_status(order).version)

    assert len(set(versions)) == 3
