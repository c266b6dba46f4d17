"""Passes and single looks: everything is found, in bulk, whatever order Bitsby lists it in."""

import datetime as dt
import random
from decimal import Decimal

import pytest
from django.core import serializers
from django.db import transaction
from django.db.models.signals import post_save
from django.utils import timezone
from oscar.core.loading import get_model

from oscar_bitsby import reconciliation
from oscar_bitsby.exceptions import BitsbyError, RateLimitTimeout, Refused
from oscar_bitsby.models import BitsbyInvoice, BitsbyPayment, GatewayState
from oscar_bitsby.reconciliation import invoice_refresh, refresh
from oscar_bitsby.reconciliation.lease import LEASE_DURATION
from oscar_bitsby.staff import review
from tests.support import bitsby

Order = get_model("order", "Order")
Source = get_model("payment", "Source")
SourceType = get_model("payment", "SourceType")
Transaction = get_model("payment", "Transaction")

pytestmark = pytest.mark.django_db

HOUR = dt.timedelta(hours=1)
DAY = dt.timedelta(days=1)


class Books:
    """The payments of a Bitsby that heeds dates and pages, in an order of our choice."""

    def __init__(self, fake, page_size=50, order="newest"):
        self.fake, self.page_size, self.order = fake, page_size, order
        self.items = []
        self.failing = set()
        fake.on("/payments/list", self.answer)

    def add(self, payment=None, invoice=None, at=None, **values):
        payment = {**(payment or bitsby.transfer())}
        payment["transactionDatetime"] = bitsby.written(at or timezone.now())
        self.items.append(bitsby.payment_item(payment, invoice, **values))
        return payment

    def add_strangers(self, count, newest=None):
        """Add unbound payments of the last hour, a second apart."""
        newest = newest or timezone.now()
        for number in range(count):
            self.add(at=newest - dt.timedelta(seconds=number))

    def bind(self, payment, invoice):
        item = next(item for item in self.items if item["id"] == payment["id"])
        item["invoice"] = invoice

    def answer(self, fields):
        if int(fields.get("offset", 0)) in self.failing:
            return bitsby.error("Something went wrong")
        items = sorted(self.items, key=lambda item: item["transactionDatetime"])
        if self.order == "newest":
            items.reverse()
        elif self.order == "shuffled":
            random.Random(7).shuffle(items)
        if "startDate" in fields:
            days = fields["startDate"], fields["endDate"]
            items = [i for i in items if days[0] <= i["transactionDatetime"][:10] <= days[1]]
        if "invoiceId" in fields:
            wanted = fields["invoiceId"]
            items = [i for i in items if (i.get("invoice") or {}).get("id") == wanted]
        start = int(fields.get("offset", 0))
        return bitsby.success(items[start : start + min(self.page_size, int(fields["limit"]))])

    @property
    def asked(self):
        return len(self.fake.asked("/payments/list"))


@pytest.fixture
def books(fake):
    return Books(fake)


@pytest.fixture
def watched(order, invoice_for):
    """A live invoice since yesterday, so that payments from then on are this shop's."""
    return invoice_for(order, created_at=timezone.now() - DAY, expires_at=timezone.now() + 2 * HOUR)


@pytest.fixture
def failing_save():
    """Return a function that makes saving one row fail, as a shop's broken receiver does."""
    connected = []

    def connect(model, matches):
        def fail(instance, **kwargs):
            if matches(instance):
                raise ValueError("the shop's receiver is broken")

        post_save.connect(fail, sender=model, weak=False)
        connected.append((model, fail))

    yield connect
    for model, fail in connected:
        post_save.disconnect(fail, sender=model)


def status_of(order):
    return Order.objects.get(pk=order.pk).status


def ended_ago(**delta):
    """Values of an invoice that expired so long ago."""
    at = timezone.now() - dt.timedelta(**delta)
    return {"status": "expired", "expires_at": at, "ended_at": at, "created_at": at - HOUR}


# What a pass finds


def test_run_settles_a_paid_invoice(order, watched, books):
    """The near look sees a payment of one of our invoices, and its order is paid."""
    payment = books.add(invoice=bitsby.invoice_item(watched, "paid"))

    report = reconciliation.reconcile()

    assert (report.booked, report.flagged, report.failures) == (1, 0, 0)
    assert Transaction.objects.get().reference == payment["id"]
    assert status_of(order) == "Being processed"


@pytest.mark.parametrize("shape", [{}, {"invoice": None}, {"invoice": {}}])
def test_an_unbound_payment_is_shown_and_then_settled_when_bound(order, watched, books, shape):
    """However "unbound" is written: inbox first, and booked once somebody binds it at Bitsby."""
    payment = books.add(bitsby.transfer("8.00000000"), **shape)
    for _ in range(3):
        reconciliation.reconcile()
    record = BitsbyPayment.objects.get()
    assert (record.review_reason, record.invoice, record.booked_at) == ("unmatched", None, None)
    assert not Transaction.objects.exists()

    books.bind(payment, bitsby.invoice_item(watched, "paid"))
    for _ in range(3):
        reconciliation.reconcile()

    record.refresh_from_db()
    assert (record.review_reason, record.invoice) == ("short", watched)
    assert Transaction.objects.get().amount == Decimal("8.00")
    assert status_of(order) == "Being processed"


