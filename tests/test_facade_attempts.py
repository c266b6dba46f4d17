"""Test attempts of ``start_payment``: only one at a time, and what a failed one leaves."""

import datetime as dt
from contextlib import suppress
from decimal import Decimal

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone
from oscar.core.loading import get_model

from oscar_bitsby import reconciliation
from oscar_bitsby.exceptions import (
    BitsbyError,
    ConfigurationError,
    PaymentInProgress,
    PaymentPaused,
    Queued,
    Refused,
    ReplyNotUnderstood,
)
from oscar_bitsby.facade import start_payment
from oscar_bitsby.models import BitsbyInvoice, GatewayState
from oscar_bitsby.settlement import attempts
from tests.support import bitsby
from tests.support.starting import create_requests, refusal, statuses

Order = get_model("order", "Order")
Transaction = get_model("payment", "Transaction")

pytestmark = pytest.mark.django_db


# One attempt at a time


@pytest.mark.parametrize("seconds", [0, 15])
def test_second_click_is_refused_while_an_invoice_is_being_created(
    order, invoice_for, fake, stop_time, seconds
):
    """An attempt blocks the order for ``TIMEOUT`` and five more seconds; no request is sent."""
    now = timezone.now()
    started = now - dt.timedelta(seconds=seconds)
    invoice_for(order, "creating", bitsby_id=None, created_at=started)
    stop_time(now)

    message = f"order {order.number}: an invoice is being created"
    assert refusal(order, PaymentInProgress) == message
    assert fake.requests == []


def test_constraint_refuses_a_concurrent_attempt(order, fake, monkeypatch):
    """Without row locks, the constraint refuses the second attempt, and no request is sent."""

    def refuse(**values):
        raise IntegrityError("bitsby_one_live_invoice")

    monkeypatch.setattr(BitsbyInvoice.objects, "create", refuse)

    with pytest.raises(PaymentInProgress, match=r"^another request has just begun$") as caught:
        start_payment(order)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
    assert fake.requests == []


def test_attempt_is_stored_before_the_request(order, fake):
    """Amount, currency and project are stored before the answer comes."""
    seen = []

    def answer(fields):
        seen.append(BitsbyInvoice.objects.values("status", "amount", "currency").get())
        return bitsby.success(bitsby.created())

    fake.on("/invoices/create", answer)

    assert start_payment(order).project_id == bitsby.PROJECT
    assert seen == [{"status": "creating", "amount": Decimal("10.00"), "currency": "USD"}]


@pytest.mark.django_db(transaction=True)
def test_start_inside_a_transaction_is_refused(order, fake):
    """Inside a transaction an attempt could be rolled back, so nothing is sent."""
    with transaction.atomic(), pytest.raises(RuntimeError):
        start_payment(order)

    assert fake.requests == []
    assert statuses(order) == []


def test_crashed_attempt_is_replaced_after_its_timeout(order, fake, move_time):
    """An attempt whose process died blocks the order for seconds only, and has a reason."""

    def crash(fields):
        raise SystemExit

    fake.on("/invoices/create", crash)
    with pytest.raises(SystemExit):
        start_payment(order)
    assert statuses(order) == ["creating"]
    fake.on("/invoices/create", fake.invoices_create)
    assert refusal(order, PaymentInProgress)
    assert len(create_requests(fake)) == 1

    move_time(seconds=16)
    assert start_payment(order).status == "unpaid"
    assert statuses(order) == ["expired", "unpaid"]
    assert order.bitsby_invoices.get(status="expired").failure == "no answer came"


def test_late_answer_is_stored_and_not_reused(order, fake, move_time):
    """An answer for an attempt that was replaced does not create a second live invoice."""
    late, replaced = bitsby.created(), bitsby.created()

    def slow(fields):
        move_time(seconds=20)
        fake.on("/invoices/create", bitsby.success(replaced))
        start_payment(order)
        return bitsby.success(late)

    fake.on("/invoices/create", slow)

    message = "the answer came too late; another attempt may have begun"
    assert refusal(order, PaymentInProgress) == message

    assert statuses(order) == ["expired", "unpaid"]
    first, second = order.bitsby_invoices.order_by("pk")
    assert (str(first.bitsby_id), str(second.bitsby_id)) == (late["id"], replaced["id"])
    assert start_payment(order) == second
    since = timezone.now() - dt.timedelta(days=1)
    assert first in BitsbyInvoice.objects.watched(since)
    fake.payments = [bitsby.payment_item(invoice=bitsby.invoice_item(first, "paid"))]
    reconciliation.reconcile()
    assert Transaction.objects.count() == 1


# Attempts that fail


