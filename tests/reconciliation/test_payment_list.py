"""Payment syncs find every payment, whatever the order of the list, with few requests."""

import datetime as dt

import pytest
from django.utils import timezone
from oscar.core.loading import get_model

from oscar_bitsby import reconciliation
from oscar_bitsby.exceptions import BitsbyError
from oscar_bitsby.models import BitsbyInvoice, BitsbyPayment, GatewayState
from tests.support import bitsby
from tests.support.invoices import expired_ago
from tests.support.remote_payments import RemotePayments
from tests.support.settling import status_of

Order = get_model("order", "Order")
Transaction = get_model("payment", "Transaction")

pytestmark = pytest.mark.django_db

HOUR = dt.timedelta(hours=1)
DAY = dt.timedelta(days=1)


@pytest.fixture
def watched_invoices(place):
    """1000 watched invoices of 1000 orders: half live, half expired for up to three weeks."""
    first = place()
    orders = []
    for number in range(1000):
        copy = Order.objects.get(pk=first.pk)
        copy.pk, copy.number = None, f"9{number:05}"
        copy.status = "Pending" if number % 2 else "Cancelled"
        orders.append(copy)
    Order.objects.bulk_create(orders)
    now = timezone.now()
    rows = []
    for number, order in enumerate(Order.objects.filter(number__startswith="9").order_by("pk")):
        ended = None if number % 2 else now - dt.timedelta(hours=number / 2)
        rows.append(
            BitsbyInvoice(
                order=order,
                order_number=order.number,
                status="expired" if ended else "unpaid",
                amount=order.total_incl_tax,
                currency=order.currency,
                project_id=bitsby.PROJECT,
                bitsby_id=bitsby.new_id(),
                uid=f"{number:012}",
                wallets=[{**bitsby.wallet(), "amount": "10.00000000"}],
                created_at=(ended or now) - HOUR,
                expires_at=ended or now + HOUR,
                ended_at=ended,
            )
        )
    BitsbyInvoice.objects.bulk_create(rows)
    first.delete()
    return list(BitsbyInvoice.objects.all())


@pytest.mark.parametrize("known", [0, 1, 49, 50, 51, 240])
def test_incremental_sync_without_news_makes_two_requests(watched_invoices, books, known):
    """However many invoices are watched and payments known, a run sends at most two requests."""
    for number in range(known):
        remote = bitsby.invoice_item(watched_invoices[number], "paid")
        books.add(invoice=remote, at=timezone.now() - dt.timedelta(minutes=number))
    reconciliation.reconcile()
    reconciliation.reconcile()

    report = reconciliation.reconcile()

    assert report.requests <= 2
    assert Transaction.objects.count() == known


def test_no_request_without_watched_invoices(place, invoice_for, books):
    """A shop whose invoices are all paid, or expired long ago, sends no request."""
    long_ago = timezone.now() - dt.timedelta(days=3)
    invoice_for(place(status="Being processed"), "paid", expires_at=long_ago)
    invoice_for(place(status="Cancelled"), **expired_ago(days=31))
    invoice_for(place(status="Cancelled"), "expired", bitsby_id=None, ended_at=timezone.now())

    report = reconciliation.reconcile()

    assert (report.requests, books.fake.requests) == (0, [])


def test_full_sync_finds_an_old_payment_bound_by_hand(order, invoice_for, books, clock):
    """A payment too old for an incremental sync is booked by the next full sync."""
    invoice = invoice_for(
        order, created_at=timezone.now() - 12 * DAY, expires_at=timezone.now() + HOUR
    )
    payment = books.add(at=timezone.now() - 10 * DAY)
    reconciliation.reconcile()
    assert BitsbyPayment.objects.get().review_reason == "unmatched"

    books.bind(payment, bitsby.invoice_item(invoice, "paid"))
    reconciliation.reconcile()
    incremental = books.fake.asked("/payments/list")[-1]
    assert status_of(order) == "Pending"
    GatewayState.objects.update(last_full_sync_at=timezone.now() - DAY)
    reconciliation.reconcile()
    full = books.fake.asked("/payments/list")[-1]

    assert status_of(order) == "Being processed"
    assert full["startDate"] < incremental["startDate"]


def test_interrupted_full_sync_is_repeated(watched, books):
    """A full sync that failed does not count, and the next run repeats it."""
    books.add_unbound(60)
    books.failing = {50}
    with pytest.raises(BitsbyError):
        reconciliation.reconcile()
    books.failing = set()

    reconciliation.reconcile()

    assert BitsbyPayment.objects.count() == 60


