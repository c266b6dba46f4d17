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


def test_an_order_in_another_status_is_said_not_to_wait(place):
    """The order's number is in the error, as in all errors of this module."""
    order = place(status="Cancelled")

    assert refusal(order, NotPayable) == f"order {order.number} is not waiting for a payment"


def test_money_in_the_inbox_is_said_to_be_looked_at(order, invoice_for):
    """Who would pay twice is told that there is a payment."""
    invoice_for(order, "paid")

    said = f"order {order.number} has a payment under review"
    assert refusal(order, NotPayable) == said


def test_a_young_attempt_is_said_to_be_in_the_making(order, invoice_for, fake):
    """Of two clicks the second one is told that the first is being dealt with."""
    invoice_for(order, "creating", bitsby_id=None)

    said = f"order {order.number}: an invoice is being created"
    assert refusal(order, PaymentInProgress) == said
    assert fake.requests == []


def test_two_attempts_in_one_moment_are_kept_apart_by_the_database(order, fake, monkeypatch):
    """Where rows cannot be locked, the one that comes second is told so and asks nothing."""

    def refuse(**values):
        raise IntegrityError("bitsby_one_live_invoice")

    monkeypatch.setattr(BitsbyInvoice.objects, "create", refuse)

    with pytest.raises(PaymentInProgress, match=r"^another request has just begun$") as caught:
        start_payment(order)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
    assert fake.requests == []


def test_what_turns_out_to_be_paid_is_said_to_be(order, fake, move_time):
    """The last word on an old invoice is what the buyer hears."""
    first = start_payment(order)
    fake.invoices = [bitsby.invoice_item(first, "paid", payment=bitsby.transfer())]
    move_time(minutes=61)

    assert refusal(order, NotPayable) == f"order {order.number} is paid"


def test_an_invoice_in_its_last_minute_is_said_to_expire(order, fake, move_time):
    """Between the end by our clock and the end by Bitsby's the buyer is to try again."""
    fake.invoices = [bitsby.invoice_item(start_payment(order))]
    move_time(seconds=3605)

    assert refusal(order, PaymentInProgress) == "the invoice is about to expire; try again"


def test_an_invoice_that_is_replaced_again_and_again_ends(order, fake, monkeypatch):
    """Whoever finds another invoice that does not fit each time is told to try again."""
    start_payment(order)
    monkeypatch.setattr(BitsbyInvoice, "fits", lambda invoice, order: False)
    retired = []
    monkeypatch.setattr(facade, "_replace_invoice", retired.append)

    said = "the order's invoice was replaced meanwhile; try again"
    assert refusal(order, PaymentInProgress) == said
    assert len(retired) == 2


def test_an_answer_for_an_attempt_that_was_given_up_is_said_to_be_late(order, fake):
    """The invoice is kept, and its buyer told that another attempt may have begun."""

    def slow(fields):
        BitsbyInvoice.objects.update(status="expired", ended_at=timezone.now())
        return bitsby.success(bitsby.created())

    fake.on("/invoices/create", slow)

    said = "the answer came too late; another attempt may have begun"
    assert refusal(order, PaymentInProgress) == said


@pytest.mark.django_db(transaction=True)
def test_an_id_that_is_known_is_refused_by_name(place, fake):
    """Operators see which invoice Bitsby has given twice, and staff why there is none."""
    answer = bitsby.created()
    fake.on("/invoices/create", bitsby.success(answer))
    start_payment(place())
    other = place()

    assert refusal(other, ReplyNotUnderstood) == f"invoice {answer['id']} exists already"
    error = other.bitsby_invoices.get().failure
    assert error == "Bitsby answered with the id of an earlier invoice"


# What is given again


def test_an_invoice_is_given_until_its_last_moment(order, fake, stop_time):
    """Up to the end of its time by our clock it is given, from then on it is asked about."""
    invoice = start_payment(order)
    fake.invoices = [bitsby.invoice_item(invoice, "expired")]
    end = BitsbyInvoice.objects.get().expires_at
    for moment, is_same in ((end - dt.timedelta(seconds=1), True), (end, False)):
        stop_time(moment)
        assert (start_payment(order) == invoice) is is_same


