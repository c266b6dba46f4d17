"""How far the list of payments was read, in the shared row."""

from __future__ import annotations

import datetime as dt

from oscar_bitsby.models import BitsbyInvoice, GatewayState
from oscar_bitsby.reconciliation.report import RunReport
from oscar_bitsby.utils.clock import CLOCK_SKEW


def load() -> GatewayState:
    """Return the shared row, created if need be."""
    GatewayState.ensure_exists()
    state: GatewayState = GatewayState.objects.get(pk=GatewayState.SINGLETON_PK)
    return state


def advance(report: RunReport) -> None:
    """Remember up to which transaction time the list was read without a gap.

    A look that broke off, or the one page that a delivery has read, does not count: what stands
    below it was not seen.
    """
    rows = GatewayState.objects.filter(pk=GatewayState.SINGLETON_PK, sync_cursor__lt=report.newest)
    rows.update(sync_cursor=report.newest)


def mark_full_sync(at: dt.datetime, report: RunReport) -> None:
    """Remember that everything was looked at, and what order the list was in."""
    GatewayState.objects.filter(pk=GatewayState.SINGLETON_PK).update(
        last_full_sync_at=at,
        last_overlap_sync_at=at,
        lists_newest_first=report.lists_newest_first and report.is_descending,
    )


def mark_overlap_sync(at: dt.datetime) -> None:
    """Remember that a near look went below what was known."""
    GatewayState.objects.filter(pk=GatewayState.SINGLETON_PK).update(last_overlap_sync_at=at)


def first_invoice_at() -> dt.datetime | None:
    """Return when this shop first asked for an invoice: what is older is none of its business.

    An attempt whose answer was lost counts: the invoice may be there, and money on it.
    """
    first = BitsbyInvoice.objects.order_by("pk").first()
    return first.created_at - CLOCK_SKEW if first else None