@pytest.mark.parametrize("page_size", [10, 50])
@pytest.mark.parametrize("listing", ["newest", "oldest", "shuffled"])
@pytest.mark.parametrize("known", [3, 130])
def test_incremental_sync_finds_payments_in_any_order_and_page_size(
    place, invoice_for, fake, watched, page_size, listing, known
):
    """The next run finds all new payments among known ones, wherever they are listed."""
    books = RemotePayments(fake, page_size, listing)
    now = timezone.now()
    books.add_unbound(known, newest=now - HOUR)
    reconciliation.reconcile()
    assert BitsbyPayment.objects.count() == known
    reconciliation.reconcile()
    paid = [invoice_for(place()) for _ in range(15)]
    for number, invoice in enumerate(paid):
        at = now - dt.timedelta(minutes=number)
        books.add(invoice=bitsby.invoice_item(invoice, "paid"), at=at)

    reconciliation.reconcile()

    assert Transaction.objects.count() == 15
    assert BitsbyInvoice.objects.filter(status="paid").count() == 15


def test_incremental_sync_stops_early_in_a_list_that_is_newest_first(watched, books):
    """In a list that is newest first, a page without new payments ends an incremental sync."""
    books.add_unbound(240)
    reconciliation.reconcile()
    before = books.asked
    reconciliation.reconcile()
    assert books.asked - before == 1

    books.add(at=timezone.now() + dt.timedelta(seconds=1))
    before = books.asked
    reconciliation.reconcile()

    assert books.asked - before == 2
    assert BitsbyPayment.objects.count() == 241


def test_payment_that_appears_late_is_found_within_an_hour(watched, books, move_time):
    """A payment that is listed below known ones is found by the overlap sync of each hour."""
    books.add_unbound(240)
    reconciliation.reconcile()
    books.add(at=timezone.now() - 3 * HOUR)
    reconciliation.reconcile()
    assert BitsbyPayment.objects.count() == 240

    move_time(hours=1)
    reconciliation.reconcile()

    assert BitsbyPayment.objects.count() == 241


def test_payments_of_equal_times_do_not_prove_a_newest_first_list(
    place, invoice_for, fake, watched
):
    """A list of payments of one time is not taken for one that is newest first."""
    books = RemotePayments(fake, 10, "oldest")
    now = timezone.now()
    for _ in range(12):
        books.add(at=now - HOUR)
    reconciliation.reconcile()
    books.add(invoice=bitsby.invoice_item(invoice_for(place()), "paid"), at=now)

    reconciliation.reconcile()

    assert Transaction.objects.count() == 1


@pytest.mark.parametrize("listing", ["oldest", "shuffled"])
def test_incremental_sync_reads_all_pages_unless_newest_is_first(watched, fake, listing):
    """A list that is not newest first is read to its end."""
    books = RemotePayments(fake, order=listing)
    books.add_unbound(240)
    reconciliation.reconcile()
    before = books.asked

    reconciliation.reconcile()

    assert books.asked - before == before
    assert before >= 5


@pytest.mark.parametrize("listing", ["oldest", "shuffled"])
def test_payment_is_found_after_the_order_of_the_list_changed(
    place, invoice_for, fake, watched, listing
):
    """A payment is found when the list is no longer newest first."""
    books = RemotePayments(fake)
    books.add_unbound(120, newest=timezone.now() - HOUR)
    reconciliation.reconcile()
    books.order = listing
    books.add(invoice=bitsby.invoice_item(invoice_for(place()), "paid"))

    reconciliation.reconcile()

    assert Transaction.objects.count() == 1


def test_sync_ends_when_the_list_ignores_the_offset(watched, fake):
    """A server that repeats its first page gets at most two requests."""
    items = [bitsby.payment_item() for _ in range(50)]
    fake.on("/payments/list", bitsby.success(items))

    report = reconciliation.reconcile()

    assert report.requests <= 2
    assert BitsbyPayment.objects.count() == 50


def test_invalid_item_does_not_hide_other_payments(order, watched, books):
    """An item without the documented fields is ignored; other payments are settled."""
    books.items += [
        {"id": "?", "transactionDatetime": bitsby.written(timezone.now())},
        {"amount": [], "transactionDatetime": bitsby.written(timezone.now())},
    ]
    books.add(invoice=bitsby.invoice_item(watched, "paid"))

    reconciliation.reconcile()

    assert status_of(order) == "Being processed"
