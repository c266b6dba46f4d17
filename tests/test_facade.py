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
    assert len(created(fake)) == 1


def test_deleted_order_raises_does_not_exist(order, fake):
    """A deleted order, or its number, raises ``Order.DoesNotExist`` and sends no request."""
    number, gone = order.number, Order.objects.get()
    order.delete()

    for either in (number, gone):
        with pytest.raises(Order.DoesNotExist):
            start_payment(either)

    assert created(fake) == []


@pytest.mark.parametrize("error", [OperationalError, InterfaceError])
def test_storing_the_answer_is_retried_after_a_database_error(order, fake, error):
    """If the database fails once while the answer is stored, the answer is stored again."""
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


def test_second_store_keeps_an_answer_that_was_committed(order, fake, monkeypatch):
    """If only the confirmation of a commit was lost, the second try keeps the stored invoice."""
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
def test_time_to_pay_is_sent_in_the_format_of_the_api(order, fake, settings, hours, sent):
    """Half an hour is sent as ``0.5``, and whole hours without decimals."""
    settings.OSCAR_BITSBY = {**settings.OSCAR_BITSBY, "TIME_TO_PAY": hours}

    start_payment(order)

    assert created(fake)[0]["timeToPay"] == sent


def test_service_data_contains_order_number_and_user_key(place, fake, django_user_model):
    """``serviceData`` is compact JSON with the order's number as text and the user's key."""
    user = django_user_model.objects.create_user("ada", "ada@example.com", "secret")
    order = place(user=user)

    start_payment(order)

    text = created(fake)[0]["serviceData"]
    assert json.loads(text) == {"orderId": order.number, "userId": user.pk}
    assert " " not in text


def test_description_setting_is_sent_with_the_order_number(order, fake, settings):
    """The text of ``DESCRIPTION`` is sent, with the order's number in it."""
    description = "Bestellung {number} – {shop} %s"
    settings.OSCAR_BITSBY = {**settings.OSCAR_BITSBY, "DESCRIPTION": description}

    start_payment(order)

    assert created(fake)[0]["description"] == f"Bestellung {order.number} – {{shop}} %s"


# The same invoice again


def test_live_invoice_is_reused(order, fake):
    """Ten clicks lead to one invoice and one request."""
    invoices = {start_payment(order).pk for _ in range(10)}

    assert len(invoices) == 1
    assert len(fake.requests) == 1


def test_total_is_read_again_from_the_database(order, fake):
    """A stale order object does not reuse an invoice of the old total."""
    first = start_payment(order)
    fake.invoices = [bitsby.invoice_item(first)]
    Order.objects.filter(pk=order.pk).update(total_incl_tax=Decimal("12.00"))

    second = start_payment(order)

    assert (second.amount, created(fake)[1]["amountFiat"]) == (Decimal("12.00"), "12.00")
    assert statuses(order) == ["canceled", "unpaid"]


@pytest.mark.parametrize("change", [{"total_incl_tax": Decimal("9.00")}, {"currency": "EUR"}])
def test_invoice_of_another_amount_or_currency_is_replaced(order, fake, change):
    """The old invoice is fetched a last time and replaced, and reconciliation still watches it."""
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


def test_payment_of_a_replaced_invoice_is_booked_and_reviewed(order, fake):
    """A payment of a replaced invoice is booked at its fiat value and shown to staff."""
    first = start_payment(order)
    fake.invoices = [bitsby.invoice_item(first)]
    Order.objects.filter(pk=order.pk).update(total_incl_tax=Decimal("12.00"))
    order.refresh_from_db()
    start_payment(order)
    fake.payments = [bitsby.payment_item(invoice=bitsby.invoice_item(first, "paid"))]

    reconciliation.reconcile()

    assert Transaction.objects.get().amount == Decimal("10.00")
    assert BitsbyPayment.objects.get().review_reason == "short"


def test_new_invoice_follows_an_expired_one(order, fake, move_time):
    """Paying again after the time to pay expires the old invoice and creates a new one."""
    first = start_payment(order)
    fake.invoices = [bitsby.invoice_item(first, "expired")]
    move_time(minutes=61)

    second = start_payment(order)

    assert second.pk != first.pk
    assert statuses(order) == ["expired", "unpaid"]


def test_overdue_invoice_that_is_paid_is_settled_and_not_replaced(order, fake, move_time):
    """If the final check finds the old invoice paid, it is settled and no invoice is created."""
    first = start_payment(order)
    fake.invoices = [bitsby.invoice_item(first, "paid", payment=bitsby.transfer())]
    move_time(minutes=61)

    with pytest.raises(NotPayable):
        start_payment(order)

    assert len(created(fake)) == 1
    assert Transaction.objects.count() == 1
    assert statuses(order) == ["paid"]


def test_invoice_paid_without_a_known_payment_is_not_replaced(order, fake, move_time):
    """An invoice that Bitsby calls paid is not replaced, even if its payment is unknown."""
    first = start_payment(order)
    fake.invoices = [bitsby.invoice_item(first, "paid")]
    move_time(minutes=61)

    with pytest.raises(BitsbyError):
        start_payment(order)

    assert len(created(fake)) == 1


