"""Expiry and cancellation: the final check of invoices, and orders that nobody pays."""

import datetime as dt

import pytest
from django.utils import timezone
from oscar.core.loading import get_model

from oscar_bitsby import reconciliation
from oscar_bitsby.models import BitsbyInvoice, BitsbyPayment
from oscar_bitsby.staff import review
from tests.support import bitsby
from tests.support.invoices import expired_ago
from tests.support.settling import status_of

Order = get_model("order", "Order")
Source = get_model("payment", "Source")
SourceType = get_model("payment", "SourceType")
Transaction = get_model("payment", "Transaction")

pytestmark = pytest.mark.django_db

HOUR = dt.timedelta(hours=1)


def test_order_that_is_not_yet_due_causes_no_request(place, invoice_for, books):
    """The old invoice of an order whose newer one has just expired is not fetched."""
    order = place()
    invoice_for(order, **expired_ago(hours=5))
    invoice_for(order, **expired_ago(minutes=20))
    reconciliation.reconcile()

    report = reconciliation.reconcile()

    assert books.fake.asked("/invoices/list") == []
    assert report.requests <= 2
    assert status_of(order) == "Pending"


def test_overdue_invoices_are_fetched_in_bulk(place, invoice_for, books):
    """The final check of 120 overdue invoices sends at most three requests."""
    invoices = [invoice_for(place(), expires_at=timezone.now() - HOUR / 6) for _ in range(120)]
    books.fake.invoices = [bitsby.invoice_item(invoice, "expired") for invoice in invoices]

    report = reconciliation.reconcile()

    assert report.ended == 120
    assert len(books.fake.asked("/invoices/list")) <= 3
    assert not BitsbyInvoice.objects.live().exists()


def test_overdue_invoice_missing_from_the_bulk_list_is_requested_singly(place, invoice_for, books):
    """Overdue invoices that were paid or canceled are fetched singly, a few in each run."""
    invoices = [invoice_for(place(), expires_at=timezone.now() - HOUR / 6) for _ in range(12)]
    statuses = ["expired"] * 6 + ["canceled"] * 3 + ["paid"] * 3
    books.fake.invoices = [
        bitsby.invoice_item(row, status, payment=bitsby.transfer() if status == "paid" else None)
        for row, status in zip(invoices, statuses, strict=True)
    ]
    for _ in range(3):
        reconciliation.reconcile()

    assert [BitsbyInvoice.objects.get(pk=row.pk).status for row in invoices] == statuses
    assert Transaction.objects.count() == 3


@pytest.fixture
def list_expired(books):
    """Return a function that lists invoices of ours and others, a minute apart, as expired."""

    def make(ours, others, newest, *, newest_first=True):
        items = [bitsby.invoice_item(invoice, "expired") for invoice in ours]
        for number in range(others):
            at = bitsby.written(newest - number * HOUR / 60)
            key = str(bitsby.new_id())
            items.append(bitsby.invoice_item(ours[0], "expired", id=key, createDatetime=at))
        items.sort(key=lambda item: item["createDatetime"], reverse=newest_first)
        books.fake.invoices += items

    return make


@pytest.mark.parametrize("is_known", [True, False])
def test_lagging_invoice_causes_at_most_four_requests(
    place, invoice_for, books, list_expired, is_known
):
    """An overdue invoice that is not listed as expired does not cause the whole list to be read."""
    now = timezone.now()
    lagging, *ended = [invoice_for(place(), expires_at=now - HOUR / 6) for _ in range(3)]
    list_expired(ended, 1900, now - HOUR)
    if is_known:
        books.fake.invoices.append(bitsby.invoice_item(lagging))

    report = reconciliation.reconcile()

    assert report.ended == 2
    assert report.requests <= 4


@pytest.mark.parametrize("newest_first", [True, False])
def test_list_is_read_up_to_the_wanted_invoices(place, invoice_for, list_expired, newest_first):
    """After an outage, old invoices are found behind many others, and all of them expire."""
    now = timezone.now()
    created_at = now - 24 * HOUR if newest_first else now
    overdue = [
        invoice_for(place(), created_at=created_at, expires_at=now - HOUR / 6) for _ in range(20)
    ]
    list_expired(overdue, 400, now - HOUR, newest_first=newest_first)

    report = reconciliation.reconcile()

    assert report.ended == 20
    assert report.requests <= 12


