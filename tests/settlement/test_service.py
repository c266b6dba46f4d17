"""Settling: an answer of Bitsby becomes money and order statuses in Oscar, once."""

import json
import logging
from decimal import Decimal

import pytest
from django.db import transaction
from django.urls import reverse
from oscar.apps.order.signals import order_status_changed
from oscar.core.loading import get_model

from oscar_bitsby import reconciliation, settlement
from oscar_bitsby.gateway import parsing
from oscar_bitsby.models import BitsbyPayment
from oscar_bitsby.orders import signed_urls
from oscar_bitsby.reconciliation import refresh
from oscar_bitsby.settlement import Action, ActionType, Outcome
from tests.support import bitsby
from tests.support.settling import OUR_SIGNALS, booked, reasons, status_of

PaymentEvent = get_model("order", "PaymentEvent")
Source = get_model("payment", "Source")
Transaction = get_model("payment", "Transaction")

pytestmark = pytest.mark.django_db


# A payment is booked once


def test_exact_payment_is_booked_and_the_order_paid(order, invoice, settle, sent_signals):
    """Transaction, source, event with lines, status, history and note show the payment."""
    payment = bitsby.transfer()

    outcome = settle(invoice, payment=payment)

    assert outcome.is_final
    transaction = Transaction.objects.get()
    assert (transaction.txn_type, transaction.reference) == ("Debit", payment["id"])
    assert (transaction.amount, transaction.status) == (Decimal("10.00"), "paid")
    source = order.sources.get()
    assert transaction.source == source
    assert (source.source_type.code, source.amount_debited) == ("bitsby", Decimal("10.00"))
    assert (source.amount_allocated, source.balance) == (Decimal("10.00"), 0)
    event = order.payment_events.get()
    assert (event.event_type.code, event.amount) == ("paid", Decimal("10.00"))
    assert event.reference == payment["id"]
    assert [(q.line_id, q.quantity) for q in event.line_quantities.all()] == [
        (line.pk, line.quantity) for line in order.lines.all()
    ]
    assert status_of(order) == "Being processed"
    change = order.status_changes.get()
    assert (change.old_status, change.new_status) == ("Pending", "Being processed")
    invoice.refresh_from_db()
    note = f"Bitsby payment {payment['id']} received: 10 USDT for invoice {invoice.uid}."
    assert order.notes.get().message == note
    assert (invoice.status, invoice.order_awaits_payment) == ("paid", False)
    row = BitsbyPayment.objects.get()
    assert (row.invoice, row.fiat_value, row.currency) == (invoice, Decimal("10.00"), "USD")
    assert (row.review_reason, row.booked_at is None) == ("", False)
    assert (row.hash, row.cryptocurrency) == (payment["hash"], "usdt")
    assert [name for name, *_ in sent_signals] == ["invoice_paid"]
    assert (sent_signals[0].payload["invoice"], sent_signals[0].payload["order"]) == (
        invoice,
        order,
    )


def test_settling_again_changes_nothing(order, invoice, settle, sent_signals):
    """Settling the same payment ten times books it once and sends one signal."""
    payment = bitsby.transfer()
    for _ in range(10):
        settle(invoice, payment=payment)

    assert booked(order) == [(payment["id"], Decimal("10.00"))]
    assert order.sources.get().amount_debited == Decimal("10.00")
    assert order.payment_events.count() == 1
    assert order.status_changes.count() == 1
    assert order.notes.count() == 1
    assert [name for name, *_ in sent_signals] == ["invoice_paid"]


TRIGGERS = ("webhook", "reconcile", "refresh", "page")


@pytest.mark.parametrize("first", range(len(TRIGGERS)))
def test_payment_is_booked_once_by_webhook_run_refresh_and_page(
    order, invoice, fake, client, clock, first
):
    """In any order, and repeated, they book the payment once."""
    payment = bitsby.transfer()
    remote = bitsby.invoice_item(invoice, "paid", payment=payment)
    fake.invoices, fake.payments = [remote], [bitsby.payment_item(payment, remote)]
    delivery = json.dumps({"invoice": {"id": str(invoice.bitsby_id)}, "payment": payment})
    settle_by = {
        "webhook": lambda: client.post(
            reverse("oscar_bitsby:webhook"), delivery, content_type="application/json"
        ),
        "reconcile": reconciliation.reconcile,
        "refresh": lambda: refresh(invoice),
        "page": lambda: client.get(
            reverse("oscar_bitsby:state", args=[signed_urls.sign_order_number(order.number)])
        ),
    }
    turns = TRIGGERS[first:] + TRIGGERS[:first]

    settle_by[turns[0]]()
    assert booked(order) == [(payment["id"], Decimal("10.00"))], "the first one settles it"
    for trigger in turns * 3:
        clock.sleep(2)
        settle_by[trigger]()

    assert booked(order) == [(payment["id"], Decimal("10.00"))]
    assert order.sources.get().amount_debited == Decimal("10.00")
    assert order.payment_events.count() == 1
    assert status_of(order) == "Being processed"


