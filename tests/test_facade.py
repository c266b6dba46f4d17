"""``start_payment``: the live invoice again, or a new one; never two that a buyer could pay."""

from __future__ import annotations

import copy
import datetime as dt
import json
from decimal import Decimal

import pytest
from django.db import InterfaceError, OperationalError, connection, transaction
from django.utils import timezone
from oscar.core.loading import get_model

from oscar_bitsby import facade, reconciliation
from oscar_bitsby.exceptions import (
    BitsbyError,
    ConfigurationError,
    NotPayable,
    PaymentInProgress,
    PaymentPageRefused,
    RateLimitTimeout,
    ReplyNotUnderstood,
)
from oscar_bitsby.facade import payment_page, start_payment
from oscar_bitsby.models import BitsbyInvoice, BitsbyPayment, GatewayState
from tests import bitsby

Order = get_model("order", "Order")
Source = get_model("payment", "Source")
SourceType = get_model("payment", "SourceType")
Transaction = get_model("payment", "Transaction")

pytestmark = pytest.mark.django_db


def created(fake):
    return fake.asked("/invoices/create")


def statuses(order):
    return list(order.bitsby_invoices.order_by("pk").values_list("status", flat=True))


# A new invoice


def test_a_new_invoice_is_stored_whole(order, fake, django_capture_on_commit_callbacks):
    """Id, page, times, wallets with reserved amounts and the whole answer are kept."""
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


def test_who_has_only_the_number_pays_the_same_order(place, fake):
    """By its number or by itself, an order has the same invoice."""
    order, other = place(), place()

    invoice = start_payment(order.number)

    assert (invoice.order, start_payment(order)) == (order, invoice)
    assert statuses(other) == []
    assert len(created(fake)) == 1


def test_an_order_that_is_gone_is_said_to_be(order, fake):
    """Neither the number of a deleted order nor what is left of it in memory asks for anything."""
    number, gone = order.number, Order.objects.get()
    order.delete()

    for either in (number, gone):
        with pytest.raises(Order.DoesNotExist):
            start_payment(either)

    assert created(fake) == []


@pytest.mark.parametrize("error", [OperationalError, InterfaceError])
def test_an_answer_that_could_not_be_stored_is_stored_at_the_second_try(order, fake, error):
    """A database that fails once while the answer is stored loses neither answer nor buyer."""
    failed = []

    def fail_once(execute, sql, *rest):
        if "UPDATE" in sql and "oscar_bitsby_bitsbyinvoice" in sql and not failed:
            failed.append(sql)
            raise error("the server closed the connection unexpectedly")
        return execute(sql, *rest)

    with connection.execute_wrapper(fail_once):
        invoice = start_payment(order)

    assert failed
    stored = order.bitsby_invoices.get()
    assert (stored.status, stored.url) == ("unpaid", invoice.url)
    assert stored.expires_at == invoice.expires_at
    assert len(created(fake)) == 1


def test_an_answer_that_was_stored_after_all_is_not_spoiled_by_the_second_try(
    order, fake, monkeypatch
):
    """Where only the database's word on its commit was lost, the invoice is given as it stands."""
    save, calls = facade._save_created, []

    def lose_the_word(attempt, *answer):
        calls.append(attempt)
        if len(calls) == 1:
            # The row is written, and what the process holds of it is as it was.
            save(copy.copy(attempt), *answer)
            raise OperationalError("the server closed the connection unexpectedly")
        return save(attempt, *answer)

    monkeypatch.setattr(facade, "_save_created", lose_the_word)

    invoice = start_payment(order)

    assert len(calls) == 2
    assert order.bitsby_invoices.get() == invoice
    assert (invoice.status, start_payment(order)) == ("unpaid", invoice)
    assert len(created(fake)) == 1


def test_a_first_payment_asks_the_database_little(
    order, fake, real_time, django_assert_max_num_queries
):
    """Six statements where the throttle has its row, and on PostgreSQL two more for the time."""
    GatewayState.ensure_exists()

    with django_assert_max_num_queries(20) as many:
        start_payment(order.number)

    work = [one["sql"] for one in many.captured_queries if "SAVEPOINT" not in one["sql"]]
    assert len(work) == (8 if connection.vendor == "postgresql" else 6), work