@pytest.mark.parametrize(
    ("invoice", "reason", "is_foreign"),
    [
        (None, "unmatched", False),
        ({"projectId": bitsby.PROJECT}, "unknown_invoice", False),
        ({"projectId": bitsby.PROJECT.upper()}, "unknown_invoice", False),
        ({"projectId": "0b7c4a0e-64b0-4ad6-8d1f-6f0d1b7a9001"}, "", True),
    ],
)
def test_payment_bound_to_no_invoice_of_the_shop(watched, books, invoice, reason, is_foreign):
    """Unbound and unknown is for staff; what belongs to another project is only remembered."""
    remote = None
    if invoice is not None:
        remote = bitsby.invoice_item(watched, "paid", id=str(bitsby.new_id()), **invoice)
        remote["createDatetime"] = bitsby.written(timezone.now())
    books.add(invoice=remote)
    for _ in range(2):
        reconciliation.reconcile()

    record = BitsbyPayment.objects.get()
    assert (record.review_reason, record.is_foreign) == (reason, is_foreign)
    assert not Transaction.objects.exists()


def test_the_history_from_before_the_shop_is_not_for_staff(watched, books):
    """Payments and invoices older than the first invoice fill no inbox."""
    old = timezone.now() - 2 * DAY
    books.add(at=old)
    remote = bitsby.invoice_item(watched, "paid", id=str(bitsby.new_id()))
    books.add(invoice=remote | {"createDatetime": bitsby.written(old)}, at=old)

    reconciliation.reconcile()

    assert not BitsbyPayment.objects.needs_review().exists()


def test_late_money_is_found_on_an_expired_invoice(place, invoice_for, books):
    """An expired invoice is watched: money that comes weeks later is booked and flagged."""
    order = place(status="Cancelled")
    invoice = invoice_for(order, **ended_ago(days=20))
    books.add(invoice=bitsby.invoice_item(invoice, "paid"))

    reconciliation.reconcile()

    assert BitsbyPayment.objects.get().review_reason == "late"
    assert Transaction.objects.count() == 1
    assert status_of(order) == "Cancelled"


@pytest.mark.parametrize("words", [("confirming", "paid"), ("", "paid"), ("unpaid", "paid")])
def test_money_first_told_by_another_word_is_booked_when_it_counts(order, watched, books, words):
    """A payment that was seen before its invoice was called paid is not taken for old news."""
    payment = books.add()
    for word in words:
        books.bind(payment, bitsby.invoice_item(watched, word))
        reconciliation.reconcile()

    assert Transaction.objects.count() == 1
    assert status_of(order) == "Being processed"


def test_money_on_an_ended_invoice_is_booked_when_it_counts_after_all(order, watched, books):
    """A payment of an expired invoice waits, and is booked once Bitsby calls that one paid."""
    payment = books.add()
    for word in ("expired", "expired", "paid", "paid"):
        books.bind(payment, bitsby.invoice_item(watched, word))
        reconciliation.reconcile()

    assert Transaction.objects.count() == 1
    assert status_of(order) == "Being processed"
    assert BitsbyPayment.objects.get().review_reason == ""


def test_a_payment_bound_to_another_invoice_is_settled_there(place, invoice_for, books):
    """Staff who bind a payment elsewhere at Bitsby move it: the last word counts."""
    one, other = place(), place()
    first, second = invoice_for(one), invoice_for(other)
    payment = books.add(invoice=bitsby.invoice_item(first, "expired"))
    reconciliation.reconcile()
    books.bind(payment, bitsby.invoice_item(second, "paid"))
    reconciliation.reconcile()

    assert Transaction.objects.get().source.order == other
    assert BitsbyPayment.objects.get().invoice == second
    assert status_of(other) == "Being processed"


# What a pass costs


@pytest.fixture
def thousand(place):
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
def test_incremental_sync_without_news_makes_two_requests(thousand, books, known):
    """However many invoices are watched and payments known, at most two requests are sent."""
    for number in range(known):
        remote = bitsby.invoice_item(thousand[number], "paid")
        books.add(invoice=remote, at=timezone.now() - dt.timedelta(minutes=number))
    reconciliation.reconcile()
    reconciliation.reconcile()

    report = reconciliation.reconcile()

    assert report.requests <= 2
    assert Transaction.objects.count() == known


