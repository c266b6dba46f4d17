"""``reconcile``: the steps of a run, and their order."""

import logging
from collections.abc import Callable

from oscar_bitsby.gateway import factory
from oscar_bitsby.gateway.client import BitsbyClient
from oscar_bitsby.mails import alert_sender, reminders, sender
from oscar_bitsby.models import BitsbyInvoice
from oscar_bitsby.reconciliation import balance_guard, expiry, invoice_refresh, run_alerts
from oscar_bitsby.reconciliation.auto_binding import bind_fitting_payments
from oscar_bitsby.reconciliation.lease import LeaseLost, acquire
from oscar_bitsby.reconciliation.payment_sync import sync_due_payments
from oscar_bitsby.reconciliation.report import ReconcileRun, RunReport
from oscar_bitsby.settlement.attempts import expire_stale_attempts
from oscar_bitsby.utils.clock import db_now

logger = logging.getLogger("oscar_bitsby")

#: Flagged invoices that the payment sync did not settle are fetched one by one, up to this number.
FLAGGED_PER_RUN = 3


def reconcile(
    *,
    dry_run: bool = False,
    progress: Callable[[str], None] = lambda text: None,
    client: BitsbyClient | None = None,
) -> RunReport:
    """Sync, expire, cancel and send e-mails for everything that is due.

    The payments of the last days are synced in every run, those of ``WATCH_DAYS`` once a day. Then
    follow a final check of overdue invoices and the cancelling of unpaid orders. Once an hour the
    balance is fetched. E-mails come last, and are also sent when the gateway failed.

    Args:
        dry_run: fetch, decide and report, but write nothing.
        progress: called with a short text before each step.
        client: replaces the client that the settings describe.

    Returns:
        what was done; ``skipped`` is set when another run is in progress.

    Raises:
        GatewayError: Bitsby could not be asked. What was settled until then stays settled.
    """
    run = ReconcileRun(
        client or factory.for_background(), report=RunReport(dry_run=dry_run), progress=progress
    )
    with acquire() as lease:
        if lease is None:
            run.report.skipped = True
            logger.info("another run is in progress; this one is skipped")
            return run.report
        run.renew_lease = lease.renew
        if not dry_run:
            run_alerts.enqueue_if_overdue()
        try:
            _run_steps(run)
        except LeaseLost:
            raise
        except Exception as error:
            if not dry_run:
                run_alerts.enqueue_if_refused(error)
            # E-mails in the outbox do not depend on what failed.
            _send_mails(run)
            raise
        finally:
            run.report.requests = run.client.requests
        if not dry_run:
            lease.finish()
        _send_mails(run)
    return run.report


def _run_steps(run: ReconcileRun) -> None:
    if not run.dry_run:
        expire_stale_attempts(run.settings)
    sync_due_payments(run)
    if not run.dry_run:
        _refresh_flagged_invoices(run)
        # After it: a binding whose answer was lost is settled before it could be asked for again.
        bind_fitting_payments(run)
    expiry.expire_overdue(run)
    expiry.cancel_unpaid_orders(run)
    expiry.flag_missing_rests(run)
    if not run.dry_run:
        # After the sync: buyers who have paid get no reminder.
        reminders.enqueue_reminders()
    # The last request of a run, so that settling never waits for it.
    balance_guard.check_balance(run)


def _send_mails(run: ReconcileRun) -> None:
    if not run.dry_run:
        run.progress("e-mails")
        run.report.mails = sender.send_pending_safely(run.renew_lease)
        alert_sender.send_pending_safely(run.renew_lease)


def _refresh_flagged_invoices(run: ReconcileRun) -> None:
    """Refresh invoices whose webhook delivery was not processed when it arrived."""
    flagged = BitsbyInvoice.objects.filter(webhook_pending_since__isnull=False).exclude(
        unanswered_since__isnull=False, last_refreshed_at__gt=db_now() - expiry.POLL_BACKOFF
    )
    for invoice in flagged.order_by("webhook_pending_since")[:FLAGGED_PER_RUN]:
        with run.isolate_errors(invoice.bitsby_id):
            remote = invoice_refresh.fetch_invoice(run.client, invoice)
            if remote is not None:
                with run.isolate_errors(invoice.bitsby_id):
                    outcome = invoice_refresh.settle_fetched(run.client, invoice, remote)
                    run.report.count(outcome, invoice.order_number)
            # If Bitsby does not call it paid, the delivery was wrong.
            BitsbyInvoice.objects.filter(pk=invoice.pk).update(webhook_pending_since=None)
