"""What Bitsby's documentation does not say: each plausible answer is lived with.

``docs/gateway.rst`` lists all of it, with these tests and those that stand elsewhere.
"""

from __future__ import annotations

import datetime as dt
import json
import re
from pathlib import Path

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from oscar.core.loading import get_model

from oscar_bitsby import facade, reconciliation
from oscar_bitsby.choices import InvoiceStatus, ReviewReason
from oscar_bitsby.exceptions import Refused
from oscar_bitsby.models import BitsbyPayment
from oscar_bitsby.reconciliation import refresh
from tests import bitsby

Order = get_model("order", "Order")
Transaction = get_model("payment", "Transaction")

pytestmark = pytest.mark.django_db

TESTS = Path(__file__).parent
PAGE = TESTS.parent / "docs" / "gateway.rst"
HOUR = dt.timedelta(hours=1)


def status_of(order):
    return Order.objects.get(pk=order.pk).status


def deliver(invoice, payload, *, encode=str.encode, content_type="application/json", **extra):
    """Post the documented delivery about an invoice."""
    body = payload("webhook_paid")
    body["invoice"]["id"] = str(invoice.bitsby_id)
    url = reverse("oscar_bitsby:webhook")
    return Client().generic("POST", url, encode(json.dumps(body)), content_type, **extra)


@pytest.fixture
def paid(invoice, fake):
    """An invoice that Bitsby calls paid."""
    fake.invoices = [bitsby.invoice_item(invoice, "paid", payment=bitsby.transfer())]
    return invoice


@pytest.fixture
def at_two(monkeypatch):
    """Two o'clock UTC: yesterday west of Greenwich."""
    now = dt.datetime(2026, 3, 10, 2, tzinfo=dt.timezone.utc)
    monkeypatch.setattr(timezone, "now", lambda: now)
    return now


@pytest.fixture
def at_eleven(monkeypatch):
    """Eleven at night UTC: tomorrow east of Greenwich."""
    now = dt.datetime(2026, 3, 10, 23, tzinfo=dt.timezone.utc)
    monkeypatch.setattr(timezone, "now", lambda: now)
    return now


# The webhook


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "application/json; charset=windows-1251",
        "text/plain",
        "application/octet-stream",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=none",
        "",
    ],
)
def test_a_delivery_counts_whatever_its_content_type(order, paid, payload, content_type):
    """Its body is read as JSON, whatever the header calls it."""
    assert deliver(paid, payload, content_type=content_type).status_code == 200
    assert status_of(order) == "Being processed"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_a_delivery_counts_in_every_encoding_of_json(order, paid, payload, encoding):
    """Each encoding that JSON may have is understood, with its mark or without."""
    answer = deliver(paid, payload, encode=lambda text: text.encode(encoding))

    assert answer.status_code == 200
    assert status_of(order) == "Being processed"


@pytest.mark.parametrize(
    "extra",
    [
        {"REMOTE_ADDR": "203.0.113.9"},
        {"REMOTE_ADDR": "2001:db8::9"},
        {"REMOTE_ADDR": ""},
        {"HTTP_USER_AGENT": ""},
        {"HTTP_X_FORWARDED_FOR": "10.0.0.1, rubbish", "HTTP_AUTHORIZATION": "Token other"},
    ],
)
def test_a_delivery_counts_from_everywhere(order, paid, payload, extra):
    """Who sent it proves nothing and rules nothing out: the API is asked."""
    assert deliver(paid, payload, **extra).status_code == 200
    assert status_of(order) == "Being processed"


def test_a_compressed_delivery_is_no_delivery_and_its_money_is_found(order, invoice, fake, payload):
    """What cannot be read is refused, and the next pass does without it."""
    item = bitsby.invoice_item(invoice, "paid")
    fake.payments = [bitsby.payment_item(invoice=item)]

    answer = deliver(invoice, payload, encode=lambda text: b"\x1f\x8b\x08" + text.encode())
    reconciliation.reconcile()

    assert answer.status_code == 400
    assert status_of(order) == "Being processed"


# Lists


class Zone:
    """How a server may understand the days of a filter: in its own zone, with the ends or not."""

    def __init__(self, hours, ends_count):
        self.offset, self.ends_count = dt.timedelta(hours=hours), ends_count

    def __repr__(self):
        return f"{self.offset / HOUR:+.0f}h, {'with' if self.ends_count else 'without'} ends"

    def heed(self, fake):
        """Let the fake Bitsby filter payments so."""
        everything = fake.payments

        def answer(fields):
            first, last = (dt.date.fromisoformat(fields[key]) for key in ("startDate", "endDate"))
            if not self.ends_count:
                first, last = first + dt.timedelta(days=1), last - dt.timedelta(days=1)
            found = [item for item in everything if first <= self.day_of(item) <= last]
            return bitsby.success(found if fields["offset"] == "0" else [])

        fake.on("/payments/list", answer)

    def day_of(self, item):
        return (dt.datetime.fromisoformat(item["transactionDatetime"]) + self.offset).date()


ZONES = [Zone(hours, ends) for hours in (-12, -5, 0, 3, 14) for ends in (True, False)]


def find_paid(order, invoice_for, fake, zone, now):
    invoice = invoice_for(order, created_at=now - HOUR, expires_at=now + HOUR)
    paid = bitsby.transfer(transactionDatetime=bitsby.written(now - HOUR / 2))
    fake.payments = [bitsby.payment_item(paid, bitsby.invoice_item(invoice, "paid"))]
    zone.heed(fake)
    reconciliation.reconcile()
    return status_of(order)


