"""Starting a payment in detail: what is refused in which words, what is stored, where pages are."""

from __future__ import annotations

import datetime as dt
import logging
import uuid
from decimal import Decimal
from types import SimpleNamespace

import pytest
from django.db import IntegrityError
from django.utils import timezone
from oscar.core.loading import get_model

from oscar_bitsby import facade, signals
from oscar_bitsby.choices import InvoiceStatus
from oscar_bitsby.exceptions import (
    BitsbyError,
    ConnectionFailed,
    NotPayable,
    PaymentInProgress,
    PaymentPageRefused,
    RateLimitTimeout,
    Refused,
    ReplyNotUnderstood,
)
from oscar_bitsby.facade import payment_page, service_data, start_payment
from oscar_bitsby.models import BitsbyInvoice, BitsbyPayment
from tests import bitsby

Order = get_model("order", "Order")

pytestmark = pytest.mark.django_db


def created(fake):
    return fake.asked("/invoices/create")


def refusal(order, kind):
    """What is said by the error that ``start_payment`` ends in."""
    with pytest.raises(BitsbyError) as caught:
        start_payment(order)
    assert type(caught.value) is kind
    return str(caught.value)


# What is refused in which words


def test_error_of_a_cancelled_order_names_the_order(place):
    """The error for an order that is not pending has the order's number."""
    order = place(status="Cancelled")

    assert refusal(order, NotPayable) == f"order {order.number} is not waiting for a payment"


def test_error_says_that_a_payment_is_under_review(order, invoice_for):
    """The error for an order with a paid invoice says that its payment is under review."""
    invoice_for(order, "paid")

    said = f"order {order.number} has a payment under review"
    assert refusal(order, NotPayable) == said


def test_second_click_is_refused_while_an_invoice_is_being_created(order, invoice_for, fake):
    """The second of two clicks gets ``PaymentInProgress`` and sends no request."""
    invoice_for(order, "creating", bitsby_id=None)

    said = f"order {order.number}: an invoice is being created"
    assert refusal(order, PaymentInProgress) == said
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


def test_error_says_that_the_order_is_paid(order, fake, move_time):
    """If the final check finds the old invoice paid, the error says that the order is paid."""
    first = start_payment(order)
    fake.invoices = [bitsby.invoice_item(first, "paid", payment=bitsby.transfer())]
    move_time(minutes=61)

    assert refusal(order, NotPayable) == f"order {order.number} is paid"


def test_error_says_that_the_invoice_is_about_to_expire(order, fake, move_time):
    """Between the expiry by our clock and by Bitsby's, the error asks the buyer to try again."""
    fake.invoices = [bitsby.invoice_item(start_payment(order))]
    move_time(seconds=3605)

    assert refusal(order, PaymentInProgress) == "the invoice is about to expire; try again"


def test_second_replacement_in_one_call_is_not_followed_by_a_third(order, fake, monkeypatch):
    """If each invoice that is found has to be replaced, the error asks the buyer to try again."""
    start_payment(order)
    monkeypatch.setattr(BitsbyInvoice, "fits", lambda invoice, order: False)
    retired = []
    monkeypatch.setattr(facade, "_replace_invoice", retired.append)

    said = "the order's invoice was replaced meanwhile; try again"
    assert refusal(order, PaymentInProgress) == said
    assert len(retired) == 2


def test_error_says_that_the_answer_came_too_late(order, fake):
    """The error says that another attempt may have begun."""

    def slow(fields):
        BitsbyInvoice.objects.update(status="expired", ended_at=timezone.now())
        return bitsby.success(bitsby.created())

    fake.on("/invoices/create", slow)

    said = "the answer came too late; another attempt may have begun"
    assert refusal(order, PaymentInProgress) == said


@pytest.mark.django_db(transaction=True)
def test_error_names_an_invoice_id_that_exists_already(place, fake):
    """The error names the repeated id, and the failure of the attempt tells staff the reason."""
    answer = bitsby.created()
    fake.on("/invoices/create", bitsby.success(answer))
    start_payment(place())
    other = place()

    assert refusal(other, ReplyNotUnderstood) == f"invoice {answer['id']} exists already"
    error = other.bitsby_invoices.get().failure
    assert error == "Bitsby answered with the id of an earlier invoice"


# What is given again


def test_invoice_is_reused_until_it_expires(order, fake, stop_time):
    """An invoice is reused until it expires by our clock, and fetched again from then on."""
    invoice = start_payment(order)
    fake.invoices = [bitsby.invoice_item(invoice, "expired")]
    end = BitsbyInvoice.objects.get().expires_at
    for moment, is_same in ((end - dt.timedelta(seconds=1), True), (end, False)):
        stop_time(moment)
        assert (start_payment(order) == invoice) is is_same


