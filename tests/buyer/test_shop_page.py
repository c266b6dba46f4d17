"""Paying on the order's page, with ``PAYMENT_PAGE = "shop"``."""

import datetime as dt
import html
import re
from decimal import Decimal
from html.parser import HTMLParser

import pytest
from django.test import Client
from django.utils import timezone
from oscar.core.loading import get_model

from oscar_bitsby.models import BitsbyInvoice
from oscar_bitsby.orders import signed_urls
from tests.support import bitsby, states
from tests.support.qr import read_qr_code
from tests.support.states import STATES, state_url

Order = get_model("order", "Order")

pytestmark = pytest.mark.django_db

TRON, BITCOIN = bitsby.stored_wallets("10.00")
ADDRESSES = (TRON["address"], BITCOIN["address"])
#: The address of another coin, whose last character is wrong.
MISTYPED = {**TRON, "address": TRON["address"][:-1] + "8"}


@pytest.fixture(autouse=True)
def in_shop(configure):
    configure(PAYMENT_PAGE="shop")


@pytest.fixture
def waiting(order, invoice_for):
    """The unpaid invoice of ``order``, about which Bitsby need not be asked."""
    return invoice_for(order, last_refreshed_at=timezone.now())


def show(order, query="", client=None, **headers):
    """Return the response with the order's page."""
    return (client or Client()).get(signed_urls.order_url(order) + query, **headers)


def shown_addresses(response):
    """Return the addresses that a response contains, in its text or anywhere else."""
    page = response.content.decode()
    text = re.sub("<[^>]+>", "", page)
    return {address for address in ADDRESSES if address in text or address in page}


class Copied(HTMLParser):
    """The text of the element with an id, as a browser copies it."""

    def __init__(self, element_id):
        super().__init__()
        self.element_id, self.depth, self.text = element_id, 0, ""

    def handle_starttag(self, tag, attrs):
        if tag != "wbr" and (self.depth or dict(attrs).get("id") == self.element_id):
            self.depth += 1

    def handle_endtag(self, tag):
        self.depth -= bool(self.depth)

    def handle_data(self, data):
        self.text += data if self.depth else ""


def text_of(response, element_id):
    """Return the text of an element, to the byte."""
    copied = Copied(element_id)
    copied.feed(response.content.decode())
    return copied.text


def coin_links(response):
    """Return the links that choose a coin, by their texts."""
    links = re.findall(r'<a [^>]*href="([?]coin=[^"]+)"[^>]*>(.*?)</a>', response.content.decode())
    return {name: html.unescape(url) for url, name in links}


def test_pay_click_leads_to_the_page_that_asks_for_the_coin(fake, order):
    """The pay click creates the invoice; with several coins no address is shown before a choice."""
    click = Client().post(signed_urls.pay_url(order))
    assert (click.status_code, click["Location"]) == (303, signed_urls.order_url(order))

    page = show(order)

    assert not shown_addresses(page)
    assert coin_links(page) == {
        "USDT on Tron (TRC-20)": "?coin=usdt-tron#bitsby-pay",
        "BTC on Bitcoin": "?coin=btc-bitcoin#bitsby-pay",
    }
    assert page.context["hosted_url"] == order.bitsby_invoices.get().url
    assert "The quote is valid until" in page.content.decode()
    # Staff can still cancel it: the buyer has nothing to pay to.
    assert order.bitsby_invoices.get().addresses_shown_at is None


@pytest.mark.parametrize("language", ["en-gb", "de", "ru", "fr", "ar", "hi"])
def test_amount_and_address_are_bitsbys_to_the_byte(order, invoice_for, settings, language):
    """No template, translation or format of numbers changes what buyers copy, open or scan."""
    settings.USE_THOUSAND_SEPARATOR = True
    settings.LANGUAGES = [(language, language)]
    usdt, bitcoin = TRON | {"amount": "1234567.89000000"}, BITCOIN | {"amount": "12345.00000001"}
    waiting = invoice_for(order, wallets=[usdt, bitcoin], last_refreshed_at=timezone.now())
    scanned = {
        "usdt": TRON["address"],
        "btc": f"bitcoin:{BITCOIN['address'].upper()}?amount=12345.00000001",
    }
    for wallet in (usdt, bitcoin):
        coin = wallet["cryptocurrency"]
        page = show(
            order, f"?coin={coin}-{wallet['blockchain']}", headers={"accept-language": language}
        )

        assert text_of(page, "bitsby-address") == wallet["address"]
        assert text_of(page, "bitsby-amount") == wallet["amount"]
        assert shown_addresses(page) == {wallet["address"]}
        assert read_qr_code(page.content.decode()) == scanned[coin]
    uri = f"bitcoin:{BITCOIN['address']}?amount=12345.00000001"
    assert f'href="{uri}"' in page.content.decode()
    assert waiting.order.bitsby_invoices.get().addresses_shown_at is not None


