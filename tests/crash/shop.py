"""The shop of the harness: its contents, and what buyers and staff can do in it."""

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
from tests.crash import clock
from tests.support import invariants, shopping

Basket = get_model("basket", "Basket")
ConditionalOffer = get_model("offer", "ConditionalOffer")
Country = get_model("address", "Country")
Order = get_model("order", "Order")
Product = get_model("catalogue", "Product")
Voucher = get_model("voucher", "Voucher")

#: A shop that needs more runs than this does not come to rest.
MAX_RUNS = 6
#: A killed run holds the lease for five minutes.
LEASE_SECONDS = 301
#: An attempt to create an invoice expires after 15 seconds without an answer.
ATTEMPT_SECONDS = 20
#: A run does not poll again what was polled without a result in the last ten minutes.
POLL_BACKOFF_SECONDS = 660
HOUR = 3600
#: An order that never had an invoice is cancelled after ``HOLD_ORDER_FOR``, by default a day.
HOLD = 24 * HOUR + 60
#: An unmatched payment that may be for it keeps an order a day longer.
KEPT = HOLD + 24 * HOUR


class LoggedErrors(logging.Handler):
    """Collects the errors that the shop logs."""

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
    """The state of the shop outside its database, handed from process to process.

    Attributes:
        simulator: the control of the simulator.
        buyers: the cookies of two buyers who are about to click "place order".
        memo: values that one step of an operation hands to the next ones.
        problems: the promises that were found broken.
        observations: what is reported although it breaks no promise.
    """

    simulator: Any
    buyers: list[dict[str, str]] = field(default_factory=list)
    memo: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    observations: list[str] = field(default_factory=list)
    offset: Any = None

    # Its contents.

    def fill(self):
        """Create two products, three vouchers, and two buyers at the last step of the checkout."""
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
            all_products = factories.RangeFactory(name=code, includes_all_products=True)
            voucher = factories.VoucherFactory(name=code, code=code, usage=usage)
            voucher.offers.add(
                factories.ConditionalOfferFactory(
                    name=code,
                    offer_type=ConditionalOffer.VOUCHER,
                    # A basket may have several of them.
                    exclusive=False,
                    condition=factories.ConditionFactory(range=all_products, type="Count", value=1),
                    benefit=factories.BenefitFactory(
                        range=all_products, type="Percentage", value=Decimal(20)
                    ),
                )
            )
        get_user_model().objects.create_superuser("staff", "staff@example.com", "secret")
        mug, plate = Product.objects.order_by("pk")
        # In opposite order and with shared vouchers, which must not change the order of locks.
        self.buyers = [
            self._cookies_at_preview([mug, plate], ["ONCE", "MANY", "MORE"]),
            self._cookies_at_preview([plate, mug], ["MORE", "MANY"]),
        ]
        # Oscar removes vouchers that give no discount.
        used = sorted(basket.vouchers.count() for basket in Basket.objects.all())
        assert used == [2, 3], f"the baskets have {used} vouchers"

    def _cookies_at_preview(self, products, codes):
        client = Client()
        for product in products[:-1]:
            shopping.fill_basket(client, product)
        shopping.go_to_preview(client, products[-1])
        for code in codes:
            client.post(reverse("basket:vouchers-add"), {"code": code})
        return {name: morsel.value for name, morsel in client.cookies.items()}

    # What buyers and staff do.

    def browser(self, buyer=0):
        """Return the browser of a buyer, with the cookies that it had at the last step."""
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
        """Click "pay" on the order's page; return the payment page's URL, or an empty string."""
        response = self.browser(buyer).post(signed_urls.pay_url(self.order(buyer)))
        return self._payment_url(response)

    def _payment_url(self, response):
        if response.status_code >= 400:
            self.problems.append(f"the pay view answers {response.status_code}")
        url = response.get("Location", "")
        return url if url.startswith(self.simulator.url) else ""

    def check_asked(self, url):
        """Check that a payment page asks for no more than its order owes now."""
        invoice = BitsbyInvoice.objects.get(url=url)
        if invoice.amount > invariants.owed(invoice.order):
            self.problems.append(f"{invariants.ASKED_TOO_MUCH}: {invoice.amount}")

    def pay_page(self, url, **how):
        """Pay the amount that the payment page asks for."""
        return self.simulator.control("pay", {"uid": url.rstrip("/").split("/")[-1], **how})

    def pay(self, invoice, **how):
        """Pay an invoice; the exact amount unless another one is given."""
        return self.simulator.control("pay", {"invoiceId": str(invoice.bitsby_id), **how})

    def invoice(self, buyer=0):
        """Return the newest invoice of a buyer's order that Bitsby knows."""
        known = BitsbyInvoice.objects.filter(order=self.order(buyer), bitsby_id__isnull=False)
        return known.order_by("-pk").first()

    def deliver(self, invoice):
        """Post a webhook delivery about an invoice to the shop."""
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

    # Time and runs.

    def later(self, seconds):
        """Let time pass in the shop and at Bitsby."""
        clock.move(seconds=seconds)
        self.simulator.control("advance", {"seconds": seconds})

    def reconcile(self):
        """Make one run; its failures are problems."""
        report = reconciliation.reconcile()
        if report.failures:
            self.problems.append(f"a run reports failures: {report}")
        return report

    def run_until_stable(self):
        """Make runs until one changes nothing."""
        skipped = False
        before = None
        for _ in range(MAX_RUNS):
            report = self.reconcile()
            if report.skipped:
                if skipped:
                    self.problems.append("the lease of a killed run never expires")
                    return
                skipped = True
                self.later(LEASE_SECONDS)
                continue
            after = _books()
            if after == before:
                return
            before = after
        self.problems.append(f"not stable after {MAX_RUNS} runs: {report}")

    def state(self):
        """Return everything that Bitsby has of the account."""
        return self.simulator.control("state")


def _books():
    """Return everything that a run may change, except times of requests."""
    invoices = BitsbyInvoice.objects.values_list(
        "pk", "status", "order_awaits_payment", "webhook_pending_since"
    )
    payments = BitsbyPayment.objects.values_list("pk", "review_reason", "booked_at", "bound_to")
    orders = Order.objects.values_list("pk", "status")
    return [sorted(map(str, rows)) for rows in (invoices, payments, orders)]


def skip_waiting():
    """Turn off waiting in this process: for slots of the rate limit and between tries."""
    rate_limit.MIN_INTERVAL = rate_limit.BUYER_PRIORITY = dt.timedelta(0)
    # One clock for everything, on PostgreSQL too.
    db_clock._server_time = lambda alias: clock.now()
