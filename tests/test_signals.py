"""Signals: sent after commit with their arguments; a raising receiver affects nothing else."""

import datetime as dt
import logging

import pytest
from django.db import transaction
from django.utils import timezone
from oscar.apps.order.signals import order_status_changed

from oscar_bitsby import reconciliation, signals
from oscar_bitsby.facade import start_payment
from oscar_bitsby.models import BitsbyInvoice, BitsbyPayment
from oscar_bitsby.reconciliation import refresh
from tests.support import bitsby

pytestmark = pytest.mark.django_db(transaction=True)

NAMES = ("invoice_created", "invoice_paid", "invoice_expired", "payment_needs_attention")


@pytest.fixture
def sent_signals():
    """Return each signal that was sent, and whether that was inside a transaction."""
    received, listeners = [], []
    for name in NAMES:
        signal = getattr(signals, name)

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


def test_invoice_paid_is_sent_once(order, invoice, fake, sent_signals):
    """``invoice_paid`` carries invoice and order, once, however often it is settled."""
    fake.invoices = [bitsby.invoice_item(invoice, "paid", payment=bitsby.transfer())]
    for _ in range(3):
        refresh(invoice)

    payload = {"invoice": invoice, "order": order}
    assert sent_signals == [("invoice_paid", BitsbyInvoice, payload, False)]
    assert sent_signals[0][2]["order"].status == "Being processed"
    assert sent_signals[0][2]["invoice"].status == "paid"


def test_invoice_expired_is_sent_once(order, invoice, fake, sent_signals):
    """``invoice_expired`` carries invoice and order, once."""
    fake.invoices = [bitsby.invoice_item(invoice, "expired")]
    for _ in range(3):
        refresh(invoice)

    assert sent_signals == [
        ("invoice_expired", BitsbyInvoice, {"invoice": invoice, "order": order}, False)
    ]


def test_payment_needs_attention_is_sent_once(order, invoice, fake, sent_signals):
    """``payment_needs_attention`` carries payment, reason and order, once for each payment."""
    remote = bitsby.invoice_item(invoice, "paid", payment=bitsby.transfer(), amountFiat="99.00")
    fake.invoices = [remote]
    for _ in range(3):
        refresh(invoice)

    payload = {"payment": BitsbyPayment.objects.get(), "reason": "mismatch", "order": order}
    assert sent_signals == [("payment_needs_attention", BitsbyPayment, payload, False)]


def test_payment_needs_attention_of_an_unbound_payment_has_no_order(invoice, fake, sent_signals):
    """For an unbound payment ``order`` is None."""
    fake.payments = [bitsby.payment_item()]
    for _ in range(3):
        reconciliation.reconcile()

    payload = {"payment": BitsbyPayment.objects.get(), "reason": "unmatched", "order": None}
    assert sent_signals == [("payment_needs_attention", BitsbyPayment, payload, False)]


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
    order, invoice, fake, sent_signals, caplog
):
    """Other receivers get the signal, the order is paid, and the error is logged."""

    def fail(**kwargs):
        raise ValueError("the shop's receiver is broken")

    fake.invoices = [bitsby.invoice_item(invoice, "paid", payment=bitsby.transfer())]
    signals.invoice_paid.connect(fail)
    try:
        with caplog.at_level(logging.ERROR):
            refresh(invoice)
    finally:
        signals.invoice_paid.disconnect(fail)

    assert [name for name, *_ in sent_signals] == ["invoice_paid"]
    order.refresh_from_db()
    assert order.status == "Being processed"
    assert "the shop's receiver is broken" in caplog.text


def test_cancelled_order_sends_oscars_signal(order, invoice_for, fake, sent_signals):
    """Cancelling sends ``order_status_changed`` with both statuses, and no signal of ours."""
    changes = []

    def listen(sender, order, old_status, new_status, **kwargs):
        changes.append((order, old_status, new_status))

    ended = timezone.now() - dt.timedelta(hours=2)
    invoice = invoice_for(order, "expired", expires_at=ended, ended_at=ended)
    fake.invoices = [bitsby.invoice_item(invoice, "expired")]
    order_status_changed.connect(listen)
    try:
        reconciliation.reconcile()
    finally:
        order_status_changed.disconnect(listen)

    assert changes == [(order, "Pending", "Cancelled")]
    assert sent_signals == []
