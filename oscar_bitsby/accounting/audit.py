"""Compares what an audit has read of Bitsby's lists with our rows and with Oscar's ledger."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from django.db import models, router
from django.db.models import Exists, F, OuterRef, Q, Subquery
from django.db.models.functions import Coalesce

from oscar_bitsby.choices import DifferenceKind
from oscar_bitsby.models import PAYMENT_TIME, AuditedItem, AuditRun, BitsbyInvoice, BitsbyPayment

M = TypeVar("M", bound=models.Model)

#: Rows that are in memory at the same time.
CHUNK = 500


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
        synced_until: when a run last completed, if runs are not overdue: later payments are not
            synced yet. None if all of them should be.
    """

    run: AuditRun
    synced_until: dt.datetime | None

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

    def too_new(self, name: str) -> Q:
        """Return the condition that something is so new that no run can have synced it."""
        moments = [one for one in (self.synced_until, self.run.started_at) if one is not None]
        return Q(**{f"{name}__gt": min(moments)})

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


def missing_payments(scope: Scope) -> models.QuerySet[BitsbyPayment]:
    """Return our payments that the list does not have.

    Rows of after the reading began are left out. If the list was read for some days only, so are
    those without a transaction time: Bitsby's filter may leave them out, too.
    """
    found = scope.payments().filter(~_is_listed(scope, True), seen_at__lt=scope.run.started_at)
    return found.exclude(transaction_at=None) if scope.has_days else found


def missing_invoices(scope: Scope) -> models.QuerySet[BitsbyInvoice]:
    """Return our invoices that the list does not have. Newer ones than the audit are left out."""
    return everything(BitsbyInvoice).filter(
        ~_is_listed(scope, False),
        scope.during("created_at"),
        bitsby_id__isnull=False,
        created_at__lt=scope.run.started_at,
    )


def _is_listed(scope: Scope, is_payment: bool) -> Exists:
    items = AuditedItem.objects.filter(run=scope.run, is_payment=is_payment)
    return Exists(items.filter(bitsby_id=OuterRef("bitsby_id")))


def unlisted_here(scope: Scope) -> models.QuerySet[AuditedItem]:
    """Return the listed payments of this shop that it has not recorded as its own."""
    is_ours = Q(is_ours=True) | Q(invoice__isnull=False)
    is_unknown = Q(payment=None) | Q(payment__is_foreign=True)
    return scope.items(payments=True).filter(is_ours, is_unknown)


def not_synced_yet(scope: Scope) -> Q:
    """Return the condition that a listed payment is so new that no run can have recorded it."""
    return Q(payment=None) & scope.too_new("at")


def compare_payments(scope: Scope) -> Iterator[Difference]:
    """Compare the list of payments with our rows."""
    rerun = "Run bitsby_reconcile, and then the audit again."
    # A payment without a time is not excluded by the condition, and stays a difference.
    unknown = unlisted_here(scope).exclude(not_synced_yet(scope) & Q(at__isnull=False))
    for item in each(unknown.select_related("payment", "invoice")):
        what = "is recorded as one of another project" if item.payment else "is not recorded"
        yield of_item(
            item,
            DifferenceKind.PAYMENT_ONLY_THERE,
            f"{_coins(item.amount, item.currency)} at Bitsby, and the payment {what}",
            f"{rerun} Runs read WATCH_DAYS back: if it is older or was deleted, look it up on"
            " Bitsby's pages and correct the ledger by hand.",
        )
    for payment in each(missing_payments(scope).select_related("invoice")):
        yield of_payment(
            payment,
            DifferenceKind.PAYMENT_ONLY_HERE,
            f"{_coins(payment.amount, payment.cryptocurrency)} recorded, and Bitsby does not list"
            " the payment",
            "Look up its hash on the blockchain. If the coins arrived, ask Bitsby's support;"
            " otherwise find out who wrote the row, and do not deliver the order.",
        )
    undecided = scope.payments().filter(
        booked_at=None, resolved_at=None, review_reason="", seen_at__lt=scope.run.started_at
    )
    for payment in each(undecided.select_related("invoice")):
        yield of_payment(
            payment,
            DifferenceKind.UNDECIDED,
            f"{_coins(payment.amount, payment.cryptocurrency)} are neither booked nor to review",
            rerun,
        )
    yield from _changed_payments(scope)


def _changed_payments(scope: Scope) -> Iterator[Difference]:
    is_ours = Q(is_ours=True) | Q(invoice__isnull=False) | Q(payment__is_foreign=False)
    same_binding = Q(bound_to=F("payment__bound_to")) | Q(bound_to=None, payment__bound_to=None)
    # What is to review or was decided has been seen by staff.
    elsewhere = Q(
        payment__booked_at__isnull=False,
        payment__review_reason="",
        payment__resolved_at=None,
        payment__invoice__isnull=False,
    ) & ~Q(invoice=F("payment__invoice"))
    changed = (
        ~Q(amount=F("payment__amount")) | ~Q(hash=F("payment__hash")) | ~same_binding | elsewhere
    )
    found = scope.items(payments=True).filter(is_ours, changed, payment__isnull=False)
    for item in each(found.select_related("payment__invoice", "invoice")):
        row: Any = item.payment
        began = scope.run.started_at
        if item.amount != row.amount:
            text = f"{item.amount.normalize():f} at Bitsby, {row.amount.normalize():f} recorded"
            remedy = "Look up the hash on the blockchain, and correct the ledger by hand."
            yield of_item(item, DifferenceKind.AMOUNT, text, remedy)
        if item.hash != row.hash:
            text = f"hash {item.hash or 'none'} at Bitsby, {row.hash or 'none'} recorded"
            remedy = "Look both up on the blockchain: the coins arrived with one of them."
            yield of_item(item, DifferenceKind.HASH, text, remedy)
        is_decided_since = any(at and at >= began for at in (row.booked_at, row.resolved_at))
        is_seen = row.review_reason or row.resolved_at
        booked_for = row.invoice if row.booked_at and not is_seen else None
        is_elsewhere = booked_for and item.bound_to != booked_for.bitsby_id
        is_moved = item.bound_to != row.bound_to
        if (is_moved or is_elsewhere) and not is_decided_since:
            here = booked_for.bitsby_id if booked_for and not is_moved else row.bound_to
            yield of_item(
                item,
                DifferenceKind.BINDING,
                f"bound to {item.bound_to or 'no invoice'} at Bitsby, to {here or 'none'} here",
                "Wait for the daily full sync, and then run the audit again. If it stays, find the"
                " payment in the dashboard and decide which order it pays.",
            )


def of_item(item: AuditedItem, kind: DifferenceKind, text: str, remedy: str) -> Difference:
    invoice = item.invoice or (item.payment.invoice if item.payment else None)
    number = invoice.order_number if invoice else item.order_number
    invoice_id = item.bound_to if item.is_payment else item.bitsby_id
    payment_id = item.bitsby_id if item.is_payment else item.bound_to
    return Difference(kind, text, remedy, number, str(payment_id or ""), str(invoice_id or ""))


def of_payment(payment: BitsbyPayment, kind: DifferenceKind, text: str, remedy: str) -> Difference:
    invoice = payment.invoice
    number, bound = (invoice.order_number if invoice else ""), payment.bound_to
    return Difference(kind, text, remedy, number, str(payment.bitsby_id), str(bound or ""))


def _coins(amount: Any, coin: str) -> str:
    return f"{amount.normalize():f} {coin}".strip()
