"""Fixtures for all tests: products, orders, invoices, clocks, and a fake of Bitsby's API."""

import datetime as dt
import json
import signal
import threading
from decimal import Decimal
from pathlib import Path

import pytest
import responses as responses_library
from django.test import Client
from django.urls import reverse
from django.utils import timezone, translation
from oscar.core.loading import get_class, get_model
from oscar.test import factories

from oscar_bitsby.accounting import ledger
from oscar_bitsby.choices import InvoiceStatus
from oscar_bitsby.models import BitsbyInvoice, GatewayState
from oscar_bitsby.reconciliation.lease import LEASE_DURATION
from oscar_bitsby.utils import clock as db_clock
from tests.support import bitsby

Country = get_model("address", "Country")
Order = get_model("order", "Order")
Source = get_model("payment", "Source")


def moved_by():
    """Return how far a test has moved Django's clock."""
    return timezone.now() - dt.datetime.now(dt.timezone.utc)


class MovedClock:
    """The clock of the rate limit: only sleeping and ``move_time`` move it, and both are instant.

    A real clock would free a slot in the middle of a test on a slow machine.
    """

    def __init__(self):
        self.start = timezone.now()
        self.stopped_at = None
        self.slept = 0.0
        self.read = threading.local()

    def sleep(self, seconds):
        # From the moment that this thread has read last: threads that sleep at the same time move
        # the clock once.
        since = getattr(self.read, "at", self.slept)
        self.slept = self.read.at = max(self.slept, since + seconds)

    def now(self):
        self.read.at = slept = self.slept
        if self.stopped_at is not None:
            return self.stopped_at + dt.timedelta(seconds=slept)
        return self.start + dt.timedelta(seconds=round(moved_by().total_seconds()) + slept)

    def monotonic(self):
        return self.slept


@pytest.fixture(autouse=True)
def clock(request, monkeypatch):
    """Replace waiting by a moved clock; tests that really wait use ``real_time``."""
    if "real_time" in request.fixturenames:
        return None
    clock = MovedClock()
    server_time = db_clock._server_time
    # Who moves Django's clock moves PostgreSQL's with it.
    monkeypatch.setattr(db_clock, "_server_time", lambda alias: server_time(alias) + moved_by())
    for module in ("rate_limit", "buyer_queue"):
        monkeypatch.setattr(f"oscar_bitsby.gateway.{module}.db_now", clock.now)
        monkeypatch.setattr(f"oscar_bitsby.gateway.{module}.time", clock)
    monkeypatch.setattr("oscar_bitsby.gateway.client.time", clock)
    return clock


@pytest.fixture(autouse=True)
def reset_language():
    """Reset the language that the last request of a test has activated."""
    yield
    translation.deactivate()


@pytest.fixture
def real_time():
    """Let the rate limit use the real clock and really sleep."""


@pytest.fixture
def move_time(monkeypatch):
    """Return a function that moves the shop's clock forward."""
    moved = {"by": dt.timedelta()}
    real = timezone.now

    def move(**delta):
        moved["by"] += dt.timedelta(**delta)

    monkeypatch.setattr("django.utils.timezone.now", lambda: real() + moved["by"])
    return move


@pytest.fixture
def stop_time(monkeypatch, clock):
    """Return a function that stops the clocks of the shop and of the database at a moment."""

    def stop(moment):
        if clock is not None:
            clock.stopped_at = moment
        monkeypatch.setattr("django.utils.timezone.now", lambda: moment)
        monkeypatch.setattr(db_clock, "_server_time", lambda alias: moment)

    return stop


@pytest.fixture
def interruptible():
    """Let SIGINT stop processes that the test starts.

    Tests that run in the background of a shell without job control ignore it, and their child
    processes would inherit that.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def balance_is_fresh(monkeypatch):
    """Let no run ask for the account's balance, as if one had just asked."""
    never = dt.timedelta(days=36500)
    monkeypatch.setattr("oscar_bitsby.reconciliation.balance_guard.INTERVAL", never)


@pytest.fixture
def responses(balance_is_fresh):
    """Replace HTTP; an unexpected request fails."""
    with responses_library.RequestsMock(assert_all_requests_are_fired=False) as mock:
        yield mock


@pytest.fixture
def payload():
    """Return a function that reads a body from ``payloads/``."""

    def read(name):
        return json.loads((Path(__file__).parent / "payloads" / f"{name}.json").read_text())

    return read


@pytest.fixture
def fake(responses):
    """A fake of Bitsby's API, whose answers the test sets."""
    return bitsby.FakeBitsby(responses)


