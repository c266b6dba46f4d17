"""Syncs the list of payments: new payments are settled, or recorded for staff."""

import datetime as dt
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from django.utils import timezone

from oscar_bitsby.choices import ReviewReason
from oscar_bitsby.gateway import schemas
from oscar_bitsby.gateway.client import CONFIRMATION_LAG, DATE_FILTER_MARGIN, BitsbyClient, Page
from oscar_bitsby.models import BitsbyInvoice, BitsbyPayment
from oscar_bitsby.reconciliation import cursor
from oscar_bitsby.reconciliation.report import ReconcileRun, RunReport
from oscar_bitsby.settlement import record_unbound, service
from oscar_bitsby.utils.clock import db_now
from oscar_bitsby.utils.plurals import plural

#: How often a full sync covers ``WATCH_DAYS``.
FULL_SYNC_INTERVAL = dt.timedelta(hours=24)
#: How often an overlap sync reaches below the cursor, by ``CONFIRMATION_LAG``.
OVERLAP_SYNC_INTERVAL = dt.timedelta(hours=1)
#: How far back an incremental sync reads.
INCREMENTAL_SYNC_PERIOD = dt.timedelta(days=1)


def sync_due_payments(run: ReconcileRun) -> None:
    """Make the sync that is due: incremental, overlap or full. Without watched invoices, none."""
    now = db_now()
    full_start = now - dt.timedelta(days=run.settings.watch_days)
    first_invoice_at = cursor.first_invoice_at()
    if first_invoice_at is None or not BitsbyInvoice.objects.watched(full_start).exists():
        return
    state = cursor.load()
    is_full = _is_due(state.last_full_sync_at, FULL_SYNC_INTERVAL, now)
    is_overlap = _is_due(state.last_overlap_sync_at, OVERLAP_SYNC_INTERVAL, now)
    start = full_start if is_full else timezone.now() - INCREMENTAL_SYNC_PERIOD
    run.progress("full sync of payments" if is_full else "incremental sync of payments")
    stop_before = None
    if state.lists_newest_first and not is_full:
        stop_before = state.sync_cursor - (CONFIRMATION_LAG if is_overlap else dt.timedelta())
    sync_payments(run, max(start, first_invoice_at), stop_before=stop_before)
    if run.dry_run:
        return
    cursor.mark_fetched(now)
    cursor.advance(run.report)
    if is_full:
        cursor.mark_full_sync(now, run.report)
    elif is_overlap:
        cursor.mark_overlap_sync(now)


def _is_due(last: dt.datetime, interval: dt.timedelta, now: dt.datetime) -> bool:
    """Return whether the interval has passed, or the clock was put back since."""
    return now - last >= interval or last > now


def sync_first_page(client: BitsbyClient) -> None:
    """Import the first page of the latest payments: one request for many webhook deliveries."""
    run = ReconcileRun(client)
    _import_page(next(_pages(client, timezone.now() - INCREMENTAL_SYNC_PERIOD)), run)


def sync_payments(
    run: ReconcileRun,
    start: dt.datetime,
    *,
    stop_before: dt.datetime | None = None,
    max_pages: int | None = None,
) -> None:
    """Import all payments since ``start``.

    Args:
        run: the run, or a context of its own.
        start: the time of the oldest transaction.
        stop_before: payments up to this transaction time are known, and a full sync has seen that
            the list is newest first. The sync stops at a page without news that reaches below.
        max_pages: the number of pages after which the sync stops; None reads all.
    """
    last: dt.datetime | None = None
    for number, page in enumerate(islice(_pages(run.client, start), max_pages), 1):
        last = _observe_order(run.report, page, last)
        has_news = _import_page(page, run)
        run.renew_lease()
        run.progress(f"{plural(run.report.payments, 'payment')} on {plural(number, 'page')}")
        is_known = stop_before is not None and last is not None and last < stop_before
        if is_known and run.report.lists_newest_first and not has_news:
            return


def _pages(client: BitsbyClient, start: dt.datetime) -> Iterator[Page[schemas.Payment]]:
    return client.payment_pages(
        start_date=(start - DATE_FILTER_MARGIN).date(),
        end_date=(timezone.now() + DATE_FILTER_MARGIN).date(),
    )


def _observe_order(
    report: RunReport, page: Page[schemas.Payment], last: dt.datetime | None
) -> dt.datetime | None:
    """Record whether the list is newest first; return the page's last transaction time."""
    for payment in page.items:
        at = payment.transaction_at
        if at is None or (last is not None and at > last):
            report.lists_newest_first = False
        elif last is not None and at < last:
            report.is_descending = True
        last = at
        if at is not None:
            report.newest = max(report.newest, at)
    return last


def _import_page(page: Page[schemas.Payment], run: ReconcileRun) -> bool:
    """Settle or record what is new on a page; return whether anything was."""
    ids = {item.id for item in page.items}
    known = {row.bitsby_id: row for row in BitsbyPayment.objects.filter(bitsby_id__in=ids)}
    bound = {item.invoice.id for item in page.items if item.invoice}
    invoices = {row.bitsby_id: row for row in BitsbyInvoice.objects.filter(bitsby_id__in=bound)}
    since = cursor.first_invoice_at()
    run.report.payments += len(page.items)
    run.report.unreadable += page.unreadable
    has_news = page.unreadable > 0
    for payment in page.items:
        if payment.id in known and _is_unchanged(known[payment.id], payment, invoices):
            continue
        has_news = True
        with run.isolate_errors(payment.id):
            _import_payment(payment, invoices, since, run)
    return has_news


def _is_unchanged(
    row: BitsbyPayment, payment: schemas.Payment, invoices: Mapping[Any, BitsbyInvoice]
) -> bool:
    remote = payment.invoice
    if row.bound_to != (remote.id if remote else None):
        return False
    if row.invoice_id is None and remote is not None and remote.id in invoices:
        # The payment was imported before the row of its invoice was written.
        return False
    if row.invoice_id is not None and row.booked_at is None and not row.review_reason:
        # Nothing was decided about it yet.
        return False
    if row.review_reason == ReviewReason.UNKNOWN_VALUE and not row.wallet_id and payment.wallet:
        return False
    # A payment of an expired invoice counts once Bitsby calls the invoice paid.
    return not (
        row.review_reason == ReviewReason.NOT_PAID and remote and remote.status == schemas.PAID
    )


def _import_payment(
    payment: schemas.Payment,
    invoices: Mapping[Any, BitsbyInvoice],
    since: dt.datetime | None,
    run: ReconcileRun,
) -> None:
    remote = payment.invoice
    if remote is not None and remote.id in invoices:
        invoice = invoices[remote.id]
        outcome = service.settle(invoice, remote, payment, dry_run=run.dry_run)
        run.report.count(outcome, invoice.order_number)
        return
    reason = review_reason(payment, since, run.settings.project_id)
    if reason:
        run.report.flagged += 1
        run.report.plan(f"payment {payment.id}", f"add it to the payments to review ({reason})")
    if not run.dry_run:
        record_unbound(payment, reason=reason)


def review_reason(payment: schemas.Payment, since: dt.datetime | None, project_id: str) -> str:
    """Return why staff should see a payment that is bound to none of our invoices, or nothing.

    The account may have other projects, and payments from before this shop.
    """
    remote = payment.invoice
    if remote is None:
        reason, at = ReviewReason.UNMATCHED, payment.transaction_at
    elif remote.project_id == project_id:
        reason, at = ReviewReason.UNKNOWN_INVOICE, remote.created_at
    else:
        return ""
    is_ours = since is not None and (at is None or at >= since)
    return reason if is_ours else ""
