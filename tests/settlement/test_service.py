"""Settling: what Bitsby says becomes money and order states in Oscar, once."""

from __future__ import annotations

import datetime as dt
import json
import logging
from decimal import Decimal

import pytest
from django.db import transaction
from django.urls import reverse
from django.utils import timezone
from oscar.apps.order.signals import order_status_changed
from oscar.core.loading import get_model

from oscar_bitsby import reconciliation, settlement, signals
from oscar_bitsby.choices import InvoiceStatus
from oscar_bitsby.gateway import parsing
from oscar_bitsby.models import BitsbyInvoice, BitsbyPayment
from oscar_bitsby.orders import signed_urls
from oscar_bitsby.reconciliation import refresh
from oscar_bitsby.settlement import Action, ActionType, cancellation
from oscar_bitsby.staff import review
from tests import bitsby

Order = get_model("order", "Order")
PaymentEvent = get_model("order", "PaymentEvent")
Source = get_model("payment", "Source")
SourceType = get_model("payment", "SourceType")
Transaction = get_model("payment", "Transaction")

pytestmark = pytest.mark.django_db

OUR_SIGNALS = {
    "created": signals.invoice_created,
    "paid": signals.invoice_paid,
    "expired": signals.invoice_expired,
    "review_reason": signals.payment_needs_attention,
}


@pytest.fixture
def heard():
    """Names and payloads of our signals, as they were sent."""
    received = []
    listeners = []
    for name, signal in OUR_SIGNALS.items():

        def listen(sender, name=name, **payload):
            received.append((name, payload))

        signal.connect(listen)
        listeners.append((signal, listen))
    yield received
    for signal, listen in listeners:
        signal.disconnect(listen)


@pytest.fixture
def settle(django_capture_on_commit_callbacks):
    """Return a function that settles what Bitsby says of an invoice, up to the commit."""

    def run(invoice, status="paid", payment=None, **values):
        remote = parsing.parse_invoice(
            bitsby.invoice_item(invoice, status, payment=payment, **values)
        )
        with django_capture_on_commit_callbacks(execute=True):
            return settlement.settle(invoice, remote)

    return run


@pytest.fixture
def cancel(django_capture_on_commit_callbacks):
    """Return a function that tries to cancel an order, told what Bitsby says of its invoices."""

    def run(order, status="expired", **options):
        remote = {
            invoice.bitsby_id: parsing.parse_invoice(bitsby.invoice_item(invoice, status))
            for invoice in order.bitsby_invoices.exclude(bitsby_id=None)
        }
        with django_capture_on_commit_callbacks(execute=True):
            return cancellation.cancel_unpaid_order(order.pk, remote, **options)

    return run


@pytest.fixture
def ended(order, invoice_for):
    """An invoice of ``order`` that ended two hours ago, so that the order's time is up."""
    long_ago = timezone.now() - dt.timedelta(hours=2)
    return invoice_for(
        order, InvoiceStatus.EXPIRED, expires_at=long_ago, ended_at=long_ago, created_at=long_ago
    )


def reasons(heard):
    return [payload["reason"] for name, payload in heard if name == "review_reason"]


def status_of(order):
    return Order.objects.get(pk=order.pk).status


def booked(order):
    """References and amounts of the order's transactions."""
    found = Transaction.objects.filter(source__order=order).order_by("pk")
    return [(row.reference, row.amount) for row in found]


# One payment, one transaction


def test_an_exact_payment_is_booked_and_the_order_paid(order, invoice, settle, heard):
    """Transaction, Source, event with lines, status, history and note all say that it is paid."""
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
    said = f"Bitsby payment {payment['id']} received: 10 usdt for invoice {invoice.uid}."
    assert order.notes.get().message == said
    assert (invoice.status, invoice.order_awaits_payment) == ("paid", False)
    record = BitsbyPayment.objects.get()
    assert (record.invoice, record.fiat_value, record.currency) == (
        invoice,
        Decimal("10.00"),
        "USD",
    )
    assert (record.review_reason, record.booked_at is None) == ("", False)
    assert (record.hash, record.cryptocurrency) == (payment["hash"], "usdt")
    assert [name for name, _ in heard] == ["paid"]
    assert (heard[0][1]["invoice"], heard[0][1]["order"]) == (invoice, order)


