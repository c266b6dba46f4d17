"""The keys, defaults and types of ``settings.OSCAR_BITSBY``; nothing else reads that setting."""

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any

from django.conf import settings as django_settings
from django.utils.crypto import constant_time_compare
from django.utils.translation import gettext_noop

from oscar_bitsby.exceptions import ConfigurationError

#: The code of the payment method in the checkout and of the ``SourceType``.
METHOD_CODE = "bitsby"
#: The code of the ``PaymentEventType`` of a received payment.
PAID_EVENT_CODE = "paid"
#: The code of the ``PaymentEventType`` of a refund.
REFUNDED_EVENT_CODE = "refunded"

#: Values of ``SHORT_PAYMENTS``: staff decide about a short payment, or a run asks for the rest.
REVIEW, ASK = "review", "ask"
#: Values of ``PAYMENT_PAGE``: buyers pay on Bitsby's page, or on the order's page in the shop.
HOSTED, SHOP = "hosted", "shop"

#: Hours and currencies that Bitsby accepts, as the documentation of ``invoices/create`` says.
TIMES_TO_PAY = (Decimal("0.5"), Decimal(1), Decimal(3), Decimal(6), Decimal(12))
CURRENCIES = ("USD", "EUR", "RUB")


class Secret:
    """A text that neither ``repr`` nor error reports show."""

    __slots__ = ("__text",)

    def __init__(self, text: str) -> None:
        self.__text = text

    def reveal(self) -> str:
        """Return the text, to send or to validate it."""
        return self.__text

    def matches(self, text: str) -> bool:
        """Compare in constant time, which does not reveal how much of a guess is right."""
        return constant_time_compare(text, self.__text)

    def redact(self, text: str) -> str:
        """Return ``text`` with every occurrence of the secret replaced by ``***``."""
        return text.replace(self.__text, "***") if self.__text else text

    def redact_json(self, value: Any) -> Any:
        """Return decoded JSON with the secret replaced in all texts, including keys of objects.

        Raises:
            RecursionError: the JSON is nested too deeply.
        """
        if isinstance(value, str):
            return self.redact(value)
        if isinstance(value, list):
            return [self.redact_json(item) for item in value]
        if isinstance(value, dict):
            return {self.redact(key): self.redact_json(item) for key, item in value.items()}
        return value

    def __bool__(self) -> bool:
        return bool(self.__text)

    def __repr__(self) -> str:
        return "***"

    def __reduce__(self) -> Any:
        raise TypeError("a Secret cannot be serialised")


@dataclass(frozen=True)
class Tolerance:
    """By how much a payment may differ from what was asked: percent, and a cap by currency."""

    percent: Decimal
    caps: Mapping[str, Decimal]

    def of(self, amount: Decimal, currency: str) -> Decimal:
        """Return the largest tolerated difference from an amount."""
        allowed = amount * self.percent / 100
        return min(allowed, self.caps.get(currency, allowed))


@dataclass(frozen=True)
class Alerts:
    """Who is alerted when something needs a person: e-mail addresses, a URL, or nobody.

    ``secret`` signs the POSTs to the URL.
    """

    mail: tuple[str, ...]
    #: Some services put a token into it.
    url: Secret
    secret: Secret


@dataclass(frozen=True)
class Conf:
    """The shop's settings, converted to their types; ``docs/settings.rst`` explains each."""

    api_key: Secret
    project_id: str
    api_url: str
    payment_hosts: tuple[str, ...]
    payment_page: str
    csp_sources: tuple[str, ...]
    time_to_pay: Decimal
    description: str
    timeout: float
    currencies: tuple[str, ...]
    min_amount: Any
    max_amount: Any
    order_status_pending: str
    order_status_paid: str
    order_status_cancelled: str
    cancel_after: timedelta | None
    hold_order_for: timedelta | None
    max_pending_orders: int | None
    watch_days: int
    tolerance: Tolerance
    short_payments: str
    refund_address_days: int
    webhook_token: Secret
    alerts: Alerts
    balance_min: Decimal | None
    invoice_numbers: str
    other_methods: tuple[tuple[str, Any], ...]
    extend_checkout: bool
    celery: bool
    mails: bool

    @property
    def pays_in_shop(self) -> bool:
        """Whether the order's page shows addresses and QR codes."""
        return self.payment_page == SHOP

    def offers(self, currency: str, amount: Decimal) -> bool:
        """Return whether Bitsby is offered for this amount in this currency."""
        if amount <= 0 or currency not in self.currencies:
            return False
        low, high = (
            limit.get(currency) if isinstance(limit, Mapping) else limit
            for limit in (self.min_amount, self.max_amount)
        )
        return (low is None or amount >= low) and (high is None or amount <= high)


def _limit(value: Any) -> Any:
    if value is None:
        return None
    if isinstance(value, Mapping):
        return {str(currency): _number(limit) for currency, limit in value.items()}
    return _number(value)


def _number(value: Any) -> Decimal:
    number = Decimal(str(value))
    if number.is_nan():
        # Any comparison with NaN raises.
        raise ValueError("not a number")
    return number


def _count(value: Any) -> int | None:
    if value is None:
        return None
    number = int(value)
    if number < 1:
        raise ValueError("less than one")
    return number


def _tolerance(value: Any) -> Tolerance:
    """Convert a number of percent, or a dict of ``PERCENT`` and the caps by currency."""
    if not isinstance(value, Mapping):
        return Tolerance(_number(value), {})
    caps = {str(key): _number(cap) for key, cap in value.items() if key != "PERCENT"}
    return Tolerance(_number(value["PERCENT"]), caps)


