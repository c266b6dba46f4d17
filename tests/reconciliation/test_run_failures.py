"""Runs that fail: what was done stays, the next run continues, other rows are not affected."""

import datetime as dt

import pytest
from django.utils import timezone
from oscar.core.loading import get_model

from oscar_bitsby import reconciliation
from oscar_bitsby.exceptions import BitsbyError, Refused
from oscar_bitsby.models import BitsbyInvoice, BitsbyPayment, GatewayState
from oscar_bitsby.reconciliation import invoice_refresh
from tests.support import bitsby
from tests.support.invoices import expired_ago
from tests.support.remote_payments import RemotePayments
from tests.support.settling import status_of

Transaction = get_model("payment", "Transaction")

pytestmark = pytest.mark.django_db

HOUR = dt.timedelta(hours=1)


@pytest.mark.parametrize("page_size", [10, 50])
def test_interrupted_run_is_completed_by_the_next(watched, fake, page_size):
    """The next run finds the payments of pages that a failed run has not read."""
    books = RemotePayments(fake, page_size)
    books.add_unbound(3, newest=timezone.now() - HOUR)
    reconciliation.reconcile()
    books.add_unbound(70)
    books.failing = {page_size}
    with pytest.raises(Refused):
        reconciliation.reconcile()
    books.failing = set()

    reconciliation.reconcile()

    assert BitsbyPayment.objects.count() == 73


def test_next_run_finds_payments_that_a_burst_of_deliveries_left_unread(
    place, invoice_for, fake, watched, clock
):
    """A run reads on after a first page whose payments a delivery has settled."""
    books = RemotePayments(fake, page_size=10)
    books.add_unbound(3, newest=timezone.now() - HOUR)
    reconciliation.reconcile()
    paid = [invoice_for(place()) for _ in range(10)]
    for invoice in paid:
        books.add(invoice=bitsby.invoice_item(invoice, "paid"))
    books.add_unbound(5, newest=timezone.now() - HOUR / 2)
    BitsbyInvoice.objects.filter(pk=paid[0].pk).update(webhook_pending_since=timezone.now())
    clock.sleep(2)
    assert invoice_refresh.refresh_for_delivery(paid[1])
    assert BitsbyInvoice.objects.filter(status="paid").count() == 10

    reconciliation.reconcile()

    assert BitsbyPayment.objects.needs_review().count() == 8


def test_payments_settled_before_a_failure_stay_settled(order, watched, books, place, invoice_for):
    """A run that fails on the second page keeps what it settled, and the next run continues."""
    invoice_for(place())
    books.add(invoice=bitsby.invoice_item(watched, "paid"))
    books.add_unbound(80, newest=timezone.now() - HOUR)
    books.failing = {50}

    with pytest.raises(Refused):
        reconciliation.reconcile()
    assert status_of(order) == "Being processed"

    books.failing = set()
    report = reconciliation.reconcile()
    assert not report.skipped
    assert BitsbyPayment.objects.count() == 81
    assert Transaction.objects.count() == 1


def test_broken_connection_is_retried_within_the_run(order, watched, books, clock):
    """A request whose connection breaks is sent again by the same run."""
    books.add(invoice=bitsby.invoice_item(watched, "paid"))
    answers = iter([ConnectionError("broken pipe")])
    books.fake.on("/payments/list", lambda fields: next(answers, None) or books.answer(fields))

    reconciliation.reconcile()

    assert status_of(order) == "Being processed"


@pytest.mark.parametrize("answer", [(500, {}, "oops"), (200, {}, "[]"), (502, {}, ""), "down"])
def test_invalid_answer_fails_the_run_and_changes_nothing(order, watched, fake, answer):
    """An invalid answer raises ``BitsbyError``, changes no order and releases the lease."""
    fake.on("/payments/list", ConnectionError("down") if answer == "down" else answer)

    with pytest.raises(BitsbyError):
        reconciliation.reconcile()

    assert status_of(order) == "Pending"
    assert not GatewayState.objects.get().lease_token


def test_failing_payment_does_not_stop_the_others(place, invoice_for, books, failing_save):
    """A payment that cannot be stored is counted and retried; the others are settled."""
    invoices = [invoice_for(place()) for _ in range(3)]
    payments = [books.add(invoice=bitsby.invoice_item(invoice, "paid")) for invoice in invoices]
    broken = {payments[1]["id"]}
    failing_save(BitsbyPayment, lambda row: str(row.bitsby_id) in broken)

    report = reconciliation.reconcile()
    assert (report.booked, report.failures) == (2, 1)

    broken.clear()
    report = reconciliation.reconcile()
    assert (report.booked, report.failures) == (1, 0)
    assert Transaction.objects.count() == 3


def test_failing_invoice_does_not_stop_the_final_check_of_others(
    place, invoice_for, books, failing_save
):
    """An invoice that cannot be expired does not stop others from expiring."""
    invoices = [invoice_for(place(), expires_at=timezone.now() - HOUR / 6) for _ in range(4)]
    books.fake.invoices = [bitsby.invoice_item(invoice, "expired") for invoice in invoices]
    failing_save(BitsbyInvoice, lambda row: row.pk == invoices[1].pk)

    report = reconciliation.reconcile()

    assert (report.ended, report.failures) == (3, 1)


def test_failing_order_does_not_stop_the_cancellation_of_others(
    place, invoice_for, books, failing_save
):
    """An order that cannot be cancelled stays pending; the others are cancelled."""
    orders = [place() for _ in range(3)]
    books.fake.invoices = [
        bitsby.invoice_item(invoice_for(order, **expired_ago(hours=2)), "expired")
        for order in orders
    ]
    Note = get_model("order", "OrderNote")
    failing_save(Note, lambda row: row.order_id == orders[1].pk)

    report = reconciliation.reconcile()

    assert (report.cancelled, report.failures) == (2, 1)
    assert [status_of(order) for order in orders] == ["Cancelled", "Pending", "Cancelled"]
