"""Refunds as their buyers meet them: rows, links, and the page that asks for the address."""

import datetime as dt
import re
import time
from decimal import Decimal
from types import SimpleNamespace

from django.core import signing
from django.test import Client

from oscar_bitsby.models import BitsbyRefund
from oscar_bitsby.orders import signed_urls

#: Valid addresses on Tron that are no wallets of the shop.
ADDRESS = "TR7NHqjeKQxGTCi8q8ZY4pL8otSzgjLj6t"
OTHER_ADDRESS = "TLa2f6VPqDgRE67v1736s7bJ8Ray5wYjU7"
HASH = "5f1c" * 16


def create_refund(order, **values):
    """Create a refund of 2.50 dollars in USDT on Tron; ``values`` replace the defaults."""
    defaults = {
        "order": order,
        "order_number": order.number if order else "",
        "amount": Decimal("2.50"),
        "currency": "USD",
        "cryptocurrency": "usdt",
        "blockchain": "tron",
        "coin_amount": Decimal("2.5"),
    }
    return BitsbyRefund.objects.create(**(defaults | values))


def give_address(refund, address, client=None):
    """Send the form of the refund's page."""
    return (client or Client()).post(signed_urls.refund_url(refund), {"address": address})


def open_refund(refund, client=None):
    """Return the refund's page."""
    return (client or Client()).get(signed_urls.refund_url(refund))


def content_of(response):
    """Return the text of the page's own part, without tags, with single spaces."""
    html = response.content.decode()
    main = html[html.index('id="content_inner"') :] if 'id="content_inner"' in html else html
    main = re.sub(r"<(script|style).*?</\1>", "", main, flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]+>", " ", main).split())


def move_signing_clock(monkeypatch, **delta):
    """Let what was signed until now be older by so much."""
    by = dt.timedelta(**delta).total_seconds()
    monkeypatch.setattr(signing, "time", SimpleNamespace(time=lambda: time.time() + by))