@pytest.mark.parametrize("total", ["0.01", "10.00", "10.10", "1234567.89", "100.00"])
@pytest.mark.parametrize("currency", ["USD", "EUR", "RUB"])
def test_the_order_is_asked_for_to_the_cent(place, fake, total, currency):
    """The six documented fields are sent, amounts as the order has them."""
    order = place(total, currency)

    start_payment(order)

    assert created(fake) == [
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
    [
        (0.5, "0.5"),
        (1, "1"),
        (3, "3"),
        (6, "6"),
        (12, "12"),
        ("12.0", "12"),
        (Decimal("10") / 10, "1"),
    ],
)
def test_the_time_to_pay_is_written_as_bitsby_takes_it(order, fake, settings, hours, sent):
    """Half an hour is ``0.5`` and whole hours have no decimals."""
    settings.OSCAR_BITSBY = {**settings.OSCAR_BITSBY, "TIME_TO_PAY": hours}

    start_payment(order)

    assert created(fake)[0]["timeToPay"] == sent


def test_service_data_names_order_and_user(place, fake, django_user_model):
    """``serviceData`` is compact JSON with the order's number as text and the user's key."""
    user = django_user_model.objects.create_user("ada", "ada@example.com", "secret")
    order = place(user=user)

    start_payment(order)

    text = created(fake)[0]["serviceData"]
    assert json.loads(text) == {"orderId": order.number, "userId": user.pk}
    assert " " not in text


def test_the_description_is_the_shops(order, fake, settings):
    """``DESCRIPTION`` is what the buyer reads, with the order's number in it."""
    description = "Bestellung {number} – {shop} %s"
    settings.OSCAR_BITSBY = {**settings.OSCAR_BITSBY, "DESCRIPTION": description}

    start_payment(order)

    assert created(fake)[0]["description"] == f"Bestellung {order.number} – {{shop}} %s"


# The same invoice again


def test_a_live_invoice_is_given_again(order, fake):
    """Ten clicks lead to one invoice and one request."""
    invoices = {start_payment(order).pk for _ in range(10)}

    assert len(invoices) == 1
    assert len(fake.requests) == 1


def test_what_changed_since_the_order_was_read_is_noticed(order, fake):
    """A caller's stale order does not bring back an invoice over the old total."""
    first = start_payment(order)
    fake.invoices = [bitsby.invoice_item(first)]
    Order.objects.filter(pk=order.pk).update(total_incl_tax=Decimal("12.00"))

    second = start_payment(order)

    assert (second.amount, created(fake)[1]["amountFiat"]) == (Decimal("12.00"), "12.00")
    assert statuses(order) == ["canceled", "unpaid"]


@pytest.mark.parametrize("change", [{"total_incl_tax": Decimal("9.00")}, {"currency": "EUR"}])
def test_an_invoice_that_no_longer_fits_is_replaced(order, fake, change):
    """After the last word on the old one, a new one is made; the old one stays watched."""
    first = start_payment(order)
    fake.invoices = [bitsby.invoice_item(first)]
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


def test_money_on_a_replaced_invoice_is_still_booked(order, fake):
    """Who pays the old page after all has paid: booked at its worth, and shown to staff."""
    first = start_payment(order)
    fake.invoices = [bitsby.invoice_item(first)]
    Order.objects.filter(pk=order.pk).update(total_incl_tax=Decimal("12.00"))
    order.refresh_from_db()
    start_payment(order)
    fake.payments = [bitsby.payment_item(invoice=bitsby.invoice_item(first, "paid"))]

    reconciliation.reconcile()

    assert Transaction.objects.get().amount == Decimal("10.00")
    assert BitsbyPayment.objects.get().review_reason == "short"


def test_an_expired_invoice_is_followed_by_a_new_one(order, fake, move_time):
    """Pay again after the time was over: the old one is expired, the new one live."""
    first = start_payment(order)
    fake.invoices = [bitsby.invoice_item(first, "expired")]
    move_time(minutes=61)

    second = start_payment(order)

    assert second.pk != first.pk
    assert statuses(order) == ["expired", "unpaid"]


def test_a_buyer_who_has_just_paid_is_not_asked_again(order, fake, move_time):
    """The last word on the old invoice may be paid: then there is nothing to pay."""
    first = start_payment(order)
    fake.invoices = [bitsby.invoice_item(first, "paid", payment=bitsby.transfer())]
    move_time(minutes=61)

    with pytest.raises(NotPayable):
        start_payment(order)

    assert len(created(fake)) == 1
    assert Transaction.objects.count() == 1
    assert statuses(order) == ["paid"]


def test_paid_without_a_known_payment_is_not_asked_for_again(order, fake, move_time):
    """An invoice that Bitsby calls paid is never replaced by one to pay, whatever is missing."""
    first = start_payment(order)
    fake.invoices = [bitsby.invoice_item(first, "paid")]
    move_time(minutes=61)

    with pytest.raises(BitsbyError):
        start_payment(order)

    assert len(created(fake)) == 1


