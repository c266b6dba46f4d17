"""A flood of forged deliveries about real invoices hardly affects the API, buyers and pages."""

import itertools
import json
import queue
import statistics
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit
from uuid import UUID

import pytest
from django.core.handlers.wsgi import WSGIHandler
from django.core.servers.basehttp import WSGIRequestHandler, WSGIServer
from django.db import connections
from django.test import Client
from django.urls import reverse
from oscar.core.loading import get_model

from oscar_bitsby import webhook
from oscar_bitsby.gateway import factory
from oscar_bitsby.models import BitsbyInvoice, WebhookDelivery
from oscar_bitsby.orders import signed_urls
from oscar_bitsby.reconciliation import invoice_refresh
from oscar_bitsby.simulator.process import running_simulator
from tests.fuzz.tools import FLOOD_SECONDS
from tests.support import bitsby
from tests.support.simulator import gateway_settings

Order = get_model("order", "Order")
Transaction = get_model("payment", "Transaction")

RATE = 200
WORKERS = 6
KNOWN = 8
INTERVAL = invoice_refresh.REFRESH_INTERVAL.total_seconds()


@pytest.fixture(scope="module")
def simulator():
    with running_simulator(webhooks=False) as simulator:
        yield simulator


class Requests(WSGIRequestHandler):
    def log_message(self, *args):
        pass


class ShopServer(WSGIServer):
    """The shop over HTTP, with a few threads that each have a database connection."""

    daemon_threads = False
    request_queue_size = 128

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Requests)
        self.set_app(WSGIHandler())
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.waiting = queue.Queue()
        self.threads = [threading.Thread(target=self._work) for _ in range(WORKERS)]
        self.threads.append(threading.Thread(target=self.serve_forever, args=(0.05,)))
        for thread in self.threads:
            thread.start()

    def process_request(self, request, client_address):
        self.waiting.put((request, client_address))

    def _work(self):
        while (found := self.waiting.get()) is not None:
            try:
                self.finish_request(*found)
            finally:
                self.shutdown_request(found[0])
        connections.close_all()

    def end(self):
        self.shutdown()
        for _ in range(WORKERS):
            self.waiting.put(None)
        for thread in self.threads:
            thread.join(60)
        self.server_close()


@pytest.fixture
def shop(configure, simulator, monkeypatch, transactional_db):
    configure(**gateway_settings(simulator))
    simulator.control("reset", {})
    # As in production; and Python's SQLite module crashes when threads open many connections.
    monkeypatch.setitem(connections.settings["default"], "CONN_MAX_AGE", None)
    server = ShopServer()
    yield server
    server.end()


@contextmanager
def forger(url, ids, seconds):
    """Run the forger in a process, and kill it at the end."""
    command = [sys.executable, str(Path(__file__).with_name("forger.py"))]
    command += [url, ",".join(map(str, ids)), str(seconds), str(RATE)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def seconds_for(shop, path):
    """Return how long the shop takes for one page over HTTP."""
    connection = HTTPConnection(urlsplit(shop.url).netloc, timeout=60)
    since = time.monotonic()
    connection.request("GET", path)
    response = connection.getresponse()
    response.read()
    connection.close()
    assert response.status == 200, path
    return time.monotonic() - since


def typical_seconds(shop, path, times=8):
    return statistics.median(seconds_for(shop, path) for _ in range(times))


def buy(orders, until):
    """Let each order's buyer try until there is an invoice; return the number of tries of each."""
    tries = []
    for order in orders:
        for number in itertools.count(1):
            response = Client().post(signed_urls.pay_url(order))
            if response.status_code == 303:
                tries.append(number)
                break
            assert response.status_code == 200
            assert time.monotonic() < until, f"order {order.number} got no invoice"
    connections.close_all()
    return tries


@pytest.mark.django_db(transaction=True)
def test_flood_of_forged_deliveries_hardly_affects_api_and_buyers(
    shop, simulator, place, invoice_for, real_time, capsys
):
    """A flood causes one request per invoice in ten seconds and few rows; buyers get invoices."""
    project = {"invoices": KNOWN, "projectId": bitsby.PROJECT}
    known = [UUID(one) for one in simulator.control("seed", project)["ids"]]
    forged = [invoice_for(place(), bitsby_id=one) for one in known]
    buyers, visitor = [place(), place()], place()
    pages = {"order": signed_urls.order_url(visitor), "catalogue": reverse("catalogue:index")}
    idle = {name: typical_seconds(shop, path) for name, path in pages.items()}
    asked_before = len(simulator.control("state")["requests"])

    began = time.monotonic()
    with forger(shop.url + reverse("oscar_bitsby:webhook"), known, FLOOD_SECONDS) as process:
        found = {}
        buying = threading.Thread(target=lambda: found.update(tries=buy(buyers, began + 60)))
        buying.start()
        busy = {name: typical_seconds(shop, path) for name, path in pages.items()}
        buying.join(90)
        out, _ = process.communicate(timeout=FLOOD_SECONDS + 60)
    took = time.monotonic() - began

    answers = json.loads(out)
    requests = simulator.control("state")["requests"][asked_before:]
    refreshes = [one for one in requests if one["path"] != "/invoices/create"]
    turns = int(took / INTERVAL) + 1
    with capsys.disabled():
        print(f"\nflood: {sum(answers.values()) / took:.0f} requests a second: {answers}")
        print(f"  {len(requests)} API requests ({len(refreshes)} refreshes) in {took:.1f} seconds")
        print(f"  {WebhookDelivery.objects.count()} rows; tries of buyers: {found['tries']}")
        for name in pages:
            print(f"  page {name}: {busy[name] / idle[name]:.1f} times as long as when idle")
    assert set(answers) == {"503"}
    assert len(found["tries"]) == len(buyers)
    assert all(one["accepted"] for one in requests)
    assert len(refreshes) <= KNOWN * turns
    for row in forged:
        times = [
            one["at"] for one in refreshes if one["fields"].get("invoiceId") == str(row.bitsby_id)
        ]
        gaps = [later - sooner for sooner, later in itertools.pairwise(times)]
        assert min(gaps, default=INTERVAL) >= INTERVAL * 0.99
    # Requests that overlap may each store one, so it is not quite one for an invoice.
    assert WebhookDelivery.objects.count() <= 2 * KNOWN * turns
    assert not Transaction.objects.exists()
    assert set(Order.objects.values_list("status", flat=True)) == {"Pending"}
    assert BitsbyInvoice.objects.filter(status="unpaid").count() == KNOWN + len(buyers)


def first_interrupted(function, interruption):
    """Return the function with an interruption before its first call."""
    turns = iter([interruption])

    def call(*args, **kwargs):
        next(turns, lambda: None)()
        return function(*args, **kwargs)

    return call


@pytest.mark.django_db
def test_overlapping_deliveries_store_one_row(invoice, fake, deliver, monkeypatch):
    """Of two concurrent deliveries about an invoice, one is stored."""
    headers = first_interrupted(webhook._storable_headers, lambda: deliver(invoice))
    monkeypatch.setattr(webhook, "_storable_headers", headers)
    deliver(invoice)
    assert WebhookDelivery.objects.count() == 1


@pytest.mark.django_db
def test_overlapping_deliveries_send_one_request(unpaid_invoice, fake, deliver, monkeypatch, clock):
    """A delivery that waits two seconds for the database does not cause a second request."""

    def another():
        deliver(unpaid_invoice)
        clock.sleep(2)

    slots = first_interrupted(factory.without_waiting, another)
    monkeypatch.setattr(factory, "without_waiting", slots)
    deliver(unpaid_invoice)
    assert len(fake.requests) == 1