def test_order_without_its_source_gets_one(order, invoice, settle):
    """A payment is booked even if the order's source was deleted."""
    order.sources.all().delete()

    settle(invoice, payment=bitsby.transfer())

    source = order.sources.get()
    assert (source.source_type.code, source.currency) == ("bitsby", "USD")
    assert source.amount_debited == Decimal("10.00")


@pytest.mark.parametrize(
    ("coins", "fiat_value", "reason"),
    [
        ("9.99000000", "9.99", "short"),
        ("4.00000000", "4.00", "short"),
        ("10.01000000", "10.01", "over"),
        ("250.00000000", "250.00", "over"),
        ("9.99499999", "9.99", "short"),
        ("9.99500000", "10.00", ""),
        ("10.00499999", "10.00", ""),
        ("10.00500000", "10.01", "over"),
    ],
)
def test_payment_is_booked_at_its_fiat_value(
    order, invoice, settle, sent_signals, coins, fiat_value, reason
):
    """The fiat value in cents is booked, not the asked amount, and a difference is flagged."""
    payment = bitsby.transfer(coins)
    for _ in range(2):
        settle(invoice, payment=payment)

    assert booked(order) == [(payment["id"], Decimal(fiat_value))]
    assert order.sources.get().amount_debited == Decimal(fiat_value)
    assert order.payment_events.get().amount == Decimal(fiat_value)
    row = BitsbyPayment.objects.get()
    assert (row.review_reason, row.fiat_value) == (reason, Decimal(fiat_value))
    assert reasons(sent_signals) == ([reason] if reason else [])
    assert status_of(order) == "Being processed"


@pytest.mark.parametrize(
    ("wallet", "coins", "fiat_value"),
    [
        (bitsby.wallet(), "5.00000000", "5.00"),
        # The reserved wallet's own rate: 10 dollars are 0.0002 BTC there.
        (bitsby.reserved("10.00")[1], "0.00020000", "10.00"),
        (bitsby.reserved("10.00")[1], "0.00010000", "5.00"),
        # The same coin on another chain has the same rate; letters' case does not count.
        (bitsby.wallet(id=str(bitsby.new_id()), blockchain="ethereum"), "7.50000000", "7.50"),
        (bitsby.wallet(id=str(bitsby.new_id()), cryptocurrency="USDT"), "7.50000000", "7.50"),
        (bitsby.wallet(id=bitsby.TRON.upper()), "3.33333333", "3.33"),
    ],
)
def test_fiat_value_uses_the_rate_that_the_wallet_locked(
    order, invoice, settle, wallet, coins, fiat_value
):
    """The fiat value is ``amountFiat`` x amount / reserved, by wallet, else by coin."""
    settle(invoice, payment=bitsby.transfer(coins), wallet=wallet)

    assert BitsbyPayment.objects.get().fiat_value == Decimal(fiat_value)
    assert [amount for _, amount in booked(order)] == [Decimal(fiat_value)]


def test_fiat_value_that_becomes_known_later_is_booked(order, invoice, settle):
    """A payment first reported without its wallet is booked at its fiat value later."""
    payment = bitsby.transfer("4.00000000")
    settle(invoice, payment=payment, wallet=None)
    settle(invoice, payment=payment)

    assert booked(order) == [(payment["id"], Decimal("4.00"))]
    assert order.sources.get().amount_debited == Decimal("4.00")
    row = BitsbyPayment.objects.get()
    assert (row.fiat_value, row.review_reason) == (Decimal("4.00"), "short")


# Statuses, receivers and handlers of the shop


def test_status_that_the_pipeline_forbids_is_flagged(
    order, invoice, settle, sent_signals, unpayable
):
    """The payment is booked; that the status was not changed is flagged once."""
    payment = bitsby.transfer()
    for _ in range(3):
        settle(invoice, payment=payment)

    assert booked(order) == [(payment["id"], Decimal("10.00"))]
    assert status_of(order) == "Pending"
    assert BitsbyPayment.objects.get().review_reason == "status"
    assert reasons(sent_signals) == ["status"]
    assert order.status_changes.count() == 0


@pytest.mark.parametrize("status", ["Being processed", "Complete"])
def test_status_that_staff_set_is_kept(place, invoice_for, settle, sent_signals, status):
    """A status that staff set by hand stays; the payment is booked without a flag."""
    order = place(status=status)
    payment = bitsby.transfer()
    settle(invoice_for(order), payment=payment)

    assert booked(order) == [(payment["id"], Decimal("10.00"))]
    assert (status_of(order), order.status_changes.count()) == (status, 0)
    assert reasons(sent_signals) == []


