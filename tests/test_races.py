"""Races between threads: a payment is booked once, and no order is both paid and cancelled.

Each thread has a connection of its own. PostgreSQL locks rows and SQLite the whole database, with
the same result.
"""

from decimal import Decimal

import pytest
from django.db import connection, transaction
from django.utils import timezone
from oscar.apps.order.signals import order_status_changed
from oscar.core.loading import get_model

from oscar_bitsby import reconciliation, settlement
from oscar_bitsby.choices import InvoiceStatus
from oscar_bitsby.exceptions import NotPayable, PaymentInProgress
from oscar_bitsby.facade import start_payment
from oscar_bitsby.gateway import parsing
from oscar_bitsby.models import BitsbyInvoice, BitsbyPayment, GatewayState
from oscar_bitsby.reconciliation import invoice_refresh
from oscar_bitsby.settlement import cancellation
from tests.support import bitsby
from tests.support.concurrency import failures, run_together
from tests.support.invoices import expired_ago
from tests.support.settling import booked

Order = get_model("order", "Order")
Source = get_model("payment", "Source")
SourceType = get_model("payment", "SourceType")
Transaction = get_model("payment", "Transaction")

pytestmark = pytest.mark.django_db(transaction=True)

#: Each race runs several times, since an error may not show every time.
several_times = pytest.mark.parametrize("turn", range(6))


def remote(invoice, status="paid", payment=None):
    return parsing.parse_invoice(bitsby.invoice_item(invoice, status, payment=payment))


@several_times
def test_four_settlements_of_one_invoice_make_one_transaction(order, invoice, turn):
    """Four workers that settle the same answer at the same moment book its payment once."""
    payment = bitsby.transfer()
    answer = remote(invoice, payment=payment)

    results = run_together(*[lambda: settlement.settle(invoice, answer)] * 4)

    assert failures(results) == []
    assert booked(order) == [(payment["id"], Decimal("10.00"))]
    assert order.sources.get().amount_debited == Decimal("10.00")
    assert order.payment_events.count() == 1
    assert order.status_changes.count() == 1
    assert Order.objects.get().status == "Being processed"
    assert sum(outcome.did(settlement.ActionType.BOOK) for outcome in results) == 1


@several_times
def test_two_invoices_of_an_order_settled_concurrently_are_both_booked(order, invoice_for, turn):
    """Both payments are booked on one source, and exactly one of them is the second."""
    invoices = [invoice_for(order), invoice_for(order, "expired")]
    payments = [bitsby.transfer(), bitsby.transfer()]
    answers = [remote(row, payment=one) for row, one in zip(invoices, payments, strict=True)]

    results = run_together(
        lambda: settlement.settle(invoices[0], answers[0]),
        lambda: settlement.settle(invoices[1], answers[1]),
        lambda: settlement.settle(invoices[1], answers[1]),
        lambda: settlement.settle(invoices[0], answers[0]),
    )

    assert failures(results) == []
    assert sorted(booked(order)) == sorted((one["id"], Decimal("10.00")) for one in payments)
    assert order.sources.get().amount_debited == Decimal("20.00")
    flags = sorted(BitsbyPayment.objects.values_list("review_reason", flat=True))
    assert flags == ["", "second"]
    assert order.status_changes.count() == 1


@several_times
def test_concurrent_settling_and_cancelling_do_not_contradict(order, invoice_for, product, turn):
    """The order is paid and holds its stock, or is cancelled and staff see the payment."""
    invoice = invoice_for(order, **expired_ago(hours=2))
    answer = remote(invoice, payment=bitsby.transfer())
    remotes = {invoice.bitsby_id: remote(invoice, "expired")}

    results = run_together(
        lambda: settlement.settle(invoice, answer),
        lambda: cancellation.cancel_unpaid_order(order.pk, remotes),
    )

    assert failures(results) == []
    assert len(booked(order)) == 1
    status, held = Order.objects.get().status, product.stockrecords.get().num_allocated
    flag = BitsbyPayment.objects.get().review_reason
    expected = ("Cancelled", 0, "cancelled") if results[1] else ("Being processed", 1, "")
    assert (status, held, flag) == expected
    assert order.status_changes.count() == 1


@several_times
def test_concurrent_cancellations_release_stock_once(order, invoice_for, place, product, turn):
    """Stock is released once when three runs cancel the same order."""
    place()
    invoice = invoice_for(order, **expired_ago(hours=2))
    remotes = {invoice.bitsby_id: remote(invoice, "expired")}

    results = run_together(*[lambda: cancellation.cancel_unpaid_order(order.pk, remotes)] * 3)

    assert sorted(map(str, results)) == ["False", "False", "True"]
    assert product.stockrecords.get().num_allocated == 1
    assert order.status_changes.count() == 1


@several_times
def test_concurrent_clicks_make_one_live_invoice(order, fake, turn):
    """The losing clicks get the same invoice or are asked to try again."""
    results = run_together(*[lambda: start_payment(order)] * 4)

    assert failures(results, PaymentInProgress) == []
    live = order.bitsby_invoices.live()
    assert [row.status for row in live] == ["unpaid"]
    assert {r.pk for r in results if isinstance(r, BitsbyInvoice)} == {live[0].pk}
    assert len(fake.asked("/invoices/create")) == 1


@several_times
def test_concurrent_replacements_make_one_live_invoice(order, fake, turn):
    """Two clicks replace an outdated invoice by one new invoice."""
    fake.invoices = [bitsby.invoice_item(start_payment(order))]
    Order.objects.update(total_incl_tax=Decimal("12.00"))

    results = run_together(*[lambda: start_payment(order)] * 2)

    assert failures(results, PaymentInProgress) == []
    assert [row.amount for row in order.bitsby_invoices.live()] == [Decimal("12.00")]
    assert len(fake.asked("/invoices/create")) == 2


