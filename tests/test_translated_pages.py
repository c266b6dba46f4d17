"""What people read, rendered in each language: translated throughout, in their formats."""

from __future__ import annotations

import datetime as dt
import html
import re
from decimal import Decimal

import pytest
from django.core import mail
from django.test import Client
from django.urls import reverse
from django.utils import formats, timezone, translation

from oscar_bitsby import conf
from oscar_bitsby.accounting import matching
from oscar_bitsby.choices import MailCode
from oscar_bitsby.facade import describe
from oscar_bitsby.gateway import parsing
from oscar_bitsby.mails import context, event_types
from oscar_bitsby.models import BitsbyPayment, BuyerMail
from oscar_bitsby.orders import signed_urls
from oscar_bitsby.settlement import cancellation
from oscar_bitsby.templatetags.bitsby_times import time_tag
from oscar_bitsby.utils import i18n
from tests import bitsby
from tests.shopping import go_to_payment, go_to_preview
from tests.staff.test_bind_flow import (
    MAY_BIND,
    act_url,
    arrive,
    bind_url,
    logged,
    member,
    takes_bindings,
)
from tests.support.states import STATES
from tests.test_translations import COMPLETE, entries, languages

pytestmark = pytest.mark.django_db

NO_PAGE = re.compile(r"<(script|style)\b.*?</\1>|<[^>]+>", re.DOTALL)


def flat(text):
    """What a reader sees of a page or mail."""
    text = re.sub(r'<input type="submit"[^>]*value="([^"]*)"', r" \1 <input", text)
    return " ".join(html.unescape(NO_PAGE.sub(" ", text)).split())


def english_sentences(language):
    """Return patterns of our English texts of three words or more, which no page may hold."""
    for message in entries(language):
        for source in [message.id] if isinstance(message.id, str) else message.id:
            pieces = [
                piece for piece in re.split(r"%\(\w+\)[sd]|%s|\{\w+\}", flat(source)) if piece
            ]
            longest = max(pieces, key=len).strip(" .,:;()%“”")
            if len(longest.split()) > 2 and longest not in message.string:
                yield longest


ENGLISH = {language: tuple(english_sentences(language)) for language in COMPLETE}


def assert_speaks(language, text, *sources):
    """The text holds the translations of these texts of ours, and no English sentence of ours."""
    shown = flat(text)
    assert [words for words in ENGLISH[language] if words in shown] == []
    with translation.override(language):
        for source in sources:
            assert translation.gettext(source) != source
            assert flat(translation.gettext(source)) in shown, (source, shown)


def client_of(language):
    return Client(headers={"accept-language": language})


def speaking(client, language):
    client.defaults["HTTP_ACCEPT_LANGUAGE"] = language
    return client


@pytest.fixture
def keeper(db):
    """Staff who may bind and look at records."""
    looks = [f"oscar_bitsby.view_{name}" for name in ("bitsbyinvoice", "bitsbypayment")]
    return member("keeper", *MAY_BIND, *looks)


@languages
def test_no_english_would_be_found_missing(language):
    """The search for English has something to look for, and finds it."""
    assert len(ENGLISH[language]) > 150
    with pytest.raises(AssertionError):
        assert_speaks(language, "<p>Please choose a payment method.</p>")


# Buyers


@languages
@pytest.mark.parametrize(("arrange", "state", "text"), [row[:3] for row in STATES])
def test_the_orders_page(fake, order, invoice_for, language, arrange, state, text):
    """In each state the buyer reads it in the own language."""
    arrange(order, invoice_for)
    page = client_of(language).get(signed_urls.order_url(order)).content.decode()

    assert f'lang="{language}"' in page
    title = text if state != "other" else "The shop is handling this order"
    assert_speaks(language, page, title, "What you ordered")


@languages
def test_the_page_to_wait_on(fake, order, language):
    """While Bitsby is down the buyer reads in the own language that the order is safe."""
    fake.on("/invoices/create", (503, {}, "down"))
    client = client_of(language)
    page = client.post(signed_urls.pay_url(order)).content.decode()
    assert_speaks(language, page, "Your order is safe, and nothing has been charged.", "Try now")


@languages
def test_the_payment_step_and_the_preview(settings, guest, product, language):
    """The checkout asks and explains in the buyer's language."""
    settings.OSCAR_BITSBY = {**settings.OSCAR_BITSBY, "OTHER_METHODS": [("cod", "Nachnahme")]}
    speaking(guest, language)
    go_to_payment(guest, product)
    url = reverse("checkout:payment-method")
    assert_speaks(
        language,
        guest.get(url).content.decode(),
        "How would you like to pay?",
        "Pay in the cryptocurrency of your choice on Bitsby's payment page, right after you place"
        " your order.",
    )
    refused = guest.post(url, {}).content.decode()
    assert_speaks(language, refused, "Please choose a payment method.")
    go_to_preview(guest, product)
    assert_speaks(
        language,
        guest.get(reverse("checkout:preview")).content.decode(),
        "Please send exactly that amount. We'll confirm your order once the payment is confirmed on"
        " the blockchain.",
    )


