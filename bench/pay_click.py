"""P2: the pay click, less what the gateway takes to answer."""

from __future__ import annotations

import statistics
import uuid

from django.conf import settings
from django.contrib.sessions.backends.db import SessionStore
from django.db import connection

from bench import load, rows
from bench.report import Row, percentile, spread
from bench.servers import Server, gunicorn
from oscar_bitsby.models import EPOCH, GatewayState
from oscar_bitsby.orders import signed_urls
from oscar_bitsby.simulator.process import RunningSimulator, running_simulator
from tests.bitsby import KEY, PROJECT

Order = rows.Order
#: Found by timing each part with the process's own clock.
WHERE_IT_GOES = (
    "It is one process's own work and waiting for 15 round trips to the database (9 queries, 3"
    " transactions: no API call is made inside one, and the attempt is committed before it). Of"
    " ten parts, three and a half go into finding the order payable and noting the attempt, one"
    " into taking the slot, one and a half into building and reading the exchange, one and a half"
    " into storing the answer, and the rest into the server, session and middleware."
)


def measure(piece: str, quick: bool) -> list[Row]:
    """Click on "pay" for one order after another, and ask the simulator directly in between."""
    rounds, clicks = (2, 10) if quick else (7, 25)
    rows.add_orders(rounds * clicks + 10)
    rows.add_lines_and_sources(rounds * clicks + 10)
    orders = iter(Order.objects.order_by("pk"))
    database = connection.settings_dict["NAME"]
    own, all_clicks, all_asks = [], [], []
    with running_simulator(webhooks=False) as simulator:
        simulator.control("ratelimit", {"seconds": 0})
        with gunicorn(database, BENCH_SIMULATOR=simulator.url) as server:
            for _ in range(3):
                _click(server, next(orders)), _ask(simulator)
            for _ in range(rounds):
                found, asks = [], []
                for _ in range(clicks):
                    found.append(_click(server, next(orders)).seconds * 1000)
                    asks.append(_ask(simulator).seconds * 1000)
                own.append(statistics.median(found) - statistics.median(asks))
                all_clicks += found
                all_asks += asks
        with gunicorn(database, BENCH_SIMULATOR=simulator.url, BENCH_COUNT="1") as server:
            queries = [_click(server, next(orders)).queries for _ in range(2)][-1]
    how = (
        f"gunicorn, and the simulator without latency; {rounds} runs of {clicks} clicks, each"
        " followed by the same invoices/create sent to the simulator directly; own time is the"
        " difference of the medians (clicks"
        f" {statistics.median(all_clicks):.1f} ms, p95 {percentile(all_clicks, 0.95):.1f} ms;"
        f" simulator {statistics.median(all_asks):.1f} ms). The slot is free at each click. Queries"
        f" include the session's. {WHERE_IT_GOES}"
    )
    median = statistics.median(own)
    return [
        Row(
            "P2",
            "pay click, own time on top of the gateway's",
            "≤ 15 ms; ≤ 10 queries",
            f"{spread(own, 1, ' ms')}; {queries} queries",
            median <= 15 and queries <= 10,
            how,
        )
    ]


def _click(server: Server, order: object) -> load.Answer:
    # As if the last request had been long ago: the wait for a slot is none of our work.
    GatewayState.ensure_exists()
    GatewayState.objects.update(next_request_at=EPOCH)
    store = SessionStore()
    store.create()
    message = load.request(
        "POST",
        signed_urls.pay_url(order),
        cookies={settings.SESSION_COOKIE_NAME: str(store.session_key)},
        form={},
    )
    answer = load.send(server.port, message)
    assert answer.status == 303, (answer.status, answer.body[:300])
    assert "/invoices/pay/" in answer.headers["location"], answer.headers["location"]
    return answer


def _ask(simulator: RunningSimulator) -> load.Answer:
    """Send what the shop sends, and see that it is answered."""
    fields = {
        "projectId": PROJECT,
        "amountFiat": "10.00",
        "currencyFiat": "USD",
        "timeToPay": "1",
        "description": "Order B1",
        "serviceData": '{"orderId":"B1","userId":null}',
    }
    boundary = uuid.uuid4().hex
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in fields.items()
    ]
    message = load.request(
        "POST",
        "/invoices/create",
        body="".join([*parts, f"--{boundary}--\r\n"]).encode(),
        headers={
            "Authorization": f"Token {KEY}",
            "Content-Type": f"multipart/form-data; boundary={boundary}",
        },
    )
    answer = load.send(int(simulator.url.rpartition(":")[2]), message)
    assert b'"success"' in answer.body, answer.body[:300]
    return answer
