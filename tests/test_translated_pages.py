"""Test that pages and e-mails are translated, with amounts and times in the reader's format."""

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
from tests.support import bitsby
from tests.support.catalogues import LANGUAGES, each_language, entries, translations
from tests.support.shopping import go_to_payment, go_to_preview
from tests.support.staff import (
    INBOX,
    INVOICES,
    MAY_BIND,
    accept_bindings,
    act_url,
    admin_log_of,
    bind_url,
    create_payments,
    log_in,
    receive_payment,
)
from tests.support.states import STATES

pytestmark = pytest.mark.django_db

NO_PAGE = re.compile(r"<(script|style)\b.*?</\1>|<[^>]+>", re.DOTALL)


def flat(text):
    """Return the text that a reader sees of a response or e-mail."""
    text = text if isinstance(text, str) else text.content.decode()
    text = re.sub(r'<input type="submit"[^>]*value="([^"]*)"', r" \1 <input", text)
    return " ".join(html.unescape(NO_PAGE.sub(" ", text)).split())


def english_sentences(language):
    """Yield parts of our English texts of three words or more, which no page may contain."""
    for message in entries(language):
        for source in [message.id] if isinstance(message.id, str) else message.id:
            pieces = [
                piece for piece in re.split(r"%\(\w+\)[sd]|%s|\{\w+\}", flat(source)) if piece
            ]
            longest = max(pieces, key=len).strip(" .,:;()%“”")
            if len(longest.split()) > 2 and longest not in message.string:
                yield longest


ENGLISH = {language: tuple(english_sentences(language)) for language in LANGUAGES}


def assert_translated(language, text, *sources):
    """Assert that a text or page contains these texts translated, and no English text of ours."""
    shown = flat(text)
    assert [words for words in ENGLISH[language] if words in shown] == []
    with translation.override(language):
        for source in sources:
            assert translation.gettext(source) != source
            assert flat(translation.gettext(source)) in shown, (source, shown)


def client_of(language):
    return Client(headers={"accept-language": language})


@pytest.fixture
def staff_client(db, language):
    """Log in a user who may bind, view invoices and payments, and reads the test's language."""
    views = [f"oscar_bitsby.view_{name}" for name in ("bitsbyinvoice", "bitsbypayment")]
    return log_in("staff", *MAY_BIND, *views, headers={"accept-language": language})


@each_language
def test_search_for_english_texts_finds_them(language):
    """The search knows many English texts, and finds one on a page."""
    assert len(ENGLISH[language]) > 150
    with pytest.raises(AssertionError):
        assert_translated(language, "<p>Please choose a payment method.</p>")


# Buyers


@each_language
@pytest.mark.parametrize(("arrange", "state", "text"), [row[:3] for row in STATES])
def test_order_page_is_translated(fake, order, invoice_for, language, arrange, state, text):
    """The order's page is in the buyer's language in each state."""
    arrange(order, invoice_for)
    page = client_of(language).get(signed_urls.order_url(order))

    assert f'lang="{language}"' in page.content.decode()
    title = text if state != "other" else "The shop is handling this order"
    assert_translated(language, page, title, "What you ordered")


@each_language
def test_retrying_page_is_translated(fake, order, language):
    """While Bitsby is down, the retrying page is in the buyer's language."""
    fake.on("/invoices/create", (503, {}, "down"))
    page = client_of(language).post(signed_urls.pay_url(order))
    safe = "Your order is safe, and nothing has been charged."
    assert_translated(language, page, safe, "Try now")


