"""The rows of an export: one for each movement of money, or one for each invoice.

``accounting.export_formats`` writes them. The database computes the cells, and server-side cursors
read them, so that memory stays flat.
"""

from __future__ import annotations

import datetime as dt
import heapq
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from itertools import islice
from operator import itemgetter
from typing import Any

from django.contrib.auth import get_user_model
from django.db.models import Case, Count, DecimalField, F, Min, Q, Sum, Value, When
from django.db.models.functions import Coalesce, Concat, Trim
from django.utils.module_loading import import_string
from django.utils.translation import gettext as _

from oscar_bitsby import conf
from oscar_bitsby.choices import RefundState, Resolution
from oscar_bitsby.exceptions import BitsbyError
from oscar_bitsby.models import PAYMENT_TIME, BitsbyInvoice, BitsbyPayment, BitsbyRefund
from oscar_bitsby.utils.days import FIRST_DAY, LAST_DAY, midnight

logger = logging.getLogger("oscar_bitsby")


class ColumnType(Enum):
    """What the cells of a column are."""

    TIME = "time"
    TEXT = "text"
    FIAT = "fiat amount"
    COINS = "amount in coin"


#: The columns of every export. Programs of shops read them: new ones are added at the end.
COLUMNS = {
    "time": ColumnType.TIME,
    "order_number": ColumnType.TEXT,
    "invoice_number": ColumnType.TEXT,
    "bitsby_invoice_id": ColumnType.TEXT,
    "bitsby_invoice_uid": ColumnType.TEXT,
    "payment_id": ColumnType.TEXT,
    "kind": ColumnType.TEXT,
    "coin": ColumnType.TEXT,
    "chain": ColumnType.TEXT,
    "coin_amount": ColumnType.COINS,
    "address": ColumnType.TEXT,
    "transaction_hash": ColumnType.TEXT,
    "asked_amount": ColumnType.FIAT,
    "worth": ColumnType.FIAT,
    "currency": ColumnType.TEXT,
    "locked_rate": ColumnType.COINS,
    "commission_usd": ColumnType.FIAT,
    "reason": ColumnType.TEXT,
    "decision": ColumnType.TEXT,
    "decided_by": ColumnType.TEXT,
    "note": ColumnType.TEXT,
    "time_source": ColumnType.TEXT,
    "booked": ColumnType.TIME,
    "status": ColumnType.TEXT,
}
_NAMES = list(COLUMNS)
_NUMBER, _COMMISSION = _NAMES.index("invoice_number"), _NAMES.index("commission_usd")
_WORTH, _BOOKED = _NAMES.index("worth"), _NAMES.index("booked")

#: A value for each of ``COLUMNS``: a datetime, an amount, a text or UUID; None is an empty cell.
Row = tuple[Any, ...]

PAYMENTS, REFUNDS, INVOICES = "payments", "refunds", "invoices"
KINDS = (PAYMENTS, REFUNDS, INVOICES)

#: Rows that are read from the database at a time.
CHUNK = 2_000
#: Order numbers that ``INVOICE_NUMBERS`` gets at a time.
MAX_NUMBERS = 1_000

_EMPTY = Value("")
_NO_AMOUNT = Value(None, output_field=DecimalField())


class CannotExport(BitsbyError):
    """The export was refused or has failed. The message is for the person who asked for it."""


@dataclass(frozen=True)
class Period:
    """An interval of time, without its end."""

    start: dt.datetime
    end: dt.datetime


def period_of(first: dt.date, end: dt.date) -> Period:
    """Return the time from the beginning of one day to the beginning of another one, in UTC.

    Raises:
        CannotExport: the second day is not later, or a day is not from 2000 to 2200.
    """
    if not (FIRST_DAY <= first <= LAST_DAY and FIRST_DAY <= end <= LAST_DAY):
        raise CannotExport(_("Enter days from 2000-01-01 to 2200-01-01"))
    if end <= first:
        raise CannotExport(_("The end must be later than the start, and is not part of the export"))
    return Period(midnight(first), midnight(end))


