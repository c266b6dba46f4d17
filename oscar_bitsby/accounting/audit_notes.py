"""What an audit cannot prove, and what it leaves out intentionally."""

import datetime as dt
from collections.abc import Iterator
from typing import Any

from django.db.models import Exists, OuterRef, Q

from oscar_bitsby.accounting.audit import INVOICES, PAYMENTS, Scope
from oscar_bitsby.accounting.audit_invoices import (
    KNOWN,
    is_lost_answer,
    missing_invoices,
    unlisted_invoices_here,
)
from oscar_bitsby.accounting.audit_ledger import payments_of_deleted_orders
from oscar_bitsby.accounting.audit_payments import (
    missing_payments,
    not_synced_yet,
    unlisted_here,
)
from oscar_bitsby.models import AuditedItem


def find_unprovable(scope: Scope) -> Iterator[str]:
    """Yield what keeps the audit from a proof, although both lists were read."""
    missing = {PAYMENTS: missing_payments(scope), INVOICES: missing_invoices(scope)}
    for name, rows in missing.items():
        if name in scope.uncertain and (number := rows.count()):
            yield (
                f"{number} recorded {name} are not in the list that was read, perhaps for this"
                " reason"
            )
    strange = scope.items(payments=False).filter(Q(is_ours=True) | Q(invoice__isnull=False))
    statuses = strange.exclude(status__in=KNOWN).values_list("status", flat=True)
    found = statuses.order_by("status").distinct()
    if names := [name or "empty" for name in found[:5]]:
        yield f"invoices have a status that is not documented: {', '.join(names)}"
    unknown = scope.items(payments=True).filter(
        bound_to__isnull=False, project_id="", invoice=None, payment=None
    )
    if number := unknown.count():
        yield f"{number} payments are bound to invoices whose project Bitsby does not name"
    late = unlisted_here(scope).filter(not_synced_yet(scope)).exclude(_is_after_last_run(scope))
    if number := late.count():
        yield (
            f"{number} listed payments are not recorded, and may have appeared after the last run."
            " Bitsby lists a payment some time after its transaction"
        )
    if scope.has_days and (number := _without_time(scope).count()):
        yield (
            f"{number} recorded payments have no transaction time and are not listed: Bitsby's"
            " filter by days may leave them out. An audit without days includes them"
        )


def _is_after_last_run(scope: Scope) -> Q:
    return scope.too_new("at", lag=dt.timedelta())


def _without_time(scope: Scope) -> Any:
    listed = AuditedItem.objects.filter(
        run=scope.run, is_payment=True, bitsby_id=OuterRef("bitsby_id")
    )
    return scope.payments().filter(
        ~Exists(listed), transaction_at=None, seen_at__lt=scope.run.started_at
    )


def find_left_out(scope: Scope) -> Iterator[str]:
    """Yield notes: what is no difference, but should be known."""
    new = unlisted_here(scope).filter(not_synced_yet(scope), _is_after_last_run(scope))
    if number := new.count():
        yield f"not synced yet: {number} listed payments are newer than the last run"
    lost = unlisted_invoices_here(scope).filter(is_lost_answer())
    if number := lost.count():
        yield f"{number} unpaid invoices of this shop at Bitsby: the answers with them got lost"
    if number := payments_of_deleted_orders(scope):
        yield f"{number} booked payments of deleted orders: the ledger was deleted with the order"
