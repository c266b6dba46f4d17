"""What Bitsby answers, as frozen dataclasses: unknown fields are ignored, missing ones tolerated
where the documentation leaves room, and a wrong shape is a ``ValueError``."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

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
