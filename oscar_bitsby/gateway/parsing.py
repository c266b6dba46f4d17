"""Parse the API's JSON into the dataclasses of ``schemas``.

Every function raises ``ValueError`` for a value that is not as documented. Its message does not
repeat the value, which may be anything. Unknown fields are ignored.
"""

import datetime as dt
import json
import re
import uuid
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, TypeVar

from oscar_bitsby.gateway.schemas import Balances, CreatedInvoice, Invoice, Payment, Tariff, Wallet
from oscar_bitsby.utils.money import parse_amount

T = TypeVar("T")


def parse_invoice(data: Any) -> Invoice:
    """Parse an item of ``invoices/list``, or the ``invoice`` of a payment."""
    item = _mapping(data)
    payment = item.get("payment")
    return Invoice(
        id=parse_uuid(item.get("id")),
        status=_text(item.get("status")).lower(),
        uid=_text(item.get("uid")),
        project_id=_text(item.get("projectId")).lower(),
        amount=parse_amount(item.get("amountFiat")),
        currency=_text(item.get("currencyFiat")).upper(),
        created_at=_optional(parse_time, item.get("createDatetime")),
        expires_at=_optional(parse_time, item.get("timeToPayDatetime")),
        service_data=_optional(_text, item.get("serviceData")) or "",
        views=_optional(_count, item.get("views")),
        payment=_parse_transfer(payment, item.get("wallet"), None) if payment else None,
        commission_usd=_optional(parse_amount, item.get("commissionFiatUSD")),
    )


def parse_payment(data: Any) -> Payment:
    """Parse an item of ``payments/list``."""
    item = _mapping(data)
    invoice = item.get("invoice")
    return _parse_transfer(item, item.get("wallet"), parse_invoice(invoice) if invoice else None)


def _parse_transfer(data: Any, wallet: Any, invoice: Invoice | None) -> Payment:
    item = _mapping(data)
    return Payment(
        id=parse_uuid(item.get("id")),
        amount=parse_amount(item.get("amount")),
        hash=_text(item.get("hash")),
        transaction_at=_optional(parse_time, item.get("transactionDatetime")),
        wallet=parse_wallet(wallet) if wallet else None,
        invoice=invoice,
    )


def parse_wallet(data: Any) -> Wallet:
    """Parse a wallet, with the amount that an invoice reserved there if the answer has one."""
    item = _mapping(data)
    return Wallet(
        id=_text(item.get("id")).lower(),
        name=_text(item.get("name")),
        blockchain=_text(item.get("blockchain")),
        cryptocurrency=_text(item.get("cryptocurrency")),
        address=_text(item.get("address")),
        amount=_optional(parse_amount, item.get("amountCrypto")),
    )


def parse_created(data: Any) -> CreatedInvoice:
    """Parse the answer of ``invoices/create``, which needs an id and a payment page."""
    item = _mapping(data)
    url = item.get("url")
    if not isinstance(url, str) or not url or len(url) > 2000:
        raise ValueError("the answer has no payment page")
    listed = item.get("wallets")
    # Unreadable wallets are skipped: the invoice exists and has a payment page without them.
    wallets = (_optional(parse_wallet, one) for one in listed) if isinstance(listed, list) else ()
    return CreatedInvoice(
        id=parse_uuid(item.get("id")),
        uid=_text(item.get("uid")),
        url=strip_unstorable(url),
        created_at=_optional(parse_time, item.get("createDatetime")),
        expires_at=_optional(parse_time, item.get("timeToPayDatetime")),
        wallets=tuple(wallet for wallet in wallets if wallet is not None),
        raw=item,
    )


def parse_balances(data: Any) -> Balances:
    """Parse the answer of ``billing/balances``; the balances may be negative."""
    item = _mapping(data)
    return Balances(*(_signed(item.get(name)) for name in ("internal", "partner")))


def parse_tariff(data: Any) -> Tariff:
    """Parse an item of ``billing/tarrifs``."""
    item = _mapping(data)
    return Tariff(
        id=_text(item.get("id")).lower(),
        name=_text(item.get("name")),
        payer=_text(item.get("payer")),
        rate=_optional(parse_amount, item.get("rate")),
    )


def parse_uuid(value: Any) -> uuid.UUID:
    """Parse the id of an invoice or a payment."""
    if not isinstance(value, str) or len(value) > 45:
        raise ValueError("an id is not a UUID")
    try:
        return uuid.UUID(value)
    except ValueError:
        # The message of uuid.UUID repeats the text.
        raise ValueError("an id is not a UUID") from None


def _mapping(data: Any) -> Mapping[str, Any]:
    if not isinstance(data, Mapping):
        raise ValueError("an object was expected")
    return data


def _text(value: Any) -> str:
    """Return a text or a number as text that fits a database column, and null as an empty text."""
    if value is None:
        return ""
    if isinstance(value, str | int | float | Decimal):
        return strip_unstorable(str(value))[:2000]
    raise ValueError("a text was expected")


def strip_unstorable(text: str) -> str:
    """Remove NUL and replace single surrogates, which databases refuse."""
    return text.replace("\x00", "").encode("utf-8", "replace").decode()


def storable_json(data: Any) -> Any:
    """Return decoded JSON without what some database's JSON column refuses."""
    text = strip_unstorable(json.dumps(data, default=str, ensure_ascii=False))
    # An escaped NUL. After an odd number of backslashes it is ordinary text.
    return json.loads(re.sub(r"(?<!\\)((?:\\\\)*)\\u0000", r"\1", text))


def _count(value: Any) -> int:
    return min(int(parse_amount(value)), 2**31 - 1)


def _signed(value: Any) -> Decimal:
    text = _text(value)
    return -parse_amount(text[1:]) if text.startswith("-") else parse_amount(text)


def _optional(parse: Callable[[Any], T], value: Any) -> T | None:
    """Parse a value that may be missing; return None for a missing or an unreadable one."""
    if value is None or value == "":
        return None
    try:
        return parse(value)
    except ValueError:
        return None


def parse_time(value: Any) -> dt.datetime:
    """Return an aware time in UTC, between the years 2000 and 2200.

    The documented form is ``YYYY-MM-DD HH:MM:SS`` in UTC; any ISO 8601 is read.
    """
    if not isinstance(value, str) or len(value) > 40:
        raise ValueError("a time is not a text")
    text = value.strip()
    # Python 3.10 does not parse the Z of ISO 8601.
    moment = dt.datetime.fromisoformat(text[:-1] + "+00:00" if text.endswith(("Z", "z")) else text)
    if not 2000 <= moment.year <= 2200:
        raise ValueError("a time is out of range")
    if moment.tzinfo is None:
        return moment.replace(tzinfo=dt.timezone.utc)
    return moment.astimezone(dt.timezone.utc)