def test_settling_again_and_again_changes_nothing(order, invoice, settle, heard):
    """The tenth telling of the same payment finds it booked, and says nothing."""
    payment = bitsby.transfer()
    for _ in range(10):
        settle(invoice, payment=payment)

    assert booked(order) == [(payment["id"], Decimal("10.00"))]
    assert order.sources.get().amount_debited == Decimal("10.00")
    assert order.payment_events.count() == 1
    assert order.status_changes.count() == 1
    assert order.notes.count() == 1
    assert [name for name, _ in heard] == ["paid"]


WAYS = ("webhook", "reconcile", "refresh", "page")


@pytest.mark.parametrize("first", range(len(WAYS)))
def test_one_transaction_whatever_the_way_it_was_noticed(
    order, invoice, fake, client, clock, first
):
    """Webhook, reconcile, refresh and page book one payment once, in any order and repeated."""
    payment = bitsby.transfer()
    remote = bitsby.invoice_item(invoice, "paid", payment=payment)
    fake.invoices, fake.payments = [remote], [bitsby.payment_item(payment, remote)]
    delivery = json.dumps({"invoice": {"id": str(invoice.bitsby_id)}, "payment": payment})
    ways = {
        "webhook": lambda: client.post(
            reverse("oscar_bitsby:webhook"), delivery, content_type="application/json"
        ),
        "reconcile": reconciliation.reconcile,
        "refresh": lambda: refresh(invoice),
        "page": lambda: client.get(
            reverse("oscar_bitsby:state", args=[signed_urls.sign_order_number(order.number)])
        ),
    }
    turns = WAYS[first:] + WAYS[:first]

    ways[turns[0]]()
    assert booked(order) == [(payment["id"], Decimal("10.00"))], "the first way settles it"
    for way in turns * 3:
        clock.sleep(2)
        ways[way]()

    assert booked(order) == [(payment["id"], Decimal("10.00"))]
    assert order.sources.get().amount_debited == Decimal("10.00")
    assert order.payment_events.count() == 1
    assert status_of(order) == "Being processed"


def test_an_order_without_its_source_gets_one(order, invoice, settle):
    """A payment is booked even when somebody deleted the order's Source."""
    order.sources.all().delete()

    settle(invoice, payment=bitsby.transfer())

    source = order.sources.get()
    assert (source.source_type.code, source.currency) == ("bitsby", "USD")
    assert source.amount_debited == Decimal("10.00")


# What is not plainly the payment of its order


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
def test_the_ledger_gets_the_worth_and_not_the_asked_amount(
    order, invoice, settle, heard, coins, fiat_value, reason
):
    """What was transferred is booked at its worth in cents, and a difference is shown to staff."""
    payment = bitsby.transfer(coins)
    for _ in range(2):
        settle(invoice, payment=payment)

    assert booked(order) == [(payment["id"], Decimal(fiat_value))]
    assert order.sources.get().amount_debited == Decimal(fiat_value)
    assert order.payment_events.get().amount == Decimal(fiat_value)
    record = BitsbyPayment.objects.get()
    assert (record.review_reason, record.fiat_value) == (reason, Decimal(fiat_value))
    assert reasons(heard) == ([reason] if reason else [])
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
def test_worth_is_told_by_the_rate_that_the_wallet_locked(
    order, invoice, settle, wallet, coins, fiat_value
):
    """The worth is ``amountFiat`` x amount / reserved, by wallet, else by coin."""
    settle(invoice, payment=bitsby.transfer(coins), wallet=wallet)

    assert BitsbyPayment.objects.get().fiat_value == Decimal(fiat_value)
    assert [amount for _, amount in booked(order)] == [Decimal(fiat_value)]


@pytest.mark.parametrize(
    "wallet",
    [
        bitsby.wallet(id=str(bitsby.new_id()), cryptocurrency="eth", blockchain="ethereum"),
        bitsby.wallet(id="", cryptocurrency=""),
        None,
    ],
)
def test_money_of_unknown_worth_is_kept_for_staff(order, invoice, settle, heard, wallet):
    """A coin without a locked rate is recorded and flagged; nothing is booked or cancelled."""
    payment = bitsby.transfer()
    for _ in range(3):
        settle(invoice, payment=payment, wallet=wallet)

    record = BitsbyPayment.objects.get()
    assert (record.review_reason, record.fiat_value, record.booked_at) == (
        "unknown_value",
        None,
        None,
    )
    assert reasons(heard) == ["unknown_value"]
    assert booked(order) == []
    assert status_of(order) == "Pending"
    invoice.refresh_from_db()
    assert invoice.status == "paid"