def test_no_request_without_watched_invoices(place, invoice_for, books):
    """A shop whose invoices are all paid, or ended long ago, sends no request."""
    long_ago = timezone.now() - dt.timedelta(days=3)
    invoice_for(place(status="Being processed"), "paid", expires_at=long_ago)
    invoice_for(place(status="Cancelled"), **ended_ago(days=31))
    invoice_for(place(status="Cancelled"), "expired", bitsby_id=None, ended_at=timezone.now())

    report = reconciliation.reconcile()

    assert (report.requests, books.fake.requests) == (0, [])


def test_what_was_sent_before_the_right_amount_is_found(order, watched, books):
    """A wrong amount followed by the right one, settled by a delivery, is not overlooked."""
    books.add(amount="9.00000000")
    right = bitsby.invoice_item(watched, "paid", payment=bitsby.transfer())
    books.fake.invoices = [right]
    refresh(watched)
    assert status_of(order) == "Being processed"

    reconciliation.reconcile()

    assert BitsbyPayment.objects.needs_review().get().amount == 9


def test_an_order_that_has_still_time_costs_no_request(place, invoice_for, books):
    """An old invoice of an order whose newer one has only just ended is not asked about."""
    order = place()
    invoice_for(order, **ended_ago(hours=5))
    invoice_for(order, **ended_ago(minutes=20))
    reconciliation.reconcile()

    report = reconciliation.reconcile()

    assert books.fake.asked("/invoices/list") == []
    assert report.requests <= 2
    assert status_of(order) == "Pending"


def test_many_overdue_invoices_are_asked_about_in_bulk(place, invoice_for, books):
    """The last word on 120 invoices costs three pages, not 120 questions."""
    invoices = [invoice_for(place(), expires_at=timezone.now() - HOUR / 6) for _ in range(120)]
    books.fake.invoices = [bitsby.invoice_item(invoice, "expired") for invoice in invoices]

    report = reconciliation.reconcile()

    assert report.ended == 120
    assert len(books.fake.asked("/invoices/list")) <= 3
    assert not BitsbyInvoice.objects.live().exists()


def test_overdue_invoice_missing_from_the_bulk_list_is_requested_singly(place, invoice_for, books):
    """Paid and canceled ones among many overdue invoices are found, a few in each pass."""
    invoices = [invoice_for(place(), expires_at=timezone.now() - HOUR / 6) for _ in range(12)]
    words = ["expired"] * 6 + ["canceled"] * 3 + ["paid"] * 3
    books.fake.invoices = [
        bitsby.invoice_item(row, word, payment=bitsby.transfer() if word == "paid" else None)
        for row, word in zip(invoices, words, strict=True)
    ]
    for _ in range(3):
        reconciliation.reconcile()

    assert [BitsbyInvoice.objects.get(pk=row.pk).status for row in invoices] == words
    assert Transaction.objects.count() == 3


def test_invoices_that_bitsby_does_not_know_do_not_cost_more_and_more(
    place, invoice_for, books, move_time
):
    """Long overdue and unknown: the questions become few, and the orders stay."""
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


# Near and far looks


def test_full_sync_finds_an_old_payment_bound_by_hand(order, invoice_for, books, clock):
    """What a near look cannot see is found within a day, though its webhook was lost."""
    invoice = invoice_for(
        order, created_at=timezone.now() - 12 * DAY, expires_at=timezone.now() + HOUR
    )
    payment = books.add(at=timezone.now() - 10 * DAY)
    reconciliation.reconcile()
    assert BitsbyPayment.objects.get().review_reason == "unmatched"

    books.bind(payment, bitsby.invoice_item(invoice, "paid"))
    reconciliation.reconcile()
    near = books.fake.asked("/payments/list")[-1]
    assert status_of(order) == "Pending"
    GatewayState.objects.update(last_full_sync_at=timezone.now() - DAY)
    reconciliation.reconcile()
    far = books.fake.asked("/payments/list")[-1]

    assert status_of(order) == "Being processed"
    assert far["startDate"] < near["startDate"]


def test_full_sync_happens_once_a_day(watched, books, move_time):
    """Of a day's passes, one goes back over all that is watched."""
    BitsbyInvoice.objects.update(
        created_at=timezone.now() - 20 * DAY, expires_at=timezone.now() + 20 * DAY
    )
    for _ in range(48):
        reconciliation.reconcile()
        move_time(hours=1)

    starts = [fields["startDate"] for fields in books.fake.asked("/payments/list")]
    old = (timezone.now() - 15 * DAY).date().isoformat()
    assert len(starts) == 48
    assert sum(start < old for start in starts) == 2


def test_dates_are_asked_for_with_two_days_more_on_both_sides(watched, books):
    """Zone and ends of date filters are not known, so a day for either is asked for."""
    reconciliation.reconcile()

    fields = books.fake.asked("/payments/list")[0]
    assert fields["startDate"] <= (watched.created_at - 2 * DAY).date().isoformat()
    assert fields["endDate"] >= (timezone.now() + 2 * DAY).date().isoformat()


