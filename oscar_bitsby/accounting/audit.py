"""What an audit compares: the lists that it has read, our rows, and the differences in them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from django.db import models, router
from django.db.models import Exists, OuterRef, Q, Subquery
from django.db.models.functions import Coalesce

from oscar_bitsby.choices import DifferenceKind
from oscar_bitsby.gateway.client import CONFIRMATION_LAG
from oscar_bitsby.models import PAYMENT_TIME, AuditedItem, AuditRun, BitsbyInvoice, BitsbyPayment

M = TypeVar("M", bound=models.Model)

#: Rows that are in memory at the same time.
CHUNK = 500
#: The names of Bitsby's two lists.
LISTS = PAYMENTS, INVOICES = "payments", "invoices"


@dataclass(frozen=True)
class Difference:
    """One difference: what it is, whose, and what to do. Ids that do not apply are empty."""

    kind: DifferenceKind
    text: str
    remedy: str
    order_number: str = ""
    payment: str = ""
    invoice: str = ""
    refund: str = ""
    transaction: str = ""
    wallet: str = ""

    def as_dict(self) -> dict[str, str]:
        """Return the fields that are not empty."""
        return {name: str(value) for name, value in asdict(self).items() if value}


@dataclass(frozen=True)
class Scope:
    """What is compared.

    Args:
        run: the audit, whose items are the lists that were read.
        synced_until: when a run last completed, if runs are not overdue: later payments, and those
            that were confirmed late, are not synced yet. None if all of them should be.
        uncertain: the lists, of ``LISTS``, that were not read as a whole: what they seem to miss
            proves nothing.
    """

    run: AuditRun
    synced_until: dt.datetime | None
    uncertain: frozenset[str] = frozenset()

    @property
    def has_days(self) -> bool:
        """Tell whether the audit is about some days only."""
        return bool(self.run.date_from or self.run.date_to)

    def during(self, name: str) -> Q:
        """Return the condition that a column is within the days of the audit."""
        found = Q()
        if self.run.date_from:
            found &= Q(**{f"{name}__gte": _midnight(self.run.date_from)})
        if self.run.date_to:
            found &= Q(**{f"{name}__lt": _midnight(self.run.date_to)})
        return found

    def too_new(self, name: str, lag: dt.timedelta = CONFIRMATION_LAG) -> Q:
        """Return the condition that something is so new that perhaps no run has synced it.

        A time far ahead is wrong, and no reason to wait for it.

        Args:
            name: the column with its time.
            lag: how much later than at its time it may have appeared.
        """
        began = self.run.started_at
        after = min(began, self.synced_until - lag) if self.synced_until else began
        return Q(**{f"{name}__gt": after, f"{name}__lt": began + CONFIRMATION_LAG})

    def items(self, *, payments: bool) -> models.QuerySet[AuditedItem]:
        """Return the listed payments or invoices within the days of the audit.

        Our time counts where we have a row, so that one that is listed with another time is not
        taken for a missing one. An item without any time is compared.
        """
        found = everything(AuditedItem).filter(run=self.run, is_payment=payments)
        if not self.has_days:
            return found
        of_payment = ("payment__transaction_at", "payment__seen_at")
        own = of_payment if payments else ("invoice__created_at",)
        found = found.annotate(time=Coalesce(*own, "at"))
        return found.filter(Q(time=None) | self.during("time"))

    def payments(self) -> models.QuerySet[BitsbyPayment]:
        """Return our payments within the days of the audit."""
        found = everything(BitsbyPayment).annotate(time=PAYMENT_TIME)
        return found.filter(self.during("time"), is_foreign=False)


def _midnight(day: dt.date) -> dt.datetime:
    return dt.datetime.combine(day, dt.time(), dt.timezone.utc)


def everything(model: type[M]) -> models.QuerySet[M]:
    """Return all rows of a model, by the database that is written to: a replica may be behind."""
    return model._default_manager.using(router.db_for_write(model))


def in_chunks(rows: models.QuerySet[M], size: int = CHUNK) -> Iterator[list[M]]:
    """Yield the rows in the order of their keys, some at a time.

    A cursor of the server would need a connection of its own behind a pooler.
    """
    rows = rows.order_by("pk")
    chunk = list(rows[:size])
    while chunk:
        yield chunk
        chunk = list(rows.filter(pk__gt=chunk[-1].pk)[:size])


def each(rows: models.QuerySet[M]) -> Iterator[M]:
    """Yield the rows one by one; memory does not grow with their number."""
    for chunk in in_chunks(rows):
        yield from chunk


def link(run: AuditRun) -> None:
    """Store with each item which of our rows belong to it, as they are now."""
    items = everything(AuditedItem).filter(run=run)
    own, other = OuterRef("bitsby_id"), OuterRef("bound_to")
    for is_payment, payment, invoice in ((True, own, other), (False, other, own)):
        items.filter(is_payment=is_payment).update(
            payment=Subquery(BitsbyPayment.objects.filter(bitsby_id=payment).values("pk")[:1]),
            invoice=Subquery(BitsbyInvoice.objects.filter(bitsby_id=invoice).values("pk")[:1]),
        )


def is_listed(scope: Scope, *, is_payment: bool) -> Exists:
    """Return the condition that the list has one of our rows."""
    items = AuditedItem.objects.filter(run=scope.run, is_payment=is_payment)
    return Exists(items.filter(bitsby_id=OuterRef("bitsby_id")))


def of_item(item: AuditedItem, kind: DifferenceKind, text: str, remedy: str) -> Difference:
    """Return a difference with the ids of a listed item."""
    invoice = item.invoice or (item.payment.invoice if item.payment else None)
    number = invoice.order_number if invoice else item.order_number
    invoice_id = item.bound_to if item.is_payment else item.bitsby_id
    payment_id = item.bitsby_id if item.is_payment else item.bound_to
    return Difference(kind, text, remedy, number, str(payment_id or ""), str(invoice_id or ""))


def of_payment(payment: BitsbyPayment, kind: DifferenceKind, text: str, remedy: str) -> Difference:
    """Return a difference with the ids of one of our payments."""
    invoice = payment.invoice
    number, bound = (invoice.order_number if invoice else ""), payment.bound_to
    return Difference(kind, text, remedy, number, str(payment.bitsby_id), str(bound or ""))


def coins(amount: Any, coin: str) -> str:
    """Return an amount with its coin, and with all its digits."""
    return f"{amount.normalize():f} {coin}".strip()