def rows_of(period: Period, kind: str = "") -> Iterator[Row]:
    """Return the rows of a period, oldest first.

    Args:
        kind: one of ``KINDS``; without it all movements of money: payments and sent refunds.

    Raises:
        CannotExport: ``INVOICE_NUMBERS`` fails, now or while the rows are read.
    """
    if kind == INVOICES:
        return invoice_rows(_invoices(period).order_by("created_at", "pk"))
    found = []
    if kind != REFUNDS:
        found.append(_payment_rows(period))
    if kind != PAYMENTS:
        found.append(_refund_rows(period))
    return _with_invoice_numbers(heapq.merge(*found, key=itemgetter(0)))


def count_rows(period: Period, kind: str = "") -> int:
    """Return the number of rows that ``rows_of`` yields."""
    if kind == INVOICES:
        return int(_invoices(period).count())
    payments = 0 if kind == REFUNDS else _payments(period).count()
    return int(payments + (0 if kind == PAYMENTS else _refunds(period).count()))


def invoice_rows(invoices: Any) -> Iterator[Row]:
    """Return a row for each invoice of a queryset, in its order.

    Raises:
        CannotExport: ``INVOICE_NUMBERS`` fails, now or while the rows are read.
    """
    return _with_invoice_numbers(_invoice_rows(invoices))


def _payments(period: Period) -> Any:
    rows = BitsbyPayment.objects.filter(is_foreign=False).annotate(time=PAYMENT_TIME)
    return rows.filter(time__gte=period.start, time__lt=period.end)


def _refunds(period: Period) -> Any:
    return BitsbyRefund.objects.filter(
        state=RefundState.SENT, closed_at__gte=period.start, closed_at__lt=period.end
    )


def _invoices(period: Period) -> Any:
    return BitsbyInvoice.objects.filter(created_at__gte=period.start, created_at__lt=period.end)


def _payment_rows(period: Period) -> Iterator[Row]:
    is_open = ~Q(review_reason="") & Q(resolved_at=None)
    by_app = Q(resolution__in=(Resolution.ASKED, Resolution.TOLERATED))
    decided_by = Case(
        When(resolved_at=None, then=_EMPTY),
        When(by_app, then=Value("(app)")),
        default=Value("(former user)"),
    )
    found = _payments(period).values_list(
        "time",
        "invoice__order_number",
        _EMPTY,
        # A payment may be bound to an invoice that this shop does not know.
        Coalesce("invoice__bitsby_id", "bound_to"),
        "invoice__uid",
        "bitsby_id",
        Value("payment"),
        *("cryptocurrency", "blockchain", "amount", "address", "hash"),
        *("invoice__amount", "fiat_value", "currency", "locked_rate", "invoice__commission_usd"),
        Trim(Concat("review_reason", Value(" "), "further_reasons")),
        "resolution",
        Coalesce(f"resolved_by__{get_user_model().USERNAME_FIELD}", decided_by),
        "resolution_note",
        Case(When(transaction_at=None, then=Value("first seen")), default=Value("chain")),
        "booked_at",
        Case(
            When(is_open & Q(is_dust=True), then=Value("very small")),
            When(is_open, then=Value("to decide")),
            default=Value("settled"),
        ),
        "pk",
    )
    further = _further_payments()
    for row in found.order_by("time", "pk").iterator(chunk_size=CHUNK):
        if row[-1] in further:
            yield _replace(row, _COMMISSION, None)[:-1]
        else:
            yield row[:-1]


def _further_payments() -> set[Any]:
    """Return the payments whose invoice has an earlier one, to which its commission belongs.

    Bitsby names one commission for an invoice. On each of its payments it would count twice.
    """
    own = BitsbyPayment.objects.filter(is_foreign=False, invoice__commission_usd__isnull=False)
    several = own.order_by().values("invoice").annotate(number=Count("pk")).filter(number__gt=1)
    booked_first = ("invoice", F("booked_at").asc(nulls_last=True), "pk")
    payments = own.filter(invoice__in=several.values("invoice")).order_by(*booked_first)
    found, previous = set(), None
    for invoice, pk in payments.values_list("invoice", "pk"):
        if invoice == previous:
            found.add(pk)
        previous = invoice
    return found


