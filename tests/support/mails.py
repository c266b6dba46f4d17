"""E-mails to buyers: what was sent, and what tests compare it with."""

import datetime as dt
import re

from django.core import mail
from django.utils import formats, timezone, translation

from oscar_bitsby.models import BuyerMail
from oscar_bitsby.orders import signed_urls
from tests.support import bitsby


def expiring_in(minutes, hours_in_total):
    """Return the times of an invoice that expires in so many minutes."""
    end = timezone.now() + dt.timedelta(minutes=minutes)
    return {"created_at": end - dt.timedelta(hours=hours_in_total), "expires_at": end}


def html_of(message):
    """Return the HTML body of an e-mail."""
    ((html, kind),) = message.alternatives
    assert kind == "text/html"
    return html


def url_of(order):
    """Return the absolute URL of an order's page."""
    return f"http://example.com{signed_urls.order_url(order)}"


def local_time(moment):
    """Return a time as English e-mails show it, in the shop's time zone."""
    with translation.override("en"):
        return formats.date_format(timezone.localtime(moment), "DATETIME_FORMAT")


def plain_text(text):
    """Return a text without tags, with single spaces."""
    text = re.sub(r"<style.*?</style>", "", text, flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]+>", " ", text).split())


def assert_one_mail(order, *words, to="buyer@example.com"):
    """Assert that one e-mail was sent, about that order, with words in both bodies; return it."""
    (message,) = mail.outbox
    assert message.to == [to]
    assert order.number in message.subject
    assert "\n" not in message.subject
    for text in (message.body, html_of(message)):
        assert url_of(order) in text
        for word in words:
            assert word in plain_text(text), (word, plain_text(text))
    return message


def sent_codes():
    """Return the codes of all e-mails that were sent, oldest first."""
    rows = BuyerMail.objects.filter(status="sent").order_by("sent_at", "pk")
    assert rows.count() == len(mail.outbox)
    return [row.code for row in rows]


def paid_item(invoice, amount="10.00000000"):
    """Return an item of the list of payments: that amount of USDT paid the invoice."""
    return bitsby.payment_item(bitsby.transfer(amount), bitsby.invoice_item(invoice, "paid"))