def test_raising_receiver_of_the_status_does_not_undo_the_payment(order, invoice, settle, raising):
    """Payment, status, history and note are written although ``order_status_changed`` raises."""
    raising(order_status_changed)
    payment = bitsby.transfer()
    for _ in range(2):
        settle(invoice, payment=payment)

    assert booked(order) == [(payment["id"], Decimal("10.00"))]
    assert status_of(order) == "Being processed"
    assert (order.status_changes.count(), order.notes.count()) == (1, 1)


def test_raising_receivers_of_our_signals_do_not_undo_the_payment(
    order, invoice, settle, raising, sent_signals
):
    """A raising receiver does not affect the payment or other receivers."""
    for signal in OUR_SIGNALS.values():
        raising(signal)

    settle(invoice, payment=bitsby.transfer("11.00000000"))

    assert [amount for _, amount in booked(order)] == [Decimal("11.00")]
    assert sorted(name for name, *_ in sent_signals) == ["invoice_paid", "payment_needs_attention"]


def test_raising_event_handler_does_not_undo_the_payment(order, invoice, settle, monkeypatch):
    """If the shop's EventHandler fails, only the event is lost."""

    def fail(*args, **kwargs):
        raise ValueError("the shop's handler is broken")

    for name in ("handle_payment_event", "handle_order_status_change"):
        monkeypatch.setattr(f"oscar.apps.order.processing.EventHandler.{name}", fail)
    payment = bitsby.transfer()
    for _ in range(2):
        settle(invoice, payment=payment)

    assert booked(order) == [(payment["id"], Decimal("10.00"))]
    assert status_of(order) == "Being processed"
    assert order.notes.count() == 1


def test_each_step_to_a_paid_order_is_logged(order, invoice, settle, caplog):
    """Three lines, each with the order, the invoice and the change; never the API key."""
    payment = bitsby.transfer()
    with caplog.at_level(logging.INFO, "oscar_bitsby"):
        settle(invoice, payment=payment)

    ids = f"order={order.number} invoice={invoice.bitsby_id}"
    assert caplog.messages[:3] == [
        f"invoice paid: {ids} before=unpaid",
        f"payment booked: {ids} payment={payment['id']} fiat_value=10.00",
        f"order paid: {ids} status=Being processed",
    ]
    assert bitsby.KEY not in caplog.text


# Dry runs, transactions and the outcome


def test_dry_run_decides_and_writes_nothing(order, invoice, sent_signals):
    """A dry run returns the actions and takes none."""
    remote = parsing.parse_invoice(bitsby.invoice_item(invoice, "paid", payment=bitsby.transfer()))

    outcome = settlement.settle(invoice, remote, dry_run=True)

    assert outcome.did(ActionType.BOOK)
    assert not BitsbyPayment.objects.exists()
    assert not Transaction.objects.exists()
    invoice.refresh_from_db()
    assert (invoice.status, status_of(order), sent_signals) == ("unpaid", "Pending", [])


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("call", ["settle", "record_unbound"])
def test_settling_inside_a_transaction_is_refused(order, invoice, call):
    """An outer transaction could roll back settling, so it raises and writes nothing."""
    remote = parsing.parse_invoice(bitsby.invoice_item(invoice, "paid", payment=bitsby.transfer()))
    calls = {
        "settle": lambda: settlement.settle(invoice, remote),
        "record_unbound": lambda: settlement.record_unbound(
            parsing.parse_payment(bitsby.payment_item()), reason="unmatched"
        ),
    }

    with transaction.atomic(), pytest.raises(RuntimeError):
        calls[call]()

    assert not BitsbyPayment.objects.exists()
    assert not Transaction.objects.exists()
    assert not PaymentEvent.objects.exists()


def test_outcome_has_the_actions():
    """``did`` is true for its actions only; an outcome that only waits is not final."""
    waits = Outcome((Action(ActionType.WAIT),), "unpaid")
    books = Outcome((Action(ActionType.MARK_PAID), Action(ActionType.BOOK)), "paid")

    assert [waits.did(ActionType.WAIT), waits.did(ActionType.BOOK), waits.is_final] == [
        True,
        False,
        False,
    ]
    assert [books.did(ActionType.BOOK), books.did(ActionType.WAIT), books.is_final] == [
        True,
        False,
        True,
    ]


def test_outcome_has_the_remote_status(invoice, settle):
    """The outcome has the status of the remote invoice."""
    assert settle(invoice, "expired").remote_status == "expired"
