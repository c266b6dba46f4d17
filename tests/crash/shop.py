"""The shop of the harness: how it is furnished, and what its people can do in it."""

from __future__ import annotations

import datetime as dt
import json
import logging
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from django.contrib.auth import get_user_model
from django.test import Client
from django.urls import reverse
from oscar.core.loading import get_model
from oscar.test import factories

from oscar_bitsby import reconciliation
from oscar_bitsby.gateway import rate_limit
from oscar_bitsby.models import BitsbyInvoice, BitsbyPayment
from oscar_bitsby.orders import signed_urls
from oscar_bitsby.utils import clock as db_clock
from tests import shopping
from tests.crash import clock

Basket = get_model("basket", "Basket")
ConditionalOffer = get_model("offer", "ConditionalOffer")
Country = get_model("address", "Country")
Order = get_model("order", "Order")
Product = get_model("catalogue", "Product")
Voucher = get_model("voucher", "Voucher")

#: More passes than this, and a shop is not coming to rest.
MOST_PASSES = 6
#: A dead pass keeps others away for five minutes.
LEASE_SECONDS = 301
#: An attempt to create an invoice that got no answer is given up after 15 seconds.
ATTEMPT_SECONDS = 20
#: What a pass asked about in vain, the next ones leave alone for ten minutes.
AGAIN_SECONDS = 660
HOUR = 3600


class Complaints(logging.Handler):
    """Keeps what the shop logs as an error: it would wake somebody up."""

    def __init__(self):
        super().__init__(logging.ERROR)
        self.texts = []

    def emit(self, record):
        text = record.getMessage()
        if record.exc_info and record.exc_info[1] is not None:
            text += f" ({record.exc_info[1]!r})"
        self.texts.append(text)


