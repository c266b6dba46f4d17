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
    """What stood on the pages that were not read is found by the next pass, not by tomorrow's."""
    books = RemotePayments(fake, page_size)
    books.add_strangers(3, newest=timezone.now() - HOUR)
    reconciliation.reconcile()
    books.add_strangers(70)
    books.failing = {page_size}
    with pytest.raises(Refused):
        reconciliation.reconcile()
    books.failing = set()

    reconciliation.reconcile()

    assert BitsbyPayment.objects.count() == 73


def test_next_run_finds_payments_that_a_burst_of_deliveries_left_unread(
    place, invoice_for, fake, watched, clock
):
    """The first page that deliveries had read is no reason to stop before the second."""
    books = RemotePayments(fake, page_size=10)
    books.add_strangers(3, newest=timezone.now() - HOUR)
    reconciliation.reconcile()
    paid = [invoice_for(place()) for _ in range(10)]
    for invoice in paid:
        books.add(invoice=bitsby.invoice_item(invoice, "paid"))
    books.add_strangers(5, newest=timezone.now() - HOUR / 2)
    BitsbyInvoice.objects.filter(pk=paid[0].pk).update(webhook_pending_since=timezone.now())
    clock.sleep(2)
    assert invoice_refresh.refresh_for_delivery(paid[1])
    assert BitsbyInvoice.objects.filter(status="paid").count() == 10

    reconciliation.reconcile()

    assert BitsbyPayment.objects.needs_review().count() == 8


def test_payments_settled_before_a_failure_stay_settled(order, watched, books, place, invoice_for):
    """An API that fails in the middle raises, keeps what was done, and is asked again."""
    invoice_for(place())
    books.add(invoice=bitsby.invoice_item(watched, "paid"))
    books.add_strangers(80, newest=timezone.now() - HOUR)
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
    """One lost answer does not fail a pass."""
    books.add(invoice=bitsby.invoice_item(watched, "paid"))
    answers = iter([ConnectionError("broken pipe")])
    books.fake.on("/payments/list", lambda fields: next(answers, None) or books.answer(fields))

    reconciliation.reconcile()

    assert status_of(order) == "Being processed"


@pytest.mark.parametrize("answer", [(500, {}, "oops"), (200, {}, "[]"), (502, {}, ""), "down"])
def test_invalid_answer_fails_the_run_and_changes_nothing(order, watched, fake, answer):
    """An answer that is none raises ours, and the order stays as it is."""
    fake.on("/payments/list", ConnectionError("down") if answer == "down" else answer)

    with pytest.raises(BitsbyError):
        reconciliation.reconcile()

    assert status_of(order) == "Pending"
    assert not GatewayState.objects.get().lease_token


def test_failing_payment_does_not_stop_the_others(place, invoice_for, books, failing_save):
    """A payment that cannot be recorded is counted; the others are settled, and it is retried."""
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
    """An invoice that cannot be ended does not keep others from ending."""
    invoices = [invoice_for(place(), expires_at=timezone.now() - HOUR / 6) for _ in range(4)]
    books.fake.invoices = [bitsby.invoice_item(invoice, "expired") for invoice in invoices]
    failing_save(BitsbyInvoice, lambda row: row.pk == invoices[1].pk)

    report = reconciliation.reconcile()

    assert (report.ended, report.failures) == (3, 1)


def test_failing_order_does_not_stop_the_cancellation_of_others(
    place, invoice_for, books, failing_save
):
    """An order that cannot be cancelled is left as it was, the others are cancelled."""
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


def test_failing_flagged_invoice_does_not_stop_the_run(place, invoice_for, books, failing_save):
    """A noted delivery whose invoice fails does not keep others from their last word."""
    flagged = invoice_for(place(), webhook_pending_since=timezone.now())
    overdue = invoice_for(place(), expires_at=timezone.now() - HOUR / 6)
    books.fake.invoices = [
        bitsby.invoice_item(flagged, "paid", payment=bitsby.transfer()),
        bitsby.invoice_item(overdue, "expired"),
    ]
    failing_save(BitsbyInvoice, lambda row: row.pk == flagged.pk)

    report = reconciliation.reconcile()

    overdue.refresh_from_db()
    assert overdue.status == "expired"
    assert report.failures == 1
