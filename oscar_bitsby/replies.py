"""What Bitsby answers, as frozen dataclasses: unknown fields are ignored, missing ones tolerated
where the documentation leaves room, and a wrong shape is a ``ValueError``."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, TypeVar

from oscar_bitsby.money import parse_amount, parse_time

T = TypeVar("T")

#: The words of ``invoices/list``. Another word is kept as it is and treated as unknown.
UNPAID, PAID, EXPIRED, CANCELED = "unpaid", "paid", "expired", "canceled"


@dataclass(frozen=True)
class Wallet:
    """A wallet of the merchant; ``amount`` is what an invoice reserved there, in its coin."""

    id: str
    name: str
    blockchain: str
    cryptocurrency: str
    address: str
    amount: Decimal | None = None


@dataclass(frozen=True)
class Payment:
    """A transfer on the chain that Bitsby saw. ``amount`` is in the wallet's coin.

    ``invoice`` is None for a payment that is bound to no invoice; documented only as "shown only
    if one is bound", so missing, null and empty all mean that.
    """

    id: uuid.UUID
    amount: Decimal
    hash: str
    transaction_at: dt.datetime | None
    wallet: Wallet | None = None
    invoice: Invoice | None = None


@dataclass(frozen=True)
class Invoice:
    """An invoice as ``invoices/list`` tells it; ``payment`` is there only once it is paid."""

    id: uuid.UUID
    status: str
    uid: str
    project_id: str
    amount: Decimal
    currency: str
    created_at: dt.datetime | None
    expires_at: dt.datetime | None
    service_data: str
    views: int | None
    payment: Payment | None = None


@dataclass(frozen=True)
class CreatedInvoice:
    """The answer of ``invoices/create``: the only one with reserved amounts and the page."""

    id: uuid.UUID
    uid: str
    url: str
    created_at: dt.datetime | None
    expires_at: dt.datetime | None
    wallets: tuple[Wallet, ...]
    raw: Mapping[str, Any]


@dataclass(frozen=True)
class Balances:
    """The account's balances; a negative internal one blocks creating invoices."""

    internal: Decimal
    partner: Decimal


@dataclass(frozen=True)
class Tariff:
    """What a project pays: ``rate`` in percent, ``payer`` is ``seller`` or ``buyer``."""

    id: str
    name: str
    payer: str
    rate: Decimal | None


@dataclass(frozen=True)
class HistoryEntry:
    """One line of the account's history; ``amount`` keeps its sign."""

    at: dt.datetime | None
    event: str
    target: str
    amount: str
    comment: str


def read_invoice(data: Any) -> Invoice:
    """Read an item of ``invoices/list``, or the ``invoice`` of a payment."""
    item = _mapping(data)
    payment = item.get("payment")
    return Invoice(
        id=read_uuid(item.get("id")),
        status=_text(item.get("status")).lower(),
        uid=_text(item.get("uid")),
        project_id=_text(item.get("projectId")).lower(),
        amount=parse_amount(item.get("amountFiat")),
        currency=_text(item.get("currencyFiat")).upper(),
        created_at=_optional(parse_time, item.get("createDatetime")),
        expires_at=_optional(parse_time, item.get("timeToPayDatetime")),
        service_data=_optional(_text, item.get("serviceData")) or "",
        views=_optional(_count, item.get("views")),
        payment=_read_transfer(payment, item.get("wallet"), None) if payment else None,
    )


def read_payment(data: Any) -> Payment:
    """Read an item of ``payments/list``."""
    item = _mapping(data)
    invoice = item.get("invoice")
    return _read_transfer(item, item.get("wallet"), read_invoice(invoice) if invoice else None)


def _read_transfer(data: Any, wallet: Any, invoice: Invoice | None) -> Payment:
    item = _mapping(data)
    return Payment(
        id=read_uuid(item.get("id")),
        amount=parse_amount(item.get("amount")),
        hash=_text(item.get("hash")),
        transaction_at=_optional(parse_time, item.get("transactionDatetime")),
        wallet=read_wallet(wallet) if wallet else None,
        invoice=invoice,
    )


