"""The app works with each plausible answer to what Bitsby's documentation leaves open.

``docs/gateway.rst`` lists these questions, with these tests and those in other modules.
"""

import datetime as dt
import json
import re
from pathlib import Path

import pytest
from django.utils import timezone
from oscar.core.loading import get_model

from oscar_bitsby import facade, reconciliation
from oscar_bitsby.choices import InvoiceStatus, ReviewReason
from oscar_bitsby.exceptions import Refused
from oscar_bitsby.models import BitsbyPayment
from oscar_bitsby.reconciliation import refresh
from tests.support import bitsby
from tests.support.settling import status_of

Transaction = get_model("payment", "Transaction")

pytestmark = pytest.mark.django_db

TESTS = Path(__file__).parent
PAGE = TESTS.parent / "docs" / "gateway.rst"
HOUR = dt.timedelta(hours=1)


@pytest.fixture
def delivery_text(invoice, payload):
    """The text of the documented delivery about ``invoice``."""
    body = payload("webhook_paid")
    body["invoice"]["id"] = str(invoice.bitsby_id)
    return json.dumps(body)


# The webhook


@pytest.mark.parametrize(
    "content_type",
    [
        *("application/json", "application/json; charset=windows-1251", "text/plain", ""),
        *("application/octet-stream", "application/x-www-form-urlencoded"),
        "multipart/form-data; boundary=none",
    ],
)
def test_a_delivery_counts_whatever_its_content_type(order, paid_invoice, deliver, content_type):
    """A delivery's body is read as JSON whatever its content type."""
    assert deliver(paid_invoice, CONTENT_TYPE=content_type).status_code == 200
    assert status_of(order) == "Being processed"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_a_delivery_counts_in_every_encoding_of_json(
    order, paid_invoice, delivery_text, deliver, encoding
):
    """A delivery may have any encoding of JSON, with a byte order mark or without."""
    assert deliver(body=delivery_text.encode(encoding)).status_code == 200
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
def test_a_delivery_counts_from_everywhere(order, paid_invoice, deliver, extra):
    """The sender of a delivery makes no difference: the API is asked."""
    assert deliver(paid_invoice, **extra).status_code == 200
    assert status_of(order) == "Being processed"


def test_compressed_delivery_is_refused_and_its_payment_is_found(
    order, paid_invoice, delivery_text, deliver
):
    """A compressed delivery is refused, and the next run finds its payment."""
    answer = deliver(body=b"\x1f\x8b\x08" + delivery_text.encode())
    reconciliation.reconcile()

    assert answer.status_code == 400
    assert status_of(order) == "Being processed"


# Lists


class DateFilter:
    """One meaning of the days of a date filter: a time zone, and whether both days are included."""

    def __init__(self, hours, includes_end_dates):
        self.offset, self.includes_end_dates = dt.timedelta(hours=hours), includes_end_dates

    def __repr__(self):
        ends = "with" if self.includes_end_dates else "without"
        return f"{self.offset / HOUR:+.0f}h, {ends} ends"

    def apply(self, fake):
        """Let the fake API filter payments so."""
        everything = fake.payments

        def answer(fields):
            first, last = (dt.date.fromisoformat(fields[key]) for key in ("startDate", "endDate"))
            if not self.includes_end_dates:
                first, last = first + dt.timedelta(days=1), last - dt.timedelta(days=1)
            found = [item for item in everything if first <= self.day_of(item) <= last]
            return bitsby.success(found if fields["offset"] == "0" else [])

        fake.on("/payments/list", answer)

    def day_of(self, item):
        return (dt.datetime.fromisoformat(item["transactionDatetime"]) + self.offset).date()


DATE_FILTERS = [DateFilter(hours, ends) for hours in (-12, -5, 0, 3, 14) for ends in (True, False)]


@pytest.mark.parametrize("date_filter", DATE_FILTERS, ids=repr)
# It is still the day before in America, or already the next day in Asia.
@pytest.mark.parametrize("hour", [2, 23])
def test_payment_is_found_whatever_the_days_mean(
    monkeypatch, order, invoice_for, fake, date_filter, hour
):
    """A payment is found whatever the time zone of the filter, with or without its last day."""
    now = dt.datetime(2026, 3, 10, hour, tzinfo=dt.timezone.utc)
    monkeypatch.setattr(timezone, "now", lambda: now)
    invoice = invoice_for(order, created_at=now - HOUR, expires_at=now + HOUR)
    paid = bitsby.transfer(transactionDatetime=bitsby.written(now - HOUR / 2))
    fake.payments = [bitsby.payment_item(paid, bitsby.invoice_item(invoice, "paid"))]
    date_filter.apply(fake)

    reconciliation.reconcile()

    assert status_of(order) == "Being processed"


