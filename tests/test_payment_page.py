"""Test ``payment_page``: which addresses a buyer is redirected to."""

import pytest

from oscar_bitsby.exceptions import PaymentPageRefused
from oscar_bitsby.facade import payment_page

pytestmark = pytest.mark.django_db


#: One host without a port allows all its ports, and one with a port allows only that port.
ANY_PORT = {"PAYMENT_HOSTS": ["pay.example"]}
ONE_PORT = {"PAYMENT_HOSTS": ["pay.example:8443"]}
#: With an API on plain HTTP, pages may be on HTTP, too.
LOCAL = {"API_URL": "http://localhost:8100", "PAYMENT_HOSTS": ["localhost:8100"]}


@pytest.mark.parametrize(
    ("url", "settings_of_shop"),
    [
        ("https://dash.bitsby.app/invoices/pay/abc", {}),
        ("https://DASH.bitsby.app/invoices/pay/abc", {}),
        *((f"https://dash.bitsby.app/pay/{path}", {}) for path in ("!", "~", "a@b", "X", "ä")),
        ("https://pay.example:8443/i", ANY_PORT),
        ("https://pay.example:8443/i", ONE_PORT),
        ("https://PAY.example:8443/i", ONE_PORT),
        ("http://localhost:8100/pay", LOCAL),
        ("https://localhost:8100/pay", LOCAL),
    ],
)
def test_page_on_an_allowed_host_is_allowed(invoice, configure, url, settings_of_shop):
    """A safe address on an allowed host is returned unchanged."""
    configure(**settings_of_shop)
    invoice.url = url

    assert payment_page(invoice) == url


@pytest.mark.parametrize(
    ("url", "settings_of_shop"),
    [
        ("http://dash.bitsby.app/invoices/pay/abc", {}),
        ("https://dash.bitsby.app.evil.example/pay", {}),
        ("https://evil.example/https://dash.bitsby.app/", {}),
        ("https://dash.bitsby.app@evil.example/pay", {}),
        ("https://evil.example\\@dash.bitsby.app/pay", {}),
        ("https://x@dash.bitsby.app/pay", {}),
        ("//dash.bitsby.app/pay", {}),
        ("javascript:alert(1)", {}),
        ("https://dash.bitsby.app/pay\r\nSet-Cookie: a=b", {}),
        ("", {}),
        # Characters that browsers read differently.
        *((f"https://dash.bitsby.app/pay{letter}x", {}) for letter in "\x00\x01\x1f \x7f\\\t\n"),
        ("https://pay.example:9000/i", ONE_PORT),
        ("https://pay.example/i", ONE_PORT),
        ("ftp://localhost:8100/pay", LOCAL),
    ],
)
def test_unsafe_page_is_refused(invoice, configure, url, settings_of_shop):
    """An unsafe address, or a host that is not allowed, is refused."""
    configure(**settings_of_shop)
    invoice.url = url

    with pytest.raises(PaymentPageRefused):
        payment_page(invoice)


NOT_ALLOWED = f"on '{'a' * 100}', which is not in OSCAR_BITSBY['PAYMENT_HOSTS']"


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("https://[bad/pay", "not an address"),
        ("https://[::1/pay", "not an address"),
        (f"https://{'a' * 120}.Example/pay", NOT_ALLOWED),
    ],
)
def test_error_says_why_a_page_is_refused(invoice, url, problem):
    """The error says that the text is no address, or names the host and the setting."""
    invoice.url = url

    with pytest.raises(PaymentPageRefused) as caught:
        payment_page(invoice)
    assert str(caught.value) == f"invoice {invoice.bitsby_id}: its payment page is {problem}"
    assert caught.value.__context__ is None or caught.value.__suppress_context__