def test_invoices_of_unread_pages_are_fetched_singly(place, invoice_for, list_expired):
    """Invoices that are not on the pages that were read are fetched by their ids, some a run."""
    now = timezone.now()
    overdue = [
        invoice_for(place(), created_at=now - HOUR * number / 3, expires_at=now - HOUR / 6)
        for number in range(1, 8)
    ]
    list_expired(overdue[:1], 400, now - HOUR / 2)
    list_expired(overdue[1:], 0, now)

    reports = [reconciliation.reconcile() for _ in range(2)]

    assert sum(report.ended for report in reports) == 7
    assert max(report.requests for report in reports) <= 8


def test_overdue_invoices_unknown_to_bitsby_cause_few_requests(
    place, invoice_for, books, move_time
):
    """Unknown overdue invoices are fetched less and less often, and their orders stay pending."""
    for _ in range(20):
        invoice_for(place(), expires_at=timezone.now() - HOUR / 6)
    for _ in range(8):
        reconciliation.reconcile()
        move_time(minutes=10)
    books.fake.requests.clear()
    for _ in range(10):
        reconciliation.reconcile()
        move_time(seconds=5)

    assert len(books.fake.asked("/invoices/list")) <= 30
    assert set(Order.objects.values_list("status", flat=True)) == {"Pending"}


@pytest.mark.parametrize("has_expired", [False, True])
def test_payment_found_by_the_final_check_is_settled(order, invoice_for, books, has_expired):
    """If the final check before expiry or cancellation finds a payment, the order is paid."""
    ago = expired_ago(hours=2) if has_expired else {"expires_at": timezone.now() - HOUR / 6}
    invoice = invoice_for(order, **ago)
    books.fake.invoices = [bitsby.invoice_item(invoice, "paid", payment=bitsby.transfer())]

    report = reconciliation.reconcile()

    assert (report.booked, report.ended, report.cancelled) == (1, 0, 0)
    assert status_of(order) == "Being processed"
    assert Transaction.objects.count() == 1


@pytest.mark.parametrize("status", ["unpaid", "confirming"])
def test_overdue_invoice_that_bitsby_keeps_open_stays_open(order, invoice_for, books, status):
    """An overdue invoice stays live until Bitsby calls it expired."""
    invoice = invoice_for(order, expires_at=timezone.now() - HOUR / 6)
    books.fake.invoices = [bitsby.invoice_item(invoice, status)]

    reconciliation.reconcile()

    invoice.refresh_from_db()
    assert (invoice.status, status_of(order)) == ("unpaid", "Pending")


def test_unpaid_order_is_cancelled_at_cancel_after_and_not_earlier(
    order, invoice_for, books, move_time
):
    """An order is cancelled once, ``CANCEL_AFTER`` after its invoice has expired."""
    invoice = invoice_for(order, expires_at=timezone.now() + HOUR)
    books.fake.invoices = [bitsby.invoice_item(invoice, "expired")]
    move_time(minutes=61)
    assert (reconciliation.reconcile().ended, status_of(order)) == (1, "Pending")
    move_time(minutes=58)
    assert (reconciliation.reconcile().cancelled, status_of(order)) == (0, "Pending")
    move_time(minutes=2)

    assert reconciliation.reconcile().cancelled == 1
    assert status_of(order) == "Cancelled"
    assert reconciliation.reconcile().cancelled == 0


def test_with_cancel_after_zero_one_run_expires_and_cancels(order, invoice_for, books, configure):
    """With ``timedelta(0)`` the same run expires the invoice and cancels the order."""
    configure(CANCEL_AFTER=dt.timedelta(0))
    invoice = invoice_for(order, expires_at=timezone.now() - dt.timedelta(seconds=1))
    books.fake.invoices = [bitsby.invoice_item(invoice, "expired")]

    report = reconciliation.reconcile()

    assert (report.ended, report.cancelled) == (1, 1)
    assert status_of(order) == "Cancelled"