@each_language
def test_payment_step_and_preview_are_translated(configure, country, product, language):
    """The checkout's payment step and preview are in the buyer's language."""
    configure(OTHER_METHODS=[("cod", "Nachnahme")])
    guest = client_of(language)
    go_to_payment(guest, product)
    url = reverse("checkout:payment-method")
    assert_translated(
        language,
        guest.get(url),
        "How would you like to pay?",
        "Pay in the cryptocurrency of your choice on Bitsby's payment page, right after you place"
        " your order.",
    )
    assert_translated(language, guest.post(url, {}), "Please choose a payment method.")
    go_to_preview(guest, product)
    assert_translated(
        language,
        guest.get(reverse("checkout:preview")),
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
    """Amounts and times have the language's format; a time names its zone, and has a value from
    which the browser shows its own zone."""
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


def test_time_is_escaped_in_any_format(settings):
    """HTML in a shop's date format is escaped; no time gives an empty string."""
    settings.DATETIME_FORMAT = r"\<\b\>Y"
    formats.reset_format_cache()
    with translation.override("tlh"):
        assert ">&lt;b&gt;20" in time_tag(timezone.now())
    formats.reset_format_cache()
    assert time_tag(None) == ""


@each_language
def test_description_at_bitsby_is_translated(order, language):
    """The default description of an invoice is in the buyer's language."""
    with translation.override(language):
        assert describe(conf.get(), order) == translations(language)["Order {number}"].format(
            number=order.number
        )


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


@each_language
@pytest.mark.parametrize(("code", "reason", "source"), MAILS)
def test_mails_are_translated(place, invoice_for, language, code, reason, source):
    """Subject, text and HTML are in the buyer's language and format, whatever the language of the
    process that sends them; amounts of coins are written as in wallets."""
    order = place("1234.50")
    invoice = invoice_for(order)
    amounts = {"amount": Decimal("1234.500012"), "fiat_value": Decimal("1234.50")}
    (payment,) = create_payments(
        1, invoice=invoice, currency="USD", review_reason=reason, **amounts
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

    assert_translated(language, texts["subject"])
    for name in ("body", "html"):
        assert_translated(language, texts[name], *filter(None, [source]))
    for name in ("subject", "body", "html"):
        assert order.number in texts[name]
    if code == MailCode.OTHER_AMOUNT:
        assert "1234.500012 USDT" in texts["body"]
    if code in (MailCode.PLACED, MailCode.PAID):
        amounts = {"de": "1.234,50\xa0$", "ru": "1\xa0234,50\xa0$", "es": "1.234,50\xa0US$"}
        assert amounts[language] in texts["body"]
    assert mail.outbox == []


# Staff


@each_language
def test_payments_to_review_are_translated(fake, invoice, staff_client, language):
    """Reasons, advice, suggestions and actions are in the reader's language."""
    earlier = timezone.now() - dt.timedelta(minutes=10)
    type(invoice).objects.filter(pk=invoice.pk).update(created_at=earlier)
    payment = receive_payment(fake, amount="9.90000000")
    page = staff_client.get(reverse(INBOX))
    texts = ("Payments to review", "Unmatched payment", "same wallet as reserved", "Dismiss")
    assert_translated(language, page, *texts)
    assert "1,0 %" in flat(page)
    assert "9.9 USDT" in flat(page)
    url = act_url(payment, "dismiss")
    texts = ("Dismiss", "Reason", "Back to payments to review")
    assert_translated(language, staff_client.get(url), *texts)
    page = staff_client.post(url, {"note": ""})
    assert_translated(language, page, "Enter a reason: others may need it later.")
    page = staff_client.post(url, {"note": "x"}, follow=True)
    assert_translated(language, page, "Dismissed. You can undo this under “Resolved”.")


@each_language
@pytest.mark.parametrize("way", ["dashboard", "admin"])
def test_bind_pages_and_log_entry_are_translated(fake, invoice, staff_client, language, way):
    """Each step of the binding, and its log entry, is in the reader's language."""
    payment = receive_payment(fake, amount="9.90000000")
    accept_bindings(fake, invoice)
    url = bind_url(way, invoice.order)
    page = staff_client.get(url)
    assert_translated(language, page, "Why it may match", "Unmatched payments", "Payment ID")
    page = staff_client.post(url, {"payment_id": "x"})
    assert_translated(language, page)
    page = staff_client.post(url, {"payment": payment.bitsby_id})
    assert_translated(language, page, "What will happen", "Bind this payment")
    form = {"payment_id": payment.bitsby_id, "invoice": invoice.pk, "confirm": "1", "note": "x"}
    page = staff_client.post(url, form, follow=True)
    assert_translated(language, page)
    assert re.search(r"9,90 USD", flat(page))
    (entry,) = admin_log_of(staff_client.user)
    assert_translated(language, entry)


@each_language
def test_remarks_are_shown_in_the_readers_language(order, invoice_for, staff_client, language):
    """A remark on an invoice is stored in English and shown in the reader's language."""
    invoice = invoice_for(order, "canceled", failure="replaced by a newer invoice")
    for url in (
        reverse(INVOICES),
        reverse("dashboard:order-detail", args=[order.number]),
        reverse("admin:oscar_bitsby_bitsbyinvoice_changelist"),
        reverse("admin:oscar_bitsby_bitsbyinvoice_change", args=[invoice.pk]),
    ):
        page = staff_client.get(url)
        assert_translated(language, page, "replaced by a newer invoice")
    assert "replaced" not in flat(page)


@each_language
def test_crypto_amounts_are_not_localised_in_the_admin(invoice, staff_client, language, settings):
    """Amounts in coins have no separators in the list and on the page of a payment."""
    settings.USE_THOUSAND_SEPARATOR = True
    (payment,) = create_payments(1, amount=Decimal("1234.56780001"))
    name = "admin:oscar_bitsby_bitsbypayment"
    for url in (reverse(f"{name}_changelist"), reverse(f"{name}_change", args=[payment.pk])):
        text = flat(staff_client.get(url))
        assert "1234.56780001" in text
        assert "1.234,5678" not in text


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
        # These are ambiguous or no amounts.
        *[
            (typed, None)
            for typed in ("1.234", "1,234", "1.234,50", "1,234.50", "1'234", "10.505", "-5")
        ],
    ],
)
def test_fiat_value_accepts_a_comma_or_a_point_and_nothing_ambiguous(
    settings, fake, invoice, staff_client, grouping, typed, fiat_value
):
    """A fiat value may be typed with a comma or a point, whatever the language of the page; when it
    is ambiguous it is refused, and nothing is booked."""
    settings.USE_THOUSAND_SEPARATOR = grouping
    # No rate is locked for this coin.
    ether = bitsby.wallet(id="other", cryptocurrency="eth", blockchain="ethereum")
    payment = receive_payment(fake, invoice, "0.00500000", wallet=ether)
    fields = {"note": "x", "fiat_value": typed}
    page = staff_client.post(act_url(payment, "accept"), fields)
    payment.refresh_from_db()
    assert page.status_code == (302 if fiat_value else 200)
    assert payment.fiat_value == (Decimal(fiat_value) if fiat_value else None)
    assert (payment.booked_at is None) == (fiat_value is None)