def test_invoice_paid_to_another_project_is_not_replaced(order, fake, move_time):
    """A payment to another project goes to review, and no new invoice is created."""
    first = start_payment(order)
    remote = {"payment": bitsby.transfer(), "projectId": str(bitsby.new_id())}
    fake.invoices = [bitsby.invoice_item(first, "paid", **remote)]
    move_time(minutes=61)

    with pytest.raises(BitsbyError):
        start_payment(order)

    assert BitsbyPayment.objects.get().review_reason == "mismatch"
    assert len(created(fake)) == 1


def test_order_with_a_reconciled_payment_under_review_is_not_payable(order, fake, move_time):
    """While a payment of the order is under review, the buyer cannot pay again."""
    first = start_payment(order)
    fake.invoices = [bitsby.invoice_item(first, "expired", payment=bitsby.transfer())]
    move_time(minutes=61)
    reconciliation.reconcile()
    assert BitsbyPayment.objects.get().review_reason == "not_paid"

    with pytest.raises(NotPayable):
        start_payment(order)

    assert len(created(fake)) == 1


def test_overdue_invoice_unknown_to_bitsby_is_replaced(order, fake, move_time):
    """An overdue invoice that Bitsby does not know is replaced, and is still watched."""
    first = start_payment(order)
    fake.invoices = []
    move_time(minutes=90)

    second = start_payment(order)

    assert second.status == "unpaid"
    first.refresh_from_db()
    assert first in BitsbyInvoice.objects.watched(timezone.now() - dt.timedelta(days=1))


def test_expiring_invoice_is_neither_reused_nor_replaced(order, fake, move_time):
    """During the minute by which clocks may differ, the buyer is asked to try again."""
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
def test_order_that_is_not_pending_is_not_payable(place, fake, status):
    """Only a pending order gets an invoice."""
    order = place(status=status)

    with pytest.raises(NotPayable):
        start_payment(order)
    assert fake.requests == []
    assert statuses(order) == []


def test_status_is_read_again_from_the_database(order, fake):
    """An order that was cancelled since it was read gets no invoice."""
    Order.objects.filter(pk=order.pk).update(status="Cancelled")

    with pytest.raises(NotPayable):
        start_payment(order)
    assert fake.requests == []


def test_order_paid_by_card_is_not_payable(order, fake):
    """A pending order that was paid by card gets no invoice."""
    card = SourceType.objects.create(name="Card", code="card")
    Source.objects.create(order=order, source_type=card, amount_debited=10)

    with pytest.raises(NotPayable):
        start_payment(order)
    assert fake.requests == []


def test_order_with_a_paid_invoice_is_not_payable(order, invoice_for, fake):
    """A paid invoice whose payment is not booked yet is not replaced."""
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
def test_failed_attempt_expires_and_the_next_click_creates_an_invoice(order, fake, answer):
    """A failed attempt leaves the order pending, is stored as expired, and is not retried."""
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


def test_rate_limit_timeout_sends_nothing_and_stores_no_attempt(order, fake, clock):
    """A buyer who gets no slot leaves no attempt in the database."""
    GatewayState.ensure_exists()
    GatewayState.objects.update(next_request_at=timezone.now() + dt.timedelta(seconds=8))
    with pytest.raises(RateLimitTimeout):
        start_payment(order)

    assert (fake.requests, statuses(order)) == ([], [])
    clock.sleep(10)
    assert start_payment(order).status == "unpaid"


def test_missing_api_key_stores_no_attempt(order, fake, settings):
    """Without an API key, an error is raised and no attempt is stored."""
    settings.OSCAR_BITSBY = {**settings.OSCAR_BITSBY, "API_KEY": ""}

    with pytest.raises(ConfigurationError):
        start_payment(order)
    assert statuses(order) == []


def test_crashed_attempt_is_replaced_after_its_timeout(order, fake, move_time):
    """An attempt whose process died blocks the order for seconds only."""

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


def test_late_answer_is_stored_and_not_reused(order, fake, move_time):
    """An answer for an attempt that was replaced does not create a second live invoice."""
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
def test_invoice_id_of_another_order_is_refused(place, fake):
    """If Bitsby answers twice with one id, the second order does not get the first order's page."""
    answer = bitsby.created()
    fake.on("/invoices/create", bitsby.success(answer))
    one, other = place(), place()
    start_payment(one)

    with pytest.raises(ReplyNotUnderstood):
        start_payment(other)

    assert statuses(other) == ["expired"]
    assert statuses(one) == ["unpaid"]


def test_overlong_texts_and_nul_are_cut(order, fake):
    """Overlong texts and NUL characters in the answer are cut, and the invoice is stored."""
    answer = bitsby.created(uid="u" * 300, note="a\u0000b")
    fake.on("/invoices/create", bitsby.success(answer))

    invoice = start_payment(order)

    assert (invoice.status, invoice.uid) == ("unpaid", "u" * 64)


def test_unreadable_wallets_are_ignored(order, fake):
    """An invoice without readable wallets is stored."""
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
def test_payment_page_on_an_allowed_host_only(invoice, url, is_allowed):
    """An unsafe address, or a host that is not allowed, is refused."""
    invoice.url = url
    if is_allowed:
        assert payment_page(invoice) == url
        return

    with pytest.raises(PaymentPageRefused):
        payment_page(invoice)


@pytest.mark.django_db(transaction=True)
def test_start_inside_a_transaction_is_refused(order, fake):
    """Inside a transaction an attempt could be rolled back, so nothing is sent."""
    with transaction.atomic(), pytest.raises(RuntimeError):
        start_payment(order)

    assert fake.requests == []
    assert statuses(order) == []
