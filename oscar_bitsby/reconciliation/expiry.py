"""The ends of what was not paid: the last word on invoices, and the orders that waited for them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any

from django.db.models import Q
from oscar.core.loading import get_model

from oscar_bitsby import conf
from oscar_bitsby.choices import InvoiceStatus
from oscar_bitsby.conf import METHOD_CODE
from oscar_bitsby.gateway.client import BitsbyClient
from oscar_bitsby.models import BitsbyInvoice
from oscar_bitsby.reconciliation.invoice_sync import sync_invoices
from oscar_bitsby.reconciliation.report import RunReport
from oscar_bitsby.settlement import cancellation
from oscar_bitsby.utils.clock import db_now

Order = get_model("order", "Order")

#: Invoices and orders that one pass deals with; the next one goes on.
BATCH = 500
#: What could not be ended within an hour is asked about again only this often.
POLL_BACKOFF = dt.timedelta(minutes=10)


def _not_recently_polled(
    now: dt.datetime, since: str, patience: dt.timedelta = dt.timedelta()
) -> Q:
    """Leave out what is long due and was asked about a short while ago, to no avail."""
    long_due = now - patience - dt.timedelta(hours=1)
    return ~Q(**{f"{since}__lte": long_due}, last_refreshed_at__gt=now - POLL_BACKOFF)


def expire_overdue(
    settings: conf.Conf,
    client: BitsbyClient,
    report: RunReport,
    progress: Callable[[str], None],
) -> None:
    """Ask about the invoices whose time is up, and end those that Bitsby calls ended."""
    now = db_now()
    overdue = BitsbyInvoice.objects.filter(
        _not_recently_polled(now, "expires_at"),
        status=InvoiceStatus.UNPAID,
        bitsby_id__isnull=False,
        expires_at__lte=now,
    )
    # Those that were not asked about for longest come first, so that none is starved; of these the
    # newest, since they stand on the first pages of the list. After a long silence the oldest
    # would be found behind all the others, page by page, in every pass.
    invoices = list(overdue.order_by("last_refreshed_at", "-pk")[:BATCH])
    if invoices:
        progress(f"last word on {len(invoices)} invoices")
        sync_invoices(settings, client, report, invoices)


def cancel_unpaid_orders(
    settings: conf.Conf,
    client: BitsbyClient,
    report: RunReport,
    progress: Callable[[str], None],
) -> None:
    """Cancel the orders that have waited long enough, after a last look at all their invoices."""
    if settings.cancel_after is None:
        return
    orders = _orders_to_cancel(settings, report)
    if not orders:
        return
    progress(f"{len(orders)} orders that nobody pays")
    invoices = list(BitsbyInvoice.objects.filter(order__in=orders, bitsby_id__isnull=False))
    remote = sync_invoices(settings, client, report, invoices)
    for order_pk in orders:
        with report.isolate_errors(order_pk):
            if cancellation.cancel_unpaid_order(order_pk, remote, dry_run=report.dry_run):
                report.cancelled += 1
            elif not report.dry_run:
                rows = BitsbyInvoice.objects.filter(order=order_pk, order_awaits_payment=True)
                rows.update_unlocked(last_refreshed_at=db_now())


def _orders_to_cancel(settings: conf.Conf, report: RunReport) -> list[Any]:
    now = db_now()
    patience = settings.cancel_after or dt.timedelta()
    pending = settings.order_status_pending
    ended = BitsbyInvoice.objects.filter(order_awaits_payment=True, ended_at__lte=now - patience)
    if not report.dry_run:
        # Staff or another payment decided: there is nothing left to wait for.
        ended.exclude(order__status=pending).update_unlocked(order_awaits_payment=False)
    orders = list(
        ended.filter(_not_recently_polled(now, "ended_at", patience), order__status=pending)
        # A newer invoice that has only just ended gives its order time again.
        .exclude(order__bitsby_invoices__ended_at__gt=now - patience)
        .exclude(order__bitsby_invoices__status__in=BitsbyInvoice.LIVE)
        .order_by("last_refreshed_at")
        .values_list("order_id", flat=True)[:BATCH]
    )
    hours = dt.timedelta(hours=float(settings.time_to_pay))
    abandoned = Order._default_manager.filter(
        status=pending,
        sources__source_type__code=METHOD_CODE,
        bitsby_invoices__isnull=True,
        date_placed__lte=now - patience - hours,
        date_placed__gte=now - patience - hours - dt.timedelta(days=settings.watch_days),
    )
    orders += abandoned.order_by("date_placed").values_list("pk", flat=True)[:BATCH]
    return list(dict.fromkeys(orders))
