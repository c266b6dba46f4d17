"""P12: the order's page with an address and its QR code, compared to the same page without."""

import json
import re
import statistics
from urllib.parse import urlencode

from django.contrib.staticfiles import finders
from django.db import connection

from bench import load, rows
from bench.report import Row, spread
from bench.servers import Server, gunicorn
from oscar_bitsby.orders import signed_urls
from tests.support.bitsby import stored_wallets

#: The coin whose QR code takes longest, as its payment URI is the longest.
COIN = "eth-ethereum"
ETHER = {
    "id": "5c0a2f0e-4d7b-4b57-9a53-1d5a3e2f7c11",
    "name": "eth",
    "blockchain": "ethereum",
    "cryptocurrency": "eth",
    "address": "0x52908400098527886E0F7030069857D2E4169EE7",
    "amount": "0.003125014159265359",
}
WALLETS = json.dumps([*stored_wallets("10.00"), ETHER])
#: How much slower the page may become, and its largest weight in bytes.
MAX_RATIO, MAX_WEIGHT = 1.5, 60_000
#: The app's own style sheets and scripts. Those of Oscar's layout are the shop's.
OWN_FILES = re.compile(rb'(?:src|href)="/static/(oscar_bitsby/[^"?]+)')


def measure(key: str, quick: bool) -> list[Row]:
    """Open the page of one order after another in both shops; the shops share one database."""
    rounds, pages = (3, 20) if quick else (7, 50)
    rows.add_orders(rounds * pages + 10)
    rows.add_lines_and_sources(rounds * pages + 10)
    rows.add_invoices(
        rounds * pages + 10,
        url="'http://127.0.0.1/invoices/pay/' || n",
        wallets=f"'{WALLETS}'::jsonb",
        # The page would send an API request, which both shops share.
        last_refreshed_at="now() + interval '1 day'",
    )
    orders = iter(rows.Order.objects.order_by("pk"))
    database = connection.settings_dict["NAME"]
    ratios, times = [], {"shop": [], "hosted": []}  # type: ignore[var-annotated]
    with (
        gunicorn(database, BENCH_PAYMENT_PAGE="shop") as shop,
        gunicorn(database, BENCH_PAYMENT_PAGE="hosted") as hosted,
    ):
        servers = {"shop": shop, "hosted": hosted}
        for order in (next(orders) for _ in range(5)):
            sizes = {page: weight(_open(servers[page], order, page)) for page in servers}
        for _ in range(rounds):
            found: dict[str, list[float]] = {"shop": [], "hosted": []}
            for number in range(pages):
                order = next(orders)
                # A, B, B, A: the second one profits from caches that the first one has filled.
                for page in ("shop", "hosted") if number % 2 else ("hosted", "shop"):
                    answer = _open(servers[page], order, page)
                    found[page].append(answer.seconds_to_first_byte * 1000)
            ratios.append(statistics.median(found["shop"]) / statistics.median(found["hosted"]))
            for page in found:
                times[page] += found[page]
    with (
        gunicorn(database, BENCH_PAYMENT_PAGE="shop", BENCH_COUNT="1") as shop,
        gunicorn(database, BENCH_PAYMENT_PAGE="hosted", BENCH_COUNT="1") as hosted,
    ):
        for order in (next(orders) for _ in range(2)):
            queries = [_open(shop, order, "shop").queries, _open(hosted, order, "hosted").queries]
    how = (
        "gunicorn, one shop with PAYMENT_PAGE “shop” and one with “hosted” on one database;"
        f" {rounds} runs of {pages} orders that wait for their payment, each order opened in both"
        " in turn (A B B A), for the first time in the first shop, which also records that the"
        f" address was shown. Medians {statistics.median(times['shop']):.1f} and"
        f" {statistics.median(times['hosted']):.1f} ms, {queries[0]} and {queries[1]} queries. The"
        " weight is that of the HTML, with Oscar's layout, and of the app's own style sheet and"
        " scripts, uncompressed; that of the page without an address is"
        f" {sizes['hosted'] / 1000:.1f} kB. The coin is ETH, whose QR code takes longest: 4 ms."
    )
    ratio = statistics.median(ratios)
    return [
        Row(
            key,
            "order's page with a QR code ÷ without, time to first byte",
            "≤ 1.5",
            spread(ratios),
            ratio <= MAX_RATIO,
            how,
        ),
        Row(
            key,
            "order's page with a QR code, weight without the shop's assets",
            "≤ 60 kB",
            f"{sizes['shop'] / 1000:.1f} kB",
            sizes["shop"] <= MAX_WEIGHT,
            how,
        ),
    ]


def weight(answer: load.Response) -> int:
    """Return the bytes of a page and of the app's own files that it loads."""
    names = {name.decode() for name in OWN_FILES.findall(answer.body)}
    assert names, "the page loads none of the app's files"
    return len(answer.body) + sum(len(_read(name)) for name in names)


def _read(name: str) -> bytes:
    path = finders.find(name)
    assert isinstance(path, str), name
    with open(path, "rb") as file:
        return file.read()


def _open(server: Server, order: rows.Order, page: str) -> load.Response:
    """Open the page of an order, and check that it shows an address only in the shop."""
    path = signed_urls.order_url(order)
    if page == "shop":
        path += "?" + urlencode({"coin": COIN})
    answer = load.send(server.port, load.request("GET", path))
    assert answer.status == 200, (answer.status, answer.body[:300])
    assert (b"<svg" in answer.body) == (page == "shop"), page
    return answer