def test_worth_that_becomes_known_later_is_what_is_booked(order, invoice, settle):
    """A payment first told without its wallet is booked at its worth, not at what is open."""
    payment = bitsby.transfer("4.00000000")
    settle(invoice, payment=payment, wallet=None)
    settle(invoice, payment=payment)

    assert booked(order) == [(payment["id"], Decimal("4.00"))]
    assert order.sources.get().amount_debited == Decimal("4.00")
    record = BitsbyPayment.objects.get()
    assert (record.fiat_value, record.review_reason) == (Decimal("4.00"), "short")


@pytest.mark.parametrize("amount", ["100000000000", "99999999999.99999999"])
def test_an_absurd_amount_is_kept_for_staff(order, invoice, settle, amount):
    """A worth that fits no column of Oscar's is flagged instead of failing for ever."""
    settle(invoice, payment=bitsby.transfer(amount))

    assert BitsbyPayment.objects.get().review_reason == "unknown_value"
    assert booked(order) == []


def test_late_money_is_booked_and_the_order_stays_cancelled(place, invoice_for, settle, heard):
    """Money on a cancelled order stands in the books and the inbox; the goods are gone."""
    order = place(status="Cancelled")
    invoice = invoice_for(order, InvoiceStatus.EXPIRED)
    payment = bitsby.transfer()
    for _ in range(3):
        settle(invoice, payment=payment)

    assert booked(order) == [(payment["id"], Decimal("10.00"))]
    assert status_of(order) == "Cancelled"
    assert BitsbyPayment.objects.get().review_reason == "late"
    assert reasons(heard) == ["late"]


def test_a_second_payment_is_booked_and_flagged(order, invoice_for, settle, heard):
    """Two invoices of an order that are both paid give two transactions and one alarm."""
    first, second = bitsby.transfer(), bitsby.transfer()
    old = invoice_for(order, InvoiceStatus.EXPIRED)
    new = invoice_for(order)
    settle(new, payment=first)
    for _ in range(2):
        settle(old, payment=second)

    assert booked(order) == [(first["id"], Decimal(10)), (second["id"], Decimal(10))]
    assert order.sources.get().amount_debited == Decimal(20)
    assert order.payment_events.count() == 2
    assert reasons(heard) == ["second"]
    assert BitsbyPayment.objects.get(bitsby_id=second["id"]).review_reason == "second"
    assert order.status_changes.count() == 1


def test_a_second_payment_of_the_same_invoice_is_booked_and_flagged(order, invoice, settle, heard):
    """One invoice to which two payments are bound gives two transactions and one alarm."""
    settle(invoice, payment=bitsby.transfer())
    settle(invoice, payment=bitsby.transfer("3.00000000"))

    assert [amount for _, amount in booked(order)] == [Decimal(10), Decimal(3)]
    assert reasons(heard) == ["second"]


def test_money_for_an_order_that_another_source_paid_is_flagged(order, invoice, settle, heard):
    """A card that paid the order first makes the transfer a second payment."""
    card = SourceType.objects.create(name="Card", code="card")
    Source.objects.create(order=order, source_type=card, currency="USD", amount_debited=10)

    settle(invoice, payment=bitsby.transfer())

    assert reasons(heard) == ["second"]
    assert [amount for _, amount in booked(order)] == [Decimal(10)]


def test_another_source_that_gave_all_back_is_no_second_payment(order, invoice, settle, heard):
    """A card payment that was refunded in full does not make the transfer a second one."""
    card = SourceType.objects.create(name="Card", code="card")
    Source.objects.create(
        order=order, source_type=card, currency="USD", amount_debited=10, amount_refunded=10
    )

    settle(invoice, payment=bitsby.transfer())

    assert reasons(heard) == []
    assert status_of(order) == "Being processed"


