"""Amounts and times as Bitsby writes them, turned into ``Decimal`` and aware UTC datetimes."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from typing import Any

CENT = Decimal("0.01")
#: The largest amount that is believed; what is larger is rubbish and fits no column.
MAX_AMOUNT = Decimal(10) ** 11
#: Crypto amounts are kept with up to this many decimals (ether has 18).
CRYPTO_PLACES = 18


def parse_amount(value: Any) -> Decimal:
    """Convert an amount of an answer, a string or a number, without loss.

    Raises:
        ValueError: it is no finite number between zero and ``MAX_AMOUNT``, or finer than
            ``CRYPTO_PLACES`` decimals.
    """
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
        raise ValueError("an amount is neither a text nor a number")
    text = str(value).strip()
    if len(text) > 64:
        raise ValueError("an amount is too long")
    try:
        amount = Decimal(text)
    except InvalidOperation:
        raise ValueError("an amount is not a number") from None
    if not amount.is_finite() or not 0 <= amount <= MAX_AMOUNT:
        raise ValueError("an amount is out of range")
    exponent = amount.as_tuple().exponent
    if isinstance(exponent, int) and -exponent > CRYPTO_PLACES:
        raise ValueError("an amount is too fine")
    return amount


def to_cents(amount: Decimal) -> Decimal:
    """Round a fiat amount to 2 decimals, half up, as Oscar's money columns hold it."""
    return amount.quantize(CENT, rounding=ROUND_HALF_UP)
