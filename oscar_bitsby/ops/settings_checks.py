"""System checks of ``OSCAR_BITSBY``: values that are wrong, whatever the shop around them is."""

import re
import uuid
from collections.abc import Iterator, Mapping
from datetime import timedelta
from urllib.parse import urlsplit

from django.conf import settings as django_settings
from django.core.checks import CheckMessage, Error, Warning
from django.utils.module_loading import import_string

from oscar_bitsby import conf

#: A scheme, a host and perhaps a port. Anything else could change the policy.
_ORIGIN = re.compile(r"https?://[a-zA-Z0-9.-]+(:[0-9]+)?")


def check_keys() -> Iterator[CheckMessage]:
    """Find keys that the app does not know."""
    given = conf.raw()
    if not isinstance(given, Mapping):
        return
    unknown = sorted(map(str, set(given) - set(conf.DEFAULTS)))
    if unknown:
        yield Error(
            f"OSCAR_BITSBY has unknown keys: {', '.join(unknown)}.",
            hint=f"Remove or correct them. Valid keys are: {', '.join(conf.DEFAULTS)}.",
            id="oscar_bitsby.E003",
        )


def check_credentials(settings: conf.Conf) -> Iterator[CheckMessage]:
    """Find an API key or project id that cannot be right."""
    if not re.fullmatch(r"[!-~]+", settings.api_key.reveal()):
        yield Error(
            "OSCAR_BITSBY['API_KEY'] has characters that are not valid in a key, such as spaces.",
            hint="Copy the key from your Bitsby account again, without the word 'Token'.",
            id="oscar_bitsby.E002",
        )
    try:
        uuid.UUID(settings.project_id)
    except ValueError:
        yield Error(
            "OSCAR_BITSBY['PROJECT_ID'] is not a UUID.",
            hint="Copy the id from the project's settings at Bitsby. It looks like"
            " 9deea1e2-0c08-41a3-bdc2-a34eada3892d.",
            id="oscar_bitsby.E002",
        )


def check_values(settings: conf.Conf) -> Iterator[CheckMessage]:
    """Find values that Bitsby or the app does not accept."""
    if settings.time_to_pay not in conf.TIMES_TO_PAY:
        yield Error(
            f"OSCAR_BITSBY['TIME_TO_PAY'] is {settings.time_to_pay}, which Bitsby does not accept.",
            hint="Set it to 0.5, 1, 3, 6 or 12 hours.",
            id="oscar_bitsby.E004",
        )
    strange = [item for item in settings.currencies if item not in conf.CURRENCIES]
    if strange or not settings.currencies:
        fault = f"has currencies that Bitsby does not accept: {', '.join(strange)}"
        yield Error(
            f"OSCAR_BITSBY['CURRENCIES'] {fault if strange else 'is empty'}.",
            hint="Bitsby accepts USD, EUR and RUB; list at least one of them.",
            id="oscar_bitsby.E005",
        )
    if not 1 <= settings.timeout <= 60:
        yield Error(
            "OSCAR_BITSBY['TIMEOUT'] is not between 1 and 60 seconds.",
            hint="Buyers wait this long if Bitsby does not answer; 10 is a good value.",
            id="oscar_bitsby.E010",
        )
    hold = settings.hold_order_for
    if hold is not None and hold < timedelta(hours=float(settings.time_to_pay)):
        yield Warning(
            "OSCAR_BITSBY['HOLD_ORDER_FOR'] is shorter than TIME_TO_PAY, so a buyer can have only"
            " one invoice and little time to start paying.",
            hint="Set it to more than TIME_TO_PAY; timedelta(hours=24) is a good value.",
            id="oscar_bitsby.W008",
        )
    if settings.watch_days < 1:
        yield Error(
            "OSCAR_BITSBY['WATCH_DAYS'] is less than 1, so late payments would not be found.",
            hint="Set it to 1 or more days; 30 is a good value.",
            id="oscar_bitsby.E010",
        )
    least = settings.balance_min
    if least is not None and (least < 0 or not least.is_finite()):
        yield Warning(
            "OSCAR_BITSBY['BALANCE_MIN'] is not zero or a positive number of USD.",
            hint="A negative balance is warned of in any case: set it to the balance below which"
            " you want to top it up, or to None.",
            id="oscar_bitsby.W010",
        )
    yield from _check_wrong_amounts(settings)
    yield from _check_payment_page(settings)
    yield from _check_invoice_numbers(settings)
    codes = [code for code, _ in settings.other_methods]
    if conf.METHOD_CODE in codes or len(set(codes)) < len(codes):
        yield Error(
            "OSCAR_BITSBY['OTHER_METHODS'] has a code twice, or the reserved code 'bitsby'.",
            hint="List only the methods that the shop handles itself, each once.",
            id="oscar_bitsby.E011",
        )
    if not re.fullmatch(r"[A-Za-z0-9_-]*", settings.webhook_token.reveal()):
        yield Error(
            "OSCAR_BITSBY['WEBHOOK_TOKEN'] has characters that are not allowed in a URL.",
            hint="Use letters, digits, '-' and '_'.",
            id="oscar_bitsby.E012",
        )


