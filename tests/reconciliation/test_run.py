"""Runs: what they settle, dry runs, the lease and progress."""

import datetime as dt
from decimal import Decimal

import pytest
from django.core import serializers
from django.db import transaction
from django.utils import timezone
from oscar.core.loading import get_model

from oscar_bitsby import reconciliation
from oscar_bitsby.exceptions import BitsbyError
from oscar_bitsby.models import BitsbyPayment, GatewayState
from oscar_bitsby.reconciliation import refresh
from tests.support import bitsby
from tests.support.invoices import expired_ago
from tests.support.settling import status_of

Transaction = get_model("payment", "Transaction")

pytestmark = pytest.mark.django_db

HOUR = dt.timedelta(hours=1)
DAY = dt.timedelta(days=1)


def test_run_settles_a_paid_invoice(order, watched, books):
    """A run books the payment of a paid invoice, and its order is paid."""
    payment = books.add(invoice=bitsby.invoice_item(watched, "paid"))

    report = reconciliation.reconcile()

    assert (report.booked, report.flagged, report.failures) == (1, 0, 0)
    assert Transaction.objects.get().reference == payment["id"]
    assert status_of(order) == "Being processed"


@pytest.mark.parametrize("shape", [{}, {"invoice": None}, {"invoice": {}}])
def test_unbound_payment_needs_review_and_is_settled_when_bound(order, watched, books, shape):
    """An unbound payment needs review, and is booked once when it is bound at Bitsby."""
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
def test_payment_without_an_invoice_of_the_shop_is_not_booked(
    watched, books, invoice, reason, is_foreign
):
    """An unbound payment needs review; one of another project does not."""
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


def test_payments_older_than_the_shop_need_no_review(watched, books):
    """Payments and invoices from before the shop's first invoice are not listed for review."""
    old = timezone.now() - 2 * DAY
    books.add(at=old)
    remote = bitsby.invoice_item(watched, "paid", id=str(bitsby.new_id()))
    books.add(invoice=remote | {"createDatetime": bitsby.written(old)}, at=old)

    reconciliation.reconcile()

    assert not BitsbyPayment.objects.needs_review().exists()


def test_late_payment_of_an_expired_invoice_is_booked_for_review(place, invoice_for, books):
    """A payment for an invoice that expired weeks ago is booked and needs review."""
    order = place(status="Cancelled")
    invoice = invoice_for(order, **expired_ago(days=20))
    books.add(invoice=bitsby.invoice_item(invoice, "paid"))

    reconciliation.reconcile()

    assert BitsbyPayment.objects.get().review_reason == "late"
    assert Transaction.objects.count() == 1
    assert status_of(order) == "Cancelled"


@pytest.mark.parametrize(
    "statuses",
    [
        ("confirming", "paid"),
        ("", "paid"),
        ("unpaid", "paid"),
        ("expired", "expired", "paid", "paid"),
    ],
)
def test_known_payment_is_booked_when_its_invoice_becomes_paid(order, watched, books, statuses):
    """A payment that was seen before its invoice is paid is booked once and needs no review."""
    payment = books.add()
    for status in statuses:
        books.bind(payment, bitsby.invoice_item(watched, status))
        reconciliation.reconcile()

    assert Transaction.objects.count() == 1
    assert status_of(order) == "Being processed"
    assert BitsbyPayment.objects.get().review_reason == ""


def test_payment_bound_to_another_invoice_is_settled_there(place, invoice_for, books):
    """A payment that is bound to another invoice at Bitsby is booked for the latter."""
    one, other = place(), place()
    first, second = invoice_for(one), invoice_for(other)
    payment = books.add(invoice=bitsby.invoice_item(first, "expired"))
    reconciliation.reconcile()
    books.bind(payment, bitsby.invoice_item(second, "paid"))
    reconciliation.reconcile()

    assert Transaction.objects.get().source.order == other
    assert BitsbyPayment.objects.get().invoice == second
    assert status_of(other) == "Being processed"


def test_earlier_payment_of_a_settled_order_needs_review(order, watched, books):
    """An unbound payment needs review although its buyer has paid the right amount since."""
    books.add(amount="9.00000000")
    right = bitsby.invoice_item(watched, "paid", payment=bitsby.transfer())
    books.fake.invoices = [right]
    refresh(watched)
    assert status_of(order) == "Being processed"

    reconciliation.reconcile()

    assert BitsbyPayment.objects.needs_review().get().amount == 9