@pytest.mark.parametrize(
    ("values", "is_paid"),
    [
        ({"amountFiat": "9.99"}, True),
        ({"amountFiat": "1.00"}, True),
        ({"amountFiat": "100.00"}, True),
        ({"currencyFiat": "RUB"}, True),
        ({"projectId": str(bitsby.new_id())}, False),
    ],
)
def test_an_invoice_that_is_not_what_was_asked_for_is_not_booked(
    order, invoice, settle, cancel, heard, move_time, values, is_paid
):
    """Amount, currency or project that differ: flagged, and the order neither paid nor lost."""
    payment = bitsby.transfer()
    for _ in range(3):
        settle(invoice, payment=payment, **values)

    record = BitsbyPayment.objects.get()
    assert (record.review_reason, record.invoice, record.booked_at) == ("mismatch", invoice, None)
    assert reasons(heard) == ["mismatch"]
    assert booked(order) == []
    assert order.sources.get().amount_debited == 0
    invoice.refresh_from_db()
    assert (invoice.status == "paid") == is_paid
    move_time(days=3)
    BitsbyInvoice.objects.update(status="expired", ended_at=timezone.now() - dt.timedelta(days=2))
    assert not cancel(order)
    assert status_of(order) == "Pending"


@pytest.mark.parametrize(
    "values", [{"projectId": bitsby.PROJECT.upper()}, {"currencyFiat": "usd"}, {"projectId": None}]
)
def test_the_same_thing_written_otherwise_is_no_mismatch(order, invoice, settle, values):
    """Case of letters, and a project that the answer leaves out, do not hold money up."""
    settle(invoice, payment=bitsby.transfer(), **values)

    assert status_of(order) == "Being processed"


def test_money_for_a_deleted_order_is_kept_for_staff(order, invoice, settle, heard):
    """A payment whose order is gone stands in the inbox with the order's number."""
    number, payment = order.number, bitsby.transfer()
    order.delete()
    invoice.refresh_from_db()
    for _ in range(2):
        settle(invoice, payment=payment)

    record = BitsbyPayment.objects.get()
    assert (record.review_reason, record.booked_at) == ("gone", None)
    assert record.invoice.order_number == number
    assert reasons(heard) == ["gone"]
    assert heard[0][1]["order"] is None
    assert not Transaction.objects.exists()


@pytest.mark.parametrize("word", ["expired", "canceled"])
def test_money_bound_to_an_ended_invoice_waits_for_staff(
    order, invoice, settle, cancel, heard, move_time, word
):
    """Such money is flagged once, and the order is not cancelled under it."""
    payment = bitsby.transfer()
    for _ in range(3):
        settle(invoice, word, payment=payment)

    assert BitsbyPayment.objects.get().review_reason == "ended"
    assert reasons(heard) == ["ended"]
    assert booked(order) == []
    invoice.refresh_from_db()
    assert invoice.status == word
    move_time(days=2)
    assert not cancel(order)
    assert status_of(order) == "Pending"


def test_money_on_an_ended_invoice_counts_once_bitsby_calls_it_paid(order, invoice, settle):
    """The flag goes and the money is booked when the invoice turns out to be paid."""
    payment = bitsby.transfer()
    settle(invoice, "expired", payment=payment)
    settle(invoice, "paid", payment=payment)

    assert booked(order) == [(payment["id"], Decimal("10.00"))]
    assert BitsbyPayment.objects.get().review_reason == ""
    assert status_of(order) == "Being processed"


def test_money_on_an_ended_invoice_of_another_project_stands_in_the_inbox(
    order, invoice, settle, heard
):
    """Money is never just a row that nobody is shown, even where two things are strange."""
    settle(invoice, "expired", payment=bitsby.transfer(), projectId=str(bitsby.new_id()))

    assert BitsbyPayment.objects.needs_review().count() == 1


@pytest.mark.parametrize(
    ("word", "payment"), [("unpaid", True), ("confirming", False), ("", False)]
)
def test_a_word_that_promises_nothing_changes_nothing(order, invoice, settle, heard, word, payment):
    """What Bitsby does not call paid, expired or canceled is asked about again."""
    outcome = settle(invoice, word, payment=bitsby.transfer() if payment else None)

    assert not outcome.is_final
    assert outcome.actions == (Action(ActionType.WAIT),)
    invoice.refresh_from_db()
    assert (invoice.status, status_of(order), heard) == ("unpaid", "Pending", [])
    assert booked(order) == []


@pytest.mark.parametrize("word", ["confirming", "overpaid", ""])
def test_money_under_an_unknown_word_stands_in_the_inbox(order, invoice, settle, word):
    """A payment of an invoice whose word is not documented is shown to staff and not booked."""
    settle(invoice, word, payment=bitsby.transfer())

    assert BitsbyPayment.objects.needs_review().get().review_reason == "ended"
    assert (booked(order), status_of(order)) == ([], "Pending")