def _check_payment_page(settings: conf.Conf) -> Iterator[CheckMessage]:
    if settings.payment_page not in (conf.HOSTED, conf.SHOP):
        yield Error(
            "OSCAR_BITSBY['PAYMENT_PAGE'] is neither 'hosted' nor 'shop'.",
            hint="Set it to 'hosted' for Bitsby's page, or to 'shop' for the order's page.",
            id="oscar_bitsby.E010",
        )
    strange = [item for item in settings.csp_sources if not _ORIGIN.fullmatch(item)]
    if strange:
        yield Error(
            f"OSCAR_BITSBY['CSP_SOURCES'] has what is not an origin: {', '.join(strange)}.",
            hint="List schemes and hosts without a path, such as 'https://cdn.example.com'.",
            id="oscar_bitsby.E010",
        )


def _check_wrong_amounts(settings: conf.Conf) -> Iterator[CheckMessage]:
    tolerance = settings.tolerance
    if not 0 <= tolerance.percent <= 5 or any(cap < 0 for cap in tolerance.caps.values()):
        yield Error(
            "OSCAR_BITSBY['TOLERANCE'] is not between 0 and 5 percent, or has a negative cap.",
            hint="Set it to a number of percent such as 1, or to a dict such as"
            " {'PERCENT': 1, 'EUR': 2}.",
            id="oscar_bitsby.E010",
        )
    strange = sorted(set(tolerance.caps) - set(conf.CURRENCIES))
    if strange:
        yield Error(
            "OSCAR_BITSBY['TOLERANCE'] has a cap for a currency that Bitsby does not accept:"
            f" {', '.join(strange)}.",
            hint="Bitsby accepts USD, EUR and RUB; the number of percent has the key 'PERCENT'.",
            id="oscar_bitsby.E010",
        )
    if settings.short_payments not in (conf.REVIEW, conf.ASK):
        yield Error(
            "OSCAR_BITSBY['SHORT_PAYMENTS'] is neither 'review' nor 'ask'.",
            hint="Set it to 'review', or to 'ask' to ask buyers for the rest of short payments.",
            id="oscar_bitsby.E010",
        )
    if settings.refund_address_days < 1:
        yield Error(
            "OSCAR_BITSBY['REFUND_ADDRESS_DAYS'] is less than 1, so addresses of refunds would be"
            " erased at once.",
            hint="Set it to 1 or more days; 180 is a good value.",
            id="oscar_bitsby.E010",
        )


def _check_invoice_numbers(settings: conf.Conf) -> Iterator[CheckMessage]:
    if not settings.invoice_numbers:
        return
    try:
        found = import_string(settings.invoice_numbers)
    except Exception as error:
        # Whatever the shop's module raises when it is imported.
        fault = f"cannot be imported ({type(error).__name__})"
    else:
        fault = "" if callable(found) else "is not a function"
    if fault:
        yield Error(
            f"OSCAR_BITSBY['INVOICE_NUMBERS'] {fault}, so exports would fail.",
            hint="Set it to the dotted path of a function, such as 'shop.books.invoice_numbers', or"
            " remove it.",
            id="oscar_bitsby.E010",
        )


def check_default_currency(settings: conf.Conf) -> Iterator[CheckMessage]:
    """Warn of baskets that no payment method is offered for."""
    currency = getattr(django_settings, "OSCAR_DEFAULT_CURRENCY", None)
    # Other currencies than Bitsby's have an error of their own.
    is_valid = bool(settings.currencies) and set(settings.currencies) <= set(conf.CURRENCIES)
    if currency and is_valid and currency not in settings.currencies and not settings.other_methods:
        yield Warning(
            f"OSCAR_DEFAULT_CURRENCY is {currency!r}, which OSCAR_BITSBY['CURRENCIES'] does not"
            " have, and OTHER_METHODS is empty: no payment method is offered for baskets in this"
            " currency, so they cannot be ordered.",
            hint=f"Set OSCAR_DEFAULT_CURRENCY to one of {', '.join(settings.currencies)}, or list"
            " the shop's other payment methods in OTHER_METHODS.",
            id="oscar_bitsby.W007",
        )


def check_addresses(settings: conf.Conf) -> Iterator[CheckMessage]:
    """Find addresses that are wrong or not safe."""
    address = urlsplit(settings.api_url)
    if address.scheme not in ("http", "https") or not address.netloc:
        yield Error(
            "OSCAR_BITSBY['API_URL'] is not an http or https URL.",
            hint="Remove it; a URL other than Bitsby's is only for the simulator.",
            id="oscar_bitsby.E013",
        )
    elif address.scheme != "https" and not django_settings.DEBUG:
        yield Warning(
            "OSCAR_BITSBY['API_URL'] is not https, so the API key is sent unencrypted.",
            hint="Remove it; a URL other than Bitsby's is only for the simulator.",
            id="oscar_bitsby.W002",
        )
    if not settings.payment_hosts or any("/" in host for host in settings.payment_hosts):
        yield Error(
            "OSCAR_BITSBY['PAYMENT_HOSTS'] is empty or contains URLs, so no buyer could be sent"
            " to the payment page.",
            hint="List host names only, such as 'dash.bitsby.app'.",
            id="oscar_bitsby.E013",
        )