@pytest.mark.parametrize(
    ("language", "amount", "until"),
    [
        ("en", "$1,234.50", "Nov. 22, 2026, 8:05 p.m. (CET)"),
        ("de", "1.234,50 $", "22. November 2026 20:05 (CET)"),
        ("ru", "1 234,50 $", "22 ноября 2026 г. 20:05 (CET)"),
        ("es", "1.234,50 US$", "22 de noviembre de 2026 a las 20:05 (CET)"),
    ],
)
def test_amounts_and_times_are_in_the_buyers_format(
    fake, place, invoice_for, stop_time, language, amount, until
):
    """Amounts and the time to pay as the buyer writes them; the zone is named, and the browser is
    told the moment, to say it in its own zone."""
    now = dt.datetime(2026, 11, 22, 18, 5, tzinfo=dt.timezone.utc)
    stop_time(now)
    order = place("1234.50")
    invoice = invoice_for(order, created_at=now, expires_at=now + dt.timedelta(hours=1))

    page = client_of(language).get(signed_urls.order_url(order)).content.decode()

    tag = re.search(r'<time datetime="([^"]+)" data-bitsby-time>([^<]+)</time>', page)
    assert (tag[1], " ".join(tag[2].split())) == ("2026-11-22T19:05:00+00:00", until)
    assert invoice.expires_at == dt.datetime.fromisoformat(tag[1])
    assert amount in flat(page)
    assert flat(page).count("&lt;") == 0


def test_a_time_is_text_whatever_the_format_holds(settings):
    """A shop's format with HTML in it stays text; no time gives nothing."""
    settings.DATETIME_FORMAT = r"\<\b\>Y"
    formats.reset_format_cache()
    with translation.override("tlh"):
        assert ">&lt;b&gt;20" in time_tag(timezone.now())
    formats.reset_format_cache()
    assert time_tag(None) == ""


@languages
def test_what_the_buyer_reads_at_bitsby(order, language):
    """The default description is in the buyer's language; a shop's own is as the shop wrote it."""
    with translation.override(language):
        assert describe(conf.get(), order) == messages_of(language)["Order {number}"].format(
            number=order.number
        )


def messages_of(language):
    return {m.id: m.string for m in entries(language) if not m.context}


MAILS = [
    (MailCode.PLACED, "", "If you've already sent the payment, you don't need to do anything:"
        " we'll email you once it arrives."),
    (MailCode.PAID, "", "You can check your order's status any time on this page:"),
    (MailCode.OTHER_AMOUNT, "late",
        "The order had already been cancelled when your payment arrived."),
    (MailCode.OTHER_AMOUNT, "short",
        "We'll review the payment and email you about the next steps."),
    (MailCode.OTHER_AMOUNT, "unknown_value",
        "We need to review it before we can apply it to your order."),
    (MailCode.REMINDER, "", "To pay, open your order's page. A transfer can take several"
        " minutes, so please allow enough time:"),
    (MailCode.EXPIRED, "", ""),
    (MailCode.CANCELLED, "", "If you'd still like these items, you can order them again:"),
]  # fmt: skip


@languages
@pytest.mark.parametrize(("code", "reason", "source"), MAILS)
def test_the_mails(place, invoice_for, language, code, reason, source):
    """Subject, text and HTML are in the buyer's language, with amounts as it writes them, and the
    coins as wallets write them, whatever language the pass that sends runs in."""
    order = place("1234.50")
    invoice = invoice_for(order)
    payment = BitsbyPayment.objects.create(
        bitsby_id=bitsby.new_id(),
        invoice=invoice,
        amount=Decimal("1234.500012"),
        cryptocurrency="usdt",
        fiat_value=None if reason == "fiat_value" else Decimal("1234.50"),
        currency="USD",
        review_reason=reason,
    )
    row = BuyerMail.objects.create(
        order=order,
        order_number=order.number,
        invoice=invoice,
        payment=payment if code in (MailCode.OTHER_AMOUNT, MailCode.PAID) else None,
        code=code,
        key=code,
        language=language,
    )
    event_types.ensure_exists(code)

    with translation.override("en"):
        texts = context.render(row)

    for name in ("subject", "body", "html"):
        assert_speaks(language, texts[name], *([source] if source and name != "subject" else []))
        assert order.number in texts[name]
    if code == MailCode.OTHER_AMOUNT:
        assert "1234.500012 USDT" in texts["body"]
    if code in (MailCode.PLACED, MailCode.PAID):
        amount = {"de": "1.234,50\xa0$", "ru": "1\xa0234,50\xa0$", "es": "1.234,50\xa0US$"}[
            language
        ]
        assert amount in texts["body"]
    assert mail.outbox == []