@pytest.mark.parametrize(("seconds", "is_replaced"), [(59, False), (60, True)])
def test_an_invoice_is_replaced_a_minute_after_its_time(
    order, fake, stop_time, seconds, is_replaced
):
    """An invoice that Bitsby still calls unpaid is waited for during one minute."""
    first = start_payment(order)
    fake.invoices = [bitsby.invoice_item(first)]
    moment = BitsbyInvoice.objects.get().expires_at + dt.timedelta(seconds=seconds)
    stop_time(moment)
    if is_replaced:
        assert start_payment(order) != first
    else:
        assert refusal(order, PaymentInProgress)


def test_a_replaced_invoice_says_what_became_of_it(order, fake, caplog):
    """Its row has the end, the reason and the log line by which staff find it."""
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


def test_an_invoice_that_was_paid_while_it_was_replaced_stays_paid(order, fake, monkeypatch):
    """What another process has settled in the same moment is not taken back."""
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


def test_replacing_leaves_other_orders_alone(place, invoice_for, order, fake):
    """The invoice of another order stays as live as it was."""
    first = start_payment(order)
    other = invoice_for(place())
    fake.invoices = [bitsby.invoice_item(first)]
    Order.objects.filter(pk=order.pk).update(total_incl_tax=Decimal("12.00"))

    start_payment(order)

    other.refresh_from_db()
    assert (other.status, other.ended_at) == ("unpaid", None)


def test_a_dead_attempt_says_that_no_answer_came(order, invoice_for, fake, move_time):
    """Staff see why there are two rows: the first one never had an answer."""
    dead = invoice_for(order, "creating", bitsby_id=None)
    move_time(seconds=16)

    assert start_payment(order).status == "unpaid"

    dead.refresh_from_db()
    assert (dead.status, dead.failure) == ("expired", "no answer came")


def test_an_attempt_is_waited_for_up_to_its_last_moment(order, invoice_for, fake, stop_time):
    """``TIMEOUT`` and five seconds after it began its answer may still come."""
    now = timezone.now()
    invoice_for(order, "creating", bitsby_id=None, created_at=now - dt.timedelta(seconds=15))
    stop_time(now)

    assert refusal(order, PaymentInProgress)
    assert fake.requests == []


# Attempts that fail


def test_a_failed_attempt_is_logged_and_kept_with_its_reason(order, fake, caplog):
    """The row says what Bitsby said, and the log has it with the order's number."""
    fake.on("/invoices/create", bitsby.error("You have a debt"))

    said = refusal(order, Refused)

    assert order.bitsby_invoices.get().failure == said == "/invoices/create: You have a debt"
    lines = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert lines == [f"no invoice for order {order.number}: {said}"]


def test_a_buyer_without_a_slot_is_no_error_in_the_log(order, fake, caplog, monkeypatch):
    """That others are being served is nothing that is wrong."""

    def no_slot(*args, **options):
        raise RateLimitTimeout("none")

    monkeypatch.setattr("oscar_bitsby.gateway.factory.acquire", no_slot)

    assert refusal(order, RateLimitTimeout) == "none"
    assert (caplog.messages, BitsbyInvoice.objects.count()) == ([], 0)


# What is sent and stored


def test_a_long_description_is_cut(order, fake, settings):
    """Bitsby is sent 500 letters of it at most."""
    settings.OSCAR_BITSBY = {**settings.OSCAR_BITSBY, "DESCRIPTION": "{number} " + "x" * 600}

    start_payment(order)

    assert created(fake)[0]["description"] == f"{order.number} {'x' * 600}"[:500]


