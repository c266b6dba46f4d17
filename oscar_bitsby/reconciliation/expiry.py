"""Expires overdue invoices after a final check, cancels unpaid orders, flags missing rests."""

import datetime as dt
from typing import Any

from django.db.models import Exists, OuterRef, Q
from oscar.core.loading import get_model

from oscar_bitsby import conf
from oscar_bitsby.choices import InvoiceStatus, Resolution
from oscar_bitsby.conf import METHOD_CODE
from oscar_bitsby.models import BitsbyInvoice, BitsbyPayment
from oscar_bitsby.reconciliation.invoice_sync import sync_invoices
from oscar_bitsby.reconciliation.report import ReconcileRun
from oscar_bitsby.settlement import cancellation, short_payments
from oscar_bitsby.utils.clock import db_now
from oscar_bitsby.utils.plurals import plural

Order = get_model("order", "Order")

#: Invoices and orders that one run processes; the next run continues.
BATCH = 500
#: How often an invoice is polled that could not be expired within an hour.
POLL_BACKOFF = dt.timedelta(minutes=10)


def _not_recently_polled(now: dt.datetime, since: str, patience: dt.timedelta) -> Q:
    """Exclude what is long overdue and was polled recently without a result."""
    long_due = now - patience - dt.timedelta(hours=1)
    return ~Q(**{f"{since}__lte": long_due}, last_refreshed_at__gt=now - POLL_BACKOFF)


def expire_overdue(run: ReconcileRun) -> None:
    """Make the final check of overdue invoices, and expire those that have expired at Bitsby."""
    now = db_now()
    overdue = BitsbyInvoice.objects.filter(
        _not_recently_polled(now, "expires_at", dt.timedelta()),
        status=InvoiceStatus.UNPAID,
        bitsby_id__isnull=False,
        expires_at__lte=now,
    )
    # Those that were polled least recently come first, so that none is starved. Among these the
    # newest come first, because they are on the first pages of the list: after a long outage the
    # oldest would be found only behind all the others, page by page, in every run.
    invoices = list(overdue.order_by("last_refreshed_at", "-pk")[:BATCH])
    if invoices:
        run.progress(f"final check of {plural(len(invoices), 'invoice')}")
        sync_invoices(run, invoices)


def cancel_unpaid_orders(run: ReconcileRun) -> None:
    """Cancel the orders whose time is up, after fetching all their invoices."""
    orders = _orders_to_cancel(run.settings, dry_run=run.dry_run)
    if not orders:
        return
    run.progress(plural(len(orders), "unpaid order"))
    invoices = list(BitsbyInvoice.objects.filter(order__in=orders, bitsby_id__isnull=False))
    remote = sync_invoices(run, invoices)
    if not run.client.answers:
        # Orders without an invoice cause no request. While Bitsby is down they are not cancelled:
        # this raises.
        today = db_now().date()
        next(run.client.payment_pages(start_date=today, end_date=today))
    for order_pk in orders:
        with run.isolate_errors(order_pk):
            if cancellation.cancel_unpaid_order(order_pk, remote, dry_run=run.dry_run):
                run.report.cancelled += 1
                _plan(run, order_pk, "cancel the order")
            elif not run.dry_run:
                rows = BitsbyInvoice.objects.filter(order=order_pk, order_awaits_payment=True)
                rows.update_unlocked(last_refreshed_at=db_now())


def flag_missing_rests(run: ReconcileRun) -> None:
    """Put payments whose rest has not arrived in time into the payments to review.

    Their orders hold money, so they are never cancelled: staff accept or refund it.
    """
    settings, now = run.settings, db_now()
    asked = BitsbyPayment.objects.filter(
        resolution=Resolution.ASKED,
        booked_at__isnull=False,
        invoice__order__status=settings.order_status_pending,
    )
    if settings.hold_order_for is not None:
        asked = asked.filter(resolved_at__lte=now - settings.hold_order_for)
    # The exact condition is checked under the order's lock.
    for order_pk in set(asked.values_list("invoice__order_id", flat=True)[:BATCH]):
        with run.isolate_errors(order_pk):
            if short_payments.flag_missing_rest(order_pk, only_if_due=True, dry_run=run.dry_run):
                run.report.flagged += 1
                _plan(run, order_pk, "add its payment to the payments to review (rest_missing)")


def _plan(run: ReconcileRun, order_pk: Any, what: str) -> None:
    if run.dry_run:
        number = Order._default_manager.values_list("number", flat=True).get(pk=order_pk)
        run.report.plan(f"order {number}", what)


def _orders_to_cancel(settings: conf.Conf, *, dry_run: bool) -> list[Any]:
    """Return the keys of pending orders whose ``CANCEL_AFTER`` or ``HOLD_ORDER_FOR`` is over."""
    now = db_now()
    pending = settings.order_status_pending
    ended = BitsbyInvoice.objects.filter(order_awaits_payment=True, ended_at__isnull=False)
    is_due = Q(pk__in=())
    if settings.cancel_after is not None:
        since = now - settings.cancel_after
        # A newer invoice that has only just expired gives its order more time.
        newer = BitsbyInvoice.objects.filter(order=OuterRef("order"), ended_at__gt=since)
        is_due |= Q(
            ~Exists(newer),
            _not_recently_polled(now, "ended_at", settings.cancel_after),
            ended_at__lte=since,
            bitsby_id__isnull=False,
        )
    if settings.hold_order_for is not None:
        is_due |= Q(
            _not_recently_polled(now, "ended_at", dt.timedelta()),
            order__date_placed__lte=now - settings.hold_order_for,
        )
    if not dry_run:
        # Staff or another payment decided: these orders wait no longer.
        ended.exclude(order__status=pending).update_unlocked(order_awaits_payment=False)
    orders = list(
        ended.filter(is_due, order__status=pending)
        .exclude(order__bitsby_invoices__status__in=BitsbyInvoice.LIVE)
        .order_by("last_refreshed_at")
        .values_list("order_id", flat=True)[:BATCH]
    )
    if settings.hold_order_for is not None:
        placed_by = now - settings.hold_order_for
        abandoned = Order._default_manager.filter(
            status=pending,
            sources__source_type__code=METHOD_CODE,
            bitsby_invoices__isnull=True,
            date_placed__range=(placed_by - dt.timedelta(days=settings.watch_days), placed_by),
        )
        orders += abandoned.order_by("date_placed").values_list("pk", flat=True)[:BATCH]
    return list(dict.fromkeys(orders))