def _refund_rows(period: Period) -> Iterator[Row]:
    username = f"closed_by__{get_user_model().USERNAME_FIELD}"
    found = _refunds(period).values_list(
        "closed_at",
        "order_number",
        _EMPTY,
        Coalesce("payment__invoice__bitsby_id", "payment__bound_to"),
        "payment__invoice__uid",
        "payment__bitsby_id",
        Value("refund"),
        *("cryptocurrency", "blockchain", "coin_amount", "address", "transaction_hash"),
        *(_NO_AMOUNT, "amount", "currency", "payment__locked_rate", _NO_AMOUNT),
        *(_EMPTY, _EMPTY, Coalesce(username, Value("(former user)")), "note"),
        Value("sent"),
        Case(When(is_booked=True, then=F("closed_at"))),
        "state",
    )
    rows: Iterator[Row] = found.order_by("closed_at", "pk").iterator(chunk_size=CHUNK)
    return rows


def _invoice_rows(invoices: Any) -> Iterator[Row]:
    found = invoices.values_list(
        "created_at",
        "order_number",
        _EMPTY,
        *("bitsby_id", "uid", _EMPTY),
        Value("invoice"),
        *(_EMPTY, _EMPTY, _NO_AMOUNT, _EMPTY, _EMPTY),
        *("amount", _NO_AMOUNT, "currency", _NO_AMOUNT, "commission_usd"),
        *(_EMPTY, _EMPTY, _EMPTY),
        Case(When(failure="", then=F("unanswered_reason")), default=F("failure")),
        Value("created"),
        _NO_AMOUNT,
        "status",
        "pk",
    )
    rows = found.iterator(chunk_size=CHUNK)
    while chunk := list(islice(rows, MAX_NUMBERS)):
        paid = _received([row[-1] for row in chunk])
        for *row, pk in chunk:
            row[_WORTH], row[_BOOKED] = paid.get(pk, (None, None))
            yield tuple(row)


def _received(invoices: list[Any]) -> dict[Any, tuple[Any, Any]]:
    """Return what was booked for invoices, and when first, by their primary keys."""
    payments = BitsbyPayment.objects.filter(invoice__in=invoices, booked_at__isnull=False)
    groups = payments.filter(is_foreign=False).order_by().values_list("invoice")
    sums = groups.annotate(Sum("fiat_value"), Min("booked_at"))
    return {invoice: (worth, booked_at) for invoice, worth, booked_at in sums}


def _replace(row: Row, index: int, value: Any) -> Row:
    return (*row[:index], value, *row[index + 1 :])


def _with_invoice_numbers(rows: Iterator[Row]) -> Iterator[Row]:
    """Return rows with the shop's invoice numbers, if ``INVOICE_NUMBERS`` is set."""
    path = conf.get().invoice_numbers if conf.is_configured() else ""
    if not path:
        return rows
    try:
        hook = import_string(path)
    except Exception as error:
        logger.exception("INVOICE_NUMBERS cannot be imported")
        raise CannotExport(_hook_failed(error)) from error
    return _fill_in(rows, hook)


def _fill_in(rows: Iterator[Row], hook: Any) -> Iterator[Row]:
    order_number = _NUMBER - 1
    while chunk := list(islice(rows, MAX_NUMBERS)):
        orders = sorted({row[order_number] for row in chunk if row[order_number]})
        try:
            numbers = hook(orders) if orders else {}
            if not isinstance(numbers, Mapping):
                raise TypeError(f"it returned no dict, but {type(numbers).__name__}")
        except Exception as error:
            logger.exception("INVOICE_NUMBERS failed")
            raise CannotExport(_hook_failed(error)) from error
        for row in chunk:
            number = numbers.get(row[order_number])
            yield row if number is None else _replace(row, _NUMBER, str(number))


def _hook_failed(error: Exception) -> str:
    text = _("The shop's function for invoice numbers (INVOICE_NUMBERS) has failed: %s")
    return text % f"{type(error).__name__}: {error}"
