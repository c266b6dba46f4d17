"""Races between threads about refunds: never more than was booked, and never booked twice.

Each thread has a connection of its own. PostgreSQL locks rows and SQLite the whole database, with
the same result.
"""

from decimal import Decimal
from functools import partial

import pytest
from django.db.models import Sum

from oscar_bitsby import settlement
from oscar_bitsby.choices import RefundState
from oscar_bitsby.exceptions import RefundRefused
from oscar_bitsby.gateway import parsing
from oscar_bitsby.models import BitsbyRefund
from oscar_bitsby.settlement import refunds
from tests.support import bitsby
from tests.support.concurrency import failures, run_together
from tests.support.refunds import (
    book_payment,
    new_hash,
    request_refund,
    unbound_payment,
    with_address,
)
from tests.support.settling import reload

pytestmark = pytest.mark.django_db(transaction=True)

#: Each race runs several times, since an error may not show every time.
several_times = pytest.mark.parametrize("turn", range(4))


def succeeded(results):
    """Return what the jobs that were not refused have returned."""
    assert failures(results, RefundRefused) == []
    return [one for one in results if not isinstance(one, Exception)]


def request_of_order(order, user, amount, **values):
    """Request the refund of an amount of an order, without a payment."""
    return refunds.request_refund(
        user=user,
        note="",
        order=order,
        amount=Decimal(amount),
        coin_amount=Decimal(amount),
        cryptocurrency="usdt",
        blockchain="tron",
        **values,
    )


@several_times
def test_concurrent_requests_make_one_refund_of_a_payment(payment, staff_user, turn):
    """Of four members of staff one gets the refund, and the others a message."""
    results = run_together(*[lambda: request_refund(staff_user, payment)] * 4)

    assert len(succeeded(results)) == BitsbyRefund.objects.count() == 1


@several_times
def test_concurrent_requests_make_one_refund_of_an_unbound_payment(unbound, staff_user, turn):
    """Without an order, the payment's own lock decides."""
    results = run_together(*[lambda: request_refund(staff_user, unbound, None)] * 4)

    assert len(succeeded(results)) == BitsbyRefund.objects.count() == 1


@several_times
def test_concurrent_refunds_of_an_order_never_exceed_what_it_holds(
    order, payment, staff_user, turn
):
    """Of four refunds of four dollars each, one by the payment, ten dollars are enough for two."""
    results = run_together(
        *[lambda: request_of_order(order, staff_user, "4.00")] * 3,
        lambda: request_refund(staff_user, payment, "4.00"),
    )

    assert len(succeeded(results)) == 2
    assert BitsbyRefund.objects.aggregate(sum=Sum("amount"))["sum"] == 8


@several_times
def test_double_click_requests_one_refund_of_an_order(order, payment, staff_user, turn):
    """Both clicks come from a page that knew of no refund."""
    click = partial(request_of_order, order, staff_user, "4.00", newest_seen=0)

    results = run_together(*[click] * 3)

    assert len(succeeded(results)) == BitsbyRefund.objects.count() == 1


@several_times
def test_refund_that_is_marked_as_sent_concurrently_is_booked_once(
    order, payment, staff_user, turn
):
    """A double click, or two members of staff with two hashes, make one transaction."""
    refund = with_address(request_refund(staff_user, payment, "4.00"))
    used = new_hash()

    results = run_together(
        lambda: refunds.mark_sent(refund.pk, used, staff_user),
        lambda: refunds.mark_sent(refund.pk, used, staff_user),
        lambda: refunds.mark_sent(refund.pk, new_hash(), staff_user),
    )

    assert len(succeeded(results)) == 1
    source = order.sources.get()
    assert (source.amount_refunded, source.transactions.filter(txn_type="Refund").count()) == (4, 1)


@several_times
def test_refund_without_an_order_is_closed_once(unbound, staff_user, turn):
    """Without an order to lock, the refund's own lock decides between two hashes and a cancel."""
    refund = with_address(request_refund(staff_user, unbound, None))
    results = run_together(
        lambda: refunds.mark_sent(refund.pk, new_hash(), staff_user),
        lambda: refunds.mark_sent(refund.pk, new_hash(), staff_user),
        lambda: refunds.cancel(refund.pk, staff_user, "mistake"),
    )

    (closed,) = succeeded(results)
    after = reload(refund)
    assert (after.state, after.transaction_hash) == (closed.state, closed.transaction_hash)


@several_times
def test_one_hash_entered_for_two_refunds_concurrently_is_stored_once(staff_user, turn):
    """The database decides, because the two refunds have no lock in common."""
    pair = [with_address(request_refund(staff_user, unbound_payment(), None)) for _ in range(2)]
    used = new_hash()

    results = run_together(
        *[lambda pk=one.pk: refunds.mark_sent(pk, used, staff_user) for one in pair]
    )

    assert len(succeeded(results)) == 1
    assert sorted(reload(one).state for one in pair) == ["address_given", "sent"]


@several_times
def test_two_addresses_given_concurrently_are_one(refund, turn):
    """The buyer's double click stores one address, and the second is told so."""
    results = run_together(*[lambda: with_address(refund)] * 3)

    assert len(succeeded(results)) == 1


@several_times
def test_refund_is_sent_or_cancelled_and_never_both(order, refund, staff_user, turn):
    """A refund that was cancelled is not booked, and one that was sent is not cancelled."""
    with_address(refund)
    results = run_together(
        lambda: refunds.mark_sent(refund.pk, new_hash(), staff_user),
        lambda: refunds.cancel(refund.pk, staff_user, "mistake"),
    )

    assert len(succeeded(results)) == 1
    is_sent = reload(refund).state == RefundState.SENT
    assert order.sources.get().amount_refunded == (10 if is_sent else 0)


@several_times
def test_payments_booked_while_another_is_refunded_are_both_in_the_ledger(
    order, invoice_for, staff_user, turn
):
    """A second payment and the refund of the first change the same source, and nothing is lost."""
    payment = book_payment(invoice_for(order))
    refund = with_address(request_refund(staff_user, payment))
    second = invoice_for(order, "expired")
    answer = parsing.parse_invoice(
        bitsby.invoice_item(second, "paid", payment=bitsby.transfer("7.00000000"))
    )

    results = run_together(
        lambda: refunds.mark_sent(refund.pk, new_hash(), staff_user),
        lambda: settlement.settle(second, answer),
    )

    assert len(succeeded(results)) == 2
    source = order.sources.get()
    assert (source.amount_debited, source.amount_refunded) == (17, 10)