def test_refused_page_size_ends_the_run_and_changes_nothing(order, invoice, fake):
    """A refused page size ends the run with Bitsby's message, and changes nothing."""
    fake.on("/payments/list", bitsby.error("limit is too large"))

    with pytest.raises(Refused, match="limit is too large"):
        reconciliation.reconcile()

    assert status_of(order) == "Pending"


# Errors


@pytest.mark.parametrize("status", [200, 400, 402, 403, 404, 500])
@pytest.mark.parametrize("text", ["Account is blocked", "Недостаточно средств", "", None])
def test_blocked_account_is_logged_and_the_next_click_works(
    order, fake, caplog, move_time, status, text
):
    """The log has Bitsby's message, the order stays pending, and a click after a pause works."""
    fake.on("/invoices/create", (status, {}, json.dumps(bitsby.error(text))))
    with pytest.raises(Refused):
        facade.start_payment(order)
    fake.on("/invoices/create", fake.invoices_create)

    assert f"no invoice for order {order.number}: /invoices/create: {text}" in caplog.text
    assert status_of(order) == "Pending"
    move_time(seconds=10)
    assert facade.start_payment(order).status == InvoiceStatus.UNPAID


def test_rate_limit_in_other_words_ends_the_run_and_loses_nothing(order, paid_invoice, fake):
    """An unknown refusal ends the run without a retry, and the next run finds the payment."""
    fake.on("/payments/list", bitsby.error("Slow down"))
    with pytest.raises(Refused):
        reconciliation.reconcile()
    assert len(fake.asked("/payments/list")) == 1

    fake.on("/payments/list", fake.payments_list)
    reconciliation.reconcile()

    assert status_of(order) == "Being processed"


# Payments


def test_booked_payment_that_is_no_longer_listed_stays_booked(order, paid_invoice, fake, move_time):
    """A booked payment that Bitsby no longer lists stays booked: staff decide what to do."""
    refresh(paid_invoice)
    fake.invoices = [bitsby.invoice_item(paid_invoice, "unpaid")]

    for _ in range(2):
        reconciliation.reconcile()
        refresh(paid_invoice)
        move_time(hours=26)

    assert status_of(order) == "Being processed"
    assert Transaction.objects.count() == 1
    paid_invoice.refresh_from_db()
    assert paid_invoice.status == InvoiceStatus.PAID


def test_unbound_payment_of_the_exact_amount_is_not_settled(order, invoice, fake):
    """Only Bitsby binds payments: an unbound payment of the exact amount is not settled."""
    fake.payments = [bitsby.payment_item(bitsby.transfer(invoice.wallets[0]["amount"]))]

    reconciliation.reconcile()

    assert BitsbyPayment.objects.get().review_reason == ReviewReason.UNMATCHED
    assert status_of(order) == "Pending"


def test_amount_that_bitsby_refuses_stops_no_other_order(place, fake):
    """An amount that Bitsby refuses leaves its order pending, and other orders payable."""
    small = place("0.50")
    fake.on("/invoices/create", bitsby.error("Amount is too small"))

    with pytest.raises(Refused, match="too small"):
        facade.start_payment(small)
    fake.on("/invoices/create", fake.invoices_create)

    assert status_of(small) == "Pending"
    assert facade.start_payment(place("5.00")).status == InvoiceStatus.UNPAID


# Examples that contradict each other


@pytest.mark.parametrize("hours", [0.5, 12, 48])
def test_payment_window_is_the_one_of_the_answer(order, fake, hours):
    """The payment window in the answer counts, not the one that was requested."""
    until = timezone.now().replace(microsecond=0) + hours * HOUR
    answer = bitsby.created(timeToPayDatetime=bitsby.written(until))
    fake.on("/invoices/create", bitsby.success(answer))

    invoice = facade.start_payment(order)

    assert invoice.expires_at == until
    assert fake.asked("/invoices/create")[0]["timeToPay"] == "1"


@pytest.mark.parametrize("left_out", [None, "", "soon"])
def test_payment_window_without_a_readable_time_is_the_requested_one(order, fake, left_out):
    """Without a readable time in the answer, the requested payment window counts."""
    answer = bitsby.created(timeToPayDatetime=left_out)
    fake.on("/invoices/create", bitsby.success(answer))
    before = timezone.now()

    invoice = facade.start_payment(order)

    assert before + HOUR <= invoice.expires_at <= timezone.now() + HOUR


# The page


def test_every_test_that_the_page_names_exists():
    """``docs/gateway.rst`` names only tests that exist, and all of this module."""
    named = set(re.findall(r"``(test_[a-z0-9_]+)``", PAGE.read_text()))
    found = set()
    for path in TESTS.rglob("test_*.py"):
        found |= set(re.findall(r"^def (test_\w+)", path.read_text(), re.MULTILINE))
    here = set(re.findall(r"^def (test_\w+)", Path(__file__).read_text(), re.MULTILINE))

    assert named - found == set()
    assert here - named == {"test_every_test_that_the_page_names_exists"}
