"""What a payment is worth in its invoice's currency, at the rate that the invoice locked."""

from __future__ import annotations

from decimal import Decimal

from oscar_bitsby.gateway import schemas
from oscar_bitsby.models import BitsbyInvoice, BitsbyPayment
from oscar_bitsby.utils.money import to_cents

#: A worth of this much or more fits no column of Oscar's.
MAX_FIAT_VALUE = Decimal(10) ** 10


def fiat_value_of(payment: schemas.Payment, invoice: BitsbyInvoice) -> Decimal | None:
    """Return a payment's worth in the invoice's currency, in cents; None when it cannot be told.

    The invoice locked a rate for each wallet when it was created: its amount against the reserved
    amount of the coin. A wallet that was not reserved has no rate, but the same coin on another
    chain has.
    """
    wallet = payment.wallet
    if wallet is None:
        return None
    return _fiat_value(payment.amount, wallet.id, wallet.cryptocurrency, invoice)


def fiat_value_of_recorded(payment: BitsbyPayment, invoice: BitsbyInvoice) -> Decimal | None:
    """Return what a remembered payment would be worth, were it bound to ``invoice``."""
    return _fiat_value(payment.amount, payment.wallet_id, payment.cryptocurrency, invoice)


def _fiat_value(amount: Decimal, wallet: str, coin: str, invoice: BitsbyInvoice) -> Decimal | None:
    reserved = _reserved_amount(invoice, "id", wallet) or _reserved_amount(
        invoice, "cryptocurrency", coin
    )
    return convert_at_locked_rate(amount, reserved, invoice.amount)


def convert_at_locked_rate(
    amount: Decimal, reserved: Decimal | None, asked: Decimal
) -> Decimal | None:
    """Return what an amount of coins is worth at the rate that an invoice locked.

    Args:
        amount: coins that came.
        reserved: coins that the invoice reserved for ``asked`` of its currency; None or 0 where no
            rate is known.
    """
    if not reserved:
        return None
    fiat_value = asked * amount / reserved
    # Nothing, or nearly, pays for no order by itself: a person decides.
    return (
        to_cents(fiat_value) if fiat_value < MAX_FIAT_VALUE and to_cents(fiat_value) > 0 else None
    )


def _reserved_amount(invoice: BitsbyInvoice, key: str, value: str) -> Decimal | None:
    for wallet in invoice.wallets:
        if value and str(wallet.get(key, "")).lower() == value.lower() and wallet.get("amount"):
            return Decimal(wallet["amount"])
    return None
