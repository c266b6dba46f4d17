"""P7: the pages that staff use, with a million invoices beside the same pages with a thousand."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import psycopg
from django.conf import settings
from django.db import connection

from bench import databases, load
from bench.pages import PAGES, Page
from bench.report import Row, percentile
from bench.servers import Server, gunicorn
from oscar_bitsby.simulator.process import running_simulator

#: Queries of ours that a page may take, and how much slower it may become.
MOST_QUERIES, SLOWEST = 15, 2.0
NO_WAIT = "UPDATE oscar_bitsby_gatewaystate SET next_request_at = '2000-01-01 00:00:00+00'"
FURNISH = "import django; django.setup(); from bench import furnishing; furnishing.furnish({size})"


@dataclass
class Shop:
    """A database of a size, its servers, and what the addresses of pages need to be told."""

    database: str
    facts: dict[str, str]
    servers: dict[str, Server] = field(default_factory=dict)

    def get(self, page: Page, server: str) -> load.Answer:
        """Open a page as staff; the slot is free, so that no wait for one is measured."""
        if page.asks:
            with psycopg.connect(dbname=self.database, autocommit=True) as own:
                own.execute(NO_WAIT)
        cookies = {settings.SESSION_COOKIE_NAME: self.facts["session"]}
        message = load.request("GET", page.address(self.facts), cookies=cookies)
        answer = load.send(self.servers[server].port, message)
        assert answer.status == 200, (page.name, answer.status, answer.body[:300])
        return answer


def measure(piece: str, quick: bool) -> list[Row]:
    """Open each page in both shops in turn."""
    small, large = 1_000, 30_000 if quick else 1_000_000
    requests = 20 if quick else 30
    found = []
    with _shops(small, large) as (few, many):
        for page in PAGES:
            # The first request of a server compiles templates; that is none of the rows' work.
            for _ in range(3):
                few.get(page, "timed"), many.get(page, "timed")
            times: dict[str, list[float]] = {few.database: [], many.database: []}
            for number in range(requests):
                for shop in (few, many) if number % 2 else (many, few):
                    times[shop.database].append(shop.get(page, "timed").seconds * 1000)
            p95 = [percentile(times[shop.database], 0.95) for shop in (few, many)]
            queries = [_queries(shop, page) for shop in (few, many)]
            found.append(_row(page, p95, queries))
    how = (
        f"gunicorn, two databases with {small:,} and {large:,} invoices over a year, as many orders"
        " and deliveries, seven payments for ten invoices, an inbox of 40 and of 2,000, 60 unbound"
        f" payments of the last days; {requests} requests each in turn, p95 ÷ p95. Queries include"
        " session and login and what Oscar's layout asks; of a page that is there without the app,"
        " its queries there are taken off. Pages that read live ask the simulator at once."
    )
    return [Row(**(row.as_dict() | {"how": how})) for row in found]


def _row(page: Page, p95: list[float], queries: list[int]) -> Row:
    ratio = p95[1] / p95[0]
    is_constant = queries[0] == queries[1]
    text = f"{ratio:.2f} ({p95[1]:.0f} ÷ {p95[0]:.0f} ms); {queries[1]} queries"
    if not is_constant:
        text += f" ({queries[0]} with few)"
    met = ratio <= SLOWEST and max(queries) <= MOST_QUERIES and is_constant
    return Row("P7", page.name, "≤ 2.0; ≤ 15 queries, constant", text, met, "")


def _queries(shop: Shop, page: Page) -> int:
    """Count our queries of a page: all of them, or what it has more than without us."""
    shop.get(page, "counted")
    ours = shop.get(page, "counted").queries
    if not page.is_theirs:
        return ours
    shop.get(page, "plain")
    return ours - shop.get(page, "plain").queries


@contextmanager
def _shops(*sizes: int) -> Iterator[list[Shop]]:
    connection.close()
    with ExitStack() as stack:
        simulator = stack.enter_context(running_simulator(webhooks=False))
        simulator.control("ratelimit", {"seconds": 0})
        shops = []
        for size in sizes:
            name = f"bench_p7_{size}"
            stack.enter_context(databases.copy_of(databases.TEMPLATE, name))
            command = [sys.executable, "-c", FURNISH.format(size=size)]
            remote = subprocess.run(
                command, env=databases.environment(name), check=True, stdout=subprocess.PIPE
            )
            shop = Shop(name, json.loads(remote.stdout))
            more = {"BENCH_SIMULATOR": simulator.url}
            shop.servers = {
                "timed": stack.enter_context(gunicorn(name, **more)),
                "counted": stack.enter_context(gunicorn(name, **more, BENCH_COUNT="1")),
                "plain": stack.enter_context(gunicorn(name, "plain", BENCH_COUNT="1")),
            }
            shops.append(shop)
        yield shops