def test_paid_for_another_project_is_not_asked_for_again(order, fake, move_time):
    """Money that waits for staff is not asked for a second time."""
    first = start_payment(order)
    remote = {"payment": bitsby.transfer(), "projectId": str(bitsby.new_id())}
    fake.invoices = [bitsby.invoice_item(first, "paid", **remote)]
    move_time(minutes=61)

    with pytest.raises(BitsbyError):
        start_payment(order)

    assert BitsbyPayment.objects.get().review_reason == "mismatch"
    assert len(created(fake)) == 1


def test_money_that_waits_for_staff_is_not_asked_for_again(order, fake, move_time):
    """While a payment of the order stands in the inbox, its buyer cannot pay twice."""
    first = start_payment(order)
    fake.invoices = [bitsby.invoice_item(first, "expired", payment=bitsby.transfer())]
    move_time(minutes=61)
    reconciliation.reconcile()
    assert BitsbyPayment.objects.get().review_reason == "ended"

    with pytest.raises(NotPayable):
        start_payment(order)

    assert len(created(fake)) == 1


def test_an_invoice_that_bitsby_forgot_does_not_lock_the_buyer_out(order, fake, move_time):
    """An overdue invoice that Bitsby no longer knows is replaced, and stays watched."""
    first = start_payment(order)
    fake.invoices = []
    move_time(minutes=90)

    second = start_payment(order)

    assert second.status == "unpaid"
    first.refresh_from_db()
    assert first in BitsbyInvoice.objects.watched(timezone.now() - dt.timedelta(days=1))


def test_an_invoice_about_to_expire_is_neither_given_nor_replaced(order, fake, move_time):
    """In the minute when the clocks may disagree, the buyer is told to try again."""
    first = start_payment(order)
    fake.invoices = [bitsby.invoice_item(first)]
    move_time(seconds=3610)
    with pytest.raises(PaymentInProgress):
        start_payment(order)
    assert statuses(order) == ["unpaid"]

    move_time(seconds=60)
    assert start_payment(order).pk != first.pk
    assert statuses(order) == ["canceled", "unpaid"]


# Orders that need no payment


@pytest.mark.parametrize("status", ["Being processed", "Complete", "Cancelled"])
def test_an_order_that_is_not_pending_is_not_payable(place, fake, status):
    """Only a pending order gets an invoice."""
    order = place(status=status)

    with pytest.raises(NotPayable):
        start_payment(order)
    assert fake.requests == []
    assert statuses(order) == []


def test_a_stale_order_object_does_not_make_it_payable(order, fake):
    """The order is read again: what was cancelled meanwhile gets no invoice."""
    Order.objects.filter(pk=order.pk).update(status="Cancelled")

    with pytest.raises(NotPayable):
        start_payment(order)
    assert fake.requests == []


def test_an_order_with_money_is_not_payable(order, fake):
    """An order that a card has paid gets no invoice, pending or not."""
    card = SourceType.objects.create(name="Card", code="card")
    Source.objects.create(order=order, source_type=card, amount_debited=10)

    with pytest.raises(NotPayable):
        start_payment(order)
    assert fake.requests == []


def test_an_order_with_a_paid_invoice_is_not_payable(order, invoice_for, fake):
    """A paid invoice whose money is not booked yet is not asked for a second time."""
    invoice_for(order, "paid")

    with pytest.raises(NotPayable):
        start_payment(order)
    assert fake.requests == []


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
def test_a_failed_attempt_is_given_up_and_the_next_click_works(order, fake, answer):
    """The order is unharmed, the attempt kept as ended, and nothing is created twice blindly."""
    fake.on("/invoices/create", answer)
    with pytest.raises(BitsbyError):
        start_payment(order)
    assert len(created(fake)) == 1
    assert statuses(order) == ["expired"]
    assert order.bitsby_invoices.get().failure
    assert Order.objects.get().status == "Pending"

    fake.on("/invoices/create", bitsby.success(bitsby.created()))
    assert start_payment(order).status == "unpaid"
    assert statuses(order) == ["expired", "unpaid"]


def test_without_a_slot_nothing_is_sent_and_nothing_remains(order, fake, clock):
    """A buyer who could not be served leaves no attempt behind."""
    GatewayState.ensure_exists()
    GatewayState.objects.update(next_request_at=timezone.now() + dt.timedelta(seconds=8))
    with pytest.raises(RateLimitTimeout):
        start_payment(order)

    assert (fake.requests, statuses(order)) == ([], [])
    clock.sleep(10)
    assert start_payment(order).status == "unpaid"


