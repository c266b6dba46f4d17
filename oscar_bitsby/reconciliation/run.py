"""Ask Bitsby what became of invoices, one or many, and hand the answers to ``settlement``."""

from __future__ import annotations

import logging
from collections.abc import Callable

from oscar_bitsby import conf
from oscar_bitsby.gateway import factory
from oscar_bitsby.gateway.client import BitsbyClient
from oscar_bitsby.mails import reminders, sender
from oscar_bitsby.models import BitsbyInvoice
from oscar_bitsby.reconciliation import expiry, invoice_refresh
from oscar_bitsby.reconciliation.lease import LeaseLost, acquire
from oscar_bitsby.reconciliation.payment_sync import sync_due_payments
from oscar_bitsby.reconciliation.report import RunReport
from oscar_bitsby.settlement.attempts import expire_stale_attempts

logger = logging.getLogger("oscar_bitsby")

#: Deliveries that a near look did not explain are asked about one by one, so many in a pass.
FLAGGED_PER_RUN = 3


def reconcile(
    *,
    dry_run: bool = False,
    progress: Callable[[str], None] = lambda text: None,
    client: BitsbyClient | None = None,
) -> RunReport:
    """Make one pass over everything that is watched, in bulk.

    A near look at the payments of the last days; once a day a far one over ``WATCH_DAYS``; the
    last word on invoices whose time is up; then orders that wait for no payment any more. Mails to
    buyers come last, and also where Bitsby could not be asked.

    Args:
        dry_run: ask, decide and report, but write nothing.
        progress: is told in a few words what is being done.
        client: another client than the one of the settings.

    Returns:
        what was found; ``skipped`` when another pass is running.

    Raises:
        GatewayError: Bitsby could not be asked. What was settled until then stays settled.
    """
    settings = conf.get()
    client = client or factory.for_background()
    report = RunReport(dry_run=dry_run)
    with acquire() as running:
        if running is None:
            report.skipped = True
            logger.info("another pass is running; this one stands back")
            return report
        report.renew_lease = running.renew_lease
        try:
            _run_steps(settings, client, report, progress)
        except LeaseLost:
            raise
        except Exception:
            # Whatever it was, buyers wait for what was noted before.
            _send_mails(report, progress)
            raise
        finally:
            report.requests = client.requests
        if not dry_run:
            running.mark_finished()
        _send_mails(report, progress)
    return report


def _run_steps(
    settings: conf.Conf,
    client: BitsbyClient,
    report: RunReport,
    progress: Callable[[str], None],
) -> None:
    if not report.dry_run:
        expire_stale_attempts(settings)
    sync_due_payments(settings, client, report, progress)
    _refresh_flagged_invoices(client, report)
    expiry.expire_overdue(settings, client, report, progress)
    expiry.cancel_unpaid_orders(settings, client, report, progress)
    if not report.dry_run:
        # After the look: who has paid is not reminded.
        reminders.enqueue_reminders()


def _send_mails(report: RunReport, progress: Callable[[str], None]) -> None:
    if not report.dry_run:
        progress("mails")
        report.mails = sender.send_pending_safely(report.renew_lease)


def _refresh_flagged_invoices(client: BitsbyClient, report: RunReport) -> None:
    """Ask about deliveries that could not be looked into when they came, and did not turn up."""
    if report.dry_run:
        return
    flagged = BitsbyInvoice.objects.filter(webhook_pending_since__isnull=False).order_by(
        "webhook_pending_since"
    )
    for invoice in flagged[:FLAGGED_PER_RUN]:
        remote = invoice_refresh.fetch_invoice_or_none(client, invoice)
        if remote is not None:
            with report.isolate_errors(invoice.bitsby_id):
                report.count(invoice_refresh.settle_fetched(client, invoice, remote))
        # If Bitsby does not call it paid, whoever sent that delivery was wrong.
        BitsbyInvoice.objects.filter(pk=invoice.pk).update(webhook_pending_since=None)