@pytest.mark.parametrize(("seconds", "is_replaced"), [(59, False), (60, True)])
def test_unpaid_invoice_is_replaced_a_minute_after_it_expired(
    order, fake, stop_time, seconds, is_replaced
):
    """An invoice that Bitsby still calls unpaid is replaced one minute after it expired."""
    first = start_payment(order)
    fake.invoices = [bitsby.invoice_item(first)]
    moment = BitsbyInvoice.objects.get().expires_at + dt.timedelta(seconds=seconds)
    stop_time(moment)
    if is_replaced:
        assert start_payment(order) != first
    else:
        assert refusal(order, PaymentInProgress)


def test_replaced_invoice_has_time_reason_and_log_line(order, fake, caplog):
    """The row of a replaced invoice has an end and a reason, and a log line names it."""
    first = start_payment(order)
    fake.invoices = [bitsby.invoice_item(first)]
    Order.objects.filter(pk=order.pk).update(total_incl_tax=Decimal("12.00"))
    before = timezone.now()
    with caplog.at_level(logging.INFO, "oscar_bitsby"):
        second = start_payment(order)

    first.refresh_from_db()
    assert (first.status, first.failure) == ("canceled", "replaced by a newer invoice")
    assert before <= first.ended_at <= timezone.now()
    assert caplog.messages == [
        f"invoice replaced: order={order.number} invoice={first.bitsby_id}",
        f"invoice created: order={order.number} invoice={second.bitsby_id}"
        " amount=12.00 currency=USD",
    ]


def test_invoice_paid_during_its_replacement_stays_paid(order, fake, monkeypatch):
    """An invoice that another process settles at the same time is not replaced."""
    first = start_payment(order)
    Order.objects.filter(pk=order.pk).update(total_incl_tax=Decimal("12.00"))
    fits = BitsbyInvoice.fits

    def settled_meanwhile(invoice, order):
        if fake.asked("/invoices/list"):
            BitsbyInvoice.objects.filter(pk=first.pk).update(status="paid")
        return fits(invoice, order)

    monkeypatch.setattr(BitsbyInvoice, "fits", settled_meanwhile)

    assert refusal(order, NotPayable)
    first.refresh_from_db()
    assert (first.status, first.failure) == ("paid", "")


def test_replacement_does_not_change_invoices_of_other_orders(place, invoice_for, order, fake):
    """The invoice of another order stays live."""
    first = start_payment(order)
    other = invoice_for(place())
    fake.invoices = [bitsby.invoice_item(first)]
    Order.objects.filter(pk=order.pk).update(total_incl_tax=Decimal("12.00"))

    start_payment(order)

    other.refresh_from_db()
    assert (other.status, other.ended_at) == ("unpaid", None)


def test_attempt_without_an_answer_has_a_failure_reason(order, invoice_for, fake, move_time):
    """Staff see that the first of two attempts never had an answer."""
    dead = invoice_for(order, "creating", bitsby_id=None)
    move_time(seconds=16)

    assert start_payment(order).status == "unpaid"

    dead.refresh_from_db()
    assert (dead.status, dead.failure) == ("expired", "no answer came")


def test_attempt_blocks_the_order_until_its_timeout(order, invoice_for, fake, stop_time):
    """An attempt blocks the order for ``TIMEOUT`` and five more seconds."""
    now = timezone.now()
    invoice_for(order, "creating", bitsby_id=None, created_at=now - dt.timedelta(seconds=15))
    stop_time(now)

    assert refusal(order, PaymentInProgress)
    assert fake.requests == []


# Attempts that fail


def test_failed_attempt_is_logged_and_stored_with_its_reason(order, fake, caplog):
    """The row has the error of Bitsby, and the log line has it with the order's number."""
    fake.on("/invoices/create", bitsby.error("You have a debt"))

    said = refusal(order, Refused)

    assert order.bitsby_invoices.get().failure == said == "/invoices/create: You have a debt"
    lines = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert lines == [f"no invoice for order {order.number}: {said}"]


def test_rate_limit_timeout_is_not_logged(order, fake, caplog, monkeypatch):
    """A buyer who gets no slot causes no log line."""

    def no_slot(*args, **options):
        raise RateLimitTimeout("none")

    monkeypatch.setattr("oscar_bitsby.gateway.factory.acquire", no_slot)

    assert refusal(order, RateLimitTimeout) == "none"
    assert (caplog.messages, BitsbyInvoice.objects.count()) == ([], 0)


# What is sent and stored


def test_long_description_is_cut(order, fake, settings):
    """At most 500 characters of the description are sent."""
    settings.OSCAR_BITSBY = {**settings.OSCAR_BITSBY, "DESCRIPTION": "{number} " + "x" * 600}

    start_payment(order)

    assert created(fake)[0]["description"] == f"{order.number} {'x' * 600}"[:500]


