"""Signals: sent after commit, with what is promised; a failing receiver stops nothing."""

from __future__ import annotations

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
from tests import bitsby

pytestmark = pytest.mark.django_db(transaction=True)

NAMES = ("invoice_created", "invoice_paid", "invoice_expired", "payment_needs_attention")


@pytest.fixture
def heard():
    """What each signal said, and whether that was inside a transaction."""
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


def test_a_created_invoice_is_announced(order, fake, heard):
    """``invoice_created`` carries invoice and order, once, after commit; reuse is silent."""
    invoice = start_payment(order)
    start_payment(order)

    payload = {"invoice": invoice, "order": order}
    assert heard == [("invoice_created", BitsbyInvoice, payload, False)]
    assert heard[0][2]["invoice"].status == "unpaid"


def test_a_paid_invoice_is_announced(order, invoice, fake, heard):
    """``invoice_paid`` carries invoice and order, once, whatever is repeated."""
    fake.invoices = [bitsby.invoice_item(invoice, "paid", payment=bitsby.transfer())]
    for _ in range(3):
        refresh(invoice)

    payload = {"invoice": invoice, "order": order}
    assert heard == [("invoice_paid", BitsbyInvoice, payload, False)]
    assert heard[0][2]["order"].status == "Being processed"
    assert heard[0][2]["invoice"].status == "paid"


def test_an_expired_invoice_is_announced(order, invoice, fake, heard):
    """``invoice_expired`` carries invoice and order, once."""
    fake.invoices = [bitsby.invoice_item(invoice, "expired")]
    for _ in range(3):
        refresh(invoice)

    assert heard == [
        ("invoice_expired", BitsbyInvoice, {"invoice": invoice, "order": order}, False)
    ]


def test_money_that_needs_a_person_is_announced(order, invoice, fake, heard):
    """``payment_needs_attention`` carries payment, reason and order, once for each payment."""
    remote = bitsby.invoice_item(invoice, "paid", payment=bitsby.transfer(), amountFiat="99.00")
    fake.invoices = [remote]
    for _ in range(3):
        refresh(invoice)

    payload = {"payment": BitsbyPayment.objects.get(), "reason": "mismatch", "order": order}
    assert heard == [("payment_needs_attention", BitsbyPayment, payload, False)]


def test_money_without_an_order_is_announced_without_one(invoice, fake, heard):
    """For an unbound payment ``order`` is None."""
    fake.payments = [bitsby.payment_item()]
    for _ in range(3):
        reconciliation.reconcile()

    payload = {"payment": BitsbyPayment.objects.get(), "reason": "unmatched", "order": None}
    assert heard == [("payment_needs_attention", BitsbyPayment, payload, False)]


def test_nothing_is_announced_that_was_rolled_back(invoice, heard):
    """A transaction that fails takes its signals with it."""
    payload = {"invoice": invoice, "order": invoice.order}
    with transaction.atomic():
        signals.send_after_commit(signals.invoice_paid, BitsbyInvoice, **payload)
        transaction.set_rollback(True)
    assert heard == []

    with transaction.atomic():
        signals.send_after_commit(signals.invoice_paid, BitsbyInvoice, **payload)
        assert heard == []
    assert len(heard) == 1


def test_without_a_transaction_it_is_sent_at_once(invoice, heard):
    """Outside of any transaction there is nothing to wait for."""
    signals.send_after_commit(signals.invoice_paid, BitsbyInvoice, invoice=invoice, order=None)

    assert [name for name, *_ in heard] == ["invoice_paid"]


def test_a_receiver_that_raises_is_logged_and_stops_nothing(order, invoice, fake, heard, caplog):
    """Others still hear it, the order is paid, and the log says what failed."""

    def fail(**kwargs):
        raise ValueError("the shop's receiver is broken")

    fake.invoices = [bitsby.invoice_item(invoice, "paid", payment=bitsby.transfer())]
    signals.invoice_paid.connect(fail)
    try:
        with caplog.at_level(logging.ERROR):
            refresh(invoice)
    finally:
        signals.invoice_paid.disconnect(fail)

    assert [name for name, *_ in heard] == ["invoice_paid"]
    order.refresh_from_db()
    assert order.status == "Being processed"
    assert "the shop's receiver is broken" in caplog.text


def test_an_order_that_is_given_up_is_told_by_oscar(order, invoice_for, fake, heard):
    """Cancelling sends ``order_status_changed`` with both statuses, and none of ours."""
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
    assert heard == []