@pytest.mark.parametrize("language", ["en"])
def test_grouped_numbers_do_not_break_the_bind_form(
    settings, fake, order, invoice_for, staff_client
):
    """With grouped numbers, the hidden key in the binding form has no separator."""
    settings.USE_THOUSAND_SEPARATOR = True
    invoice_for(order, pk=12345)
    payment = receive_payment(fake, amount="9.90000000")
    page = staff_client.post(bind_url("dashboard", order), {"payment": payment.bitsby_id})
    assert 'name="invoice" value="12345"' in page.content.decode()


def test_deviation_is_signed_in_the_readers_format(invoice):
    """A deviation has a sign and the language's decimal separator."""
    payment = BitsbyPayment(amount=Decimal("10.5"), cryptocurrency="usdt")
    reasons = matching.match(payment, invoice).reasons
    assert "5.0 % more than asked" in [str(reason) for reason in reasons]
    with translation.override("de"):
        assert "5,0 % mehr als gefordert" in [str(reason) for reason in reasons]


# What is stored


@pytest.mark.parametrize("reader", ["en", "de"])
def test_order_note_is_in_the_shops_language(settings, fake, order, invoice_for, move_time, reader):
    """A note on an order is in the shop's language, whatever the language of the request."""
    settings.LANGUAGE_CODE = "ru"
    invoice = invoice_for(order, "expired", ended_at=timezone.now())
    move_time(hours=2)
    item = bitsby.invoice_item(invoice, "expired")
    with translation.override(reader):
        assert cancellation.cancel_unpaid_order(
            order.pk, {invoice.bitsby_id: parsing.parse_invoice(item)}
        )
        assert translation.get_language() == reader
    assert order.notes.get().message.startswith("Заказ отменён: Bitsby")


def test_translation_with_a_wrong_placeholder_falls_back_to_english(settings, monkeypatch):
    """When a shop's own translation has a wrong placeholder, the English text is stored."""
    for wrong in ("%(nobody)s", "%(payment)d", "%(payment)"):
        monkeypatch.setattr(translation, "gettext", lambda text, wrong=wrong: wrong)
        note = i18n.shop_text("Payment %(payment)s accepted by staff.", payment="9 USDT")
        assert note == "Payment 9 USDT accepted by staff."


def test_stored_error_of_bitsby_is_shown_unchanged():
    """A stored error of Bitsby is shown unchanged, a stored text of ours translated."""
    with translation.override("de"):
        assert i18n.translate_stored("Invoice 100% not found") == "Invoice 100% not found"
        assert i18n.translate_stored("no answer came") == "es kam keine Antwort"
        assert i18n.translate_stored("") == ""
