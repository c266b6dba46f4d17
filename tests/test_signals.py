"""Signals: sent after commit with their arguments; a raising receiver affects nothing else."""

import logging

import pytest
from django.db import transaction
from oscar.apps.order.signals import order_status_changed

from oscar_bitsby import reconciliation, signals
from oscar_bitsby.facade import start_payment
from oscar_bitsby.models import BitsbyInvoice, BitsbyPayment, BitsbyRefund
from oscar_bitsby.reconciliation import refresh
from tests.support import bitsby
from tests.support.invoices import expired_ago
from tests.support.refunds import book_payment, sent_refund
from tests.support.settling import OUR_SIGNALS, status_of

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def sent_signals():
    """Return each signal that was sent, and whether that was inside a transaction."""
    received, listeners = [], []
    for name, signal in OUR_SIGNALS.items():

        def listen(sender, name=name, **payload):
            payload.pop("signal")
            inside = transaction.get_connection().in_atomic_block
            received.append((name, sender, payload, inside))

        signal.connect(listen)
        listeners.append((signal, listen))
    yield received
    for signal, listen in listeners:
        signal.disconnect(listen)


def test_invoice_created_is_sent_once(order, fake, sent_signals):
    """``invoice_created`` carries invoice and order, once, after commit; reuse sends nothing."""
    invoice = start_payment(order)
    start_payment(order)

    payload = {"invoice": invoice, "order": order}
    assert sent_signals == [("invoice_created", BitsbyInvoice, payload, False)]
    assert sent_signals[0][2]["invoice"].status == "unpaid"


@pytest.mark.parametrize("status", ["paid", "expired"])
def test_signal_of_an_invoice_is_sent_once(order, invoice, fake, sent_signals, status):
    """``invoice_paid`` and ``invoice_expired`` carry invoice and order, once, after commit."""
    payment = bitsby.transfer() if status == "paid" else None
    fake.invoices = [bitsby.invoice_item(invoice, status, payment=payment)]
    for _ in range(3):
        refresh(invoice)

    payload = {"invoice": invoice, "order": order}
    assert sent_signals == [(f"invoice_{status}", BitsbyInvoice, payload, False)]
    assert sent_signals[0][2]["order"].status == ("Being processed" if payment else "Pending")
    assert sent_signals[0][2]["invoice"].status == status


@pytest.mark.parametrize("reason", ["mismatch", "unmatched"])
def test_payment_needs_attention_is_sent_once(order, invoice, fake, sent_signals, reason):
    """It carries payment, reason and order, None for an unbound payment, once for each payment."""
    is_bound, payment = reason == "mismatch", bitsby.transfer()
    remote = bitsby.invoice_item(invoice, "paid", payment=payment, amountFiat="99.00")
    fake.payments = [bitsby.payment_item(payment, remote if is_bound else None)]
    for _ in range(3):
        reconciliation.reconcile()

    payment = BitsbyPayment.objects.get()
    payload = {"payment": payment, "reason": reason, "order": order if is_bound else None}
    assert sent_signals == [("payment_needs_attention", BitsbyPayment, payload, False)]


def test_signals_of_a_refund_are_sent_once(order, invoice, sent_signals, django_user_model):
    """``refund_requested`` and ``refund_sent`` carry refund and order, once, after commit."""
    payment = book_payment(invoice)
    sent_signals.clear()

    refund = sent_refund(django_user_model.objects.create_user("staff"), payment)

    payload = {"refund": refund, "order": order}
    assert sent_signals == [
        (name, BitsbyRefund, payload, False) for name in ("refund_requested", "refund_sent")
    ]
    assert sent_signals[1][2]["refund"].is_booked


def test_no_signal_is_sent_after_a_rollback(invoice, sent_signals):
    """A transaction that is rolled back sends no signals."""
    payload = {"invoice": invoice, "order": invoice.order}
    with transaction.atomic():
        signals.send_after_commit(signals.invoice_paid, BitsbyInvoice, **payload)
        transaction.set_rollback(True)
    assert sent_signals == []

    with transaction.atomic():
        signals.send_after_commit(signals.invoice_paid, BitsbyInvoice, **payload)
        assert sent_signals == []
    assert len(sent_signals) == 1


def test_signal_is_sent_at_once_without_a_transaction(invoice, sent_signals):
    """Outside of a transaction there is no commit to wait for."""
    signals.send_after_commit(signals.invoice_paid, BitsbyInvoice, invoice=invoice, order=None)

    assert [name for name, *_ in sent_signals] == ["invoice_paid"]


def test_raising_receiver_is_logged_and_affects_nothing_else(
    order, paid_invoice, sent_signals, caplog
):
    """Other receivers get the signal, the order is paid, and the error is logged."""

    def fail(**kwargs):
        raise ValueError("the shop's receiver is broken")

    signals.invoice_paid.connect(fail)
    try:
        with caplog.at_level(logging.ERROR):
            refresh(paid_invoice)
    finally:
        signals.invoice_paid.disconnect(fail)

    assert [name for name, *_ in sent_signals] == ["invoice_paid"]
    assert status_of(order) == "Being processed"
    assert "the shop's receiver is broken" in caplog.text


def test_cancelled_order_sends_oscars_signal(order, invoice_for, fake, sent_signals):
    """Cancelling sends ``order_status_changed`` with both statuses, and no signal of ours."""
    changes = []

    def listen(sender, order, old_status, new_status, **kwargs):
        changes.append((order, old_status, new_status))

    invoice = invoice_for(order, **expired_ago(hours=2))
    fake.invoices = [bitsby.invoice_item(invoice, "expired")]
    order_status_changed.connect(listen)
    try:
        reconciliation.reconcile()
    finally:
        order_status_changed.disconnect(listen)

    assert changes == [(order, "Pending", "Cancelled")]
    assert sent_signals == []