def test_dismissing_what_an_invoice_was_called_paid_by_frees_its_order(
    order, invoice, settle, django_user_model
):
    """Money sent back by hand leaves an order that can be paid again, not one stuck for good."""
    staff = django_user_model.objects.create_user("staff", "staff@example.com", "secret")
    payment = bitsby.transfer()
    settle(invoice, payment=payment, amountFiat="99.00")

    review.dismiss(BitsbyPayment.objects.get().pk, staff, "sent back")
    settle(invoice, payment=payment, amountFiat="99.00")

    invoice.refresh_from_db()
    assert (invoice.status, invoice.order_awaits_payment) == ("canceled", True)
    assert BitsbyPayment.objects.needs_review().count() == 0


def test_an_order_is_not_paid_by_nothing(order, invoice, settle):
    """A payment of zero, or worth less than a cent, is for a person to look at."""
    settle(invoice, payment=bitsby.transfer("0.00000000"))

    assert status_of(order) == "Pending"
    assert BitsbyPayment.objects.needs_review().get().review_reason == "unknown_value"


def test_two_payments_that_make_up_the_total_need_nobody(order, invoice_for, settle):
    """The rest that a buyer sends after a short payment is no second payment."""
    settle(invoice_for(order, "expired"), payment=bitsby.transfer("6.00000000"))
    settle(invoice_for(order), payment=bitsby.transfer("4.00000000"))

    assert [row.review_reason for row in BitsbyPayment.objects.order_by("pk")] == ["short", ""]


def test_paid_without_its_payment_waits(order, invoice, settle):
    """Without the payment's id nothing can be booked just once, so nothing is."""
    outcome = settle(invoice, "paid")

    assert not outcome.is_final
    invoice.refresh_from_db()
    assert (invoice.status, status_of(order)) == ("unpaid", "Pending")


def test_a_payment_that_is_booked_elsewhere_does_not_leave_an_order_waiting_unseen(
    place, invoice_for, settle
):
    """An invoice called paid by a payment that another order already has is shown to staff."""
    payment = bitsby.transfer()
    one, other = place(), place()
    settle(invoice_for(one), payment=payment)
    settle(invoice_for(other), payment=payment)

    assert Transaction.objects.count() == 1
    assert status_of(other) == "Pending"
    assert BitsbyPayment.objects.needs_review().count() == 1


# Statuses, receivers and handlers of the shop


def test_a_status_that_the_pipeline_forbids_is_flagged(order, invoice, settle, heard, settings):
    """The money is booked; that the order could not be moved is told once."""
    settings.OSCAR_BITSBY = {**settings.OSCAR_BITSBY, "ORDER_STATUS_PAID": "Complete"}
    payment = bitsby.transfer()
    for _ in range(3):
        settle(invoice, payment=payment)

    assert booked(order) == [(payment["id"], Decimal("10.00"))]
    assert status_of(order) == "Pending"
    assert BitsbyPayment.objects.get().review_reason == "status"
    assert reasons(heard) == ["status"]
    assert order.status_changes.count() == 0


@pytest.mark.parametrize("status", ["Being processed", "Complete"])
def test_a_status_that_staff_gave_is_kept(place, invoice_for, settle, heard, status):
    """An order that staff moved on by hand is not moved; its money is booked without alarm."""
    order = place(status=status)
    payment = bitsby.transfer()
    settle(invoice_for(order), payment=payment)

    assert booked(order) == [(payment["id"], Decimal("10.00"))]
    assert (status_of(order), order.status_changes.count()) == (status, 0)
    assert reasons(heard) == []


@pytest.fixture
def raising():
    """Return a function that connects a receiver which raises to a signal."""
    connected = []

    def fail(**kwargs):
        raise RuntimeError("the shop's receiver is broken")

    def connect(signal):
        signal.connect(fail)
        connected.append(signal)

    yield connect
    for signal in connected:
        signal.disconnect(fail)


def test_a_raising_receiver_of_the_status_does_not_undo_the_payment(
    order, invoice, settle, raising
):
    """Money, status, history and note stand although ``order_status_changed`` raises."""
    raising(order_status_changed)
    payment = bitsby.transfer()
    for _ in range(2):
        settle(invoice, payment=payment)

    assert booked(order) == [(payment["id"], Decimal("10.00"))]
    assert status_of(order) == "Being processed"
    assert (order.status_changes.count(), order.notes.count()) == (1, 1)


