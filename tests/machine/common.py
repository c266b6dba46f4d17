"""What the parts of the machine share: models, constants, strategies and preconditions."""

import logging
from collections import Counter

from hypothesis import strategies as st
from oscar.core.loading import get_class, get_model

from oscar_bitsby.simulator.wallets import WALLETS
from tests.support import bitsby

EventHandler = get_class("order.processing", "EventHandler")
Order = get_model("order", "Order")
Source = get_model("payment", "Source")
SourceType = get_model("payment", "SourceType")
StockRecord = get_model("partner", "StockRecord")

MINUTE = 60
HOUR = 60 * MINUTE
DAY = 24 * HOUR
#: Units of the one product; a late order may find none left.
STOCK = 6
#: The id of an invoice or a project that is not this shop's.
FOREIGN_ID = "11111111-1111-4111-8111-111111111111"
#: Two wallets of different coins. In TRON's, invoices differ by the last digits of the amount.
TRON = next(wallet for wallet in WALLETS if wallet.id == bitsby.TRON)
BITCOIN = next(wallet for wallet in WALLETS if wallet.cryptocurrency == "btc")

pick = st.integers(0, 11)
totals = st.sampled_from(["10.00", "0.50", "99.99"])
wallets = st.sampled_from([TRON, BITCOIN])
#: What happened in all histories, for the summary.
counts = Counter()


class Errors(logging.Handler):
    """Collects what the app logs with a traceback: no step may cause an error inside it."""

    def __init__(self):
        super().__init__(logging.ERROR)
        self.found = []

    def emit(self, record):
        if record.exc_info:
            self.found.append(self.format(record))


def one(items, number):
    """Return the item that a number picks, or None when there are no items."""
    items = list(items)
    return items[number % len(items)] if items else None


def has_opened_pages(shop):
    return bool(shop.opened_pages)


def has_deliveries(shop):
    return bool(shop.deliveries)


def has_payments(shop):
    return bool(shop.remote.all_payments())


def has_few_payments(shop):
    return len(shop.remote.all_payments()) < 20


def has_refunds(shop):
    return shop.refund_rows > 0


def has_payment_rows(shop):
    return shop.payment_rows > 0


def has_stock(shop):
    return sum(shop.holds.values()) < STOCK
