"""Looks at the list of payments: what is new is settled, or remembered for staff."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from typing import Any

from django.utils import timezone

from oscar_bitsby import conf, replies, settlement
from oscar_bitsby.client import BitsbyClient, Page
from oscar_bitsby.looks import MARGIN, Report
from oscar_bitsby.models import BitsbyInvoice, BitsbyPayment, GatewayState


def shared_state() -> GatewayState:
    """Return the shared row, created if need be."""
    GatewayState.create_only()
    state: GatewayState = GatewayState.objects.get(pk=GatewayState.ONLY)
    return state


def note_read_to(report: Report) -> None:
    """Remember up to which transaction time the list was read without a gap.

    A look that broke off, or the one page that a delivery has read, does not count: what stands
    below it was not seen.
    """
    rows = GatewayState.objects.filter(pk=GatewayState.ONLY, read_to__lt=report.newest)
    rows.update(read_to=report.newest)


def note_far_look(at: dt.datetime, report: Report) -> None:
    """Remember that everything was looked at, and what order the list was in."""
    GatewayState.objects.filter(pk=GatewayState.ONLY).update(
        far_look_at=at, deep_look_at=at, newest_first=report.newest_first and report.descends
    )


def note_deep_look(at: dt.datetime) -> None:
    """Remember that a near look went below what was known."""
    GatewayState.objects.filter(pk=GatewayState.ONLY).update(deep_look_at=at)


def take_in_first_page(client: BitsbyClient, start: dt.datetime) -> None:
    """Take in the first page of the payments since ``start``: one request, for many deliveries."""
    report = Report()
    for page in client.payment_pages(start_date=(start - MARGIN).date(), end_date=_last_day()):
        _take_in_page(page, report)
        break


def take_in_payments(
    client: BitsbyClient,
    report: Report,
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
    pages = client.payment_pages(start_date=(start - MARGIN).date(), end_date=_last_day())
    for number, page in enumerate(pages, 1):
        for payment in page.items:
            at = payment.transaction_at
            if at is None or (last is not None and at > last):
                report.newest_first = False
            elif last is not None and at < last:
                report.descends = True
            last = at
            if at is not None:
                report.newest = max(report.newest, at)
        news = _take_in_page(page, report)
        note(number, report.payments)
        is_known_ground = stop_before is not None and last is not None and last < stop_before
        if is_known_ground and report.newest_first and not news:
            return


def _last_day() -> dt.date:
    return (timezone.now() + MARGIN).date()


def _take_in_page(page: Page[replies.Payment], report: Report) -> bool:
    """Settle or remember what is new on a page; tell whether anything was."""
    ids = {item.id for item in page.items}
    known = {row.bitsby_id: row for row in BitsbyPayment.objects.filter(bitsby_id__in=ids)}
    bound = {item.invoice.id for item in page.items if item.invoice}
    ours = {row.bitsby_id: row for row in BitsbyInvoice.objects.filter(bitsby_id__in=bound)}
    since = began()
    report.payments += len(page.items)
    report.unreadable += page.unreadable
    news = page.unreadable > 0
    for payment in page.items:
        if payment.id in known and _is_old_news(known[payment.id], payment, ours):
            continue
        news = True
        with report.failures_counted(payment.id):
            _take_in(payment, ours, since, report)
    return news


def _is_old_news(
    row: BitsbyPayment, payment: replies.Payment, ours: Mapping[Any, BitsbyInvoice]
) -> bool:
    told = payment.invoice
    if row.bound_to != (told.id if told else None):
        return False
    if row.invoice_id is None and told is not None and told.id in ours:
        # Seen before our own record of the invoice was written.
        return False
    if row.invoice_id is not None and row.booked_at is None and not row.attention:
        # Nothing was decided about it yet.
        return False
    if row.attention == BitsbyPayment.UNKNOWN_WORTH and not row.wallet_id and payment.wallet:
        return False
    # What was bound to an ended invoice may count after all.
    return not (row.attention == BitsbyPayment.ENDED and told and told.status == replies.PAID)


def _take_in(
    payment: replies.Payment,
    ours: dict[Any, BitsbyInvoice],
    since: dt.datetime | None,
    report: Report,
) -> None:
    told = payment.invoice
    if told is not None and told.id in ours:
        outcome = settlement.settle(ours[told.id], told, payment, dry_run=report.dry_run)
        report.count(outcome)
        return
    reason = _reason_to_keep(payment, since)
    report.flagged += bool(reason)
    if not report.dry_run:
        settlement.keep(payment, reason=reason)


def began() -> dt.datetime | None:
    """Return when this shop first asked for an invoice: what is older is none of its business.

    An attempt whose answer was lost counts: the invoice may be there, and money on it.
    """
    first = BitsbyInvoice.objects.order_by("pk").first()
    return first.created_at - dt.timedelta(minutes=5) if first else None


def _reason_to_keep(payment: replies.Payment, since: dt.datetime | None) -> str:
    """Return why staff should see a payment that is bound to none of our invoices, or nothing.

    The account may have other projects, and a history from before this shop.
    """
    told = payment.invoice
    if told is not None:
        if told.project_id != conf.get().project_id:
            return ""
        is_ours = since is not None and (told.created_at is None or told.created_at >= since)
        return BitsbyPayment.UNKNOWN_INVOICE if is_ours else ""
    at = payment.transaction_at
    is_ours = since is not None and (at is None or at >= since)
    return BitsbyPayment.UNMATCHED if is_ours else ""