def test_raising_receivers_of_our_signals_stop_nothing(order, invoice, settle, raising, heard):
    """A broken receiver neither undoes the payment nor keeps other receivers from hearing."""
    for signal in OUR_SIGNALS.values():
        raising(signal)

    settle(invoice, payment=bitsby.transfer("11.00000000"))

    assert [amount for _, amount in booked(order)] == [Decimal("11.00")]
    assert sorted(name for name, _ in heard) == ["paid", "review_reason"]


def test_an_event_handler_that_raises_does_not_undo_the_payment(
    order, invoice, settle, monkeypatch
):
    """A shop's EventHandler that fails at everything loses the event, not the money."""

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


def test_every_change_is_logged_with_order_and_invoice(order, invoice, settle, caplog):
    """Operators find each change by the order's number and the invoice's id; never the key."""
    with caplog.at_level(logging.INFO, "oscar_bitsby"):
        settle(invoice, payment=bitsby.transfer("9.00000000"))

    lines = [line for line in caplog.messages if order.number in line]
    for what in ("payment booked", "order paid", "invoice paid", "payment needs attention"):
        assert any(what in line and str(invoice.bitsby_id) in line for line in lines), what
    assert bitsby.KEY not in caplog.text


# The end of an invoice


def test_an_expired_invoice_ends_when_its_time_was_over(order, invoice, settle, heard, move_time):
    """The end is the time on the invoice, not when somebody noticed; the signal is sent once."""
    move_time(hours=5)
    for _ in range(3):
        settle(invoice, "expired")

    invoice.refresh_from_db()
    assert (invoice.status, invoice.ended_at) == ("expired", invoice.expires_at)
    assert [name for name, _ in heard] == ["expired"]
    assert status_of(order) == "Pending"


def test_an_invoice_canceled_at_bitsby_is_canceled_here(order, invoice, settle):
    """Bitsby's word ``canceled`` ends the invoice and leaves the order pending."""
    settle(invoice, "canceled")

    invoice.refresh_from_db()
    assert (invoice.status, invoice.ended_at is None) == ("canceled", False)
    assert status_of(order) == "Pending"


def test_a_paid_invoice_never_ends(order, invoice, settle):
    """What Bitsby says later takes nothing back from a paid invoice."""
    payment = bitsby.transfer()
    settle(invoice, payment=payment)
    settle(invoice, "expired")
    settle(invoice, "canceled")
    settle(invoice, "unpaid")

    invoice.refresh_from_db()
    assert (invoice.status, status_of(order)) == ("paid", "Being processed")
    assert booked(order) == [(payment["id"], Decimal("10.00"))]


def test_a_dry_run_decides_and_writes_nothing(order, invoice, heard):
    """``dry_run`` names the steps and takes none."""
    remote = parsing.parse_invoice(bitsby.invoice_item(invoice, "paid", payment=bitsby.transfer()))

    outcome = settlement.settle(invoice, remote, dry_run=True)

    assert outcome.did(ActionType.BOOK)
    assert not BitsbyPayment.objects.exists()
    assert not Transaction.objects.exists()
    invoice.refresh_from_db()
    assert (invoice.status, status_of(order), heard) == ("unpaid", "Pending", [])


# Cancelling


def test_an_unpaid_order_is_cancelled_and_its_stock_released(order, ended, cancel, product):
    """Status, history, note and stock all show that the order is given up."""
    stock = product.stockrecords.get()
    assert stock.num_allocated == 1

    assert cancel(order)

    stock.refresh_from_db()
    assert (status_of(order), stock.num_allocated) == ("Cancelled", 0)
    assert order.status_changes.get().new_status == "Cancelled"
    assert "Cancelled" in order.notes.get().message
    assert not BitsbyInvoice.objects.filter(order_awaits_payment=True).exists()


def test_cancelling_twice_gives_back_once(order, ended, cancel, place, product):
    """A second cancelling finds the order cancelled and releases nothing of other orders."""
    place()
    assert cancel(order)
    assert not cancel(order)

    assert product.stockrecords.get().num_allocated == 1


@pytest.mark.parametrize("word", ["unpaid", "paid", "confirming", ""])
def test_an_order_whose_invoice_may_be_open_is_not_cancelled(order, ended, cancel, word):
    """Only ``expired`` and ``canceled`` say that no money can come for an invoice."""
    assert not cancel(order, word)
    assert status_of(order) == "Pending"