@pytest.fixture
def country(db):
    """A country that the shop ships to."""
    return Country.objects.get_or_create(
        iso_3166_1_a2="DE",
        defaults={"iso_3166_1_a3": "DEU", "printable_name": "Germany", "is_shipping_country": True},
    )[0]


@pytest.fixture
def product(db):
    """A product with ten in stock, at 10 dollars."""
    return factories.create_product(
        title="Mug", price=Decimal("10.00"), num_in_stock=10, partner_name="Shop"
    )


@pytest.fixture
def place(db, product):
    """Return a function that places an order of a given total, as the checkout does."""

    def order_for(total="10.00", currency="USD", user=None, status="Pending"):
        basket = factories.create_basket(empty=True)
        basket.strategy = get_class("partner.strategy", "Default")()
        basket.add_product(product, 1)
        number = f"{100000 + basket.pk}"
        order = factories.create_order(number=number, basket=basket, user=user)
        Order.objects.filter(pk=order.pk).update(
            status=status,
            currency=currency,
            total_incl_tax=Decimal(total),
            total_excl_tax=Decimal(total),
            guest_email="" if user else "buyer@example.com",
        )
        order.refresh_from_db()
        Source.objects.create(
            order=order,
            source_type=ledger.source_type(),
            currency=currency,
            amount_allocated=Decimal(total),
        )
        return order

    return order_for


@pytest.fixture
def order(place):
    """A pending order of 10 dollars."""
    return place()


@pytest.fixture
def invoice_for(db):
    """Return a function that stores an invoice, as the facade does after Bitsby's answer."""

    def make(order, status=InvoiceStatus.UNPAID, **values):
        now = timezone.now()
        defaults = {
            "order": order,
            "order_number": order.number,
            "status": status,
            "amount": order.total_incl_tax,
            "currency": order.currency,
            "project_id": bitsby.PROJECT,
            "bitsby_id": bitsby.new_id(),
            "uid": bitsby.new_id().hex[:12],
            "url": "https://dash.bitsby.app/invoices/pay/abc",
            "wallets": [
                {**wallet, "amount": wallet["amountCrypto"]} for wallet in bitsby.reserved("10.00")
            ],
            "created_at": now,
            "expires_at": now + dt.timedelta(hours=1),
            "page_views": 0,
        }
        return BitsbyInvoice.objects.create(**(defaults | values))

    return make


@pytest.fixture
def offer(place, invoice_for):
    """Return a function that stores an invoice of an own order, which reserves a USDT for a dollar.

    It was created an hour ago.
    """

    def make(amount, status=InvoiceStatus.EXPIRED, **values):
        now = timezone.now()
        defaults = {
            "created_at": now - dt.timedelta(hours=1),
            "expires_at": now,
            "wallets": [{**bitsby.wallet(), "amount": amount}],
        }
        return invoice_for(place(amount), status, **(defaults | values))

    return make


@pytest.fixture
def invoice(order, invoice_for):
    """The unpaid invoice of ``order``."""
    return invoice_for(order)


@pytest.fixture
def unpaid_invoice(invoice, fake):
    """The invoice of ``order``, which Bitsby calls unpaid."""
    fake.invoices = [bitsby.invoice_item(invoice)]
    return invoice


@pytest.fixture
def paid_invoice(invoice, fake):
    """The invoice of ``order``, which Bitsby calls paid; its payment is listed too."""
    fake.add_paid(invoice)
    return invoice


@pytest.fixture
def deliver(client, payload):
    """Return a function that posts a delivery: the documented one about an invoice, or a body."""

    def post(invoice=None, body=None, path=None, **extra):
        if body is None:
            data = payload("webhook_paid")
            data["invoice"]["id"] = str(invoice.bitsby_id)
            body = json.dumps(data)
        path = path or reverse("oscar_bitsby:webhook")
        return client.post(path, body, content_type="application/json", **extra)

    return post


@pytest.fixture
def other_run(db):
    """Store the lease of another run that is in progress."""
    GatewayState.ensure_exists()
    lease = {"lease_until": db_clock.db_now() + LEASE_DURATION, "lease_token": "another"}
    GatewayState.objects.update(**lease)


@pytest.fixture
def guest(country):
    """A guest's browser."""
    return Client()


@pytest.fixture
def configure(settings):
    """Return a function that changes keys of ``OSCAR_BITSBY``."""

    def change(**values):
        settings.OSCAR_BITSBY = {**settings.OSCAR_BITSBY, **values}

    return change