@pytest.mark.parametrize(("hold", "cancelled"), [(None, 0), (dt.timedelta(hours=71), 2)])
def test_with_cancel_after_none_orders_are_cancelled_at_the_end_of_the_hold(
    place, invoice_for, books, configure, move_time, hold, cancelled
):
    """With ``None`` for both no order is cancelled, with an expired invoice or without any."""
    configure(CANCEL_AFTER=None, HOLD_ORDER_FOR=hold)
    order = place()
    place()
    invoice = invoice_for(order, **expired_ago(hours=2))
    books.fake.invoices = [bitsby.invoice_item(invoice, "expired")]
    move_time(hours=70)
    assert reconciliation.reconcile().cancelled == 0
    move_time(hours=2)

    assert reconciliation.reconcile().cancelled == cancelled
    status = "Cancelled" if cancelled else "Pending"
    assert set(Order.objects.values_list("status", flat=True)) == {status}


def test_order_without_an_invoice_is_cancelled(order, books, move_time):
    """It is cancelled at the end of its hold, after one request that proves that Bitsby answers."""
    move_time(hours=23, minutes=59)
    assert reconciliation.reconcile().cancelled == 0
    move_time(minutes=2)

    report = reconciliation.reconcile()

    assert (report.cancelled, report.requests) == (1, 1)
    assert status_of(order) == "Cancelled"


def test_order_of_another_payment_method_is_not_cancelled(order, books, move_time):
    """A pending order without a Bitsby source is never cancelled."""
    order.sources.all().delete()
    Source.objects.create(
        order=order, source_type=SourceType.objects.create(name="Later", code="later")
    )
    move_time(days=5)

    assert reconciliation.reconcile().cancelled == 0
    assert status_of(order) == "Pending"


def test_abandoned_attempt_expires_and_its_order_is_cancelled(order, invoice_for, books, move_time):
    """The attempt of a crashed process expires, and its order is cancelled after the hold."""
    invoice_for(order, "creating", bitsby_id=None, uid="", expires_at=None)
    move_time(seconds=16)
    reconciliation.reconcile()
    assert BitsbyInvoice.objects.get().status == "expired"
    move_time(hours=23)
    assert reconciliation.reconcile().cancelled == 0
    move_time(hours=1)

    assert reconciliation.reconcile().cancelled == 1
    assert "The last attempt failed: no answer came" in order.notes.get().message


def test_recent_attempt_does_not_expire(order, invoice_for, books, move_time):
    """An attempt whose answer may still come stays ``creating``."""
    invoice_for(order, "creating", bitsby_id=None, uid="", expires_at=None)
    move_time(seconds=14)
    reconciliation.reconcile()

    assert BitsbyInvoice.objects.get().status == "creating"


def test_order_paid_by_card_is_not_cancelled(order, invoice_for, books):
    """An order that another source has paid is not cancelled for its expired invoice."""
    invoice = invoice_for(order, **expired_ago(hours=2))
    books.fake.invoices = [bitsby.invoice_item(invoice, "expired")]
    card = SourceType.objects.create(name="Card", code="card")
    Source.objects.create(order=order, source_type=card, amount_debited=10)
    for _ in range(2):
        assert reconciliation.reconcile().cancelled == 0

    assert status_of(order) == "Pending"


def test_order_whose_payment_was_dismissed_is_cancelled(
    order, invoice_for, books, django_user_model
):
    """After staff have dismissed the payment, the next run cancels the order."""
    staff = django_user_model.objects.create_user("staff", "staff@example.com", "secret")
    invoice = invoice_for(order, **expired_ago(hours=2))
    books.fake.invoices = [bitsby.invoice_item(invoice, "expired", payment=bitsby.transfer())]
    reconciliation.reconcile()
    assert status_of(order) == "Pending"

    assert review.dismiss(BitsbyPayment.objects.get().pk, staff, "refunded by hand").done
    BitsbyInvoice.objects.update(last_refreshed_at=timezone.now() - HOUR)
    reconciliation.reconcile()

    assert status_of(order) == "Cancelled"


def test_long_overdue_order_is_cancelled_in_the_run_that_expires_its_invoice(order, watched, books):
    """After a day without runs, one run expires the invoice and cancels its order."""
    BitsbyInvoice.objects.update(expires_at=timezone.now() - 24 * HOUR)
    watched.refresh_from_db()
    books.fake.invoices = [bitsby.invoice_item(watched, "expired")]

    reconciliation.reconcile()

    assert status_of(order) == "Cancelled"