def test_an_order_whose_invoice_bitsby_does_not_know_is_not_cancelled(order, ended):
    """No word about an invoice is no proof that it was not paid."""
    assert not cancellation.cancel_unpaid_order(order.pk, {})
    assert status_of(order) == "Pending"


def test_each_of_an_orders_invoices_must_be_known_to_be_over(order, ended, invoice_for, cancel):
    """One invoice without Bitsby's word keeps the order, whatever is said of the others."""
    other = invoice_for(order, InvoiceStatus.CANCELED, ended_at=ended.ended_at)
    remote = {ended.bitsby_id: parsing.parse_invoice(bitsby.invoice_item(ended, "expired"))}
    assert not cancellation.cancel_unpaid_order(order.pk, remote)

    remote[other.bitsby_id] = parsing.parse_invoice(bitsby.invoice_item(other, "canceled"))
    assert cancellation.cancel_unpaid_order(order.pk, remote)


@pytest.mark.parametrize("status", [InvoiceStatus.UNPAID, InvoiceStatus.CREATING])
def test_an_order_with_another_live_invoice_is_not_cancelled(
    order, ended, invoice_for, cancel, status
):
    """A live invoice keeps its order, even when Bitsby calls it expired already."""
    invoice_for(order, status)

    assert not cancel(order)


def test_an_order_with_a_paid_invoice_is_not_cancelled(order, ended, invoice_for, cancel):
    """An invoice that our own records call paid keeps its order."""
    invoice_for(order, InvoiceStatus.PAID)

    assert not cancel(order)


@pytest.mark.parametrize("status", ["Being processed", "Complete", "Cancelled"])
def test_an_order_in_another_status_is_left_alone(place, invoice_for, cancel, product, status):
    """Staff's word is not overruled, and nothing of that order is given back."""
    order = place(status=status)
    long_ago = timezone.now() - dt.timedelta(days=1)
    invoice_for(order, InvoiceStatus.EXPIRED, ended_at=long_ago)

    assert not cancel(order)
    assert status_of(order) == status
    assert product.stockrecords.get().num_allocated == 1


@pytest.mark.parametrize("refunded", [0, 4])
def test_an_order_that_another_source_paid_is_not_cancelled(order, ended, cancel, refunded):
    """A card's money keeps the order pending or not, as long as some of it is there."""
    card = SourceType.objects.create(name="Card", code="card")
    Source.objects.create(
        order=order,
        source_type=card,
        currency="USD",
        amount_debited=10,
        amount_refunded=refunded,
    )

    assert not cancel(order)
    assert status_of(order) == "Pending"


def test_an_order_partly_paid_is_not_cancelled(order, ended, cancel):
    """Any money in the books keeps the order from being cancelled."""
    order.sources.update(amount_debited=Decimal("0.01"))

    assert not cancel(order)


def test_an_order_is_not_cancelled_before_its_time(order, invoice_for, cancel, move_time):
    """``CANCEL_AFTER`` counts from the end of the last invoice."""
    now = timezone.now()
    invoice_for(order, InvoiceStatus.EXPIRED, ended_at=now - dt.timedelta(hours=9))
    invoice_for(order, InvoiceStatus.EXPIRED, ended_at=now - dt.timedelta(minutes=50))

    assert not cancel(order)
    move_time(minutes=11)
    assert cancel(order)


def test_cancel_after_zero_waits_for_nothing(order, invoice_for, cancel, settings):
    """``timedelta(0)`` cancels as soon as the last invoice has ended."""
    settings.OSCAR_BITSBY = {**settings.OSCAR_BITSBY, "CANCEL_AFTER": dt.timedelta(0)}
    invoice_for(order, InvoiceStatus.EXPIRED, ended_at=timezone.now())

    assert cancel(order)


def test_cancel_after_none_never_cancels(order, ended, cancel, settings, move_time):
    """``None`` leaves every order to staff."""
    settings.OSCAR_BITSBY = {**settings.OSCAR_BITSBY, "CANCEL_AFTER": None}
    move_time(days=300)

    assert not cancel(order)
    assert status_of(order) == "Pending"


