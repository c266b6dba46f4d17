"""How far the list of payments was synced, stored in the shared row."""

import datetime as dt

from oscar_bitsby.models import EPOCH, BitsbyInvoice, GatewayState
from oscar_bitsby.reconciliation.report import RunReport
from oscar_bitsby.utils.clock import CLOCK_SKEW


def load() -> GatewayState:
    """Return the shared row; create it if it is missing."""
    GatewayState.ensure_exists()
    return GatewayState.row().get()


def advance(report: RunReport) -> None:
    """Move the cursor to the newest transaction time of a sync that was completed.

    An interrupted sync and the single page that a delivery causes do not count: payments below
    them were not read.
    """
    GatewayState.row().filter(sync_cursor__lt=report.newest).update(sync_cursor=report.newest)


def mark_fetched(at: dt.datetime) -> None:
    """Record when the list of payments was read."""
    GatewayState.row().update(payments_fetched_at=at)


def last_fetched() -> dt.datetime | None:
    """Return when the list of payments was last read, by the database's clock; None if never."""
    found = GatewayState.row().values_list("payments_fetched_at", flat=True).first()
    return None if found is None or found <= EPOCH else found


def mark_full_sync(at: dt.datetime, report: RunReport) -> None:
    """Record a full sync, and whether the list was newest first."""
    GatewayState.row().update(
        last_full_sync_at=at,
        last_overlap_sync_at=at,
        lists_newest_first=report.lists_newest_first and report.is_descending,
    )


def mark_overlap_sync(at: dt.datetime) -> None:
    """Record an overlap sync."""
    GatewayState.row().update(last_overlap_sync_at=at)


def first_invoice_at() -> dt.datetime | None:
    """Return when this shop first requested an invoice; earlier payments are ignored.

    An attempt whose answer was lost counts: Bitsby may have created the invoice.
    """
    first = BitsbyInvoice.objects.order_by("pk").first()
    return first.created_at - CLOCK_SKEW if first else None