@dataclass
class Shop:
    """The shop as one process sees it, and the far side. Passed on from process to process.

    Attributes:
        simulator: the far side's control.
        buyers: the session cookies of two buyers who stand before "place order".
        notes: what one step of a scenario tells the next ones.
        problems: what was found wrong on the way.
        remarks: what is no broken promise but worth knowing.
    """

    simulator: Any
    buyers: list[dict[str, str]] = field(default_factory=list)
    notes: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    offset: Any = None

    # How it is furnished.

    def furnish(self):
        """Stock two goods, issue three vouchers, and lead two buyers up to the last click."""
        Country.objects.create(
            iso_3166_1_a2="DE",
            iso_3166_1_a3="DEU",
            printable_name="Germany",
            is_shipping_country=True,
        )
        for title in ("Mug", "Plate"):
            factories.create_product(
                title=title, price=Decimal("10.00"), num_in_stock=50, partner_name="Shop"
            )
        uses = {"MANY": Voucher.MULTI_USE, "MORE": Voucher.MULTI_USE, "ONCE": Voucher.SINGLE_USE}
        for code, usage in uses.items():
            everything = factories.RangeFactory(name=code, includes_all_products=True)
            voucher = factories.VoucherFactory(name=code, code=code, usage=usage)
            voucher.offers.add(
                factories.ConditionalOfferFactory(
                    name=code,
                    offer_type=ConditionalOffer.VOUCHER,
                    # So that a basket may have several.
                    exclusive=False,
                    condition=factories.ConditionFactory(range=everything, type="Count", value=1),
                    benefit=factories.BenefitFactory(
                        range=everything, type="Percentage", value=Decimal(20)
                    ),
                )
            )
        get_user_model().objects.create_superuser("staff", "staff@example.com", "secret")
        mug, plate = Product.objects.order_by("pk")
        # In opposite order, and sharing vouchers: what locks are taken in must not depend on it.
        self.buyers = [
            self._led_to_preview([mug, plate], ["ONCE", "MANY", "MORE"]),
            self._led_to_preview([plate, mug], ["MORE", "MANY"]),
        ]
        # Oscar takes out of a basket what gives no discount.
        used = sorted(basket.vouchers.count() for basket in Basket.objects.all())
        assert used == [2, 3], f"the baskets have {used} vouchers"

    def _led_to_preview(self, products, codes):
        client = Client()
        for product in products[:-1]:
            shopping.fill_basket(client, product)
        shopping.go_to_preview(client, products[-1])
        for code in codes:
            client.post(reverse("basket:vouchers-add"), {"code": code})
        return {name: morsel.value for name, morsel in client.cookies.items()}

    # Who comes along.

    def browser(self, buyer=0):
        """Return the browser of a buyer, as it was when the shop was last open."""
        client = Client(raise_request_exception=False)
        client.cookies.load(self.buyers[buyer])
        return client

    def place(self, buyer=0):
        """Click "place order"."""
        return shopping.place_order(self.browser(buyer))

    def order(self, buyer=0):
        """Return the order of a buyer, or None."""
        return Order.objects.order_by("pk")[buyer : buyer + 1].first()

    def click_pay(self, buyer=0):
        """Click "pay" on the order's page; return the payment page's address, or nothing."""
        response = self.browser(buyer).post(signed_urls.pay_url(self.order(buyer)))
        return self._where(response)

    def _where(self, response):
        if response.status_code >= 400:
            self.problems.append(f"the pay view answers {response.status_code}")
        where = response.get("Location", "")
        return where if where.startswith(self.simulator.url) else ""

    def pay_page(self, url, **how):
        """Transfer what the payment page asks for."""
        return self.simulator.control("pay", {"uid": url.rstrip("/").split("/")[-1], **how})

    def pay(self, invoice, **how):
        """Transfer money for an invoice; exactly, unless an amount is given."""
        return self.simulator.control("pay", {"invoiceId": str(invoice.bitsby_id), **how})

    def invoice(self, buyer=0):
        """Return the newest invoice of a buyer's order that Bitsby knows."""
        known = BitsbyInvoice.objects.filter(order=self.order(buyer), bitsby_id__isnull=False)
        return known.order_by("-pk").first()

    def deliver(self, invoice):
        """Post a delivery about an invoice to the shop, as Bitsby or anybody else may."""
        body = json.dumps({"invoice": {"id": str(invoice.bitsby_id), "status": "paid"}})
        response = Client(raise_request_exception=False).post(
            reverse("oscar_bitsby:webhook"), body, content_type="application/json"
        )
        if response.status_code not in (200, 503):
            self.problems.append(f"the webhook answers {response.status_code}")
        return response.status_code

    @property
    def staff(self):
        return get_user_model().objects.get(username="staff")

    def staff_browser(self):
        """Return a browser in which staff is logged in."""
        client = Client(raise_request_exception=False)
        client.force_login(self.staff, "django.contrib.auth.backends.ModelBackend")
        return client

    # What passes.

    def later(self, seconds):
        """Let time pass, here and at Bitsby."""
        clock.move(seconds=seconds)
        self.simulator.control("advance", {"seconds": seconds})

    def reconcile(self):
        """Make one pass; what fails in it is a problem."""
        report = reconciliation.reconcile()
        if report.failures:
            self.problems.append(f"a pass reports failures: {report}")
        return report

    def until_quiet(self):
        """Make passes until one changes nothing, as the shop's cron job does."""
        skipped = False
        before = None
        for _ in range(MOST_PASSES):
            report = self.reconcile()
            if report.skipped:
                if skipped:
                    self.problems.append("the lease of a dead pass never ends")
                    return
                skipped = True
                self.later(LEASE_SECONDS)
                continue
            after = _books()
            if after == before:
                return
            before = after
        self.problems.append(f"not quiet after {MOST_PASSES} passes: {report}")

    def state(self):
        """Return what is true."""
        return self.simulator.control("state")


def _books():
    """Return everything that a pass may change, but for the times of its looks."""
    invoices = BitsbyInvoice.objects.values_list(
        "pk", "status", "order_awaits_payment", "webhook_pending_since"
    )
    payments = BitsbyPayment.objects.values_list("pk", "review_reason", "booked_at", "bound_to")
    orders = Order.objects.values_list("pk", "status")
    return [sorted(map(str, rows)) for rows in (invoices, payments, orders)]


def prepare_process():
    """Make this process a shop that need not wait: neither for slots nor between tries."""
    rate_limit.MIN_INTERVAL = rate_limit.BUYER_PRIORITY = dt.timedelta(0)
    # One clock for everything, on PostgreSQL too.
    db_clock._server_time = lambda alias: clock.now()