@pytest.mark.parametrize(
    "answer",
    [
        ConnectionError("down"),
        bitsby.error("You have a debt"),
        (500, {}, "oops"),
        (200, {}, "no json"),
        bitsby.success(None),
        bitsby.success([]),
        bitsby.success({"id": "x", "url": "https://dash.bitsby.app/invoices/pay/x"}),
        bitsby.success({"id": str(bitsby.new_id())}),
    ],
    ids=repr,
)
def test_failed_attempt_expires_and_pauses_the_order(order, fake, answer, move_time):
    """A failed attempt leaves the order pending, and is repeated after ten seconds only."""
    fake.on("/invoices/create", answer)
    with pytest.raises(BitsbyError):
        start_payment(order)
    assert len(create_requests(fake)) == 1
    assert statuses(order) == ["expired"]
    assert order.bitsby_invoices.get().failure
    assert Order.objects.get().status == "Pending"

    fake.on("/invoices/create", bitsby.success(bitsby.created()))
    move_time(seconds=5)
    assert refusal(order, PaymentPaused) == f"order {order.number}: its last attempt failed"
    assert len(create_requests(fake)) == 1
    move_time(seconds=5)
    assert start_payment(order).status == "unpaid"
    assert statuses(order) == ["expired", "unpaid"]


@pytest.fixture
def click(stop_time):
    """Return a function that lets rude buyers click again and again, in turn."""
    start = timezone.now()

    def click_every(seconds, orders, until):
        for number, second in enumerate(range(0, until, seconds)):
            stop_time(start + dt.timedelta(seconds=second))
            with suppress(BitsbyError):
                start_payment(orders[number % len(orders)])

    return click_every


def test_pause_of_a_refused_order_doubles_up_to_ten_minutes(order, fake, click):
    """Whoever clicks every five seconds for an hour causes few requests and few rows."""
    fake.on("/invoices/create", bitsby.error("The amount is too small"))

    click(5, [order], 3600)

    # After 0, 10, 30, 70, 150, 310 and 630 seconds, and then every ten minutes.
    assert len(create_requests(fake)) == 11
    assert order.bitsby_invoices.count() == attempts.KEPT_FAILURES


def test_refused_orders_leave_the_slots_to_others(place, fake, click):
    """Two refused orders and a click a second take few of the slots of a minute."""
    fake.on("/invoices/create", bitsby.error("The amount is too small"))

    click(1, [place("0.10"), place("0.20")], 58)

    assert len(create_requests(fake)) <= 7


def test_refusals_of_several_orders_pause_all_orders_for_a_short_time(place, fake, move_time):
    """After two orders were refused, a third one waits and is asked for when the pause is over."""
    fake.on("/invoices/create", bitsby.error("You have a debt"))
    for order in (place(), place()):
        refusal(order, Refused)
        move_time(seconds=2)
    fake.on("/invoices/create", fake.invoices_create)
    third = place()

    assert refusal(third, Queued)
    assert len(create_requests(fake)) == 2
    move_time(seconds=20)
    assert start_payment(third).status == "unpaid"


def test_refusals_before_a_success_pause_no_other_order(place, fake, move_time):
    """A refused order does not delay others while Bitsby accepts theirs."""
    fake.on("/invoices/create", bitsby.error("The amount is too small"))
    refusal(place("0.10"), Refused)
    fake.on("/invoices/create", fake.invoices_create)
    start_payment(place())
    fake.on("/invoices/create", bitsby.error("The amount is too small"))
    refusal(place("0.20"), Refused)
    fake.on("/invoices/create", fake.invoices_create)

    assert start_payment(place()).status == "unpaid"


def test_failed_attempt_is_logged_and_stored_with_its_reason(order, fake, caplog):
    """The row has the error of Bitsby, and the log line has it with the order's number."""
    fake.on("/invoices/create", bitsby.error("You have a debt"))

    message = refusal(order, Refused)

    assert order.bitsby_invoices.get().failure == message == "/invoices/create: You have a debt"
    lines = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert lines == [f"no invoice for order {order.number}: {message}"]


def test_queued_buyer_sends_nothing_and_stores_no_attempt(order, fake, clock, caplog):
    """A buyer who gets no slot leaves neither an attempt in the database nor a log line."""
    GatewayState.ensure_exists()
    GatewayState.objects.update(next_request_at=clock.now() + dt.timedelta(seconds=8))

    assert refusal(order, Queued)

    assert (fake.requests, statuses(order), caplog.messages) == ([], [], [])
    clock.sleep(10)
    assert start_payment(order).status == "unpaid"


def test_missing_api_key_stores_no_attempt(order, fake, configure):
    """Without an API key, an error is raised and no attempt is stored."""
    configure(API_KEY="")

    with pytest.raises(ConfigurationError):
        start_payment(order)
    assert statuses(order) == []


@pytest.mark.django_db(transaction=True)
def test_invoice_id_of_another_order_is_refused(place, fake):
    """If Bitsby answers twice with one id, the second order does not get the first order's page."""
    answer = bitsby.created()
    fake.on("/invoices/create", bitsby.success(answer))
    one, other = place(), place()
    start_payment(one)

    assert refusal(other, ReplyNotUnderstood) == f"invoice {answer['id']} exists already"

    assert (statuses(other), statuses(one)) == (["expired"], ["unpaid"])
    error = other.bitsby_invoices.get().failure
    assert error == "Bitsby answered with the id of an earlier invoice"
