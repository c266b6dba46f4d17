"""Test ``payment_page``: which addresses a buyer is redirected to."""

import pytest

from oscar_bitsby.exceptions import (
    PaymentPageRefused,
)
from oscar_bitsby.facade import payment_page

pytestmark = pytest.mark.django_db


def allow(settings, **values):
    settings.OSCAR_BITSBY = {**settings.OSCAR_BITSBY, **values}


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


@pytest.mark.parametrize("url", ["https://[bad/pay", "https://[::1/pay"])
def test_page_that_is_not_an_address_is_refused(invoice, url):
    """A text that cannot be parsed as an address is refused."""
    invoice.url = url

    with pytest.raises(PaymentPageRefused) as caught:
        payment_page(invoice)
    message = f"invoice {invoice.bitsby_id}: its payment page is not an address"
    assert str(caught.value) == message
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