def test_service_data_takes_any_key_of_a_user():
    """Shops whose users or orders are not numbered by integers and texts get their keys as text."""
    user_id = uuid.UUID(int=7)

    text = service_data(SimpleNamespace(number=100001, user_id=user_id))

    assert text == f'{{"orderId":"100001","userId":"{user_id}"}}'


def test_the_attempt_is_kept_with_the_shops_project(order, fake):
    """What is asked for is kept before the answer comes, so that the answer can be compared."""
    seen = []

    def answer(fields):
        seen.append(BitsbyInvoice.objects.values("status", "amount", "currency").get())
        return bitsby.success(bitsby.created())

    fake.on("/invoices/create", answer)

    assert start_payment(order).project_id == bitsby.PROJECT
    assert seen == [{"status": "creating", "amount": Decimal("10.00"), "currency": "USD"}]


def test_wallets_are_stored_whole(order, fake):
    """Each reserved wallet is kept with its names, address and amount, in plain digits."""
    tiny = bitsby.wallet(amountCrypto="0.00000001")
    unknown = bitsby.wallet(id="other", amountCrypto=None)
    fake.on("/invoices/create", bitsby.success(bitsby.created(wallets=[tiny, unknown])))

    invoice = start_payment(order)

    invoice.refresh_from_db()
    assert invoice.wallets == [
        bitsby.wallet(amount="0.00000001"),
        bitsby.wallet(id="other", amount=""),
    ]


def test_the_answer_is_stored_as_it_came(order, fake):
    """Letters of all scripts and numbers are kept; NUL, which no database takes, is not."""
    note = {"note": 'Größe a\u0000b \\ "日本"', "rate": 1.5}
    fake.on("/invoices/create", bitsby.success(bitsby.created(**note)))

    invoice = start_payment(order)

    invoice.refresh_from_db()
    assert invoice.reply["note"] == 'Größe ab \\ "日本"'
    assert invoice.reply["rate"] == "1.5"


def test_half_a_letter_in_an_answer_does_not_lose_the_invoice(order, fake):
    """One half of a pair that makes up a letter, which no database takes, becomes a mark."""
    fake.on("/invoices/create", bitsby.success(bitsby.created(note="a\ud800b")))

    invoice = start_payment(order)

    invoice.refresh_from_db()
    assert (invoice.status, invoice.reply["note"]) == ("unpaid", "a?b")


@pytest.mark.parametrize("hours", [0.5, 6])
def test_an_answer_without_times_counts_from_now(order, fake, settings, hours):
    """Where Bitsby names no times, the invoice began now and ends after ``TIME_TO_PAY``."""
    settings.OSCAR_BITSBY = {**settings.OSCAR_BITSBY, "TIME_TO_PAY": hours}
    answer = bitsby.created(createDatetime=None, timeToPayDatetime=None)
    fake.on("/invoices/create", bitsby.success(answer))
    before = timezone.now()

    invoice = start_payment(order)

    invoice.refresh_from_db()
    assert before <= invoice.created_at <= timezone.now()
    assert invoice.expires_at - invoice.created_at == dt.timedelta(hours=hours)


def test_the_times_of_the_answer_are_kept(order, fake):
    """Bitsby's clock counts, and not when its answer came."""
    times = {"createDatetime": "2024-02-29 11:59:58", "timeToPayDatetime": "2030-02-28 12:59:58"}
    fake.on("/invoices/create", bitsby.success(bitsby.created(**times)))

    invoice = start_payment(order)

    kept = (bitsby.written(invoice.created_at), bitsby.written(invoice.expires_at))
    assert kept == tuple(times.values())


def test_a_new_invoice_is_announced_once_with_its_order(
    order, fake, django_capture_on_commit_callbacks
):
    """A shop that listens for new invoices hears of each, and not of one that is given again."""
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
def test_a_page_that_is_no_address_is_said_to_be_none(invoice, url):
    """What cannot be read as an address is refused like a foreign one."""
    invoice.url = url

    with pytest.raises(PaymentPageRefused) as caught:
        payment_page(invoice)
    said = f"invoice {invoice.bitsby_id}: its payment page is not an address"
    assert str(caught.value) == said
    assert caught.value.__suppress_context__


