"""The checks of ``bitsby_doctor``: is this shop set up correctly, and are payments settled?"""

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass

from django.contrib.sites.models import Site
from django.core.checks import ERROR
from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, connections, router
from django.db.migrations.executor import MigrationExecutor
from django.urls import NoReverseMatch, reverse
from django.utils import timezone
from oscar.templatetags.url_tags import absolute_url

from oscar_bitsby import conf, models
from oscar_bitsby.choices import InvoiceStatus, MailStatus
from oscar_bitsby.exceptions import (
    BitsbyError,
    ConnectionFailed,
    GatewayError,
    RateLimitTimeout,
    Refused,
)
from oscar_bitsby.gateway import factory
from oscar_bitsby.models import BitsbyInvoice, BitsbyPayment, BuyerMail, WebhookDelivery
from oscar_bitsby.ops.checks import check_bitsby
from oscar_bitsby.ops.pruning import plural
from oscar_bitsby.reconciliation import lease
from oscar_bitsby.utils import requirements
from oscar_bitsby.utils.clock import db_now

OK, WARNING, PROBLEM = "ok", "hint", "problem"
#: The largest difference between this machine's clock and the database's without a warning.
MAX_CLOCK_DIFFERENCE = dt.timedelta(seconds=30)
#: Reconciliation should have expired an unpaid invoice this long after its time to pay.
OVERDUE_AFTER = dt.timedelta(hours=1)
#: The age of the webhook deliveries and e-mails that are checked.
RECENT = dt.timedelta(days=7)


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    ``state`` is ``OK``, ``WARNING`` or ``PROBLEM``, ``remedy`` what to do unless it is ``OK``.
    """

    state: str
    text: str
    remedy: str = ""


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
    yield from _webhook()
    yield from _clock()
    yield from _payments()
    yield from _mails()
    if not offline:
        yield from _gateway()


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
        text = "No payment check has completed: bitsby_reconcile has never run to its end."
        yield Finding(PROBLEM, text, remedy)
        return
    text = f"The last run of bitsby_reconcile completed {_ago(db_now() - last)}."
    yield Finding(PROBLEM, text, remedy) if lease.is_overdue(last) else Finding(OK, text)


def _ago(time: dt.timedelta) -> str:
    minutes = round(time.total_seconds() / 60)
    if minutes < 120:
        return f"{plural(minutes, 'minute')} ago"
    return f"{minutes // 60} hours ago" if minutes < 48 * 60 else f"{minutes // 1440} days ago"


def _webhook() -> Iterator[Finding]:
    try:
        path = reverse("oscar_bitsby:webhook")
    except NoReverseMatch:
        # The system checks have reported it.
        return
    if not conf.get().webhook_token.matches(""):
        # The token is a secret, and people send the doctor's output to others.
        path += "<WEBHOOK_TOKEN>/"
    try:
        site = Site.objects.get_current()
    except (Site.DoesNotExist, ImproperlyConfigured) as error:
        yield Finding(
            PROBLEM,
            f"The shop has no site ({error}), so it cannot send e-mails.",
            "Set SITE_ID to the id of one of the sites in the admin.",
        )
        return
    address = absolute_url(site.domain, path)
    if site.domain in ("example.com", "localhost"):
        yield Finding(
            WARNING,
            f"The site's domain is {site.domain}, so links in e-mails do not work.",
            "Set the shop's domain under Sites in the admin.",
        )
    since = timezone.now() - RECENT
    has_deliveries = WebhookDelivery.objects.filter(received_at__gte=since).exists()
    if has_deliveries:
        yield Finding(OK, f"Webhook deliveries have arrived at {address} in the last 7 days.")
    elif BitsbyInvoice.objects.filter(status="paid", created_at__gte=since).exists():
        yield Finding(
            WARNING,
            "Invoices were paid in the last 7 days, but no webhook delivery has arrived. Payments"
            " are settled by bitsby_reconcile only, which takes longer.",
            f"Enter {address} in the project's settings at Bitsby, and make sure that it can be"
            " reached from the internet.",
        )
    else:
        yield Finding(OK, f"Webhook deliveries are expected at {address}.")


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


def _gateway() -> Iterator[Finding]:
    settings = conf.get()
    try:
        client = factory.for_staff(factory.BACKGROUND_MAX_WAIT)
        balance = client.balances().internal
        projects = {tariff.id for tariff in client.tariffs()}
    except Refused as error:
        yield Finding(
            PROBLEM, f"Bitsby refuses: {error}.", "Compare API_KEY with your Bitsby account."
        )
    except ConnectionFailed as error:
        remedy = "Make sure that this machine can reach it. Payments are not lost meanwhile."
        yield Finding(PROBLEM, f"Bitsby cannot be reached: {error}.", remedy)
    except RateLimitTimeout:
        yield Finding(
            WARNING, "Bitsby was not checked: the rate limit is in use.", "Try again in a minute."
        )
    except GatewayError as error:
        remedy = "Make sure that API_URL is right, and try again in a minute."
        yield Finding(PROBLEM, f"Bitsby's answer cannot be used: {error}.", remedy)
    else:
        yield Finding(OK, "Bitsby answers and accepts the API key.")
        if balance < 0:
            yield Finding(
                PROBLEM,
                f"The balance at Bitsby is {balance} USD: from Monday it blocks new invoices.",
                "Top it up in your Bitsby account.",
            )
        if projects and settings.project_id not in projects:
            # It is not documented whether Bitsby lists a project without payments.
            yield Finding(
                WARNING,
                f"The account's list of projects does not contain {settings.project_id}.",
                f"Compare PROJECT_ID with the listed projects: {', '.join(sorted(projects))}.",
            )
