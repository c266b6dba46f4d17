"""What an audit cannot prove, and what it leaves out intentionally."""

from collections.abc import Iterator
from typing import Any

from django.db.models import Exists, OuterRef, Q

from oscar_bitsby.accounting.audit import Scope, not_synced_yet, unlisted_here
from oscar_bitsby.accounting.audit_invoices import (
    KNOWN,
    is_lost_answer,
    unlisted_invoices_here,
)
from oscar_bitsby.accounting.audit_ledger import payments_of_deleted_orders
from oscar_bitsby.models import AuditedItem


def find_unprovable(scope: Scope) -> Iterator[str]:
    """Yield what keeps the audit from a proof, although both lists were read."""
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
    if scope.has_days and (number := _without_time(scope).count()):
        yield (
            f"{number} recorded payments have no transaction time and are not listed: Bitsby's"
            " filter by days may leave them out. An audit without days includes them"
        )


def _without_time(scope: Scope) -> Any:
    listed = AuditedItem.objects.filter(
        run=scope.run, is_payment=True, bitsby_id=OuterRef("bitsby_id")
    )
    return scope.payments().filter(
        ~Exists(listed), transaction_at=None, seen_at__lt=scope.run.started_at
    )


def find_left_out(scope: Scope) -> Iterator[str]:
    """Yield notes: what is no difference, but should be known."""
    new = unlisted_here(scope).filter(not_synced_yet(scope))
    if number := new.count():
        yield f"not synced yet: {number} listed payments are newer than the last run"
    lost = unlisted_invoices_here(scope).filter(is_lost_answer())
    if number := lost.count():
        yield f"{number} unpaid invoices of this shop at Bitsby: the answers with them got lost"
    if number := payments_of_deleted_orders(scope):
        yield f"{number} booked payments of deleted orders: the ledger was deleted with the order"
