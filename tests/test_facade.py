"""Test ``start_payment``: it reuses the live invoice or creates one, and never leaves two."""

import datetime as dt
import json
import logging
import uuid
from decimal import Decimal
from types import SimpleNamespace

import pytest
from django.db import connection
from django.utils import timezone
from oscar.core.loading import get_model

from oscar_bitsby import facade, reconciliation, signals
from oscar_bitsby.exceptions import (
    BitsbyError,
    ConnectionFailed,
    NotPayable,
    PaymentInProgress,
)
from oscar_bitsby.facade import service_data, start_payment
from oscar_bitsby.models import BitsbyInvoice, BitsbyPayment, GatewayState
from tests.support import bitsby
from tests.support.starting import (
    change_total,
    create_requests,
    refusal,
    start_listed,
    statuses,
)

Order = get_model("order", "Order")
Source = get_model("payment", "Source")
SourceType = get_model("payment", "SourceType")
Transaction = get_model("payment", "Transaction")

pytestmark = pytest.mark.django_db


# A new invoice


def test_new_invoice_is_stored_with_the_whole_answer(
    order, fake, django_capture_on_commit_callbacks
):
    """The id, page, times, wallets with their amounts, and the whole answer are stored."""
    answer = bitsby.created("10.00")
    fake.on("/invoices/create", bitsby.success(answer))

    invoice = start_payment(order)

    invoice.refresh_from_db()
    assert str(invoice.bitsby_id) == answer["id"]
    assert (invoice.uid, invoice.url) == (answer["uid"], answer["url"])
    assert (invoice.status, invoice.order, invoice.order_number) == ("unpaid", order, order.number)
    assert (invoice.amount, invoice.currency) == (Decimal("10.00"), "USD")
    assert bitsby.written(invoice.expires_at) == answer["timeToPayDatetime"]
    assert [wallet["amount"] for wallet in invoice.wallets] == ["10.00000000", "0.00020000"]
    assert invoice.reply == answer


def test_order_number_gives_the_invoice_of_the_order(place, fake):
    """An order and its number lead to the same invoice."""
    order, other = place(), place()

    invoice = start_payment(order.number)

    assert (invoice.order, start_payment(order)) == (order, invoice)
    assert statuses(other) == []
    assert len(create_requests(fake)) == 1


def test_deleted_order_raises_does_not_exist(order, fake):
    """A deleted order, or its number, raises ``Order.DoesNotExist`` and sends no request."""
    number, gone = order.number, Order.objects.get()
    order.delete()

    for either in (number, gone):
        with pytest.raises(Order.DoesNotExist):
            start_payment(either)

    assert create_requests(fake) == []


def test_first_payment_needs_few_queries(order, fake, real_time, django_assert_max_num_queries):
    """The first payment needs six queries, and two more for the time on PostgreSQL."""
    GatewayState.ensure_exists()

    with django_assert_max_num_queries(20) as many:
        start_payment(order.number)

    work = [one["sql"] for one in many.captured_queries if "SAVEPOINT" not in one["sql"]]
    assert len(work) == (8 if connection.vendor == "postgresql" else 6), work


@pytest.mark.parametrize("total", ["0.01", "10.00", "10.10", "1234567.89", "100.00"])
@pytest.mark.parametrize("currency", ["USD", "EUR", "RUB"])
def test_request_has_the_exact_amount_of_the_order(place, fake, total, currency):
    """The six documented fields are sent, with the exact total of the order."""
    order = place(total, currency)

    start_payment(order)

    assert create_requests(fake) == [
        {
            "projectId": bitsby.PROJECT,
            "amountFiat": total,
            "currencyFiat": currency,
            "timeToPay": "1",
            "description": f"Order {order.number}",
            "serviceData": f'{{"orderId":"{order.number}","userId":null}}',
        }
    ]