@several_times
def test_late_payment_during_a_new_attempt_is_booked(order, invoice_for, fake, turn):
    """A late payment that arrives while its buyer pays again is booked, and the order is paid."""
    old = invoice_for(order, "expired", ended_at=timezone.now())
    answer = remote(old, payment=bitsby.transfer())

    results = run_together(lambda: settlement.settle(old, answer), lambda: start_payment(order))

    assert failures(results, NotPayable, PaymentInProgress) == []
    assert len(booked(order)) == 1
    assert Order.objects.get().status == "Being processed"
    with pytest.raises(NotPayable):
        start_payment(order)


@several_times
def test_concurrent_paying_again_and_cancelling_do_not_contradict(order, invoice_for, fake, turn):
    """A buyer who returns at the cancellation has a live invoice or a cancelled order."""
    old = invoice_for(order, **expired_ago(hours=2))
    remotes = {old.bitsby_id: remote(old, "expired")}

    results = run_together(
        lambda: start_payment(order), lambda: cancellation.cancel_unpaid_order(order.pk, remotes)
    )

    assert failures(results, NotPayable) == []
    is_cancelled = Order.objects.get().status == "Cancelled"
    assert results[1] is is_cancelled
    assert order.bitsby_invoices.live().exists() is not is_cancelled


@several_times
@pytest.mark.parametrize("is_known", [True, False])
def test_payment_answered_for_two_orders_is_booked_once(place, invoice_for, turn, is_known):
    """One payment never pays two orders, recorded before or not, whatever Bitsby answers."""
    payment = bitsby.transfer()
    if is_known:
        settlement.record_unbound(
            parsing.parse_payment(bitsby.payment_item(payment)), reason="unmatched"
        )
    invoices = [invoice_for(place()), invoice_for(place())]
    answers = [remote(row, payment=payment) for row in invoices]

    results = run_together(
        lambda: settlement.settle(invoices[0], answers[0]),
        lambda: settlement.settle(invoices[1], answers[1]),
    )

    assert failures(results) == []
    assert Transaction.objects.count() == 1
    assert sorted(Order.objects.values_list("status", flat=True)) == ["Being processed", "Pending"]


@several_times
def test_unbound_payment_recorded_concurrently_is_one_row(turn):
    """Runs that see the same unbound payment at the same moment record it once."""
    payment = parsing.parse_payment(bitsby.payment_item())

    results = run_together(*[lambda: settlement.record_unbound(payment, reason="unmatched")] * 4)

    assert failures(results) == []
    assert BitsbyPayment.objects.get().review_reason == "unmatched"


def test_second_run_is_skipped(order, invoice, fake):
    """While one run waits for Bitsby's answer, other runs send no request."""
    fake_answer = fake.payments_list
    fake.payments = [bitsby.payment_item(invoice=bitsby.invoice_item(invoice, "paid"))]
    others = []

    def answer(fields):
        others.extend(run_together(reconciliation.reconcile, reconciliation.reconcile))
        return fake_answer(fields)

    fake.on("/payments/list", answer)

    report = reconciliation.reconcile()

    assert [other.skipped for other in others] == [True, True]
    assert (report.skipped, report.booked) == (False, 1)
    assert len(fake.requests) == 1
    assert not reconciliation.reconcile().skipped


@several_times
def test_concurrent_runs_settle_once(order, invoice, fake, turn):
    """Four runs that start at the same moment book a payment once, and none fails."""
    fake.payments = [bitsby.payment_item(invoice=bitsby.invoice_item(invoice, "paid"))]

    results = run_together(*[reconciliation.reconcile] * 4)

    assert failures(results) == []
    assert sum(report.booked for report in results) == 1
    assert len(booked(order)) == 1


@several_times
def test_concurrent_refreshes_take_one_slot(fake, invoice, clock, turn):
    """Of four refreshes at the same moment one asks Bitsby, and the others do not wait."""
    fake.invoices = [bitsby.invoice_item(invoice)]
    GatewayState.ensure_exists()

    results = run_together(*[lambda: invoice_refresh.refresh_if_idle(invoice)] * 4)

    assert failures(results) == []
    assert results.count(True) == 1
    assert len(fake.requests) == 1


def test_concurrent_deliveries_after_a_failure_store_one_row(invoice, deliver):
    """However many copies of the delivery arrive together, one is stored as the result."""
    invoice.deliveries.create(body="{}", answered=503)
    BitsbyInvoice.objects.update(status=InvoiceStatus.PAID, newest_delivery_failed=True)

    results = run_together(*[lambda: deliver(invoice).status_code] * 8)

    assert results == [200] * 8
    assert [row.answered for row in invoice.deliveries.all()] == [200, 503]


@pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite has no row locks")
def test_settling_does_not_block_a_checkout(invoice):
    """While a payment is settled, new sources can refer to their common type."""
    held = []

    def refer(**kwargs):
        # As the foreign key of a checkout's new source does.
        held.extend(run_together(lambda: list(refer_to_types())))

    def refer_to_types():
        types = SourceType.objects.select_for_update(no_key=True, nowait=True)
        with transaction.atomic():
            return list(types.values_list("code", flat=True))

    order_status_changed.connect(refer)
    try:
        payment = bitsby.transfer()
        settlement.settle(invoice, remote(invoice, payment=payment))
    finally:
        order_status_changed.disconnect(refer)
    assert held == [["bitsby"]]