def test_service_data_accepts_any_type_of_user_key():
    """Keys that are neither integers nor texts are sent as text."""
    user_id = uuid.UUID(int=7)

    text = service_data(SimpleNamespace(number=100001, user_id=user_id))

    assert text == f'{{"orderId":"100001","userId":"{user_id}"}}'


def test_attempt_is_stored_before_the_request(order, fake):
    """Amount, currency and project are stored before the answer comes."""
    seen = []

    def answer(fields):
        seen.append(BitsbyInvoice.objects.values("status", "amount", "currency").get())
        return bitsby.success(bitsby.created())

    fake.on("/invoices/create", answer)

    assert start_payment(order).project_id == bitsby.PROJECT
    assert seen == [{"status": "creating", "amount": Decimal("10.00"), "currency": "USD"}]


def test_wallets_are_stored_with_all_fields(order, fake):
    """Each wallet is stored with its names, address and amount, in plain digits."""
    tiny = bitsby.wallet(amountCrypto="0.00000001")
    unknown = bitsby.wallet(id="other", amountCrypto=None)
    fake.on("/invoices/create", bitsby.success(bitsby.created(wallets=[tiny, unknown])))

    invoice = start_payment(order)

    invoice.refresh_from_db()
    assert invoice.wallets == [
        bitsby.wallet(amount="0.00000001"),
        bitsby.wallet(id="other", amount=""),
    ]


def test_answer_is_stored_without_nul(order, fake):
    """Characters of all scripts and numbers are stored, without NUL, which no database accepts."""
    note = {"note": 'Größe a\u0000b \\ "日本"', "rate": 1.5}
    fake.on("/invoices/create", bitsby.success(bitsby.created(**note)))

    invoice = start_payment(order)

    invoice.refresh_from_db()
    assert invoice.reply["note"] == 'Größe ab \\ "日本"'
    assert invoice.reply["rate"] == "1.5"


def test_lone_surrogate_in_an_answer_is_replaced(order, fake):
    """A lone surrogate, which no database accepts, becomes a question mark."""
    fake.on("/invoices/create", bitsby.success(bitsby.created(note="a\ud800b")))

    invoice = start_payment(order)

    invoice.refresh_from_db()
    assert (invoice.status, invoice.reply["note"]) == ("unpaid", "a?b")


@pytest.mark.parametrize("hours", [0.5, 6])
def test_answer_without_times_starts_now(order, fake, settings, hours):
    """If the answer has no times, the invoice starts now and expires after ``TIME_TO_PAY``."""
    settings.OSCAR_BITSBY = {**settings.OSCAR_BITSBY, "TIME_TO_PAY": hours}
    answer = bitsby.created(createDatetime=None, timeToPayDatetime=None)
    fake.on("/invoices/create", bitsby.success(answer))
    before = timezone.now()

    invoice = start_payment(order)

    invoice.refresh_from_db()
    assert before <= invoice.created_at <= timezone.now()
    assert invoice.expires_at - invoice.created_at == dt.timedelta(hours=hours)


def test_times_of_the_answer_are_stored(order, fake):
    """The times come from the answer, not from our clock."""
    times = {"createDatetime": "2024-02-29 11:59:58", "timeToPayDatetime": "2030-02-28 12:59:58"}
    fake.on("/invoices/create", bitsby.success(bitsby.created(**times)))

    invoice = start_payment(order)

    kept = (bitsby.written(invoice.created_at), bitsby.written(invoice.expires_at))
    assert kept == tuple(times.values())


def test_new_invoice_sends_one_signal_with_its_order(
    order, fake, django_capture_on_commit_callbacks
):
    """``invoice_created`` is sent once for a new invoice, and not when it is reused."""
    heard = []

    def listen(sender, **payload):
        heard.append((sender, payload["invoice"], payload["order"]))

    signals.invoice_created.connect(listen)
    try:
        with django_capture_on_commit_callbacks(execute=True):
            invoice = start_payment(order)
            start_payment(order)
    finally:
        signals.invoice_created.disconnect(listen)

    assert heard == [(BitsbyInvoice, invoice, order)]


# The payment page


def allow(settings, **values):
    settings.OSCAR_BITSBY = {**settings.OSCAR_BITSBY, **values}


@pytest.mark.parametrize("url", ["https://[bad/pay", "https://[::1/pay"])
def test_page_that_is_not_an_address_is_refused(invoice, url):
    """A text that cannot be parsed as an address is refused."""
    invoice.url = url

    with pytest.raises(PaymentPageRefused) as caught:
        payment_page(invoice)
    said = f"invoice {invoice.bitsby_id}: its payment page is not an address"
    assert str(caught.value) == said
    assert caught.value.__suppress_context__