def test_an_attempt_without_an_answer_does_not_keep_its_order(order, invoice_for, cancel):
    """An attempt that never got an invoice was shown to nobody, so no money can come for it."""
    invoice_for(
        order,
        InvoiceStatus.EXPIRED,
        bitsby_id=None,
        uid="",
        ended_at=timezone.now() - dt.timedelta(hours=2),
    )

    assert cancel(order)


def test_a_pipeline_that_forbids_cancelling_keeps_order_and_stock(
    order, ended, cancel, settings, product
):
    """What the shop does not allow is not done by halves."""
    settings.OSCAR_BITSBY = {**settings.OSCAR_BITSBY, "ORDER_STATUS_CANCELLED": "Complete"}

    assert not cancel(order)
    assert status_of(order) == "Pending"
    assert product.stockrecords.get().num_allocated == 1


def test_a_raising_receiver_does_not_stop_the_cancelling(order, ended, cancel, raising, product):
    """The order is cancelled and its stock released although ``order_status_changed`` raises."""
    raising(order_status_changed)

    assert cancel(order)
    assert status_of(order) == "Cancelled"
    assert product.stockrecords.get().num_allocated == 0


def test_a_dry_run_cancels_nothing(order, ended, cancel, product):
    """``dry_run`` says that the order would be cancelled, and leaves it."""
    assert cancel(order, dry_run=True)

    assert status_of(order) == "Pending"
    assert product.stockrecords.get().num_allocated == 1
    ended.refresh_from_db()
    assert ended.order_awaits_payment


def test_a_deleted_order_is_no_error(order, ended):
    """An order that vanished between question and lock is simply not cancelled."""
    pk = order.pk
    order.delete()

    assert cancellation.cancel_unpaid_order(pk, {}) is False


# Payments that are bound to nothing of ours


def test_an_unbound_payment_is_kept_and_announced_once(heard, django_capture_on_commit_callbacks):
    """``keep`` records a payment that fits nothing, and sends its signal a single time."""
    payment = parsing.parse_payment(bitsby.payment_item())
    for _ in range(3):
        with django_capture_on_commit_callbacks(execute=True):
            settlement.record_unbound(payment, reason="unmatched")

    record = BitsbyPayment.objects.get()
    assert (record.bitsby_id, record.review_reason) == (payment.id, "unmatched")
    assert reasons(heard) == ["unmatched"]
    assert heard[0][1]["payment"] == record


def test_a_booked_payment_is_not_flagged_when_it_is_told_unbound(
    order, invoice, settle, heard, django_capture_on_commit_callbacks
):
    """Money in the books stays as it is, even if Bitsby later shows it without its invoice."""
    payment = bitsby.transfer()
    settle(invoice, payment=payment)
    with django_capture_on_commit_callbacks(execute=True):
        settlement.record_unbound(
            parsing.parse_payment(bitsby.payment_item(payment)), reason="unmatched"
        )

    record = BitsbyPayment.objects.get()
    assert (record.review_reason, record.invoice) == ("", invoice)
    assert reasons(heard) == []


# No API call, and no settling, inside somebody's transaction


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("call", ["settle", "cancel_order", "keep"])
def test_settling_inside_a_transaction_is_refused(order, invoice, call):
    """A transaction around settling could undo it, so it raises and writes nothing."""
    remote = parsing.parse_invoice(bitsby.invoice_item(invoice, "paid", payment=bitsby.transfer()))
    calls = {
        "settle": lambda: settlement.settle(invoice, remote),
        "cancel_order": lambda: cancellation.cancel_unpaid_order(order.pk, {}),
        "keep": lambda: settlement.record_unbound(
            parsing.parse_payment(bitsby.payment_item()), reason="unmatched"
        ),
    }

    with transaction.atomic(), pytest.raises(RuntimeError):
        calls[call]()

    assert not BitsbyPayment.objects.exists()
    assert not Transaction.objects.exists()
    assert not PaymentEvent.objects.exists()


def test_dismissed_money_no_longer_keeps_the_order(order, ended, settle, cancel, django_user_model):
    """Once staff have dealt with the money, the order can be cancelled for want of payment."""
    staff = django_user_model.objects.create_user("staff", "staff@example.com", "secret")
    settle(ended, "expired", payment=bitsby.transfer())
    assert not cancel(order)

    assert review.dismiss(BitsbyPayment.objects.get().pk, staff, "refunded by hand").done

    assert cancel(order)
    assert status_of(order) == "Cancelled"
