"""The sums of a month: paid, waiting, to decide and refunded, by currency, day and coin.

The figures are sums of the rows that the export lists, by the same definitions. Days and months are
those of UTC, and amounts of different currencies are never added.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from django.db.models import BooleanField, Count, ExpressionWrapper, F, Q, QuerySet, Sum
from django.db.models.functions import TruncDay

from oscar_bitsby.choices import InvoiceStatus, RefundState
from oscar_bitsby.models import PAYMENT_TIME, BitsbyInvoice, BitsbyPayment, BitsbyRefund
from oscar_bitsby.utils.money import to_cents
from oscar_bitsby.utils.months import Month


@dataclass
class Total:
    """A sum of money, and of how many rows."""

    amount: Decimal = Decimal(0)
    count: int = 0

    def add(self, amount: Decimal, count: int) -> None:
        self.amount += amount
        self.count += count


@dataclass
class Figures:
    """The four sums of one currency: of a month, a day, a coin, or a coin on a day."""

    paid: Total = field(default_factory=Total)
    to_decide: Total = field(default_factory=Total)
    #: The part of ``to_decide`` that is booked, and so in ``paid`` as well.
    to_decide_booked: Total = field(default_factory=Total)
    waiting: Total = field(default_factory=Total)
    refunds: Total = field(default_factory=Total)


@dataclass
class CurrencyFigures:
    """The figures of one currency, in total and by day and coin; days and coins without are absent.

    Coins are in capitals. That of a waiting invoice is empty, since its buyer has not chosen one.
    """

    currency: str
    total: Figures = field(default_factory=Figures)
    by_day: dict[dt.date, Figures] = field(default_factory=dict)
    by_coin: dict[str, Figures] = field(default_factory=dict)
    by_day_and_coin: dict[tuple[dt.date, str], Figures] = field(default_factory=dict)

    def add(self, name: str, day: dt.date, coin: str, amount: Decimal, count: int) -> None:
        """Add a sum to the figure ``name`` wherever it belongs."""
        for figures in (
            self.total,
            self.by_day.setdefault(day, Figures()),
            self.by_coin.setdefault(coin, Figures()),
            self.by_day_and_coin.setdefault((day, coin), Figures()),
        ):
            getattr(figures, name).add(amount, count)


@dataclass(frozen=True)
class Unvalued:
    """Payments or refunds in one coin without a known fiat amount, so that no sum has them."""

    is_refund: bool
    coin: str
    coin_amount: Decimal
    count: int


@dataclass(frozen=True)
class Overview:
    """The figures of a month by currency, and its payments and refunds of unknown value."""

    currencies: list[CurrencyFigures]
    unvalued: list[Unvalued]


def overview_of(month: Month) -> Overview:
    """Return the figures of a month, from four queries that let the database add."""
    found: dict[str, CurrencyFigures] = {}
    unvalued: dict[tuple[bool, str], Unvalued] = {}
    for name, row in _sums(month):
        coin, currency = row.get("coin", "").upper(), row["currency"]
        if row["valued"]:
            figures = found.setdefault(currency, CurrencyFigures(currency))
            # SQLite adds decimals as floats.
            figures.add(name, row["day"].date(), coin, to_cents(row["total"]), row["valued"])
        if row.get("unvalued"):
            key = (name == "refunds", coin)
            before = unvalued.get(key, Unvalued(*key, Decimal(0), 0))
            coins, count = before.coin_amount + row["coins"], before.count + row["unvalued"]
            unvalued[key] = Unvalued(*key, coins, count)
    return Overview(
        [found[currency] for currency in sorted(found)], [unvalued[key] for key in sorted(unvalued)]
    )


def _sums(month: Month) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the sums by day, coin and currency, each with the name of its figure."""
    payments = BitsbyPayment.objects.filter(is_foreign=False)
    # Booked payments have a value. The index has to hold every column that this query reads.
    paid = _in(month, payments.filter(booked_at__isnull=False), PAYMENT_TIME)
    for row in _grouped(paid, "fiat_value", coin=F("cryptocurrency")):
        yield "paid", row
    to_decide = _in(month, payments.needs_review().filter(is_dust=False), PAYMENT_TIME)
    is_booked = ExpressionWrapper(Q(booked_at__isnull=False), BooleanField())
    by = {"coin": F("cryptocurrency"), "is_booked": is_booked}
    for row in _grouped(to_decide, "fiat_value", "amount", **by):
        yield "to_decide", row
        if row["is_booked"]:
            yield "to_decide_booked", row
    waiting = _in(month, BitsbyInvoice.objects.filter(status=InvoiceStatus.UNPAID), F("created_at"))
    for row in _grouped(waiting, "amount"):
        yield "waiting", row
    refunds = _in(month, BitsbyRefund.objects.filter(state=RefundState.SENT), F("closed_at"))
    for row in _grouped(refunds, "amount", "coin_amount", coin=F("cryptocurrency")):
        yield "refunds", row


def _in(month: Month, rows: QuerySet[Any], time: Any) -> Any:
    """Restrict rows to those whose time is in the month, and annotate their ``day``."""
    rows = rows.alias(time=time).filter(time__gte=month.start, time__lt=month.end)
    return rows.annotate(day=TruncDay("time", tzinfo=dt.timezone.utc))


def _grouped(rows: Any, value: str, coins: str = "", **columns: Any) -> Any:
    """Return the sums of ``value``, and for rows without one those of the column ``coins``.

    They are grouped by day, currency and ``columns``.
    """
    sums = {"total": Sum(value), "valued": Count(value)}
    if coins:
        without = Q(**{f"{value}__isnull": True})
        sums |= {"coins": Sum(coins, filter=without), "unvalued": Count("pk", filter=without)}
    return rows.order_by().values("day", "currency", **columns).annotate(**sums)
