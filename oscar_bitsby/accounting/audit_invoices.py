"""Compares the list of invoices that an audit has read with our rows."""

import datetime as dt
from collections.abc import Iterator
from typing import Any

from django.db.models import Exists, F, OuterRef, Q, QuerySet

from oscar_bitsby.accounting.audit import (
    INVOICES,
    Difference,
    Scope,
    each,
    everything,
    is_listed,
    of_item,
)
from oscar_bitsby.choices import DifferenceKind, InvoiceStatus, ReviewReason
from oscar_bitsby.gateway import schemas
from oscar_bitsby.models import AuditedItem, BitsbyInvoice, BitsbyPayment

#: How long after its time to pay an invoice may have another status than at Bitsby: Bitsby expires
#: it when it wants, and a run polls it less often after an hour.
STATUS_LAG = dt.timedelta(hours=2)
ENDED = (InvoiceStatus.EXPIRED, InvoiceStatus.CANCELED)
#: The statuses that Bitsby's documentation names.
KNOWN = (schemas.UNPAID, schemas.PAID, schemas.EXPIRED, schemas.CANCELED)


def missing_invoices(scope: Scope) -> QuerySet[BitsbyInvoice]:
    """Return our invoices that the list does not have. Newer ones than the audit are left out."""
    return everything(BitsbyInvoice).filter(
        ~is_listed(scope, is_payment=False),
        scope.during("created_at"),
        bitsby_id__isnull=False,
        created_at__lt=scope.run.started_at,
    )


def unlisted_invoices_here(scope: Scope) -> QuerySet[AuditedItem]:
    """Return the listed invoices of this shop that it does not know."""
    found = scope.items(payments=False).filter(is_ours=True, invoice=None)
    return found.exclude(scope.too_new("at") & Q(at__isnull=False))


def is_lost_answer() -> Q:
    """Return the condition that the answer with an invoice got lost, and that nobody paid it.

    Such an invoice cannot be adopted, and no buyer has seen it.
    """
    attempts = BitsbyInvoice.objects.filter(order_number=OuterRef("order_number"), bitsby_id=None)
    return ~Q(status=schemas.PAID) & ~Q(order_number="") & Q(Exists(attempts))


def compare_invoices(scope: Scope) -> Iterator[Difference]:
    """Compare the list of invoices with our rows."""
    for item in each(unlisted_invoices_here(scope).exclude(is_lost_answer())):
        yield of_item(
            item,
            DifferenceKind.INVOICE_ONLY_THERE,
            f"{item.amount:.2f} {item.currency} with the status {item.status} at Bitsby, and this"
            " shop does not know the invoice",
            "If it was not paid, nothing is missing: somebody else used the project, or the"
            " answer to a request got lost long ago. If it was paid, look it up on Bitsby's pages.",
        )
    missing = missing_invoices(scope).defer("wallets", "reply")
    for invoice in each(missing) if INVOICES not in scope.uncertain else ():
        yield Difference(
            DifferenceKind.INVOICE_ONLY_HERE,
            f"{invoice.amount:.2f} {invoice.currency} recorded as {invoice.status}, and Bitsby"
            " does not list the invoice",
            "Check that API_KEY belongs to the account that the shop used at that time. Otherwise"
            " ask Bitsby's support.",
            invoice.order_number,
            invoice=str(invoice.bitsby_id),
        )
    yield from _paid_without_payment(scope)
    yield from _paid_by_another_payment(scope)
    yield from _changed_invoices(scope)


def _paid_without_payment(scope: Scope) -> Iterator[Difference]:
    listed = AuditedItem.objects.filter(
        run=scope.run, is_payment=True, invoice=OuterRef("invoice"), payment=None
    )
    recorded = BitsbyPayment.objects.filter(invoice=OuterRef("invoice"))
    named = AuditedItem.objects.filter(
        run=scope.run, is_payment=True, bitsby_id=OuterRef("bound_to")
    )
    found = scope.items(payments=False).filter(
        # A payment that is listed and not recorded is a difference of its own, or not synced yet.
        ~Exists(listed),
        ~Exists(named),
        Q(bound_to__isnull=False) | ~Exists(recorded),
        status=schemas.PAID,
        invoice__isnull=False,
        payment=None,
    )
    found = found.exclude(scope.too_new("paid_at") & Q(paid_at__isnull=False))
    for item in each(found.select_related("invoice")):
        by = f"payment {item.bound_to}" if item.bound_to else "no payment that Bitsby names"
        yield of_item(
            item,
            DifferenceKind.PAYMENT_ONLY_THERE,
            f"{item.amount:.2f} {item.currency} paid at Bitsby by {by}, and none is recorded",
            "Run bitsby_reconcile, and then the audit again. If it stays, look the invoice up on"
            " Bitsby's pages.",
        )


