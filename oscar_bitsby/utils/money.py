"""Parse and round amounts of money."""

import re
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from typing import Any

CENT = Decimal("0.01")
#: Larger amounts are treated as invalid; they would not fit the database columns.
MAX_AMOUNT = Decimal(10) ** 11
#: The largest number of decimals of a crypto amount (ether has 18).
CRYPTO_PLACES = 18


def parse_amount(value: Any) -> Decimal:
    """Return an amount of an answer as a ``Decimal`` with the same digits.

    Args:
        value: a number, or a text that contains one.

    Raises:
        ValueError: it is not a number from zero to ``MAX_AMOUNT`` with up to ``CRYPTO_PLACES``
            decimals. The message does not repeat the value.
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
        raise ValueError("an amount has too many decimals")
    return amount


def to_cents(amount: Decimal) -> Decimal:
    """Round a fiat amount to 2 decimals, half up, as Oscar's columns store it."""
    return amount.quantize(CENT, rounding=ROUND_HALF_UP)


def parse_typed_amount(text: str, places: int) -> Decimal:
    """Return an amount as people type it, with a decimal point or comma.

    Args:
        text: digits, which may be grouped by spaces.
        places: the number of decimals that it may have.

    Raises:
        ValueError: it is not such a number above zero.
    """
    # A point or comma is never a group of thousands: "1,234.56" is refused, not guessed, and so is
    # "1.234", which is a thousand in one language and about one in another. Some languages group
    # digits by no-break spaces.
    pattern = rf"([0-9]+|[0-9]{{1,3}}(\s[0-9]{{3}})+)([.,][0-9]{{1,{places}}})?"
    if not re.fullmatch(pattern, text.strip()):
        raise ValueError("not an amount")
    amount = parse_amount("".join(text.split()).replace(",", "."))
    if not amount:
        raise ValueError("an amount is zero")
    return amount


def plain_amount(amount: Decimal | None) -> str:
    """Return all digits of an amount, without an exponent or trailing zeros, to be copied.

    Without an amount the text is empty.
    """
    return "" if amount is None else f"{amount.normalize():f}"
