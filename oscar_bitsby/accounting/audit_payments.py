"""Compares the list of payments that an audit has read with our rows."""

from collections.abc import Iterator
from typing import Any

from django.db.models import F, Q, QuerySet
from django.db.models.functions import Lower

from oscar_bitsby.accounting.audit import (
    PAYMENTS,
    Difference,
    Scope,
    coins,
    each,
    is_listed,
    of_item,
    of_payment,
)
from oscar_bitsby.choices import DifferenceKind
from oscar_bitsby.models import AuditedItem, BitsbyPayment


def missing_payments(scope: Scope) -> QuerySet[BitsbyPayment]:
    """Return our payments that the list does not have.

    Rows of after the reading began are left out. If the list was read for some days only, so are
    those without a transaction time: Bitsby's filter may leave them out, too.
    """
    found = scope.payments().filter(
        ~is_listed(scope, is_payment=True), seen_at__lt=scope.run.started_at
    )
    return found.exclude(transaction_at=None) if scope.has_days else found


def unlisted_here(scope: Scope) -> QuerySet[AuditedItem]:
    """Return the listed payments of this shop that it has not recorded as its own."""
    is_ours = Q(is_ours=True) | Q(invoice__isnull=False)
    is_unknown = Q(payment=None) | Q(payment__is_foreign=True)
    return scope.items(payments=True).filter(is_ours, is_unknown)


def not_synced_yet(scope: Scope) -> Q:
    """Return the condition that a listed payment is so new that a run may not have recorded it."""
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
            f"{coins(item.amount, item.currency)} at Bitsby, and the payment {what}",
            f"{rerun} Runs read WATCH_DAYS back: if it is older or was deleted, look it up on"
            " Bitsby's pages and correct the ledger by hand.",
        )
    missing = missing_payments(scope).select_related("invoice")
    for payment in each(missing) if PAYMENTS not in scope.uncertain else ():
        yield of_payment(
            payment,
            DifferenceKind.PAYMENT_ONLY_HERE,
            f"{coins(payment.amount, payment.cryptocurrency)} recorded, and Bitsby does not list"
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
            f"{coins(payment.amount, payment.cryptocurrency)} are neither booked nor to review",
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
    other_project = ~Q(project_id="") & ~Q(project_id=F("invoice__project_id"))
    changed = (
        ~Q(amount=F("payment__amount"))
        # A row that was written without its wallet gets it from the next sync.
        | (~Q(payment__wallet_id="") & ~Q(wallet_id=F("payment__wallet_id")))
        | (~Q(payment__cryptocurrency="") & ~Q(currency=F("payment__cryptocurrency")))
        # Some APIs write hexadecimal digits in capitals.
        | ~Q(hash_there=F("hash_here"))
        | (Q(invoice__isnull=False) & other_project)
        | ~same_binding
        | elsewhere
    )
    found = scope.items(payments=True).annotate(
        hash_there=Lower("hash"), hash_here=Lower("payment__hash")
    )
    found = found.filter(is_ours, changed, payment__isnull=False)
    for item in each(found.select_related("payment__invoice", "invoice")):
        row: Any = item.payment
        began = scope.run.started_at
        there = item.amount, item.currency, item.wallet_id
        here = (
            row.amount,
            row.cryptocurrency or item.currency,
            row.wallet_id or item.wallet_id,
        )
        if there != here:
            yield of_item(
                item,
                DifferenceKind.AMOUNT,
                f"{_in_wallet(*there)} at Bitsby, {_in_wallet(*here)} recorded",
                "Look up the hash on the blockchain, and correct the ledger by hand.",
            )
        if item.hash.lower() != row.hash.lower():
            text = f"hash {item.hash or 'none'} at Bitsby, {row.hash or 'none'} recorded"
            remedy = "Look both up on the blockchain: the coins arrived with one of them."
            yield of_item(item, DifferenceKind.HASH, text, remedy)
        is_decided_since = any(at and at >= began for at in (row.booked_at, row.resolved_at))
        is_seen = row.review_reason or row.resolved_at
        booked_for = row.invoice if row.booked_at and not is_seen else None
        is_elsewhere = booked_for and item.bound_to != booked_for.bitsby_id
        is_moved = item.bound_to != row.bound_to
        if (is_moved or is_elsewhere) and not is_decided_since:
            bound = booked_for.bitsby_id if booked_for and not is_moved else row.bound_to
            yield of_item(
                item,
                DifferenceKind.BINDING,
                f"bound to {item.bound_to or 'no invoice'} at Bitsby, to {bound or 'none'} here",
                "Wait for the daily full sync, and then run the audit again. If it stays, find the"
                " payment in the dashboard and decide which order it pays.",
            )
        if item.invoice and item.project_id not in ("", item.invoice.project_id):
            yield of_item(
                item,
                DifferenceKind.BINDING,
                f"its invoice belongs to the project {item.project_id} at Bitsby, to"
                f" {item.invoice.project_id} here",
                "Find out who changed it, and whether the payment was meant for the order.",
            )


def _in_wallet(amount: Any, coin: str, wallet: str) -> str:
    return f"{coins(amount, coin)} in the wallet {wallet or 'without an id'}"
