"""What the parts of the machine share: names, numbers, and what a step needs to make sense."""

from __future__ import annotations

import logging
from collections import Counter

from hypothesis import strategies as st
from oscar.core.loading import get_class, get_model

from oscar_bitsby.simulator.wallets import WALLETS
from tests import bitsby

EventHandler = get_class("order.processing", "EventHandler")
Order = get_model("order", "Order")
Source = get_model("payment", "Source")
SourceType = get_model("payment", "SourceType")
StockRecord = get_model("partner", "StockRecord")

MINUTE = 60
HOUR = 60 * MINUTE
DAY = 24 * HOUR
#: Of the one kind of goods; late orders may find none left.
STOCK = 6
#: An invoice or a project of somebody else.
STRANGER = "11111111-1111-4111-8111-111111111111"
#: A wallet whose reserved amounts are told apart in the coin's last digits, and one of another.
TRON = next(wallet for wallet in WALLETS if wallet.id == bitsby.TRON)
BITCOIN = next(wallet for wallet in WALLETS if wallet.cryptocurrency == "btc")

pick = st.integers(0, 11)
totals = st.sampled_from(["10.00", "0.50", "99.99"])
wallets = st.sampled_from([TRON, BITCOIN])
#: What happened in all histories, for the summary.
counts = Counter()


class Errors(logging.Handler):
    """Collects what the app logs with a traceback: nothing here may fail inside of it."""

    def __init__(self):
        super().__init__(logging.ERROR)
        self.found = []

    def emit(self, record):
        if record.exc_info:
            self.found.append(self.format(record))


def one(items, number):
    """Return the item that a number picks, or None where there is none."""
    items = list(items)
    return items[number % len(items)] if items else None


def has_tabs(shop):
    return bool(shop.tabs)


def has_deliveries(shop):
    return bool(shop.deliveries)


def has_payments(shop):
    return bool(shop.far.all_payments())


def has_few_payments(shop):
    return len(shop.far.all_payments()) < 20


def has_records(shop):
    return shop.records > 0


def has_stock(shop):
    return sum(shop.holds.values()) < STOCK