def test_error_names_the_refused_host_and_the_setting(invoice):
    """The error names the host, and the setting that would allow it."""
    invoice.url = f"https://{'a' * 120}.Example/pay"

    with pytest.raises(PaymentPageRefused) as caught:
        payment_page(invoice)
    assert str(caught.value) == (
        f"invoice {invoice.bitsby_id}: its payment page is on '{'a' * 100}',"
        " which is not in OSCAR_BITSBY['PAYMENT_HOSTS']"
    )


@pytest.mark.parametrize(
    ("hosts", "url", "is_allowed"),
    [
        (["pay.example"], "https://pay.example:8443/i", True),
        (["pay.example:8443"], "https://pay.example:8443/i", True),
        (["pay.example:8443"], "https://PAY.example:8443/i", True),
        (["pay.example:8443"], "https://pay.example:9000/i", False),
        (["pay.example:8443"], "https://pay.example/i", False),
    ],
)
def test_allowed_host_with_and_without_a_port(invoice, settings, hosts, url, is_allowed):
    """A host without a port allows all its ports, and a host with a port allows only that port."""
    allow(settings, PAYMENT_HOSTS=hosts)
    invoice.url = url
    if is_allowed:
        assert payment_page(invoice) == url
    else:
        with pytest.raises(PaymentPageRefused):
            payment_page(invoice)


def test_http_page_is_allowed_if_the_api_uses_http(invoice, settings):
    """With an API on plain HTTP, pages on HTTP and HTTPS are allowed."""
    allow(settings, API_URL="http://localhost:8100", PAYMENT_HOSTS=["localhost:8100"])
    for url in ("http://localhost:8100/pay", "https://localhost:8100/pay"):
        invoice.url = url
        assert payment_page(invoice) == url
    invoice.url = "ftp://localhost:8100/pay"
    with pytest.raises(PaymentPageRefused):
        payment_page(invoice)


@pytest.mark.parametrize("letter", ["\x00", "\x01", "\x1f", " ", "\x7f", "\\", "\t", "\n"])
def test_page_with_control_characters_spaces_or_backslashes_is_refused(invoice, letter):
    """Control characters, spaces and backslashes, which browsers read differently, are refused."""
    invoice.url = f"https://dash.bitsby.app/pay{letter}x"

    with pytest.raises(PaymentPageRefused):
        payment_page(invoice)


@pytest.mark.parametrize("path", ["!", "~", "a@b", "X", "ä"])
def test_page_with_other_special_characters_is_allowed(invoice, path):
    """Other special characters, and an at sign after the host, are allowed."""
    invoice.url = f"https://dash.bitsby.app/pay/{path}"

    assert payment_page(invoice) == invoice.url


def test_payment_under_review_of_an_expired_invoice_blocks_the_order(order, invoice_for, fake):
    """A payment under review makes the order not payable, even if its invoice expired."""
    invoice = invoice_for(order, "expired")
    BitsbyPayment.objects.create(
        bitsby_id=bitsby.new_id(), invoice=invoice, amount=1, review_reason="not_paid"
    )

    assert refusal(order, NotPayable)
    assert fake.requests == []


def test_final_check_is_not_retried(order, fake, move_time):
    """The buyer waits for the final check, so a failed request is not retried."""
    start_payment(order)
    fake.on("/invoices/list", ConnectionError("down"))
    move_time(minutes=61)

    assert refusal(order, ConnectionFailed)
    assert len(fake.asked("/invoices/list")) == 1


def test_escaped_nul_as_text_is_stored(order, fake):
    """The six characters of an escaped NUL are stored as text, and NUL itself is removed."""
    fake.on(
        "/invoices/create",
        lambda fields: bitsby.success(bitsby.created(note="a\\u0000b", other="c\x00\x00d\\\x00e")),
    )

    invoice = facade.start_payment(order)

    assert invoice.status == InvoiceStatus.UNPAID
    assert (invoice.reply["note"], invoice.reply["other"]) == ("a\\u0000b", "cd\\e")


def test_invoice_created_reaches_receivers_of_its_sender(
    order, fake, django_capture_on_commit_callbacks
):
    """A receiver can connect to ``invoice_created`` with ``BitsbyInvoice`` as the sender."""
    heard = []

    def hear(sender, invoice, **kwargs):
        heard.append(invoice)

    signals.invoice_created.connect(hear, sender=BitsbyInvoice)
    with django_capture_on_commit_callbacks(execute=True):
        invoice = start_payment(order)
    signals.invoice_created.disconnect(hear, sender=BitsbyInvoice)

    assert heard == [invoice]