def test_interrupted_full_sync_is_repeated(watched, books):
    """Only a far look that read everything counts as the day's."""
    books.add_strangers(60)
    books.failing = {50}
    with pytest.raises(BitsbyError):
        reconciliation.reconcile()
    books.failing = set()

    reconciliation.reconcile()

    assert BitsbyPayment.objects.count() == 60


def test_clock_set_back_does_not_stop_full_syncs(watched, books):
    """A far look noted in the future is not believed."""
    GatewayState.ensure_exists()
    GatewayState.objects.update(last_full_sync_at=timezone.now() + 100 * DAY)

    reconciliation.reconcile()

    assert GatewayState.objects.get().last_full_sync_at <= timezone.now()


@pytest.mark.parametrize("page_size", [10, 50])
@pytest.mark.parametrize("listing", ["newest", "oldest", "shuffled"])
@pytest.mark.parametrize("known", [3, 130])
def test_nothing_is_lost_whatever_the_order_and_page_size(
    place, invoice_for, fake, watched, page_size, listing, known
):
    """New payments among many known ones are all found by the next pass, wherever they stand."""
    books = Books(fake, page_size, listing)
    now = timezone.now()
    books.add_strangers(known, newest=now - HOUR)
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


def test_the_list_is_left_early_when_it_was_seen_newest_first(watched, books):
    """Once a far look saw the newest first, a page without news ends a near look."""
    books.add_strangers(240)
    reconciliation.reconcile()
    before = books.asked
    reconciliation.reconcile()
    assert books.asked - before == 1

    books.add(at=timezone.now() + dt.timedelta(seconds=1))
    before = books.asked
    reconciliation.reconcile()

    assert books.asked - before == 2
    assert BitsbyPayment.objects.count() == 241


def test_a_payment_that_was_confirmed_late_is_found_within_the_hour(watched, books, move_time):
    """A transfer appears by the time it was sent at, which may be below what is known."""
    books.add_strangers(240)
    reconciliation.reconcile()
    books.add(at=timezone.now() - 3 * HOUR)
    reconciliation.reconcile()
    assert BitsbyPayment.objects.count() == 240

    move_time(hours=1)
    reconciliation.reconcile()

    assert BitsbyPayment.objects.count() == 241


def test_payments_of_one_moment_say_nothing_about_the_order_of_the_list(
    place, invoice_for, fake, watched
):
    """A list of equal times is not taken for one with the newest first."""
    books = Books(fake, 10, "oldest")
    now = timezone.now()
    for _ in range(12):
        books.add(at=now - HOUR)
    reconciliation.reconcile()
    books.add(invoice=bitsby.invoice_item(invoice_for(place()), "paid"), at=now)

    reconciliation.reconcile()

    assert Transaction.objects.count() == 1


@pytest.mark.parametrize("listing", ["oldest", "shuffled"])
def test_the_list_is_read_whole_when_it_is_not_newest_first(watched, fake, listing):
    """Without the right order every page is read."""
    books = Books(fake, order=listing)
    books.add_strangers(240)
    reconciliation.reconcile()
    before = books.asked

    reconciliation.reconcile()

    assert books.asked - before == before
    assert before >= 5


@pytest.mark.parametrize("listing", ["oldest", "shuffled"])
def test_an_order_that_changes_is_noticed(place, invoice_for, fake, watched, listing):
    """A list that was newest first yesterday and is not today loses nothing."""
    books = Books(fake)
    books.add_strangers(120, newest=timezone.now() - HOUR)
    reconciliation.reconcile()
    books.order = listing
    books.add(invoice=bitsby.invoice_item(invoice_for(place()), "paid"))

    reconciliation.reconcile()

    assert Transaction.objects.count() == 1


def test_a_list_that_ignores_the_offset_ends(watched, fake):
    """A server that gives the same page for ever does not keep a pass for ever."""
    items = [bitsby.payment_item() for _ in range(50)]
    fake.on("/payments/list", bitsby.success(items))

    report = reconciliation.reconcile()

    assert report.requests <= 2
    assert BitsbyPayment.objects.count() == 50


def test_a_strange_item_does_not_hide_the_others(order, watched, books):
    """An entry without the documented shape is left out; those beside it are settled."""
    books.items += [
        {"id": "?", "transactionDatetime": bitsby.written(timezone.now())},
        {"amount": [], "transactionDatetime": bitsby.written(timezone.now())},
    ]
    books.add(invoice=bitsby.invoice_item(watched, "paid"))

    reconciliation.reconcile()

    assert status_of(order) == "Being processed"


# A pass that fails


@pytest.mark.parametrize("page_size", [10, 50])
def test_interrupted_run_is_completed_by_the_next(watched, fake, page_size):
    """What stood on the pages that were not read is found by the next pass, not by tomorrow's."""
    books = Books(fake, page_size)
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
    books = Books(fake, page_size=10)
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