def read_wallet(data: Any) -> Wallet:
    """Read a wallet, with the reserved amount where the answer has one."""
    item = _mapping(data)
    return Wallet(
        id=_text(item.get("id")).lower(),
        name=_text(item.get("name")),
        blockchain=_text(item.get("blockchain")),
        cryptocurrency=_text(item.get("cryptocurrency")),
        address=_text(item.get("address")),
        amount=_optional(parse_amount, item.get("amountCrypto")),
    )


def read_created(data: Any) -> CreatedInvoice:
    """Read the answer of ``invoices/create``; without an id or a page it is of no use."""
    item = _mapping(data)
    url = item.get("url")
    if not isinstance(url, str) or not url or len(url) > 2000:
        raise ValueError("the answer has no payment page")
    return CreatedInvoice(
        id=read_uuid(item.get("id")),
        uid=_text(item.get("uid")),
        url=storable(url),
        created_at=_optional(parse_time, item.get("createDatetime")),
        expires_at=_optional(parse_time, item.get("timeToPayDatetime")),
        wallets=_wallets(item.get("wallets")),
        raw=item,
    )


def _wallets(data: Any) -> tuple[Wallet, ...]:
    """Read what can be read: the invoice exists and has a page, whatever its wallets look like."""
    if not isinstance(data, list):
        return ()
    wallets = (_optional(read_wallet, item) for item in data)
    return tuple(wallet for wallet in wallets if wallet is not None)


def read_balances(data: Any) -> Balances:
    """Read the answer of ``billing/balances``; the internal one may be negative."""
    item = _mapping(data)
    return Balances(*(_signed(item.get(name)) for name in ("internal", "partner")))


def read_tariff(data: Any) -> Tariff:
    """Read an item of ``billing/tarrifs``."""
    item = _mapping(data)
    return Tariff(
        id=_text(item.get("id")).lower(),
        name=_text(item.get("name")),
        payer=_text(item.get("payer")),
        rate=_optional(parse_amount, item.get("rate")),
    )


def read_history_entry(data: Any) -> HistoryEntry:
    """Read an item of ``billing/history``."""
    item = _mapping(data)
    texts = (_text(item.get(name)) for name in ("event", "target", "amount", "comment"))
    return HistoryEntry(_optional(parse_time, item.get("datetime")), *texts)


def read_uuid(value: Any) -> uuid.UUID:
    """Read an id; a ``ValueError`` when it is not a UUID."""
    if not isinstance(value, str) or len(value) > 45:
        raise ValueError("an id is not a UUID")
    try:
        return uuid.UUID(value)
    except ValueError:
        # Its own message quotes the text, whatever that is.
        raise ValueError("an id is not a UUID") from None


def _mapping(data: Any) -> Mapping[str, Any]:
    if not isinstance(data, Mapping):
        raise ValueError("an object was expected")
    return data


def _text(value: Any) -> str:
    """Take texts and numbers as they come, null as empty, within what a column holds."""
    if value is None:
        return ""
    if isinstance(value, str | int | float | Decimal):
        return storable(str(value))[:2000]
    raise ValueError("a text was expected")


def storable(text: str) -> str:
    """Return ``text`` without what no database column takes: NUL, and halves of surrogate pairs."""
    return text.replace("\x00", "").encode("utf-8", "replace").decode()


def _count(value: Any) -> int:
    count = int(parse_amount(value))
    return min(count, 2**31 - 1)


def _signed(value: Any) -> Decimal:
    text = _text(value)
    return -parse_amount(text[1:]) if text.startswith("-") else parse_amount(text)


def _optional(read: Callable[[Any], T], value: Any) -> T | None:
    """Read what an answer may leave out; rubbish there is as good as nothing."""
    if value is None or value == "":
        return None
    try:
        return read(value)
    except ValueError:
        return None
