"""Looks at the list of payments: what is new is settled, or remembered for staff."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from typing import Any

from django.utils import timezone

from oscar_bitsby import conf
from oscar_bitsby.choices import ReviewReason
from oscar_bitsby.gateway import schemas
from oscar_bitsby.gateway.client import DATE_FILTER_MARGIN, BitsbyClient, Page
from oscar_bitsby.models import BitsbyInvoice, BitsbyPayment
from oscar_bitsby.reconciliation import cursor
from oscar_bitsby.reconciliation.cursor import first_invoice_at
from oscar_bitsby.reconciliation.report import RunReport
from oscar_bitsby.settlement import service
from oscar_bitsby.utils.clock import db_now

#: How often everything that is watched is looked at, as against the last days only.
FULL_SYNC_INTERVAL = dt.timedelta(hours=24)

#: How often a near look goes below what is known, and how far. The list goes by the time of the
#: transaction, and a payment that needed long to be confirmed appears below newer ones.
OVERLAP_SYNC_INTERVAL = dt.timedelta(hours=1)

CONFIRMATION_LAG = dt.timedelta(hours=6)


def sync_first_page(client: BitsbyClient, start: dt.datetime) -> None:
    """Take in the first page of the payments since ``start``: one request, for many deliveries."""
    report = RunReport()
    for page in client.payment_pages(
        start_date=(start - DATE_FILTER_MARGIN).date(), end_date=_last_day()
    ):
        _import_page(page, report)
        break


def sync_payments(
    client: BitsbyClient,
    report: RunReport,
    start: dt.datetime,
    *,
    stop_before: dt.datetime | None,
    note: Callable[[int, int], None],
) -> None:
    """Take in all payments since ``start``.

    Args:
        stop_before: everything up to this transaction time was read before, and the list was seen
            to be newest first: a page without news that reaches back so far ends it.
        note: is told after each page how many pages and payments were read.
    """
    last: dt.datetime | None = None
    pages = client.payment_pages(
        start_date=(start - DATE_FILTER_MARGIN).date(), end_date=_last_day()
    )
    for number, page in enumerate(pages, 1):
        for payment in page.items:
            at = payment.transaction_at
            if at is None or (last is not None and at > last):
                report.lists_newest_first = False
            elif last is not None and at < last:
                report.is_descending = True
            last = at
            if at is not None:
                report.newest = max(report.newest, at)
        news = _import_page(page, report)
        note(number, report.payments)
        is_known_ground = stop_before is not None and last is not None and last < stop_before
        if is_known_ground and report.lists_newest_first and not news:
            return


def _last_day() -> dt.date:
    return (timezone.now() + DATE_FILTER_MARGIN).date()


def _import_page(page: Page[schemas.Payment], report: RunReport) -> bool:
    """Settle or remember what is new on a page; tell whether anything was."""
    ids = {item.id for item in page.items}
    known = {row.bitsby_id: row for row in BitsbyPayment.objects.filter(bitsby_id__in=ids)}
    bound = {item.invoice.id for item in page.items if item.invoice}
    ours = {row.bitsby_id: row for row in BitsbyInvoice.objects.filter(bitsby_id__in=bound)}
    since = first_invoice_at()
    report.payments += len(page.items)
    report.unreadable += page.unreadable
    news = page.unreadable > 0
    for payment in page.items:
        if payment.id in known and _is_unchanged(known[payment.id], payment, ours):
            continue
        news = True
        with report.isolate_errors(payment.id):
            _import_payment(payment, ours, since, report)
    return news


def _is_unchanged(
    row: BitsbyPayment, payment: schemas.Payment, ours: Mapping[Any, BitsbyInvoice]
) -> bool:
    remote = payment.invoice
    if row.bound_to != (remote.id if remote else None):
        return False
    if row.invoice_id is None and remote is not None and remote.id in ours:
        # Seen before our own record of the invoice was written.
        return False
    if row.invoice_id is not None and row.booked_at is None and not row.review_reason:
        # Nothing was decided about it yet.
        return False
    if row.review_reason == ReviewReason.UNKNOWN_VALUE and not row.wallet_id and payment.wallet:
        return False
    # What was bound to an ended invoice may count after all.
    return not (
        row.review_reason == ReviewReason.NOT_PAID and remote and remote.status == schemas.PAID
    )


def _import_payment(
    payment: schemas.Payment,
    ours: dict[Any, BitsbyInvoice],
    since: dt.datetime | None,
    report: RunReport,
) -> None:
    remote = payment.invoice
    if remote is not None and remote.id in ours:
        outcome = service.settle(ours[remote.id], remote, payment, dry_run=report.dry_run)
        report.count(outcome)
        return
    reason = _review_reason(payment, since)
    report.flagged += bool(reason)
    if not report.dry_run:
        service.record_unbound(payment, reason=reason)


def _review_reason(payment: schemas.Payment, since: dt.datetime | None) -> str:
    """Return why staff should see a payment that is bound to none of our invoices, or nothing.

    The account may have other projects, and a history from before this shop.
    """
    remote = payment.invoice
    if remote is not None:
        if remote.project_id != conf.get().project_id:
            return ""
        is_ours = since is not None and (remote.created_at is None or remote.created_at >= since)
        return ReviewReason.UNKNOWN_INVOICE if is_ours else ""
    at = payment.transaction_at
    is_ours = since is not None and (at is None or at >= since)
    return ReviewReason.UNMATCHED if is_ours else ""


def sync_due_payments(
    settings: conf.Conf,
    client: BitsbyClient,
    report: RunReport,
    progress: Callable[[str], None],
) -> None:
    now = db_now()
    far_start = now - dt.timedelta(days=settings.watch_days)
    first_invoice_at = cursor.first_invoice_at()
    if first_invoice_at is None or not BitsbyInvoice.objects.watched(far_start).exists():
        return
    state = cursor.load()
    is_far = _is_due(state.last_full_sync_at, FULL_SYNC_INTERVAL, now)
    is_deep = _is_due(state.last_overlap_sync_at, OVERLAP_SYNC_INTERVAL, now)
    start = max(far_start if is_far else _incremental_start(), first_invoice_at)
    progress("far look at payments" if is_far else "near look at payments")

    def note(pages: int, payments: int) -> None:
        report.renew_lease()
        progress(f"{payments} payments on {pages} pages")

    known = state.sync_cursor - CONFIRMATION_LAG if is_deep else state.sync_cursor
    may_stop = state.lists_newest_first and not is_far
    sync_payments(client, report, start, stop_before=known if may_stop else None, note=note)
    if not report.dry_run:
        cursor.advance(report)
        if is_far:
            cursor.mark_full_sync(now, report)
        elif is_deep:
            cursor.mark_overlap_sync(now)


def _is_due(last: dt.datetime, every: dt.timedelta, now: dt.datetime) -> bool:
    """Tell whether something is to be done again; also when a clock was put back since."""
    return now - last >= every or last > now


def _incremental_start() -> dt.datetime:
    return timezone.now() - dt.timedelta(days=1)