def _alerts(value: Any) -> Alerts:
    unknown = set(value) - {"MAIL", "URL", "SECRET"}
    if unknown:
        raise ValueError("an unknown key")
    return Alerts(
        mail=_texts(value.get("MAIL", ())),
        url=_secret(value.get("URL")),
        secret=_secret(value.get("SECRET")),
    )


def _secret(value: Any) -> Secret:
    return Secret(str(value or ""))


def _methods(value: Any) -> tuple[tuple[str, Any], ...]:
    return tuple((str(code), label) for code, label in value)


def _uuid(value: Any) -> str:
    """Return a UUID as Bitsby writes it; leave other values for the system check to report."""
    try:
        return str(uuid.UUID(str(value)))
    except ValueError:
        return str(value)


def _texts(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        raise TypeError("a list is needed, not a text")
    return tuple(str(item) for item in value)


#: The default of each key, and the function that converts its value.
_KEYS: dict[str, tuple[Any, Callable[[Any], Any]]] = {
    "API_KEY": (None, _secret),
    "PROJECT_ID": (None, _uuid),
    "API_URL": ("https://api.bitsby.app", lambda value: str(value).rstrip("/")),
    "PAYMENT_HOSTS": (["dash.bitsby.app"], lambda value: tuple(map(str.lower, _texts(value)))),
    "PAYMENT_PAGE": (HOSTED, str),
    "CSP_SOURCES": ([], _texts),
    "TIME_TO_PAY": (1, lambda value: Decimal(str(value))),
    "DESCRIPTION": (gettext_noop("Order {number}"), str),
    "TIMEOUT": (10, float),
    "CURRENCIES": (list(CURRENCIES), _texts),
    "MIN_AMOUNT": (None, _limit),
    "MAX_AMOUNT": (None, _limit),
    "ORDER_STATUS_PENDING": (None, str),
    "ORDER_STATUS_PAID": ("Being processed", str),
    "ORDER_STATUS_CANCELLED": ("Cancelled", str),
    "CANCEL_AFTER": (timedelta(hours=1), lambda value: value),
    "HOLD_ORDER_FOR": (timedelta(hours=24), lambda value: value),
    "MAX_PENDING_ORDERS": (5, _count),
    "WATCH_DAYS": (30, int),
    "TOLERANCE": (0, _tolerance),
    "SHORT_PAYMENTS": (REVIEW, str),
    "REFUND_ADDRESS_DAYS": (180, int),
    "WEBHOOK_TOKEN": ("", _secret),
    "ALERTS": ({}, _alerts),
    "BALANCE_MIN": (None, lambda value: None if value is None else _number(value)),
    "INVOICE_NUMBERS": ("", str),
    "OTHER_METHODS": ([], _methods),
    "EXTEND_CHECKOUT": (True, bool),
    "CELERY": (False, bool),
    "MAILS": (True, bool),
}
DEFAULTS = {key: default for key, (default, _) in _KEYS.items()}


def raw() -> Mapping[str, Any] | None:
    """Return ``settings.OSCAR_BITSBY`` unchanged, or None if it is missing or empty."""
    value = getattr(django_settings, "OSCAR_BITSBY", None)
    return value or None


def is_configured() -> bool:
    """Return whether the shop has set ``OSCAR_BITSBY``; without it the app does nothing."""
    return raw() is not None


def get() -> Conf:
    """Return the shop's settings, with defaults for missing keys.

    Every call reads the settings again, so that changes take effect at once.

    Raises:
        ConfigurationError: a setting is missing or invalid. The message names it, but does not
            repeat the value, which may be the API key.
    """
    # The error is raised here and not in _read(), whose local variables contain the key: error
    # reports show the variables of each frame.
    result = _read()
    if isinstance(result, str):
        raise ConfigurationError(result)
    return Conf(**result)


def _read() -> dict[str, Any] | str:
    """Return the converted settings, or a text that says what is wrong with them."""
    given = raw()
    if given is None:
        return "settings.OSCAR_BITSBY is not set"
    if not isinstance(given, Mapping):
        return "settings.OSCAR_BITSBY is not a dict"
    values = DEFAULTS | dict(given)
    for key in ("API_KEY", "PROJECT_ID"):
        if not values[key]:
            return f"OSCAR_BITSBY['{key}'] is not set"
    for key in ("CANCEL_AFTER", "HOLD_ORDER_FOR"):
        if values[key] is not None and not isinstance(values[key], timedelta):
            return f"OSCAR_BITSBY['{key}'] is neither a timedelta nor None"
    if values["ORDER_STATUS_PENDING"] is None:
        values["ORDER_STATUS_PENDING"] = getattr(django_settings, "OSCAR_INITIAL_ORDER_STATUS", "")
    converted: dict[str, Any] = {}
    for key, (_, convert) in _KEYS.items():
        try:
            converted[key.lower()] = convert(values[key])
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            return f"OSCAR_BITSBY['{key}'] cannot be used ({type(error).__name__})"
    return converted


def other_methods() -> tuple[tuple[str, Any], ...]:
    """Return the shop's other payment methods, even if other settings are invalid."""
    try:
        return _methods((raw() or {}).get("OTHER_METHODS", ()))
    except (AttributeError, TypeError, ValueError):
        return ()


def extends_checkout() -> bool:
    """Return whether the app extends the shop's checkout by itself."""
    given = raw()
    return isinstance(given, Mapping) and bool(given.get("EXTEND_CHECKOUT", True))