@pytest.mark.parametrize(
    ("hours", "sent"),
    [(0.5, "0.5"), (1, "1"), (3, "3"), (6, "6"), (12, "12"), ("12.0", "12"), (Decimal("1.0"), "1")],
)
def test_time_to_pay_is_sent_in_the_format_of_the_api(order, fake, configure, hours, sent):
    """Half an hour is sent as ``0.5``, and whole hours without decimals."""
    configure(TIME_TO_PAY=hours)

    start_payment(order)

    assert create_requests(fake)[0]["timeToPay"] == sent


def test_service_data_contains_order_number_and_user_key(place, fake, django_user_model):
    """``serviceData`` is compact JSON with the order's number as text and the user's key."""
    user = django_user_model.objects.create_user("ada", "ada@example.com", "secret")
    order = place(user=user)

    start_payment(order)

    text = create_requests(fake)[0]["serviceData"]
    assert json.loads(text) == {"orderId": order.number, "userId": user.pk}
    assert " " not in text


def test_service_data_accepts_any_type_of_user_key():
    """Keys that are neither integers nor texts are sent as text."""
    user_id = uuid.UUID(int=7)

    text = service_data(SimpleNamespace(number=100001, user_id=user_id))

    assert text == f'{{"orderId":"100001","userId":"{user_id}"}}'


@pytest.mark.parametrize(
    ("description", "sent"),
    [
        ("Bestellung {number} – {shop} %s", "Bestellung %s – {shop} %%s"),
        ("{number} " + "x" * 600, "%s " + "x" * 600),
    ],
    ids=["with the number", "cut"],
)
def test_description_setting_is_sent_with_the_order_number(
    order, fake, configure, description, sent
):
    """At most 500 characters of ``DESCRIPTION`` are sent, with the order's number in it."""
    configure(DESCRIPTION=description)

    start_payment(order)

    assert create_requests(fake)[0]["description"] == (sent % order.number)[:500]


@pytest.mark.parametrize("sender", [None, BitsbyInvoice], ids=["any sender", "BitsbyInvoice"])
def test_new_invoice_sends_one_signal_with_its_order(
    order, fake, django_capture_on_commit_callbacks, sender
):
    """``invoice_created`` is sent once for a new invoice, with ``BitsbyInvoice`` as the sender."""
    received = []

    def receiver(sender, **payload):
        received.append((sender, payload["invoice"], payload["order"]))

    signals.invoice_created.connect(receiver, sender=sender)
    try:
        with django_capture_on_commit_callbacks(execute=True):
            invoice = start_payment(order)
            start_payment(order)
    finally:
        signals.invoice_created.disconnect(receiver, sender=sender)

    assert received == [(BitsbyInvoice, invoice, order)]


# The live invoice is reused


def test_live_invoice_is_reused(order, fake):
    """Ten clicks lead to one invoice and one request."""
    invoices = {start_payment(order).pk for _ in range(10)}

    assert len(invoices) == 1
    assert len(fake.requests) == 1


def test_invoice_is_reused_until_it_expires(order, fake, stop_time):
    """An invoice is reused until it expires by our clock, and fetched again from then on."""
    invoice = start_listed(order, fake, "expired")
    end = BitsbyInvoice.objects.get().expires_at
    for moment, is_same in ((end - dt.timedelta(seconds=1), True), (end, False)):
        stop_time(moment)
        assert (start_payment(order) == invoice) is is_same


def test_total_is_read_again_from_the_database(order, fake):
    """A stale order object does not reuse an invoice of the old total."""
    start_listed(order, fake)
    change_total(order)

    second = start_payment(order)

    assert (second.amount, create_requests(fake)[1]["amountFiat"]) == (Decimal("12.00"), "12.00")
    assert statuses(order) == ["canceled", "unpaid"]


@pytest.mark.parametrize(("seconds", "is_replaced"), [(0, False), (59, False), (60, True)])
def test_unpaid_invoice_is_replaced_a_minute_after_it_expired(
    order, fake, stop_time, seconds, is_replaced
):
    """During the minute by which clocks may differ, an invoice is neither reused nor replaced."""
    first = start_listed(order, fake)
    stop_time(BitsbyInvoice.objects.get().expires_at + dt.timedelta(seconds=seconds))
    if is_replaced:
        assert start_payment(order) != first
        assert statuses(order) == ["canceled", "unpaid"]
    else:
        message = "the invoice is about to expire; try again"
        assert refusal(order, PaymentInProgress) == message
        assert statuses(order) == ["unpaid"]


