"""Invalid webhook requests get only promised answers, store no unneeded row, and cost little."""

import datetime as dt
import itertools
import json
import logging
import tracemalloc
from collections import defaultdict

import pytest
from django.db.models.signals import post_save, pre_save
from django.utils import timezone
from oscar.core.loading import get_model

from oscar_bitsby.choices import InvoiceStatus
from oscar_bitsby.models import BitsbyPayment, WebhookDelivery
from tests.fuzz.deliveries import Deliveries
from tests.fuzz.tools import REQUESTS, SEED, Gateway, Meter, open_shop
from tests.support import bitsby

Order = get_model("order", "Order")
Transaction = get_model("payment", "Transaction")

pytestmark = pytest.mark.django_db

#: Milliseconds between two requests: twenty a second.
PAUSE = 50
#: Django's own answers for other URLs.
ELSEWHERE = {404, 301}
PROMISED = {200, 400, 404, 405, 503}


@pytest.fixture(autouse=True)
def silence_request_log(caplog):
    """Silence the line that Django logs for each refused request."""
    for name in ("django.request", "django.security"):
        caplog.set_level(logging.CRITICAL, name)


@pytest.fixture
def shop():
    """The shop behind WSGI."""
    with open_shop() as shop:
        yield shop


@pytest.fixture
def rows():
    """The rows of stored deliveries, dated by the moved clock."""
    stored = []

    def date(instance, **kwargs):
        if instance.pk is None:
            instance.received_at = timezone.now()

    def record(instance, created, **kwargs):
        if created:
            stored.append(instance)

    pre_save.connect(date, sender=WebhookDelivery)
    post_save.connect(record, sender=WebhookDelivery)
    yield stored
    pre_save.disconnect(date, sender=WebhookDelivery)
    post_save.disconnect(record, sender=WebhookDelivery)


@pytest.fixture
def invoices(place, invoice_for):
    """Eight invoices that wait for payment, and two that are settled."""
    orders = [place() for _ in range(10)]
    rows = [invoice_for(order) for order in orders]
    for row in rows[8:]:
        row.status = InvoiceStatus.PAID
        row.save()
    return rows


class Truth:
    """A fake of the API that calls no open invoice paid, with errors in between."""

    def __init__(self, invoices):
        self.items = {str(row.bitsby_id): bitsby.invoice_item(row) for row in invoices}
        self.times = defaultdict(list)
        self.turn = itertools.count()

    def answer(self, path, fields):
        if path == "/payments/list":
            self.times["many"].append(timezone.now())
            return 200, json.dumps(bitsby.success([])).encode()
        self.times[fields["invoiceId"]].append(timezone.now())
        turn = next(self.turn) % 5
        if turn == 3:
            return 200, json.dumps(bitsby.error("no")).encode()
        if turn == 4:
            return 502, b"<html>"
        return 200, json.dumps(bitsby.success([self.items[fields["invoiceId"]]])).encode()


@pytest.mark.parametrize("token", ["", "a-Token_of-30-characters-or-so"])
def test_invalid_requests_get_the_promised_answers(
    token, shop, invoices, rows, configure, monkeypatch, move_time, caplog, capsys
):
    """Each kind of request gets its promised answer; unknown ids store no row; cost is bounded."""
    configure(WEBHOOK_TOKEN=token)
    opened, settled = invoices[:8], invoices[8:]
    truth = Truth(opened)
    Gateway(monkeypatch, truth.answer)
    by_pk = {row.pk: row.bitsby_id for row in invoices}
    statuses = dict(Order.objects.values_list("pk", "status"))
    deliveries = iter(
        Deliveries(SEED, [i.bitsby_id for i in opened], [i.bitsby_id for i in settled], token)
    )
    meter = Meter(f"webhook requests (token: {'yes' if token else 'no'})")
    caplog.set_level(logging.ERROR, "oscar_bitsby")
    number = REQUESTS // 2
    began = timezone.now()

    for count, delivery in enumerate(itertools.islice(deliveries, number)):
        if count % 500 == min(499, number // 3):
            meter.memory()
        before = len(rows)
        with meter.one(delivery.kind):
            status, headers, _ = shop.answer(delivery.as_environ())
        meter.answers[status] += 1
        promised = PROMISED | ELSEWHERE if delivery.kind == "wrong path" else PROMISED
        if status not in promised & delivery.allowed:
            meter.wrong.append((count, delivery.kind, status, delivery.path, delivery.body[:200]))
        if status == 301 and not headers["Location"].startswith("/"):
            meter.wrong.append((count, "redirected away", headers["Location"]))
        if {by_pk[row.invoice_id] for row in rows[before:]} - delivery.names:
            meter.wrong.append((count, delivery.kind, "a row about what the body does not name"))
        if "Set-Cookie" in headers and "HTTP_COOKIE" not in delivery.environ:
            meter.wrong.append((count, delivery.kind, "a cookie"))
        move_time(milliseconds=PAUSE)
    meter.memory()

    turns = (timezone.now() - began) / dt.timedelta(seconds=10) + 1
    with capsys.disabled():
        requests = sum(map(len, truth.times.values()))
        print(f"\n{meter}\n  {requests} API requests, {len(rows)} rows in {turns * 10:.0f} seconds")
    meter.assert_bounded()
    assert len(rows) == WebhookDelivery.objects.count() <= len(opened) * turns
    assert sum(map(len, truth.times.values())) <= len(opened) * turns
    for times in truth.times.values():
        gaps = [later - sooner for sooner, later in itertools.pairwise(times)]
        assert min(gaps, default=dt.timedelta(days=1)) >= dt.timedelta(seconds=1.1)
    assert dict(Order.objects.values_list("pk", "status")) == statuses
    assert not Transaction.objects.exists()
    assert not BitsbyPayment.objects.exists()
    assert [r for r in caplog.records if r.name == "oscar_bitsby"] == []


def test_sequence_of_requests_is_repeatable(invoices):
    """The same seed makes the same requests, so that a failure can be reproduced."""
    ids = [row.bitsby_id for row in invoices]

    def requests(seed):
        deliveries = Deliveries(seed, ids[:8], ids[8:], "t")
        return [
            (one.kind, one.method, one.path, one.body) for one in itertools.islice(deliveries, 300)
        ]

    assert requests(1) == requests(1)
    assert requests(1) != requests(2)


def test_invalid_requests_keep_no_memory(shop, invoices, monkeypatch, move_time):
    """After a warm-up, hundreds of further requests keep less than 2 MiB of memory."""
    Gateway(monkeypatch, Truth(invoices[:8]).answer)
    ids = [row.bitsby_id for row in invoices]
    deliveries = iter(Deliveries(SEED + 1, ids[:8], ids[8:]))

    def send(number):
        for delivery in itertools.islice(deliveries, number):
            shop.answer(delivery.as_environ())
            move_time(milliseconds=PAUSE)

    send(300)
    tracemalloc.start()
    try:
        send(100)
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        send(300)
        after, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 2 * 1024 * 1024
    # The largest body has over a megabyte, and its maker keeps several copies of it.
    assert peak - before < 24 * 1024 * 1024