def test_coin_is_remembered_by_choosing_it_only(order, waiting):
    """A cookie that scripts cannot read keeps the choice; an unknown coin is not remembered."""
    client = Client()
    show(order, "?coin=doge-mars", client)
    assert "bitsby_coin" not in client.cookies

    chosen = show(order, "?coin=btc-bitcoin", client)
    cookie = chosen.cookies["bitsby_coin"]
    assert (cookie.value, cookie["httponly"], cookie["samesite"]) == ("btc-bitcoin", True, "Lax")
    later = show(order, "", client)

    assert shown_addresses(later) == {BITCOIN["address"]}
    assert "bitsby_coin" not in later.cookies


@pytest.mark.parametrize(
    ("arrange", "state"),
    [(arrange, state) for arrange, state, *_ in STATES if state != "waiting"],
)
def test_no_other_state_shows_an_address(fake, order, invoice_for, arrange, state):
    """Paid, expired, cancelled, under review: nothing to pay to, nor a link to Bitsby's page."""
    arrange(order, invoice_for)

    page = show(order, "?coin=usdt-tron")

    assert page.context["payment_status"].state == state
    assert not shown_addresses(page)
    assert page.context["payment_options"] == []
    assert "/invoices/pay/" not in page.content.decode()
    assert not BitsbyInvoice.objects.exclude(addresses_shown_at=None).exists()


def test_expired_invoice_shows_no_address_again(order, waiting, move_time):
    """When the time is over, the page has one button, which requests a new quote."""
    assert shown_addresses(show(order, "?coin=usdt-tron"))
    move_time(hours=1)
    BitsbyInvoice.objects.update(last_refreshed_at=timezone.now())

    page = show(order, "?coin=usdt-tron")

    assert not shown_addresses(page)
    assert page.content.decode().count(f'action="{signed_urls.pay_url(order)}"') == 1
    assert "Request a new quote" in page.content.decode()


def test_possible_mismatch_needs_a_further_click(fake, order, invoice_for):
    """Where a payment of another amount may be theirs, buyers first say that they have not paid."""
    states.create_possible_mismatch(order, invoice_for)
    assert not shown_addresses(show(order, "?coin=usdt-tron"))

    click = Client().post(signed_urls.pay_url(order))
    assert click["Location"] == f"{signed_urls.order_url(order)}?unpaid=1"
    page = show(order, "?unpaid=1")

    assert coin_links(page)["BTC on Bitcoin"] == "?coin=btc-bitcoin&unpaid=1#bitsby-pay"
    assert shown_addresses(show(order, "?coin=btc-bitcoin&unpaid=1")) == {BITCOIN["address"]}


def test_possible_mismatch_of_an_expired_invoice_shows_no_address(fake, order, invoice_for):
    """The click alone does not bring back the address of an invoice that is over."""
    states.create_possible_mismatch(order, invoice_for)
    over = timezone.now() - dt.timedelta(seconds=1)
    order.bitsby_invoices.update(expires_at=over, addresses_shown_at=over)

    page = show(order, "?coin=usdt-tron&unpaid=1")

    assert page.context["payment_status"].state == "possible_mismatch"
    assert not shown_addresses(page)


def test_invoice_of_an_earlier_total_is_not_shown(order, waiting):
    """After a change of the order's total, the page offers the click that replaces the invoice."""
    Order.objects.update(total_incl_tax=Decimal("12.50"))

    page = show(order, "?coin=usdt-tron")

    assert not shown_addresses(page)
    assert f'action="{signed_urls.pay_url(order)}"' in page.content.decode()


def test_unsound_wallet_is_left_out(order, invoice_for, caplog):
    """A single coin that is left is chosen by itself; viewing the page logs nothing."""
    invoice_for(order, wallets=[MISTYPED, BITCOIN], last_refreshed_at=timezone.now())

    page = show(order)

    assert shown_addresses(page) == {BITCOIN["address"]}
    assert not coin_links(page)
    assert caplog.text == ""


