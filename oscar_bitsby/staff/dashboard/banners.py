"""Warnings above the payments to review: runs that stopped, a low balance, refusals, audits."""

import datetime as dt
from typing import Any

from django.db.models import Subquery

from oscar_bitsby.choices import AuditState, InvoiceStatus
from oscar_bitsby.gateway import balance
from oscar_bitsby.models import EPOCH, AuditRun, BitsbyInvoice, GatewayState
from oscar_bitsby.reconciliation import lease
from oscar_bitsby.staff import permissions
from oscar_bitsby.utils.clock import db_now

#: Without a new attempt, refused invoices are shown for so long.
RECENT = dt.timedelta(days=1)


def banners(user: Any) -> dict[str, Any]:
    """Return the context of ``dashboard/partials/banners.html``.

    The balance and the audit are only for users who may see all amounts. It takes one query, and
    one more while Bitsby refuses to create invoices.
    """
    # The last audit is read with the row, to save these pages a query.
    audits = AuditRun.objects.finished()
    state = (
        GatewayState.row()
        .annotate(
            audit_state=Subquery(audits.values("state")[:1]),
            audited_at=Subquery(audits.values("finished_at")[:1]),
        )
        .first()
    )
    last_run = state.last_run_at if state is not None and state.last_run_at > EPOCH else None
    found: dict[str, Any] = {
        "last_run": last_run,
        "is_overdue": lease.is_overdue(last_run),
        "refused": _refused_invoice(state),
    }
    if permissions.may_see_money(user):
        known = balance.balance_of(state)
        found["balance"] = known
        if known is not None:
            found["balance_warning"] = balance.warning(known.amount, balance.minimum(), db_now())
        if state is not None and state.audit_state == AuditState.DIFFERENT:
            found["audited_at"] = state.audited_at
    return found


def _refused_invoice(state: GatewayState | None) -> BitsbyInvoice | None:
    """Return the last attempt to create an invoice if those of several orders failed in a row."""
    if state is None or state.creating_paused_until < db_now() - RECENT:
        return None
    attempts = BitsbyInvoice.objects.exclude(status=InvoiceStatus.CREATING)
    newest = attempts.defer("reply", "wallets").order_by("-pk").first()
    has_failed = newest is not None and newest.status == InvoiceStatus.EXPIRED
    return newest if has_failed and newest is not None and newest.bitsby_id is None else None