# Staff


@languages
def test_the_money_inbox_and_what_can_be_done_there(fake, invoice, place, keeper, language):
    """Reasons, advice, suggestions and actions are in the reader's language."""
    earlier = timezone.now() - dt.timedelta(minutes=10)
    type(invoice).objects.filter(pk=invoice.pk).update(created_at=earlier)
    payment = arrive(fake, amount="9.90000000")
    speaking(keeper, language)
    page = keeper.get(reverse("oscar_bitsby:dashboard-inbox")).content.decode()
    assert_speaks(
        language,
        page,
        "Money inbox",
        "To be looked at",
        "bound to no invoice: its amount fits none",
        "same wallet as reserved",
        "Dismiss",
    )
    assert "-1,0 %" in flat(page)
    assert "9.9 usdt" in flat(page)
    page = keeper.get(act_url(payment, "dismiss")).content.decode()
    assert_speaks(language, page, "Dismiss", "Why", "Back to the inbox")
    page = keeper.post(act_url(payment, "dismiss"), {"note": ""}).content.decode()
    assert_speaks(language, page, "Say why, so that others can follow it later.")
    page = keeper.post(act_url(payment, "dismiss"), {"note": "x"}, follow=True).content.decode()
    done = "Dismissed. You find it under “dealt with”, where it can be undone."
    assert_speaks(language, page, done)


@languages
@pytest.mark.parametrize("way", ["dashboard", "admin"])
def test_binding(fake, invoice, keeper, language, way):
    """Each step of the binding is in the reader's language, and so is what the log says of it."""
    payment = arrive(fake, amount="9.90000000")
    takes_bindings(fake, invoice)
    speaking(keeper, language)
    url = bind_url(way, invoice.order)
    page = keeper.get(url).content.decode()
    assert_speaks(language, page, "Why it may be meant", "Continue", "Payment id")
    page = keeper.post(url, {"payment_id": "x"}).content.decode()
    assert_speaks(language, page)
    page = keeper.post(url, {"payment": payment.bitsby_id}).content.decode()
    assert_speaks(language, page, "What will happen", "Bind this payment")
    form = {"payment_id": payment.bitsby_id, "invoice": invoice.pk, "confirm": "1", "note": "x"}
    page = keeper.post(url, form, follow=True).content.decode()
    assert_speaks(language, page)
    assert re.search(r"9,90 USD", flat(page))
    (entry,) = logged(keeper.user)
    assert_speaks(language, entry)


@languages
def test_remarks_are_read_in_the_readers_language(order, invoice_for, keeper, language):
    """What the app has noted of an invoice is stored in English and shown in the reader's words."""
    invoice = invoice_for(order, "canceled", failure="replaced by a newer invoice")
    speaking(keeper, language)
    detail = reverse("admin:oscar_bitsby_bitsbyinvoice_change", args=[invoice.pk])
    for url in (
        reverse("oscar_bitsby:dashboard-invoices"),
        reverse("dashboard:order-detail", args=[order.number]),
        reverse("admin:oscar_bitsby_bitsbyinvoice_changelist"),
        detail,
    ):
        page = keeper.get(url).content.decode()
        assert_speaks(language, page, "replaced by a newer invoice")
    assert flat(keeper.get(detail).content.decode()).count("replaced") == 0


@languages
def test_coins_are_not_localised_in_the_admin(invoice, keeper, language, settings):
    """Amounts of coins can be copied as they stand, in the list and on the page of a payment."""
    settings.USE_THOUSAND_SEPARATOR = True
    payment = BitsbyPayment.objects.create(
        bitsby_id=bitsby.new_id(), amount=Decimal("1234.56780001"), cryptocurrency="usdt"
    )
    speaking(keeper, language)
    name = "admin:oscar_bitsby_bitsbypayment"
    for url in (
        reverse(f"{name}_changelist"),
        reverse(f"{name}_change", args=[payment.pk]),
    ):
        text = flat(keeper.get(url).content.decode())
        assert "1234.56780001" in text
        assert "1.234,5678" not in text