def test_wrong_settings_are_said_before_anything_is_written(order, fake, settings):
    """Without a key there is no attempt."""
    settings.OSCAR_BITSBY = {**settings.OSCAR_BITSBY, "API_KEY": ""}

    with pytest.raises(ConfigurationError):
        start_payment(order)
    assert statuses(order) == []


def test_a_crash_between_request_and_answer_is_replaced_by_a_later_click(order, fake, move_time):
    """A process that died leaves an attempt that holds the order for seconds only."""

    def crash(fields):
        raise SystemExit

    fake.on("/invoices/create", crash)
    with pytest.raises(SystemExit):
        start_payment(order)
    assert statuses(order) == ["creating"]
    fake.on("/invoices/create", fake.invoices_create)
    with pytest.raises(PaymentInProgress):
        start_payment(order)
    assert len(created(fake)) == 1

    move_time(seconds=16)
    assert start_payment(order).status == "unpaid"
    assert statuses(order) == ["expired", "unpaid"]


def test_an_answer_that_comes_too_late_is_kept_but_not_given(order, fake, move_time):
    """An attempt that was given up and replaced meanwhile does not make a second live invoice."""
    late, replaced = bitsby.created(), bitsby.created()

    def slow(fields):
        move_time(seconds=20)
        fake.on("/invoices/create", bitsby.success(replaced))
        start_payment(order)
        return bitsby.success(late)

    fake.on("/invoices/create", slow)

    with pytest.raises(PaymentInProgress):
        start_payment(order)

    assert statuses(order) == ["expired", "unpaid"]
    first, second = order.bitsby_invoices.order_by("pk")
    assert (str(first.bitsby_id), str(second.bitsby_id)) == (late["id"], replaced["id"])
    assert start_payment(order) == second
    since = timezone.now() - dt.timedelta(days=1)
    assert first in BitsbyInvoice.objects.watched(since)
    fake.payments = [bitsby.payment_item(invoice=bitsby.invoice_item(first, "paid"))]
    reconciliation.reconcile()
    assert Transaction.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_the_id_of_an_earlier_invoice_is_refused(place, fake):
    """Bitsby answering twice with one id must not give two orders the same page."""
    answer = bitsby.created()
    fake.on("/invoices/create", bitsby.success(answer))
    one, other = place(), place()
    start_payment(one)

    with pytest.raises(ReplyNotUnderstood):
        start_payment(other)

    assert statuses(other) == ["expired"]
    assert statuses(one) == ["unpaid"]


def test_texts_that_fit_no_column_do_not_lose_the_invoice(order, fake):
    """NUL and overlong texts in the answer are cut; the invoice exists and can be paid."""
    answer = bitsby.created(uid="u" * 300, note="a\u0000b")
    fake.on("/invoices/create", bitsby.success(answer))

    invoice = start_payment(order)

    assert (invoice.status, invoice.uid) == ("unpaid", "u" * 64)


def test_wallets_that_cannot_be_read_do_not_lose_the_invoice(order, fake):
    """An invoice without readable wallets is stored; its money is valued by staff."""
    fake.on("/invoices/create", bitsby.success(bitsby.created(wallets=["?", {"id": 1}, None])))

    assert start_payment(order).status == "unpaid"


# The payment page


@pytest.mark.parametrize(
    ("url", "is_allowed"),
    [
        ("https://dash.bitsby.app/invoices/pay/abc", True),
        ("https://DASH.bitsby.app/invoices/pay/abc", True),
        ("http://dash.bitsby.app/invoices/pay/abc", False),
        ("https://dash.bitsby.app.evil.example/pay", False),
        ("https://evil.example/https://dash.bitsby.app/", False),
        ("https://dash.bitsby.app@evil.example/pay", False),
        ("https://evil.example\\@dash.bitsby.app/pay", False),
        ("https://x@dash.bitsby.app/pay", False),
        ("//dash.bitsby.app/pay", False),
        ("javascript:alert(1)", False),
        ("https://dash.bitsby.app/pay\r\nSet-Cookie: a=b", False),
        ("", False),
    ],
)
def test_a_buyer_is_sent_to_allowed_hosts_only(invoice, url, is_allowed):
    """A page elsewhere, or on an unsafe address, is refused."""
    invoice.url = url
    if is_allowed:
        assert payment_page(invoice) == url
        return

    with pytest.raises(PaymentPageRefused):
        payment_page(invoice)


@pytest.mark.django_db(transaction=True)
def test_starting_inside_a_transaction_is_refused(order, fake):
    """An attempt that is not committed would be lost with the answer: nothing is sent."""
    with transaction.atomic(), pytest.raises(RuntimeError):
        start_payment(order)

    assert fake.requests == []
    assert statuses(order) == []
