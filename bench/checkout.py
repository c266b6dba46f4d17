"""P1: "Place order" with Bitsby, compared to the same click in a shop without the app."""

import copy
import statistics
import uuid
from typing import Any

from django.conf import settings
from django.contrib.sessions.backends.db import SessionStore
from django.core.signing import Signer
from django.db import connection
from django.test import Client
from django.urls import reverse
from oscar.core.loading import get_class, get_model

from bench import load
from bench.report import Row, spread
from bench.servers import Server, gunicorn
from tests.support import shopping

Basket = get_model("basket", "Basket")
Order = get_model("order", "Order")
Product = get_model("catalogue", "Product")


def measure(key: str, quick: bool) -> list[Row]:
    """Let buyers in the same state click in both shops; the shops share one database."""
    rounds, clicks = (3, 10) if quick else (7, 25)
    database = connection.settings_dict["NAME"]
    buyers = Buyers()
    ratios, times = [], {"shop": [], "plain": []}  # type: ignore[var-annotated]
    with gunicorn(database) as ours, gunicorn(database, "plain") as plain:
        servers = {"shop": ours, "plain": plain}
        for _ in range(5):
            _click(ours, buyers), _click(plain, buyers)
        for _ in range(rounds):
            found: dict[str, list[float]] = {"shop": [], "plain": []}
            for number in range(clicks):
                # A, B, B, A: the second one profits from caches that the first one has filled.
                pair = ("shop", "plain") if number % 2 else ("plain", "shop")
                for apps in pair:
                    found[apps].append(_click(servers[apps], buyers).seconds)
            ratios.append(statistics.median(found["shop"]) / statistics.median(found["plain"]))
            for apps in pair:
                times[apps] += found[apps]
    with (
        gunicorn(database, BENCH_COUNT="1") as ours,
        gunicorn(database, "plain", BENCH_COUNT="1") as plain,
    ):
        for _ in range(2):
            # Only the first click creates some rows, such as the source type.
            with_app, without_app = _click(ours, buyers), _click(plain, buyers)
    more, sent = with_app.queries - without_app.queries, with_app.requests
    ratio = statistics.median(ratios)
    how = (
        f"gunicorn, one shop with the app and one without it in INSTALLED_APPS on one database;"
        f" {rounds} runs of {clicks} clicks on each in turn (A B B A), each by a guest with a"
        f" new basket and session; medians {statistics.median(times['shop']) * 1000:.0f} and"
        f" {statistics.median(times['plain']) * 1000:.0f} ms. Queries are counted in separate"
        f" servers: {with_app.queries} and {without_app.queries}."
    )
    text = f"{spread(ratios)}; {more:+d} queries, {sent} API requests"
    met = ratio <= 1.05 and more <= 6 and sent == 0
    goal = "≤ 1.05; ≤ 6 queries more; no API request"
    return [Row("P1", "“Place order” with Bitsby ÷ without the app", goal, text, met, how)]


class Buyers:
    """Guests on the preview page, all of them in the same state."""

    def __init__(self) -> None:
        client = Client()
        self.product: Any = Product.objects.get()
        answer = shopping.go_to_preview(client, self.product)
        assert answer.status_code == 302, answer.status_code
        assert answer["Location"] == reverse("checkout:preview")
        self.session = dict(client.session.items())

    def next(self) -> dict[str, str]:
        """Return the cookies of another guest."""
        store = SessionStore()
        store.update(copy.deepcopy(self.session))
        # A buyer may have a few unpaid orders only.
        store["checkout_data"]["guest"]["email"] = f"buyer{uuid.uuid4().hex}@example.com"
        store.create()
        basket = Basket.objects.create()
        basket.strategy = get_class("partner.strategy", "Default")()
        basket.add_product(self.product, 1)
        return {
            settings.SESSION_COOKIE_NAME: str(store.session_key),
            settings.OSCAR_BASKET_COOKIE_OPEN: Signer().sign(basket.pk),
        }


def _click(server: Server, buyers: Buyers) -> load.Response:
    """Place one order, and check that it was placed."""
    message = load.request(
        "POST",
        reverse("checkout:preview"),
        cookies=buyers.next(),
        form={"action": "place_order"},
    )
    answer = load.send(server.port, message)
    location = answer.headers.get("location", "")
    assert answer.status == 302, (answer.status, answer.body[:300])
    assert "/pay/" in location or "thank-you" in location, location
    return answer
