"""The parameters of API requests, checked as documented."""

import re
from collections.abc import Callable, Mapping
from datetime import date
from decimal import ROUND_HALF_UP, Decimal
from typing import TypeVar

from .state import STATUSES, Refused
from .wallets import CENT, FIAT_IN_USD

T = TypeVar("T")
Number = TypeVar("Number", int, Decimal)

HOURS_TO_PAY = tuple(Decimal(hours) for hours in ("0.5", "1", "3", "6", "12"))

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_DECIMAL = re.compile(r"[0-9]{1,12}(\.[0-9]{1,8})?")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_INTEGER = re.compile(r"[0-9]{1,9}")


def required(fields: Mapping[str, str], name: str, parse: Callable[[str], T]) -> T:
    """Return a mandatory parameter, parsed."""
    value = optional(fields, name, parse)
    if value is None:
        raise Refused(f"Parameter {name} is missing")
    return value


def optional(fields: Mapping[str, str], name: str, parse: Callable[[str], T]) -> T | None:
    """Return a parameter, parsed, or None where it was not sent."""
    if name not in fields:
        return None
    try:
        return parse(fields[name])
    except ValueError:
        raise Refused(f"Parameter {name} is invalid") from None


def parse_uuid(text: str) -> str:
    """Accept a UUID with its hyphens."""
    return _matching(_UUID, text).lower()


def parse_date(text: str) -> date:
    """Accept a day as YYYY-MM-DD."""
    return date.fromisoformat(_matching(_DATE, text))


def parse_integer(text: str) -> int:
    """Accept zero or more."""
    return int(_matching(_INTEGER, text))


def parse_count(text: str) -> int:
    """Accept one or more."""
    return _positive(parse_integer(text))


def parse_crypto_amount(text: str) -> Decimal:
    """Accept a positive amount with at most 8 decimals."""
    return _positive(Decimal(_matching(_DECIMAL, text)))


def parse_fiat_amount(text: str) -> Decimal:
    """Accept a positive amount, rounded to the cent."""
    return _positive(Decimal(_matching(_DECIMAL, text)).quantize(CENT, ROUND_HALF_UP))


def parse_hours(text: str) -> Decimal:
    """Accept one of the documented times to pay, with any number of decimals."""
    return _one_of(HOURS_TO_PAY, Decimal(_matching(_DECIMAL, text)))


def parse_currency(text: str) -> str:
    """Accept a currency of invoices."""
    return _one_of(tuple(FIAT_IN_USD), text)


def parse_status(text: str) -> str:
    """Accept one of the four statuses of invoices."""
    return _one_of(STATUSES, text)


def _matching(pattern: re.Pattern[str], text: str) -> str:
    if not pattern.fullmatch(text):
        raise ValueError(text)
    return text


def _one_of(choices: tuple[T, ...], value: T) -> T:
    if value not in choices:
        raise ValueError(value)
    return value


def _positive(value: Number) -> Number:
    if value <= 0:
        raise ValueError(value)
    return value