def test_a_foreign_page_is_refused_with_its_host_and_the_remedy(invoice):
    """Operators see which host it is and which setting would allow it."""
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
def test_a_host_may_be_allowed_with_or_without_its_port(invoice, settings, hosts, url, is_allowed):
    """A host alone allows all its ports, a host with a port that one."""
    allow(settings, PAYMENT_HOSTS=hosts)
    invoice.url = url
    if is_allowed:
        assert payment_page(invoice) == url
    else:
        with pytest.raises(PaymentPageRefused):
            payment_page(invoice)


def test_a_page_may_be_as_plain_as_the_api(invoice, settings):
    """With a simulator on plain HTTP the pages may be so too, and still on HTTPS."""
    allow(settings, API_URL="http://localhost:8100", PAYMENT_HOSTS=["localhost:8100"])
    for url in ("http://localhost:8100/pay", "https://localhost:8100/pay"):
        invoice.url = url
        assert payment_page(invoice) == url
    invoice.url = "ftp://localhost:8100/pay"
    with pytest.raises(PaymentPageRefused):
        payment_page(invoice)


@pytest.mark.parametrize("letter", ["\x00", "\x01", "\x1f", " ", "\x7f", "\\", "\t", "\n"])
def test_a_page_with_letters_that_browsers_read_otherwise_is_refused(invoice, letter):
    """Control letters, spaces and backslashes are in no honest address."""
    invoice.url = f"https://dash.bitsby.app/pay{letter}x"

    with pytest.raises(PaymentPageRefused):
        payment_page(invoice)


@pytest.mark.parametrize("path", ["!", "~", "a@b", "X", "ä"])
def test_other_letters_are_in_no_ones_way(invoice, path):
    """The letters beside those, and an at sign behind the host, are harmless."""
    invoice.url = f"https://dash.bitsby.app/pay/{path}"

    assert payment_page(invoice) == invoice.url


def test_money_that_waits_for_staff_is_not_paid_again(order, invoice_for, fake):
    """A payment in the inbox is reason enough, even on an invoice that has ended."""
    invoice = invoice_for(order, "expired")
    BitsbyPayment.objects.create(
        bitsby_id=bitsby.new_id(), invoice=invoice, amount=1, review_reason="not_paid"
    )

    assert refusal(order, NotPayable)
    assert fake.requests == []


def test_the_last_question_about_an_invoice_is_a_buyers(order, fake, move_time):
    """Who waits before the page is not kept waiting by tries: it is asked once, first in line."""
    start_payment(order)
    fake.on("/invoices/list", ConnectionError("down"))
    move_time(minutes=61)

    assert refusal(order, ConnectionFailed)
    assert len(fake.asked("/invoices/list")) == 1


def test_an_answer_that_writes_about_nul_is_stored(order, fake):
    """The six characters that stand for a NUL are kept as text, and NULs themselves go."""
    fake.on(
        "/invoices/create",
        lambda fields: bitsby.success(bitsby.created(note="a\\u0000b", other="c\x00\x00d\\\x00e")),
    )

    invoice = facade.start_payment(order)

    assert invoice.status == InvoiceStatus.UNPAID
    assert (invoice.reply["note"], invoice.reply["other"]) == ("a\\u0000b", "cd\\e")


def test_a_receiver_for_our_invoices_alone_hears_of_a_new_one(
    order, fake, django_capture_on_commit_callbacks
):
    """A shop may connect to ``invoice_created`` with the sender that the signal has."""
    heard = []

    def hear(sender, invoice, **kwargs):
        heard.append(invoice)

    signals.invoice_created.connect(hear, sender=BitsbyInvoice)
    with django_capture_on_commit_callbacks(execute=True):
        invoice = start_payment(order)
    signals.invoice_created.disconnect(hear, sender=BitsbyInvoice)

    assert heard == [invoice]
