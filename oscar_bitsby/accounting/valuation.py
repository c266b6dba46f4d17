"""The fiat value of a payment: in its invoice's currency, at the rate that the invoice locked.

When Bitsby creates an invoice, it reserves an amount of a coin in each wallet. The invoice's amount
against that reserved amount is the locked rate.
"""

from decimal import Decimal

from oscar_bitsby.gateway import schemas
from oscar_bitsby.models import BitsbyInvoice, BitsbyPayment
from oscar_bitsby.utils.money import to_cents

#: Oscar's columns hold amounts below this one.
MAX_FIAT_VALUE = Decimal(10) ** 10


def fiat_value_of(payment: schemas.Payment, invoice: BitsbyInvoice) -> Decimal | None:
    """Return the fiat value of a remote payment, in cents; None if no rate is known."""
    wallet = payment.wallet
    if wallet is None:
        return None
    return _fiat_value(payment.amount, wallet.id, wallet.cryptocurrency, invoice)


def fiat_value_of_recorded(payment: BitsbyPayment, invoice: BitsbyInvoice) -> Decimal | None:
    """Return the fiat value that a recorded payment would have if it was bound to ``invoice``."""
    return _fiat_value(payment.amount, payment.wallet_id, payment.cryptocurrency, invoice)


def _fiat_value(
    amount: Decimal, wallet_id: str, coin: str, invoice: BitsbyInvoice
) -> Decimal | None:
    # A wallet without a reserved amount has no rate, but its coin in another wallet has one.
    reserved = _reserved_amount(invoice, "id", wallet_id) or _reserved_amount(
        invoice, "cryptocurrency", coin
    )
    return convert_at_locked_rate(amount, reserved, invoice.amount)


def convert_at_locked_rate(
    amount: Decimal, reserved: Decimal | None, asked: Decimal
) -> Decimal | None:
    """Return the fiat value of an amount of coins, in cents.

    Args:
        amount: the coins that arrived.
        reserved: the coins that the invoice reserved for ``asked``; None or 0 if it has no rate.
        asked: the invoice's amount.

    Returns:
        None if no rate is known, and for values that Oscar cannot store or that are below half a
        cent: staff decide about those.
    """
    if not reserved:
        return None
    value = asked * amount / reserved
    return to_cents(value) if value < MAX_FIAT_VALUE and to_cents(value) > 0 else None


def _reserved_amount(invoice: BitsbyInvoice, key: str, value: str) -> Decimal | None:
    for wallet in invoice.wallets:
        if value and str(wallet.get(key, "")).lower() == value.lower() and wallet.get("amount"):
            return Decimal(wallet["amount"])
    return None