def test_what_was_settled_before_a_failure_stays_settled(order, watched, books, place, invoice_for):
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
def test_nonsense_from_bitsby_is_an_error_and_changes_nothing(order, watched, fake, answer):
    """An answer that is none raises ours, and the order stays as it is."""
    fake.on("/payments/list", ConnectionError("down") if answer == "down" else answer)

    with pytest.raises(BitsbyError):
        reconciliation.reconcile()

    assert status_of(order) == "Pending"
    assert not GatewayState.objects.get().lease_token


def test_one_failing_payment_does_not_stop_the_others(place, invoice_for, books, failing_save):
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


def test_one_failing_invoice_does_not_stop_the_final_check_of_others(
    place, invoice_for, books, failing_save
):
    """An invoice that cannot be ended does not keep others from ending."""
    invoices = [invoice_for(place(), expires_at=timezone.now() - HOUR / 6) for _ in range(4)]
    books.fake.invoices = [bitsby.invoice_item(invoice, "expired") for invoice in invoices]
    failing_save(BitsbyInvoice, lambda row: row.pk == invoices[1].pk)

    report = reconciliation.reconcile()

    assert (report.ended, report.failures) == (3, 1)


def test_one_failing_order_does_not_stop_the_others_cancelling(
    place, invoice_for, books, failing_save
):
    """An order that cannot be cancelled is left as it was, the others are cancelled."""
    orders = [place() for _ in range(3)]
    books.fake.invoices = [
        bitsby.invoice_item(invoice_for(order, **ended_ago(hours=2)), "expired") for order in orders
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


# Noted deliveries


def test_flagged_invoice_is_refreshed(order, invoice, books):
    """A delivery that found no free slot is dealt with by the next pass."""
    BitsbyInvoice.objects.update(webhook_pending_since=timezone.now())
    books.fake.invoices = [bitsby.invoice_item(invoice, "paid", payment=bitsby.transfer())]

    reconciliation.reconcile()

    assert status_of(order) == "Being processed"
    invoice.refresh_from_db()
    assert invoice.webhook_pending_since is None


def test_wrong_delivery_causes_one_request(order, invoice, books):
    """An invoice that Bitsby calls unpaid is not asked about in every further pass."""
    BitsbyInvoice.objects.update(webhook_pending_since=timezone.now())
    books.fake.invoices = [bitsby.invoice_item(invoice)]
    for _ in range(4):
        reconciliation.reconcile()

    assert len(books.fake.asked("/invoices/list")) == 1
    assert status_of(order) == "Pending"


def test_flood_of_wrong_deliveries_causes_few_requests_in_a_run(place, invoice_for, books):
    """Noted deliveries are asked about a few at a time."""
    for _ in range(30):
        invoice_for(place(), webhook_pending_since=timezone.now())
    books.fake.invoices = [bitsby.invoice_item(row) for row in BitsbyInvoice.objects.all()]

    report = reconciliation.reconcile()

    assert report.requests <= 5


# The end of invoices and orders


def test_final_check_can_find_the_invoice_paid(order, invoice_for, books):
    """An overdue invoice that Bitsby calls paid is settled instead of expired."""
    invoice = invoice_for(order, expires_at=timezone.now() - HOUR / 6)
    books.fake.invoices = [bitsby.invoice_item(invoice, "paid", payment=bitsby.transfer())]

    reconciliation.reconcile()

    assert status_of(order) == "Being processed"
    assert Transaction.objects.count() == 1


@pytest.mark.parametrize("word", ["unpaid", "confirming"])
def test_overdue_invoice_that_bitsby_keeps_open_stays_open(order, invoice_for, books, word):
    """Our clock ends nothing: what Bitsby does not call ended stays live."""
    invoice = invoice_for(order, expires_at=timezone.now() - HOUR / 6)
    books.fake.invoices = [bitsby.invoice_item(invoice, word)]

    reconciliation.reconcile()

    invoice.refresh_from_db()
    assert (invoice.status, status_of(order)) == ("unpaid", "Pending")


def test_payment_found_by_the_final_check_before_cancelling_is_settled(order, invoice_for, books):
    """An order about to be cancelled whose expired invoice turns out paid is paid instead."""
    invoice = invoice_for(order, **ended_ago(hours=2))
    books.fake.invoices = [bitsby.invoice_item(invoice, "paid", payment=bitsby.transfer())]

    report = reconciliation.reconcile()

    assert (report.booked, report.cancelled) == (1, 0)
    assert status_of(order) == "Being processed"


def test_an_unpaid_order_is_cancelled_after_its_time_only(order, invoice_for, books, move_time):
    """Expired by one pass, cancelled ``CANCEL_AFTER`` after the end of its invoice."""
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


def test_with_cancel_after_zero_one_run_expires_and_cancels(order, invoice_for, books, settings):
    """``timedelta(0)``: expired and cancelled by the same pass, after a last look each."""
    settings.OSCAR_BITSBY = {**settings.OSCAR_BITSBY, "CANCEL_AFTER": dt.timedelta(0)}
    invoice = invoice_for(order, expires_at=timezone.now() - dt.timedelta(seconds=1))
    books.fake.invoices = [bitsby.invoice_item(invoice, "expired")]

    report = reconciliation.reconcile()

    assert (report.ended, report.cancelled) == (1, 1)
    assert status_of(order) == "Cancelled"


def test_with_cancel_after_none_no_order_is_cancelled(
    place, invoice_for, books, settings, move_time
):
    """``None``: neither orders with ended invoices nor those without any are cancelled."""
    settings.OSCAR_BITSBY = {**settings.OSCAR_BITSBY, "CANCEL_AFTER": None}
    order = place()
    place()
    invoice = invoice_for(order, **ended_ago(hours=2))
    books.fake.invoices = [bitsby.invoice_item(invoice, "expired")]
    move_time(days=3)

    assert reconciliation.reconcile().cancelled == 0
    assert set(Order.objects.values_list("status", flat=True)) == {"Pending"}


def test_an_order_without_any_invoice_is_cancelled_in_the_end(order, books, move_time):
    """A buyer who never came to pay: cancelled after ``TIME_TO_PAY`` plus ``CANCEL_AFTER``."""
    move_time(minutes=119)
    assert reconciliation.reconcile().cancelled == 0
    move_time(minutes=2)

    report = reconciliation.reconcile()

    assert (report.cancelled, report.requests) == (1, 0)
    assert status_of(order) == "Cancelled"


def test_an_order_of_another_method_is_never_touched(order, books, move_time):
    """A pending order without a Bitsby source waits for somebody else's money."""
    order.sources.all().delete()
    Source.objects.create(
        order=order, source_type=SourceType.objects.create(name="Later", code="later")
    )
    move_time(days=5)

    assert reconciliation.reconcile().cancelled == 0
    assert status_of(order) == "Pending"


def test_abandoned_attempt_does_not_block_cancellation_for_ever(
    order, invoice_for, books, move_time
):
    """A ``creating`` row of a process that crashed is given up, and its order cancelled later."""
    invoice_for(order, "creating", bitsby_id=None, uid="", expires_at=None)
    move_time(seconds=16)
    reconciliation.reconcile()
    assert BitsbyInvoice.objects.get().status == "expired"
    move_time(minutes=61)

    assert reconciliation.reconcile().cancelled == 1


def test_a_young_attempt_is_left_alone(order, invoice_for, books, move_time):
    """An attempt whose answer may still come is not given up."""
    invoice_for(order, "creating", bitsby_id=None, uid="", expires_at=None)
    move_time(seconds=14)
    reconciliation.reconcile()

    assert BitsbyInvoice.objects.get().status == "creating"


def test_an_order_that_was_paid_by_card_is_never_cancelled(order, invoice_for, books):
    """The expired invoice of an order that another source paid cancels nothing."""
    invoice = invoice_for(order, **ended_ago(hours=2))
    books.fake.invoices = [bitsby.invoice_item(invoice, "expired")]
    card = SourceType.objects.create(name="Card", code="card")
    Source.objects.create(order=order, source_type=card, amount_debited=10)
    for _ in range(2):
        assert reconciliation.reconcile().cancelled == 0

    assert status_of(order) == "Pending"


def test_an_order_whose_money_was_dismissed_is_cancelled_in_the_end(
    order, invoice_for, books, django_user_model
):
    """Once staff have sent the money back, a pass gives the order up and releases its stock."""
    staff = django_user_model.objects.create_user("staff", "staff@example.com", "secret")
    invoice = invoice_for(order, **ended_ago(hours=2))
    books.fake.invoices = [bitsby.invoice_item(invoice, "expired", payment=bitsby.transfer())]
    reconciliation.reconcile()
    assert status_of(order) == "Pending"

    assert review.dismiss(BitsbyPayment.objects.get().pk, staff, "refunded by hand").done
    BitsbyInvoice.objects.update(last_refreshed_at=timezone.now() - HOUR)
    reconciliation.reconcile()

    assert status_of(order) == "Cancelled"


# Dry run, one at a time


def dump(*, but=()):
    """All rows of all our tables and Oscar's, as text."""
    models = [
        model
        for label in ("order", "payment", "partner", "voucher", "oscar_bitsby")
        for model in [
            get_model(label, name)
            for name in {
                "order": ["Order", "Line", "OrderNote", "OrderStatusChange", "PaymentEvent"],
                "payment": ["Source", "Transaction"],
                "partner": ["StockRecord"],
                "voucher": ["Voucher", "VoucherApplication"],
                "oscar_bitsby": ["BitsbyInvoice", "BitsbyPayment", "WebhookDelivery"],
            }[label]
        ]
    ]
    rows = [row for model in models for row in model._default_manager.order_by("pk")]
    return serializers.serialize("json", rows)


def test_a_dry_run_reports_and_writes_nothing(place, invoice_for, books):
    """``dry_run`` counts what would be done; all tables stay as they are, and so do the looks."""
    paid, overdue, ended, flagged = place(), place(), place(), place()
    invoices = [
        invoice_for(paid),
        invoice_for(overdue, expires_at=timezone.now() - HOUR / 6),
        invoice_for(ended, **ended_ago(hours=2)),
        invoice_for(flagged, webhook_pending_since=timezone.now()),
    ]
    invoice_for(place(), "creating", bitsby_id=None, created_at=timezone.now() - HOUR)
    books.add(invoice=bitsby.invoice_item(invoices[0], "paid"))
    books.add(bitsby.transfer("1.00000000"))
    books.fake.invoices = [bitsby.invoice_item(invoice, "expired") for invoice in invoices[1:3]]
    GatewayState.ensure_exists()
    looks = GatewayState.objects.values(
        "last_full_sync_at", "lists_newest_first", "last_run_at"
    ).get()
    before = dump()

    report = reconciliation.reconcile(dry_run=True)

    assert dump() == before
    assert (
        GatewayState.objects.values("last_full_sync_at", "lists_newest_first", "last_run_at").get()
        == looks
    )
    assert (report.booked, report.flagged) == (1, 1)
    assert (report.ended, report.cancelled) == (1, 1)
    real = reconciliation.reconcile()
    assert (real.booked, real.flagged, real.ended, real.cancelled) == (1, 1, 1, 1)
    assert GatewayState.objects.get().last_run_at > looks["last_run_at"]


def test_run_is_skipped_while_another_holds_the_lease(watched, books):
    """The second pass asks nothing and says that it stood back."""
    GatewayState.ensure_exists()
    GatewayState.objects.update(lease_until=timezone.now() + LEASE_DURATION, lease_token="another")

    report = reconciliation.reconcile()

    assert report.skipped
    assert "skipped" in str(report)
    assert books.fake.requests == []
    assert GatewayState.objects.get().lease_token == "another"


def test_lease_of_a_dead_run_expires(order, watched, books):
    """A pass that died stops the next ones for minutes only: its lease is short, and ends."""
    leases = []

    def answer(fields):
        leases.append(GatewayState.objects.get().lease_until)
        return books.answer(fields)

    books.fake.on("/payments/list", answer)
    reconciliation.reconcile()
    assert leases[0] <= timezone.now() + dt.timedelta(minutes=10)

    books.add(invoice=bitsby.invoice_item(watched, "paid"))
    second = dt.timedelta(seconds=1)
    GatewayState.objects.update(lease_until=timezone.now() - second, lease_token="dead")

    assert not reconciliation.reconcile().skipped
    assert status_of(order) == "Being processed"


def test_lease_from_a_wrong_clock_expires(order, watched, books):
    """A lease that ends in a year was given by a clock that has been put back."""
    GatewayState.ensure_exists()
    GatewayState.objects.update(lease_until=timezone.now() + 365 * DAY, lease_token="wrong")

    assert not reconciliation.reconcile().skipped


def test_run_that_lost_its_lease_stops(watched, books):
    """A pass whose lease another one has taken stops, and leaves the other's lease alone."""
    books.add_strangers(70)

    def overtake(fields):
        GatewayState.objects.update(lease_token="another")
        return books.answer(fields)

    books.fake.on("/payments/list", overtake)

    with pytest.raises(BitsbyError, match="taken over"):
        reconciliation.reconcile()
    assert GatewayState.objects.get().lease_token == "another"


def test_finished_run_releases_the_lease(watched, books):
    """One pass after the other runs at once."""
    assert not reconciliation.reconcile().skipped
    assert not reconciliation.reconcile().skipped


def test_progress_is_reported_as_text(watched, books):
    """Whoever watches a pass is told what is being done."""
    books.add_strangers(60)
    words = []

    report = reconciliation.reconcile(progress=words.append)

    assert words[0] == "full sync of payments"
    assert "60 payments on 2 pages" in words
    assert "60 payments seen" in str(report)


# Single looks


def test_refresh_settles_what_bitsby_says(order, invoice, fake):
    """One question about one invoice settles it."""
    fake.invoices = [bitsby.invoice_item(invoice, "paid", payment=bitsby.transfer())]

    outcome = refresh(invoice)

    assert outcome.is_final
    assert status_of(order) == "Being processed"


def test_refresh_of_an_invoice_that_bitsby_does_not_know_does_nothing(order, invoice, fake):
    """No answer about it is no outcome, even when the server answers with others."""
    other = bitsby.invoice_item(invoice, "paid", payment=bitsby.transfer(), id=str(bitsby.new_id()))
    fake.on("/invoices/list", bitsby.success([other]))

    assert refresh(invoice) is None
    assert status_of(order) == "Pending"


def test_refresh_of_an_attempt_makes_no_request(order, invoice_for, fake):
    """An attempt that has no id at Bitsby cannot be asked about."""
    assert refresh(invoice_for(order, "creating", bitsby_id=None)) is None
    assert fake.requests == []


def test_a_paid_answer_without_its_payment_is_completed(order, invoice, fake):
    """Where the invoice does not name its payment, the list of payments does."""
    payment = bitsby.transfer()
    remote = bitsby.invoice_item(invoice, "paid")
    fake.invoices, fake.payments = [remote], [bitsby.payment_item(payment, remote)]

    refresh(invoice)

    assert Transaction.objects.get().reference == payment["id"]


def test_another_invoices_payment_completes_nothing(order, invoice, fake):
    """A server that does not heed the filter cannot lend one invoice another's payment."""
    other = bitsby.invoice_item(invoice, "paid", id=str(bitsby.new_id()))
    fake.invoices = [bitsby.invoice_item(invoice, "paid")]
    fake.on(
        "/payments/list",
        bitsby.success([bitsby.payment_item(invoice=other), bitsby.payment_item()]),
    )

    refresh(invoice)

    assert not Transaction.objects.exists()
    assert status_of(order) == "Pending"


@pytest.mark.parametrize("answer", [bitsby.error("no"), ConnectionError("down"), (500, {}, "")])
def test_refresh_raises_ours_and_changes_nothing(order, invoice, fake, answer):
    """A Bitsby that cannot be asked changes nothing."""
    fake.on("/invoices/list", answer)

    with pytest.raises(BitsbyError):
        refresh(invoice)
    assert status_of(order) == "Pending"


def test_opportunistic_refresh_happens_at_most_once_in_ten_seconds(invoice, fake, clock, move_time):
    """A buyer who reloads the page does not cost a request each time."""
    fake.invoices = [bitsby.invoice_item(invoice)]
    looked = []
    for _ in range(12):
        invoice.refresh_from_db()
        looked.append(invoice_refresh.refresh_if_idle(invoice))
        move_time(seconds=1)
        clock.sleep(1)

    assert len(fake.requests) == 2
    assert looked.count(True) == 2


def test_opportunistic_refresh_does_not_wait_and_never_raises(invoice, fake, clock):
    """Without a free slot, or without Bitsby, the buyer's page goes on at once."""
    fake.invoices = [bitsby.invoice_item(invoice)]
    refresh(invoice)
    slept = clock.slept
    assert invoice_refresh.refresh_if_idle(invoice) is False
    assert clock.slept == slept

    clock.sleep(2)
    fake.on("/invoices/list", ConnectionError("down"))
    assert invoice_refresh.refresh_if_idle(invoice) is False


@pytest.mark.parametrize("status", ["creating", "paid", "expired", "canceled"])
def test_opportunistic_refresh_is_for_open_invoices_only(order, invoice_for, fake, status):
    """What is settled or over costs no request."""
    assert invoice_refresh.refresh_if_idle(invoice_for(order, status)) is False
    assert fake.requests == []


def test_refresh_for_a_delivery_keeps_to_one_request_a_second(order, invoice, fake, clock):
    """A look whose answer lacks the payment does not send a second request at once."""
    payment, remote = bitsby.transfer(), bitsby.invoice_item(invoice, "paid")
    fake.invoices, fake.payments = [remote], [bitsby.payment_item(payment, remote)]

    with pytest.raises(RateLimitTimeout):
        invoice_refresh.refresh_for_delivery(invoice)

    assert len(fake.requests) == 1
    assert clock.slept == 0
    reconciliation.reconcile()
    assert status_of(order) == "Being processed"


# No API call inside a transaction


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("call", [refresh, invoice_refresh.refresh_for_delivery])
def test_refresh_inside_a_transaction_is_refused(invoice, fake, call):
    """A lock held while Bitsby answers would stop the shop: nothing is sent, it raises."""
    fake.invoices = [bitsby.invoice_item(invoice, "paid", payment=bitsby.transfer())]

    with transaction.atomic(), pytest.raises(RuntimeError):
        call(invoice)

    assert fake.requests == []
    assert not Transaction.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_run_inside_a_transaction_is_refused(watched, fake):
    """A whole pass inside somebody's transaction raises before anything is sent."""
    with transaction.atomic(), pytest.raises(RuntimeError):
        reconciliation.reconcile()

    assert fake.requests == []


def test_long_overdue_order_is_cancelled_in_the_run_that_expires_its_invoice(order, watched, books):
    """After a night without passes, one is enough: nothing that was answered is held up."""
    BitsbyInvoice.objects.update(expires_at=timezone.now() - 24 * HOUR)
    watched.refresh_from_db()
    books.fake.invoices = [bitsby.invoice_item(watched, "expired")]

    reconciliation.reconcile()

    assert status_of(order) == "Cancelled"
