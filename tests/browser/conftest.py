"""A running shop, the simulator, and visitors with browser profiles of their own."""

import datetime as dt
import re
from pathlib import Path

import oscar
import pytest
from django.conf import settings as django_settings
from django.contrib.sites.models import Site
from django.core import mail
from django.core.management import call_command
from django.test import Client
from oscar.core.loading import get_model

from oscar_bitsby.mails import sender
from oscar_bitsby.models import BitsbyInvoice
from oscar_bitsby.orders import signed_urls
from oscar_bitsby.simulator.process import running_simulator
from tests.browser import chromium
from tests.browser.capture import take_screenshot
from tests.support.shopping import buy
from tests.support.staff import log_in

Order = get_model("order", "Order")

JQUERY = Path(oscar.__file__).parent / "static" / "oscar" / "js" / "jquery" / "jquery.min.js"
MAX_WAIT_MILLISECONDS = 30_000
DESKTOP = {"width": 1200, "height": 800}


def pytest_collection_modifyitems(items):
    """Skip the tests of this folder, with the reason, when there is no browser."""
    reason = chromium.missing()
    if reason:
        here = Path(__file__).parent
        for item in items:
            if here in item.path.parents:
                item.add_marker(pytest.mark.skip(reason=f"browser tests: {reason}"))


@pytest.fixture(scope="package")
def playwright():
    """Playwright, while tests of this folder run."""
    with pytest.MonkeyPatch.context() as patch, chromium.sync_playwright() as running:
        # Playwright keeps an event loop in this thread, so Django refuses to use the database. The
        # loop never runs while a test does, so allowing it is safe.
        patch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")
        chromium.expect.set_options(timeout=MAX_WAIT_MILLISECONDS)
        yield running


@pytest.fixture(scope="package")
def browser(playwright):
    """One Chromium for all tests; each visitor has a separate profile in it."""
    browser = chromium.launch(playwright)
    yield browser
    browser.close()


@pytest.fixture(scope="package")
def simulator():
    with running_simulator(webhooks=False) as simulator:
        yield simulator


class Shop:
    """The running shop with the simulator, and control over time and payments."""

    def __init__(self, url, simulator, clock, move_time):
        self.url, self.simulator = url, simulator
        self._clock, self._move_time = clock, move_time

    def address(self, path):
        return self.url + path

    def page_of(self, order):
        """Return the URL of an order's page, as in the buyer's e-mails."""
        return self.address(signed_urls.order_url(order))

    def move_time(self, **delta):
        """Move all clocks: the shop's, the simulator's, and that of the rate limit."""
        seconds = dt.timedelta(**delta).total_seconds()
        self.simulator.control("advance", {"seconds": seconds})
        self._move_time(seconds=seconds)
        self._clock.sleep(seconds)

    def invoice(self):
        """Return the newest invoice."""
        return BitsbyInvoice.objects.order_by("-pk").first()

    def send_payment(self, invoice=None, **order):
        """Let a payment arrive at the simulator; return its id."""
        invoice = invoice or self.invoice()
        order = {"invoiceId": str(invoice.bitsby_id), **order}
        return self.simulator.control("pay", order)["paymentId"]

    def receive_payment(self, **payment):
        """Let a payment arrive, and enough time pass for the shop to ask about it."""
        self.send_payment(**payment)
        self.move_time(seconds=15)

    def cancel_order(self):
        """Let the invoice expire and its order be cancelled, each by a run."""
        for _ in range(2):
            self.move_time(hours=3)
            call_command("bitsby_reconcile")

    def stop_gateway(self):
        """Let the simulator fail until ``restart_gateway``."""
        fault = {"times": 1000, "kind": "status", "status": 500}
        self.simulator.control("faults", {"faults": [fault]})

    def restart_gateway(self):
        """Let the simulator work again, and enough time pass for the shop to ask it."""
        self.simulator.control("faults", {"faults": []})
        self.move_time(seconds=30)

    def mailed_link(self):
        """Send the waiting e-mails; return the link to the order's page in the last one."""
        sender.send_pending()
        return re.search(r"http://\S+/bitsby/orders/[^/\s]+/", mail.outbox[-1].body)[0]

    def sell(self, product):
        """Let a guest place an order and start its payment, without a browser; return the order."""
        buy(Client(), product)
        return Order.objects.latest("pk")


@pytest.fixture
def shop(settings, configure, transactional_db, live_server, simulator, clock, move_time, country):
    configure(
        API_URL=simulator.url,
        PAYMENT_HOSTS=["127.0.0.1"],
        OTHER_METHODS=[("cod", "Pay on delivery")],
    )
    settings.OSCAR_THUMBNAILER = "tests.browser.thumbnails.DotThumbnailer"
    settings.OSCAR_SHOP_NAME, settings.OSCAR_SHOP_TAGLINE = "Driftwood Goods", ""
    host = live_server.url.partition("//")[2]
    Site.objects.update_or_create(pk=1, defaults={"domain": host, "name": "Driftwood Goods"})
    Site.objects.clear_cache()
    simulator.control("reset", {})
    simulator.control("ratelimit", {"seconds": 0})
    yield Shop(live_server.url, simulator, clock, move_time)
    Site.objects.clear_cache()


@pytest.fixture
def visitor(browser, shop):
    """Return a function that opens a page in a new browser profile."""
    contexts = []

    def enter(in_browser=browser, **options):
        context = in_browser.new_context(
            **{"viewport": DESKTOP, "locale": "en-GB", "timezone_id": "Europe/Berlin", **options}
        )
        context.set_default_timeout(MAX_WAIT_MILLISECONDS)
        # Oscar's layout loads jQuery from a CDN; tests send no request to the internet.
        context.route("https://ajax.googleapis.com/**", _give_jquery)
        contexts.append(context)
        return context.new_page()

    yield enter
    for context in contexts:
        context.close()


def _give_jquery(route):
    route.fulfill(path=JQUERY, content_type="text/javascript")


@pytest.fixture
def order(shop, product):
    """A guest's order with an unpaid invoice."""
    return shop.sell(product)


@pytest.fixture
def page(visitor):
    """A page of a guest."""
    return visitor()


@pytest.fixture
def log_in_staff(page, shop):
    """Return a function that logs a member of staff in on ``page``, with permissions."""

    def enter(*permissions):
        client = log_in("staff", *permissions)
        name = django_settings.SESSION_COOKIE_NAME
        cookie = {"name": name, "value": client.cookies[name].value, "url": shop.url}
        page.context.add_cookies([cookie])
        return page

    return enter


@pytest.fixture
def screenshot():
    """The function that takes screenshots of a page and checks that people can use it."""
    return take_screenshot
