"""P9: many buyers click at once, and a payment arrives meanwhile."""

import re
import subprocess
import sys
import threading
import time
from dataclasses import dataclass

from django.conf import settings
from django.contrib.sessions.backends.db import SessionStore
from django.db import connection
from django.utils import timezone

from bench import databases, load, rows
from bench.report import Row
from bench.servers import Server, gunicorn
from oscar_bitsby.gateway.rate_limit import MIN_INTERVAL
from oscar_bitsby.models import BitsbyInvoice, BitsbyPayment
from oscar_bitsby.orders import signed_urls
from oscar_bitsby.simulator.process import running_simulator

#: The pause between two runs of ``bitsby_reconcile --loop``.
LOOP_SECONDS = "20"
#: How the waiting page says when it returns.
WITH_SCRIPT, WITHOUT_SCRIPT = rb'data-delay="([\d.]+)"', rb'http-equiv="refresh" content="(\d+)'


@dataclass
class Buyer:
    """A buyer, and the seconds from the start to the click and to the payment page."""

    number: int
    clicked: float = 0.0
    served: float = 0.0
    answers: int = 0
    slowest: float = 0.0


def measure(key: str, quick: bool) -> list[Row]:
    """Let buyers follow their waiting pages, every third one without JavaScript."""
    return [_measure(count) for count in ((10,) if quick else (30, 100))]


def _measure(count: int) -> Row:
    for model in (BitsbyPayment, BitsbyInvoice, rows.Source, rows.Line, rows.Order):
        model.objects.all().delete()
    rows.add_orders(count + 1)
    rows.add_lines_and_sources(count + 1)
    orders = list(rows.Order.objects.order_by("pk"))
    database = connection.settings_dict["NAME"]
    buyers = [Buyer(number) for number in range(count)]
    with (
        running_simulator(webhooks=False) as simulator,
        gunicorn(database, workers=2, BENCH_SIMULATOR=simulator.url) as server,
    ):
        paid_order = orders.pop()
        _follow(server, paid_order, Buyer(count), time.perf_counter())
        environment = databases.environment(database, "shop", BENCH_SIMULATOR=simulator.url)
        command = ["-m", "django", "bitsby_reconcile", "--loop", LOOP_SECONDS]
        loop = subprocess.Popen([sys.executable, *command], env=environment)
        try:
            time.sleep(float(LOOP_SECONDS) / 4)
            invoice = BitsbyInvoice.objects.get(order=paid_order)
            simulator.control("pay", {"invoiceId": str(invoice.bitsby_id)})
            paid_at, began = timezone.now(), time.perf_counter()
            threads = [
                threading.Thread(target=_follow, args=(server, order, buyer, began))
                for order, buyer in zip(orders, buyers, strict=True)
            ]
            for thread in threads:
                thread.start()
                time.sleep(0.02)
            for thread in threads:
                thread.join()
        finally:
            loop.terminate()
            loop.wait()
        requests = simulator.control("state")["requests"]
    refused = sum(not request["accepted"] for request in requests)
    payment = BitsbyPayment.objects.filter(booked_at__isnull=False).first()
    settled = (payment.booked_at - paid_at).total_seconds() if payment else float("inf")
    ideal = count * MIN_INTERVAL.total_seconds()
    assert all(buyer.served for buyer in buyers), "a buyer got no page; see the errors above"
    last = max(buyer.served for buyer in buyers)
    by_click = sorted(buyers, key=lambda buyer: buyer.clicked)
    overtaken = max(
        sum(later.served < buyer.served for later in by_click[place + 1 :])
        for place, buyer in enumerate(by_click)
    )
    met = last <= 1.4 * ideal and overtaken <= 2 and settled <= 60 and not refused
    return Row(
        "P9",
        f"{count} buyers click at once",
        "last page ≤ 1.4 × buyers × spacing; overtaken by ≤ 2; a payment settles in ≤ 60 s",
        f"{last / ideal:.2f} ({last:.0f} s); by {overtaken}; {settled:.0f} s; {refused} requests"
        " refused",
        met,
        "gunicorn with two sync workers, and the simulator at one request a second; the buyers"
        " click within 20 ms of each other and follow their waiting pages, every third one without"
        f" JavaScript; bitsby_reconcile --loop {LOOP_SECONDS} runs beside them. A buyer's pages"
        f" were at most {max(buyer.answers for buyer in buyers)}; the slowest took"
        f" {max(buyer.slowest for buyer in buyers):.1f} s.",
    )


def _follow(server: Server, order: object, buyer: Buyer, began: float) -> None:
    """Click, and do what the waiting page does until it leads to the payment page."""
    store = SessionStore()
    store.create()
    cookies = {settings.SESSION_COOKIE_NAME: str(store.session_key)}
    path = signed_urls.pay_url(order)
    connection.close()
    message = load.request("POST", path, cookies=cookies, form={})
    buyer.clicked = time.perf_counter() - began
    while True:
        answer = load.send(server.port, message)
        buyer.answers += 1
        buyer.slowest = max(buyer.slowest, answer.seconds)
        if answer.status == 303:
            break
        assert answer.status == 200, (answer.status, answer.body[:300])
        found = re.search(WITH_SCRIPT if buyer.number % 3 else WITHOUT_SCRIPT, answer.body)
        assert found, answer.body[:300]
        time.sleep(float(found[1]))
        message = load.request("GET", path, cookies=cookies)
    buyer.served = time.perf_counter() - began
    assert "/invoices/pay/" in answer.headers["location"], answer.headers["location"]