def dump():
    """Return all rows of this app and of Oscar that a run may change, as text."""
    names = {
        "order": ["Order", "Line", "OrderNote", "OrderStatusChange", "PaymentEvent"],
        "payment": ["Source", "Transaction"],
        "partner": ["StockRecord"],
        "voucher": ["Voucher", "VoucherApplication"],
        "oscar_bitsby": ["BitsbyInvoice", "BitsbyPayment", "WebhookDelivery"],
    }
    models = [get_model(label, name) for label in names for name in names[label]]
    rows = [row for model in models for row in model._default_manager.order_by("pk")]
    return serializers.serialize("json", rows)


def test_dry_run_reports_and_writes_nothing(place, invoice_for, books):
    """A dry run reports what a run would do, and changes no row and no progress of a sync."""
    paid, overdue, ended, flagged = place(), place(), place(), place()
    invoices = [
        invoice_for(paid),
        invoice_for(overdue, expires_at=timezone.now() - HOUR / 6),
        invoice_for(ended, **expired_ago(hours=2)),
        invoice_for(flagged, webhook_pending_since=timezone.now()),
    ]
    invoice_for(place(), "creating", bitsby_id=None, created_at=timezone.now() - HOUR)
    books.add(invoice=bitsby.invoice_item(invoices[0], "paid"))
    books.add(bitsby.transfer("1.00000000"))
    books.fake.invoices = [bitsby.invoice_item(invoice, "expired") for invoice in invoices[1:3]]
    GatewayState.ensure_exists()
    state = GatewayState.objects.values("last_full_sync_at", "lists_newest_first", "last_run_at")
    state_before, before = state.get(), dump()

    report = reconciliation.reconcile(dry_run=True)

    assert dump() == before
    assert state.get() == state_before
    assert (report.booked, report.flagged) == (1, 1)
    assert (report.ended, report.cancelled) == (1, 1)
    real = reconciliation.reconcile()
    assert (real.booked, real.flagged, real.ended, real.cancelled) == (1, 1, 1, 1)
    assert GatewayState.objects.get().last_run_at > state_before["last_run_at"]


def test_lease_is_short(watched, books):
    """A lease ends within ten minutes."""
    leases = []

    def answer(fields):
        leases.append(GatewayState.objects.get().lease_until)
        return books.answer(fields)

    books.fake.on("/payments/list", answer)
    reconciliation.reconcile()
    assert leases[0] <= timezone.now() + dt.timedelta(minutes=10)


@pytest.mark.parametrize("until", [dt.timedelta(seconds=-1), 365 * DAY])
def test_lease_of_a_dead_run_or_a_wrong_clock_is_ignored(order, watched, books, until):
    """A lease that has ended, or that is too long to be real, stops no run, nor the one after."""
    books.add(invoice=bitsby.invoice_item(watched, "paid"))
    GatewayState.ensure_exists()
    GatewayState.objects.update(lease_until=timezone.now() + until, lease_token="dead")

    assert not reconciliation.reconcile().skipped
    assert status_of(order) == "Being processed"
    assert not reconciliation.reconcile().skipped


def test_run_that_lost_its_lease_stops(watched, books):
    """A run whose lease another run has taken stops, and does not release that lease."""
    books.add_unbound(70)

    def overtake(fields):
        GatewayState.objects.update(lease_token="another")
        return books.answer(fields)

    books.fake.on("/payments/list", overtake)

    with pytest.raises(BitsbyError, match="taken over"):
        reconciliation.reconcile()
    assert GatewayState.objects.get().lease_token == "another"


def test_progress_is_reported_as_text(watched, books):
    """A run reports each step and the pages that it has read as text."""
    books.add_unbound(60)
    lines = []

    report = reconciliation.reconcile(progress=lines.append)

    assert lines[0] == "full sync of payments"
    assert "60 payments on 2 pages" in lines
    assert "60 payments seen" in str(report)


@pytest.mark.django_db(transaction=True)
def test_run_inside_a_transaction_is_refused(watched, fake):
    """A run inside a transaction raises before it sends a request."""
    with transaction.atomic(), pytest.raises(RuntimeError):
        reconciliation.reconcile()

    assert fake.requests == []
