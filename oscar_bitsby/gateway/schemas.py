"""The shapes of the API's answers, as frozen dataclasses; ``parsing`` creates them."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

#: The documented statuses of an invoice. Any other status is kept and treated as unknown.
UNPAID, PAID, EXPIRED, CANCELED = "unpaid", "paid", "expired", "canceled"


@dataclass(frozen=True)
class Wallet:
    """A wallet of the merchant; ``amount`` is the crypto amount that an invoice reserved there."""

    id: str
    name: str
    blockchain: str
    cryptocurrency: str
    address: str
    amount: Decimal | None = None


@dataclass(frozen=True)
class Payment:
    """A transfer on the blockchain that Bitsby saw. ``amount`` is in the wallet's coin.

    ``invoice`` is None for a payment that is not bound to an invoice. The documentation only says
    "shown only if one is bound", so a missing, a null and an empty one all mean that.
    """

    id: uuid.UUID
    amount: Decimal
    hash: str
    transaction_at: dt.datetime | None
    wallet: Wallet | None = None
    invoice: Invoice | None = None


@dataclass(frozen=True)
class Invoice:
    """An item of ``invoices/list``; only a paid invoice has a ``payment``."""

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
    commission_usd: Decimal | None = None


@dataclass(frozen=True)
class CreatedInvoice:
    """The answer of ``invoices/create``, the only one with amounts and the payment page."""

    id: uuid.UUID
    uid: str
    url: str
    created_at: dt.datetime | None
    expires_at: dt.datetime | None
    wallets: tuple[Wallet, ...]
    raw: Mapping[str, Any]


@dataclass(frozen=True)
class Balances:
    """The account's balances in USD; a negative ``internal`` one blocks new invoices."""

    internal: Decimal
    partner: Decimal


@dataclass(frozen=True)
class Tariff:
    """The commission of a project: ``rate`` in percent; ``payer`` is ``seller`` or ``buyer``."""

    id: str
    name: str
    payer: str
    rate: Decimal | None