@pytest.mark.parametrize("zone", ZONES, ids=repr)
@pytest.mark.parametrize("hour", ["at_two", "at_eleven"])
def test_a_payment_is_found_whatever_the_days_mean(request, order, invoice_for, fake, zone, hour):
    """In whichever zone the days of a filter are meant, with their ends or without."""
    now = request.getfixturevalue(hour)

    assert find_paid(order, invoice_for, fake, zone, now) == "Being processed"


def test_a_refused_page_size_is_told_and_changes_nothing(order, invoice, fake):
    """A limit that Bitsby does not take ends the pass with Bitsby's own words."""
    fake.on("/payments/list", bitsby.error("limit is too large"))

    with pytest.raises(Refused, match="limit is too large"):
        reconciliation.reconcile()

    assert status_of(order) == "Pending"


# Errors


@pytest.mark.parametrize("status", [200, 400, 402, 403, 404, 500])
@pytest.mark.parametrize("text", ["Account is blocked", "Недостаточно средств", "", None])
def test_a_blocked_account_is_told_and_the_next_click_works(order, fake, caplog, status, text):
    """Whatever its text and status: staff read it, the order waits, and paying works later."""
    create = fake.answers.get("/invoices/create", fake.invoices_create)
    fake.on("/invoices/create", (status, {}, json.dumps(bitsby.error(text))))
    with pytest.raises(Refused):
        facade.start_payment(order)
    fake.on("/invoices/create", create)

    assert f"no invoice for order {order.number}: /invoices/create: {text}" in caplog.text
    assert status_of(order) == "Pending"
    assert facade.start_payment(order).status == InvoiceStatus.UNPAID


def test_a_rate_limit_in_other_words_ends_the_pass_and_loses_nothing(order, paid, fake):
    """A refusal that we take for another one is not repeated; the next pass finds the money."""
    fake.payments = [bitsby.payment_item(fake.invoices[0]["payment"], fake.invoices[0])]
    fake.on("/payments/list", bitsby.error("Slow down"))
    with pytest.raises(Refused):
        reconciliation.reconcile()
    assert len(fake.asked("/payments/list")) == 1

    fake.on("/payments/list", fake.payments_list)
    reconciliation.reconcile()

    assert status_of(order) == "Being processed"


# Payments


def test_a_booked_payment_that_vanishes_from_the_lists_stays_booked(order, paid, fake, move_time):
    """Where Bitsby shows transfers before they are final, one may be gone: that is for people."""
    refresh(paid)
    fake.invoices = [bitsby.invoice_item(paid, "unpaid")]

    for _ in range(2):
        reconciliation.reconcile()
        refresh(paid)
        move_time(hours=26)

    assert status_of(order) == "Being processed"
    assert Transaction.objects.count() == 1
    paid.refresh_from_db()
    assert paid.status == InvoiceStatus.PAID


def test_an_amount_that_fits_exactly_is_not_bound_by_us(order, invoice, fake):
    """Which amounts tell invoices apart is Bitsby's secret: only what it binds is settled."""
    fake.payments = [bitsby.payment_item(bitsby.transfer(invoice.wallets[0]["amount"]))]

    reconciliation.reconcile()

    assert BitsbyPayment.objects.get().review_reason == ReviewReason.UNMATCHED
    assert status_of(order) == "Pending"


def test_the_smallest_and_the_largest_amount_are_bitsbys_to_refuse(place, fake):
    """An amount that Bitsby does not take leaves its order as it was, and others payable."""
    fake.on(
        "/invoices/create",
        lambda fields: (
            bitsby.error("Amount is too small")
            if float(fields["amountFiat"]) < 1
            else fake.invoices_create(fields)
        ),
    )
    small = place("0.50")

    with pytest.raises(Refused, match="too small"):
        facade.start_payment(small)

    assert status_of(small) == "Pending"
    assert facade.start_payment(place("5.00")).status == InvoiceStatus.UNPAID


# Examples that contradict each other


@pytest.mark.parametrize("hours", [0.5, 12, 48])
def test_the_time_to_pay_is_what_the_answer_says(order, fake, hours):
    """Asked for one hour and answered with another time: the answer counts."""
    until = timezone.now().replace(microsecond=0) + hours * HOUR
    answer = bitsby.created(timeToPayDatetime=bitsby.written(until))
    fake.on("/invoices/create", bitsby.success(answer))

    invoice = facade.start_payment(order)

    assert invoice.expires_at == until
    assert fake.asked("/invoices/create")[0]["timeToPay"] == "1"


@pytest.mark.parametrize("left_out", [None, "", "soon"])
def test_without_a_readable_time_it_is_what_was_asked_for(order, fake, left_out):
    """An answer that does not say until when is taken for what was asked."""
    answer = bitsby.created(timeToPayDatetime=left_out)
    fake.on("/invoices/create", bitsby.success(answer))
    before = timezone.now()

    invoice = facade.start_payment(order)

    assert before + HOUR <= invoice.expires_at <= timezone.now() + HOUR


# The page


def test_every_test_that_the_page_names_exists():
    """What ``docs/gateway.rst`` says of tests is true, and none from here is left out."""
    named = set(re.findall(r"``(test_[a-z0-9_]+)``", PAGE.read_text()))
    found = set()
    for path in TESTS.rglob("test_*.py"):
        found |= set(re.findall(r"^def (test_\w+)", path.read_text(), re.MULTILINE))
    here = set(re.findall(r"^def (test_\w+)", Path(__file__).read_text(), re.MULTILINE))

    assert named - found == set()
    assert here - named == {"test_every_test_that_the_page_names_exists"}
