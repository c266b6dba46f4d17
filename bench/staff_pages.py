"""P7: the pages that staff use, with a million invoices and with a thousand."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from django.conf import settings
from django.db import connection

from bench import databases, load
from bench.pages import PAGES, Page
from bench.report import Row, percentile
from bench.servers import Server, gunicorn

#: The most queries that the app may add to a page, and how much slower the page may become.
MAX_QUERIES, MAX_RATIO = 15, 2.0
PREPARE = "import django; django.setup(); from bench import furnishing; furnishing.furnish({size})"


@dataclass
class Shop:
    """A database, its servers, and the values for the URLs of its pages."""

    database: str
    values: dict[str, str]
    servers: dict[str, Server] = field(default_factory=dict)

    def get(self, page: Page, server: str) -> load.Response:
        """Open a page as staff."""
        cookies = {settings.SESSION_COOKIE_NAME: self.values["session"]}
        message = load.request("GET", page.url(self.values), cookies=cookies)
        answer = load.send(self.servers[server].port, message)
        assert answer.status == 200, (page.name, answer.status, answer.body[:300])
        return answer


def measure(key: str, quick: bool) -> list[Row]:
    """Open each page in both shops in turn."""
    small, large = 1_000, 30_000 if quick else 1_000_000
    requests = 20 if quick else 30
    found = []
    with _shops(small, large) as (small_shop, large_shop):
        for page in PAGES:
            # The first requests of a server compile templates, whatever the number of rows.
            for _ in range(3):
                small_shop.get(page, "timed"), large_shop.get(page, "timed")
            times: dict[str, list[float]] = {small_shop.database: [], large_shop.database: []}
            for number in range(requests):
                for shop in (small_shop, large_shop) if number % 2 else (large_shop, small_shop):
                    times[shop.database].append(shop.get(page, "timed").seconds * 1000)
            p95 = [percentile(times[shop.database], 0.95) for shop in (small_shop, large_shop)]
            queries = [_queries(shop, page) for shop in (small_shop, large_shop)]
            found.append(_row(page, p95, queries))
    how = (
        f"gunicorn, two databases with {small:,} and {large:,} invoices over a year, as many orders"
        " and deliveries, seven payments for ten invoices, 40 and 2,000 payments to review, as many"
        f" very small ones, 60 unbound payments of the last days; {requests} requests each in turn,"
        " p95 ÷ p95. Queries include those of session, login and Oscar's layout. For a page that"
        " exists without the app, its queries without the app are subtracted."
    )
    return [Row(**(row.as_dict() | {"how": how})) for row in found]


def _row(page: Page, p95: list[float], queries: list[int]) -> Row:
    ratio = p95[1] / p95[0]
    is_constant = queries[0] == queries[1]
    text = f"{ratio:.2f} ({p95[1]:.0f} ÷ {p95[0]:.0f} ms); {queries[1]} queries"
    if not is_constant:
        text += f" ({queries[0]} with the small database)"
    met = ratio <= MAX_RATIO and max(queries) <= MAX_QUERIES and is_constant
    return Row("P7", page.name, "≤ 2.0; ≤ 15 queries, constant", text, met, "")


def _queries(shop: Shop, page: Page) -> int:
    """Count the queries of a page, or those that the app adds to a page of Oscar or Django."""
    shop.get(page, "counted")
    ours = shop.get(page, "counted").queries
    if not page.is_extended:
        return ours
    shop.get(page, "plain")
    return ours - shop.get(page, "plain").queries


@contextmanager
def _shops(*sizes: int) -> Iterator[list[Shop]]:
    connection.close()
    with ExitStack() as stack:
        shops = []
        for size in sizes:
            name = f"bench_p7_{size}"
            stack.enter_context(databases.copy_of(databases.TEMPLATE, name))
            command = [sys.executable, "-c", PREPARE.format(size=size)]
            finished = subprocess.run(
                command, env=databases.environment(name), check=True, stdout=subprocess.PIPE
            )
            shop = Shop(name, json.loads(finished.stdout))
            shop.servers = {
                "timed": stack.enter_context(gunicorn(name)),
                "counted": stack.enter_context(gunicorn(name, BENCH_COUNT="1")),
                "plain": stack.enter_context(gunicorn(name, "plain", BENCH_COUNT="1")),
            }
            shops.append(shop)
        yield shops