def test_without_a_sound_wallet_the_buyer_pays_on_bitsbys_page(order, invoice_for, caplog):
    """The pay click is logged and leads to Bitsby's page, which the page's policy allows."""
    invoice = invoice_for(order, wallets=[MISTYPED], last_refreshed_at=timezone.now())

    page = show(order)
    click = Client().post(signed_urls.pay_url(order))

    assert "Open the payment page" in page.content.decode()
    assert "form-action 'self' dash.bitsby.app:*;" in page["Content-Security-Policy"]
    assert click["Location"] == invoice.url
    assert "wallet 1 of invoice" in caplog.text
    assert MISTYPED["address"] not in caplog.text


def test_no_address_while_staff_cancel_the_invoice(order, waiting):
    """Coins sent meanwhile could be lost; the page updates itself when cancelling is over."""
    before = Client().get(state_url(order)).json()["version"]
    assert waiting.begin_cancelling(timezone.now())

    page = show(order, "?coin=usdt-tron")

    assert not shown_addresses(page)
    assert signed_urls.pay_url(order) not in page.content.decode()
    assert "this page updates by itself" in page.content.decode()
    assert not coin_links(show(order))
    assert Client().get(state_url(order)).json()["version"] != before


def test_no_address_when_cancelling_begins_during_the_request(order, waiting, monkeypatch):
    """What counts is the database's answer at the moment of showing, not the row read before."""
    monkeypatch.setattr(BitsbyInvoice, "show_addresses", lambda self: False)

    assert not shown_addresses(show(order, "?coin=usdt-tron"))


def test_state_as_json_contains_no_address(order, waiting):
    """Addresses stand only in the HTML of the signed link."""
    answer = Client().get(state_url(order) + "?coin=usdt-tron")

    assert set(answer.json()) == {"state", "final", "version", "secondsLeft"}
    assert not any(address in answer.content.decode() for address in ADDRESSES)


def test_page_loads_only_the_shops_own_files(order, waiting, settings, configure):
    """The policy names the shop's origins; the page is not stored, framed or tracked."""
    settings.STATIC_URL = "https://static.example.com/s/"
    configure(CSP_SOURCES=["https://cdn.example.com"])
    page = show(order, "?coin=usdt-tron")

    assert page["Content-Security-Policy"] == (
        "default-src 'self' https://static.example.com https://cdn.example.com;"
        " img-src 'self' https://static.example.com https://cdn.example.com data:;"
        " object-src 'none'; base-uri 'none'; form-action 'self' dash.bitsby.app:*;"
        " frame-ancestors 'none'"
    )
    assert page["X-Frame-Options"] == "DENY"
    assert "no-store" in page["Cache-Control"]
    loaded = re.findall(r'<(?:script|link|img)[^>]+(?:src|href)="(https?://[^/"]+)', page.text)
    assert set(loaded) <= {"https://static.example.com"}
    assert " style=" not in page.text.partition("data-bitsby-order")[2]


def test_page_with_an_address_reloads_when_the_time_is_over(order, invoice_for):
    """Without JavaScript, too, an address does not stay on the screen after the expiry."""
    soon = timezone.now() + dt.timedelta(seconds=20)
    invoice_for(order, expires_at=soon, last_refreshed_at=timezone.now())

    seconds = re.search(
        r'http-equiv="refresh" content="(\d+)"', show(order, "?coin=usdt-tron").content.decode()
    )

    assert 15 < int(seconds[1]) <= 21


def test_hosted_mode_stays_as_it_is(order, waiting, configure):
    """By default the page has no address, cookie or policy, and the click leads to Bitsby."""
    configure(PAYMENT_PAGE="hosted")

    page = show(order, "?coin=usdt-tron")
    click = Client().post(signed_urls.pay_url(order))

    assert not shown_addresses(page)
    assert page.context["payment_options"] == []
    assert "Content-Security-Policy" not in page
    assert "bitsby_coin" not in page.cookies
    assert "payment.css" not in page.content.decode()
    assert "Open the payment page" in page.content.decode()
    assert click["Location"] == waiting.url
    waiting.refresh_from_db()
    assert waiting.addresses_shown_at is None
