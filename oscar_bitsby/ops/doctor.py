"""The checks of ``bitsby_doctor``: is this shop set up correctly, and are payments settled?"""

import datetime as dt
from collections.abc import Iterator

from django.core.checks import ERROR
from django.db import DatabaseError, connections, router
from django.db.migrations.executor import MigrationExecutor
from django.utils import timezone

from oscar_bitsby import conf, models
from oscar_bitsby.choices import InvoiceStatus, MailStatus
from oscar_bitsby.exceptions import BitsbyError
from oscar_bitsby.models import BitsbyInvoice, BitsbyPayment, BuyerMail
from oscar_bitsby.ops.checks import check_bitsby
from oscar_bitsby.ops.doctor_account import check_account, check_audit, check_stored_balance
from oscar_bitsby.ops.doctor_webhook import check_webhook
from oscar_bitsby.ops.findings import OK, PROBLEM, RECENT, WARNING, Finding, ago
from oscar_bitsby.reconciliation import lease
from oscar_bitsby.utils import requirements
from oscar_bitsby.utils.clock import db_now
from oscar_bitsby.utils.plurals import plural

#: The largest difference between this machine's clock and the database's without a warning.
MAX_CLOCK_DIFFERENCE = dt.timedelta(seconds=30)
#: Reconciliation should have expired an unpaid invoice this long after its time to pay.
OVERDUE_AFTER = dt.timedelta(hours=1)


def run_diagnostics(*, offline: bool = False) -> Iterator[Finding]:
    """Check everything, and skip checks whose requirements are missing.

    Changes nothing, and sends at most two requests to Bitsby, none if ``offline``.
    """
    for message in check_bitsby():
        is_problem = message.level >= ERROR or not conf.is_configured()
        yield Finding(PROBLEM if is_problem else WARNING, message.msg, message.hint or "")
    try:
        conf.get()
        requirements.ensure_met()
    except BitsbyError:
        # The system checks above have reported it.
        return
    yield Finding(OK, "The settings are valid.")
    try:
        missing = _migrations()
    except DatabaseError as error:
        text = str(error).strip().partition("\n")[0]
        yield Finding(
            PROBLEM, f"The database cannot be reached: {text}.", "Start it, or correct DATABASES."
        )
        return
    if missing:
        text = plural(missing, "migration is not applied", "migrations are not applied")
        yield Finding(PROBLEM, f"{text}.", "Run manage.py migrate.")
        return
    yield from _runs()
    yield from check_webhook()
    yield from _clock()
    yield from _payments()
    yield from _mails()
    yield from check_audit()
    yield from check_stored_balance() if offline else check_account()


def _migrations() -> int:
    """Return how many of the app's migrations are not applied."""
    executor = MigrationExecutor(connections[router.db_for_write(BitsbyInvoice)])
    plan = executor.migration_plan(executor.loader.graph.leaf_nodes("oscar_bitsby"))
    return sum(migration.app_label == "oscar_bitsby" for migration, _ in plan)


def _runs() -> Iterator[Finding]:
    last = lease.last_run()
    remedy = (
        "Run bitsby_reconcile every minute, by cron or with --loop 60 as a service. If it is"
        " running, its log says why it does not complete, for example because Bitsby does not"
        " answer."
    )
    if last is None:
        text = "No run of bitsby_reconcile has completed yet."
        yield Finding(PROBLEM, text, remedy)
        return
    text = f"The last run of bitsby_reconcile completed {ago(db_now() - last)}."
    yield Finding(PROBLEM, text, remedy) if lease.is_overdue(last) else Finding(OK, text)


def _clock() -> Iterator[Finding]:
    difference = abs(db_now() - timezone.now())
    if difference > MAX_CLOCK_DIFFERENCE:
        yield Finding(
            WARNING,
            "This machine's clock and the database's differ by"
            f" {difference.total_seconds():.0f} seconds. The app uses the database's, but other"
            " times, such as those in logs, will not match.",
            "Synchronise both clocks by NTP.",
        )


def _payments() -> Iterator[Finding]:
    waiting = BitsbyPayment.objects.needs_review().filter(is_dust=False).count()
    if waiting:
        yield Finding(
            WARNING,
            f"{plural(waiting, 'payment needs', 'payments need')} a decision by staff.",
            'Open "Payments to review" in the dashboard.',
        )
    unpaid = BitsbyInvoice.objects.filter(status=InvoiceStatus.UNPAID)
    unexplained = unpaid.filter(failure=models.PAID_WITHOUT_PAYMENT).count()
    if unexplained:
        yield Finding(
            WARNING,
            f"{plural(unexplained, 'invoice is', 'invoices are')} paid at Bitsby, but the API"
            " does not name the payment.",
            "Check them in your Bitsby account. The dashboard lists them as invoices that need"
            " attention.",
        )
    unanswered = _unanswered_invoices()
    yield from unanswered
    others = unpaid.exclude(failure=models.PAID_WITHOUT_PAYMENT).filter(unanswered_since=None)
    overdue = others.filter(expires_at__lt=timezone.now() - OVERDUE_AFTER).count()
    if overdue:
        yield Finding(
            PROBLEM,
            f"{plural(overdue, 'invoice')} should have expired more than an hour ago.",
            "Run bitsby_reconcile by hand and read its output.",
        )
    if not waiting and not overdue and not unanswered:
        yield Finding(OK, "No payment needs a decision by staff, and no invoice is overdue.")


def _unanswered_invoices() -> list[Finding]:
    invoices = BitsbyInvoice.objects.unanswered()
    newest = invoices.order_by("-last_refreshed_at").first()
    if newest is None:
        return []
    reason = newest.unanswered_reason.rstrip(".")
    return [
        Finding(
            WARNING,
            f"Bitsby gives no usable answer about {plural(invoices.count(), 'invoice')}, most"
            f" recently that of order {newest.order_number}: {reason}.",
            "Check them in your Bitsby account. Their orders are not cancelled meanwhile. The"
            " dashboard lists them as invoices that need attention.",
        )
    ]


def _mails() -> Iterator[Finding]:
    failed = BuyerMail.objects.filter(
        status=MailStatus.FAILED, created_at__gte=timezone.now() - RECENT
    ).count()
    if failed:
        yield Finding(
            WARNING,
            f"{plural(failed, 'e-mail')} to buyers could not be sent in the last 7 days.",
            "The admin's list of e-mails says why.",
        )
