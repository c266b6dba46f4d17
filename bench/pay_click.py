"""P2: the pay click, without the time that the gateway takes to answer."""

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
from tests.support.bitsby import KEY, PROJECT

Order = rows.Order
#: Measured once with timers in each part.
BREAKDOWN = (
    "It is the work of one process and the time of 15 round trips to the database (9 queries and 3"
    " transactions; no API request is sent inside one). About 35 % go into checking the order and"
    " storing the attempt, 10 % into acquiring the slot, 15 % into building the request and parsing"
    " the answer, 15 % into storing the answer, and the rest into server, session and middleware."
)


def measure(key: str, quick: bool) -> list[Row]:
    """Click "pay" for one order after another, and in between send the API request directly."""
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
                _click(server, next(orders)), _create_directly(simulator)
            for _ in range(rounds):
                found, asks = [], []
                for _ in range(clicks):
                    found.append(_click(server, next(orders)).seconds * 1000)
                    asks.append(_create_directly(simulator).seconds * 1000)
                own.append(statistics.median(found) - statistics.median(asks))
                all_clicks += found
                all_asks += asks
        with gunicorn(database, BENCH_SIMULATOR=simulator.url, BENCH_COUNT="1") as server:
            queries = [_click(server, next(orders)).queries for _ in range(2)][-1]
    how = (
        f"gunicorn, and the simulator without latency; {rounds} runs of {clicks} clicks, each"
        " followed by the same invoices/create, sent to the simulator directly. Own time is the"
        " difference of the medians (clicks"
        f" {statistics.median(all_clicks):.1f} ms, p95 {percentile(all_clicks, 0.95):.1f} ms;"
        f" simulator {statistics.median(all_asks):.1f} ms). A slot is free at each click. Queries"
        f" include the session's. {BREAKDOWN}"
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


def _click(server: Server, order: object) -> load.Response:
    # A slot is free: waiting for one is not part of the measured time.
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


def _create_directly(simulator: RunningSimulator) -> load.Response:
    """Send the request that the shop sends, and check the answer."""
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
