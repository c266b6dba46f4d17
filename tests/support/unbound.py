"""Unbound payments, and invoices that they can be meant for."""

from decimal import Decimal

from tests.support import bitsby
from tests.support.staff import create_payments


def wallets(amount):
    """Return the wallets of an invoice that reserves so many USDT."""
    return [{**bitsby.wallet(), "amount": amount}]


def receive(amount, **values):
    """Store an unbound payment of so many USDT."""
    defaults = {"amount": Decimal(amount), "wallet_id": bitsby.TRON, "cryptocurrency": "usdt"}
    (payment,) = create_payments(1, **(defaults | values))
    return payment