# An invoice is replaced


@pytest.mark.parametrize("change", [{"total_incl_tax": Decimal("9.00")}, {"currency": "EUR"}])
def test_invoice_of_another_amount_or_currency_is_replaced(order, fake, change):
    """The old invoice is fetched a last time and replaced, and reconciliation still watches it."""
    first = start_listed(order, fake)
    Order.objects.filter(pk=order.pk).update(**change)
    order.refresh_from_db()

    second = start_payment(order)

    assert second.fits(order)
    assert statuses(order) == ["canceled", "unpaid"]
    since = timezone.now() - dt.timedelta(days=1)
    assert set(BitsbyInvoice.objects.watched(since)) == {
        BitsbyInvoice.objects.get(pk=first.pk),
        second,
    }


def test_replaced_invoice_has_time_reason_and_log_line(place, invoice_for, order, fake, caplog):
    """The replaced invoice, and no other order's, gets an end, a reason and a log line."""
    first = start_listed(order, fake)
    other = invoice_for(place())
    change_total(order)
    before = timezone.now()
    with caplog.at_level(logging.INFO, "oscar_bitsby"):
        second = start_payment(order)

    first.refresh_from_db()
    assert (first.status, first.failure) == ("canceled", "replaced by a newer invoice")
    assert before <= first.ended_at <= timezone.now()
    other.refresh_from_db()
    assert (other.status, other.ended_at) == ("unpaid", None)
    assert caplog.messages == [
        f"invoice replaced: order={order.number} invoice={first.bitsby_id}",
        f"invoice created: order={order.number} invoice={second.bitsby_id}"
        " amount=12.00 currency=USD",
    ]


def test_payment_of_a_replaced_invoice_is_booked_and_reviewed(order, fake):
    """A payment of a replaced invoice is booked at its fiat value and shown to staff."""
    first = start_listed(order, fake)
    change_total(order)
    start_payment(order)
    fake.payments = [bitsby.payment_item(invoice=bitsby.invoice_item(first, "paid"))]

    reconciliation.reconcile()

    assert Transaction.objects.get().amount == Decimal("10.00")
    assert BitsbyPayment.objects.get().review_reason == "short"


def test_new_invoice_follows_an_expired_one(order, fake, move_time):
    """Paying again after the time to pay expires the old invoice and creates a new one."""
    first = start_listed(order, fake, "expired")
    move_time(minutes=61)

    second = start_payment(order)

    assert second.pk != first.pk
    assert statuses(order) == ["expired", "unpaid"]


def test_overdue_invoice_unknown_to_bitsby_is_replaced(order, fake, move_time):
    """An overdue invoice that Bitsby does not know is replaced, and is still watched."""
    first = start_payment(order)
    fake.invoices = []
    move_time(minutes=90)

    second = start_payment(order)

    assert second.status == "unpaid"
    first.refresh_from_db()
    assert first in BitsbyInvoice.objects.watched(timezone.now() - dt.timedelta(days=1))


def test_second_replacement_in_one_call_is_not_followed_by_a_third(order, fake, monkeypatch):
    """If each invoice that is found has to be replaced, the error asks the buyer to try again."""
    start_payment(order)
    monkeypatch.setattr(BitsbyInvoice, "fits", lambda *args: False)
    retired = []
    monkeypatch.setattr(facade, "_replace_invoice", lambda invoice, client: retired.append(invoice))

    message = "the order's invoice was replaced meanwhile; try again"
    assert refusal(order, PaymentInProgress) == message
    assert len(retired) == 2