@pytest.fixture
def of_unknown_worth(fake, invoice):
    """A payment in a coin for which no rate was locked."""
    ether = bitsby.wallet(id="other", cryptocurrency="eth", blockchain="ethereum")
    return arrive(fake, invoice, "0.00500000", wallet=ether)


@pytest.mark.parametrize("grouping", [False, True])
@pytest.mark.parametrize("language", ["en", "de", "ru"])
@pytest.mark.parametrize(
    ("typed", "fiat_value"),
    [
        ("10.50", "10.50"),
        ("10,50", "10.50"),
        ("10,5", "10.50"),
        (" 1\xa0234,50 ", "1234.50"),
        ("1234", "1234.00"),
    ],
)
def test_a_worth_is_typed_with_a_comma_or_a_point(
    settings, of_unknown_worth, keeper, language, grouping, typed, fiat_value
):
    """Whatever the language of the page, the same text is the same amount."""
    settings.USE_THOUSAND_SEPARATOR = grouping
    speaking(keeper, language)
    keeper.post(act_url(of_unknown_worth, "accept"), {"note": "x", "fiat_value": typed})
    of_unknown_worth.refresh_from_db()
    assert of_unknown_worth.fiat_value == Decimal(fiat_value)


@pytest.mark.parametrize("grouping", [False, True])
@pytest.mark.parametrize("language", ["en", "de", "ru"])
@pytest.mark.parametrize(
    "typed", ["1.234", "1,234", "1.234,50", "1,234.50", "1'234", "10.505", "-5"]
)
def test_a_worth_that_can_be_read_in_two_ways_is_asked_for_again(
    settings, of_unknown_worth, keeper, language, grouping, typed
):
    """Separators of thousands are not guessed at: nothing is booked."""
    settings.USE_THOUSAND_SEPARATOR = grouping
    speaking(keeper, language)
    page = keeper.post(act_url(of_unknown_worth, "accept"), {"note": "x", "fiat_value": typed})
    assert page.status_code == 200
    of_unknown_worth.refresh_from_db()
    assert (of_unknown_worth.fiat_value, of_unknown_worth.booked_at) == (None, None)


def test_grouping_breaks_no_form(settings, fake, order, invoice_for, keeper):
    """With grouped numbers, the binding's hidden key is still one."""
    settings.USE_THOUSAND_SEPARATOR = True
    invoice = invoice_for(order, pk=12345)
    payment = arrive(fake, amount="9.90000000")
    page = keeper.post(bind_url("dashboard", order), {"payment": payment.bitsby_id})
    assert 'name="invoice" value="12345"' in page.content.decode()
    assert invoice.pk == 12345


def test_a_difference_is_signed_in_the_readers_format(invoice):
    """More has a plus, less a minus, with the language's own separator."""
    payment = BitsbyPayment(amount=Decimal("10.5"), cryptocurrency="usdt")
    reasons = matching.match(payment, invoice).reasons
    assert "amount off by +5.0 %" in [str(reason) for reason in reasons]
    with translation.override("de"):
        assert "Betrag weicht um +5,0 % ab" in [str(reason) for reason in reasons]


# What is stored


@pytest.mark.parametrize("reader", ["en", "de"])
def test_a_note_on_an_order_is_in_the_shops_language(
    settings, fake, order, invoice_for, move_time, reader
):
    """Whoever sets it off, staff of a Russian shop find the note in Russian."""
    settings.LANGUAGE_CODE = "ru"
    invoice = invoice_for(order, "expired", ended_at=timezone.now())
    move_time(hours=2)
    word = bitsby.invoice_item(invoice, "expired")
    with translation.override(reader):
        assert cancellation.cancel_unpaid_order(
            order.pk, {invoice.bitsby_id: parsing.parse_invoice(word)}
        )
        assert translation.get_language() == reader
    assert order.notes.get().message.startswith("Заказ отменён: Bitsby только что")


def test_a_translation_that_does_not_fit_holds_up_nothing(settings, monkeypatch):
    """A shop's own translation with a wrong placeholder is replaced by the English text."""
    for wrong in ("%(nobody)s", "%(payment)d", "%(payment)"):
        monkeypatch.setattr(translation, "gettext", lambda text, wrong=wrong: wrong)
        note = i18n.shop_text("Payment %(payment)s accepted by staff.", payment="9 usdt")
        assert note == "Payment 9 usdt accepted by staff."


def test_a_remark_that_is_not_ours_stays_as_it_is():
    """What Bitsby said is shown as Bitsby said it; nothing is nothing."""
    with translation.override("de"):
        assert i18n.translate_stored("Invoice 100% not found") == "Invoice 100% not found"
        assert i18n.translate_stored("no answer came") == "es kam keine Antwort"
        assert i18n.translate_stored("") == ""