def _paid_by_another_payment(scope: Scope) -> Iterator[Difference]:
    """Find invoices that name a payment that is bound elsewhere.

    What the list of payments says counts, and our row if it does not list the payment. Staff have
    seen a payment that was bound to another invoice after it was booked.
    """
    payments = AuditedItem.objects.filter(
        run=scope.run, is_payment=True, bitsby_id=OuterRef("bound_to")
    )
    bound_here = ~Q(payment__bound_to=F("bitsby_id")) & Q(payment__isnull=False)
    rebound = Q(payment__review_reason=ReviewReason.REBOUND) | Q(
        payment__further_reasons__contains=ReviewReason.REBOUND
    )
    found = scope.items(payments=False).filter(
        Exists(payments) | bound_here,
        ~Exists(payments.filter(bound_to=OuterRef("bitsby_id"))),
        status=schemas.PAID,
        invoice__isnull=False,
    )
    found = found.exclude(rebound & Q(payment__isnull=False))
    # It was decided after the list of payments was read.
    found = found.exclude(payment__booked_at__gte=scope.run.started_at)
    for item in each(found.select_related("invoice", "payment")):
        yield of_item(
            item,
            DifferenceKind.BINDING,
            f"paid by the payment {item.bound_to} at Bitsby, which is not bound to the invoice",
            "Look both up on Bitsby's pages, and decide in the dashboard which order the payment"
            " pays.",
        )


def _changed_invoices(scope: Scope) -> Iterator[Difference]:
    other_project = ~Q(project_id="") & ~Q(project_id=F("invoice__project_id"))
    changed = (
        ~Q(amount=F("invoice__amount"))
        | ~Q(currency=F("invoice__currency"))
        | other_project
        | ~Q(status=F("invoice__status"))
    )
    found = scope.items(payments=False).filter(changed, invoice__isnull=False)
    rows = found.select_related("invoice", "payment").defer("invoice__wallets", "invoice__reply")
    for item in each(rows):
        row: Any = item.invoice
        if (item.amount, item.currency) != (row.amount, row.currency):
            yield of_item(
                item,
                DifferenceKind.AMOUNT,
                f"asks for {item.amount.normalize():f} {item.currency} at Bitsby,"
                f" {row.amount} {row.currency} recorded",
                "Its payments wait for review as a mismatch. Find out who changed it.",
            )
        if item.project_id not in ("", row.project_id):
            yield of_item(
                item,
                DifferenceKind.BINDING,
                f"belongs to the project {item.project_id} at Bitsby, to {row.project_id} here",
                "Its payments wait for review as a mismatch. Find out who changed it.",
            )
        if item.status in KNOWN and _has_other_status(item, scope):
            yield of_item(
                item,
                DifferenceKind.STATUS,
                f"{item.status} at Bitsby, {row.status} here",
                "Run bitsby_reconcile, and then the audit again. If it stays, compare the order"
                " with the invoice on Bitsby's pages, and correct it by hand.",
            )


def _has_other_status(item: AuditedItem, scope: Scope) -> bool:
    """Tell whether the statuses contradict each other, apart from delays that are normal."""
    row: Any = item.invoice
    here, there = row.status, item.status
    if here == there or (here in ENDED and there in ENDED):
        return False
    if there == schemas.PAID:
        # A payment that is not booked waits for a decision, or was dismissed.
        return item.payment is not None and item.payment.booked_at is not None
    if here == InvoiceStatus.PAID:
        # It may have been paid after the list was read.
        payments = everything(BitsbyPayment).filter(invoice=row)
        return not payments.filter(booked_at__gte=scope.run.started_at).exists()
    if here in ENDED and row.failure:
        # It was replaced by another invoice, before it was over.
        return False
    expires_at = row.expires_at
    now = min(filter(None, (scope.synced_until, scope.run.started_at)))
    return expires_at is not None and expires_at < now - STATUS_LAG