def test_final_check_is_not_retried(order, fake, move_time):
    """The buyer waits for the final check, so a failed request is not retried."""
    start_payment(order)
    fake.on("/invoices/list", ConnectionError("down"))
    move_time(minutes=61)

    assert refusal(order, ConnectionFailed)
    assert len(fake.asked("/invoices/list")) == 1


def test_overdue_invoice_that_is_paid_is_settled_and_not_replaced(order, fake, move_time):
    """If the final check finds the old invoice paid, it is settled and no invoice is created."""
    start_listed(order, fake, "paid", payment=bitsby.transfer())
    move_time(minutes=61)

    assert refusal(order, NotPayable) == f"order {order.number} is paid"

    assert len(create_requests(fake)) == 1
    assert Transaction.objects.count() == 1
    assert statuses(order) == ["paid"]


def test_invoice_paid_during_its_replacement_stays_paid(order, fake, monkeypatch):
    """An invoice that another process settles at the same time is not replaced."""
    first = start_payment(order)
    change_total(order)
    fits = BitsbyInvoice.fits

    def settled_meanwhile(*args):
        if fake.asked("/invoices/list"):
            BitsbyInvoice.objects.filter(pk=first.pk).update(status="paid")
        return fits(*args)

    monkeypatch.setattr(BitsbyInvoice, "fits", settled_meanwhile)

    assert refusal(order, NotPayable)
    first.refresh_from_db()
    assert (first.status, first.failure) == ("paid", "")


def test_invoice_paid_without_a_known_payment_is_not_replaced(order, fake, move_time):
    """An invoice that Bitsby calls paid is not replaced, even if its payment is unknown."""
    start_listed(order, fake, "paid")
    move_time(minutes=61)

    with pytest.raises(BitsbyError):
        start_payment(order)

    assert len(create_requests(fake)) == 1


def test_invoice_paid_to_another_project_is_not_replaced(order, fake, move_time):
    """A payment to another project goes to review, and no new invoice is created."""
    remote = {"payment": bitsby.transfer(), "projectId": str(bitsby.new_id())}
    start_listed(order, fake, "paid", **remote)
    move_time(minutes=61)

    with pytest.raises(BitsbyError):
        start_payment(order)

    assert BitsbyPayment.objects.get().review_reason == "mismatch"
    assert len(create_requests(fake)) == 1


# Orders that are not payable


@pytest.mark.parametrize("status", ["Being processed", "Complete", "Cancelled"])
def test_order_that_is_not_pending_is_not_payable(place, fake, status):
    """Only a pending order gets an invoice, and the error names the order."""
    order = place(status=status)

    assert refusal(order, NotPayable) == f"order {order.number} is not waiting for a payment"
    assert fake.requests == []
    assert statuses(order) == []


def test_status_is_read_again_from_the_database(order, fake):
    """An order that was cancelled since it was read gets no invoice."""
    Order.objects.filter(pk=order.pk).update(status="Cancelled")

    assert refusal(order, NotPayable)
    assert fake.requests == []


def test_order_paid_by_card_is_not_payable(order, fake):
    """A pending order that was paid by card gets no invoice."""
    card = SourceType.objects.create(name="Card", code="card")
    Source.objects.create(order=order, source_type=card, amount_debited=10)

    assert refusal(order, NotPayable)
    assert fake.requests == []


def test_order_with_a_paid_invoice_is_not_payable(order, invoice_for, fake):
    """A paid invoice whose payment is not booked yet is under review and not replaced."""
    invoice_for(order, "paid")

    assert refusal(order, NotPayable) == f"order {order.number} has a payment under review"
    assert fake.requests == []


def test_order_with_a_reconciled_payment_under_review_is_not_payable(order, fake, move_time):
    """While a payment of the order is under review, the buyer cannot pay again."""
    start_listed(order, fake, "expired", payment=bitsby.transfer())
    move_time(minutes=61)
    reconciliation.reconcile()
    assert BitsbyPayment.objects.get().review_reason == "not_paid"

    assert refusal(order, NotPayable)
    assert len(create_requests(fake)) == 1
