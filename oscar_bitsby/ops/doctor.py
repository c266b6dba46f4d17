"""What ``bitsby_doctor`` says: whether this shop is set up right, and whether its payments flow."""

from __future__ import annotations

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
from oscar_bitsby.gateway.client import BitsbyClient
from oscar_bitsby.models import BitsbyInvoice, BitsbyPayment, BuyerMail, WebhookDelivery
from oscar_bitsby.ops import checks
from oscar_bitsby.reconciliation import lease
from oscar_bitsby.utils.clock import db_now

OK, WARNING, PROBLEM = "ok", "hint", "problem"
#: Further apart than this, clocks of machines lead people astray who compare times.
CLOCKS_APART = dt.timedelta(seconds=30)
#: An unpaid invoice that is over for so long should have been ended by a pass.
OVER_FOR = dt.timedelta(hours=1)
#: How far back deliveries and mails are looked at.
LATELY = dt.timedelta(days=7)


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: how it is, and what to do where it is not well."""

    state: str
    text: str
    remedy: str = ""


def run_diagnostics(
    client: BitsbyClient | None = None, *, offline: bool = False
) -> Iterator[Finding]:
    """Look at everything, cheapest first; what rests on something that is missing is left out.

    Reads only, and sends at most two requests to Bitsby.

    Args:
        client: another client than the one of the settings.
        offline: ask Bitsby nothing.
    """
    for message in checks.check_bitsby():
        is_problem = message.level >= ERROR or not conf.is_configured()
        yield Finding(PROBLEM if is_problem else WARNING, message.msg, message.hint or "")
    try:
        conf.get()
    except BitsbyError:
        # Said by the checks, whether it is missing or wrong.
        return
    yield Finding(OK, "The settings can be used.")
    try:
        missing = _migrations()
    except DatabaseError as error:
        text = str(error).strip().partition("\n")[0]
        yield Finding(
            PROBLEM, f"The database cannot be asked: {text}.", "Start it, or mend DATABASES."
        )
        return
    if missing:
        yield Finding(PROBLEM, f"{missing} migrations are not applied.", "Run migrate.")
        return
    yield from _passes()
    yield from _webhook()
    yield from _clock()
    yield from _money()
    yield from _mails()
    if not offline:
        yield from _bitsby(client)


def _migrations() -> int:
    """Return how many of our migrations the database lacks."""
    executor = MigrationExecutor(connections[router.db_for_write(BitsbyInvoice)])
    plan = executor.migration_plan(executor.loader.graph.leaf_nodes("oscar_bitsby"))
    return sum(migration.app_label == "oscar_bitsby" for migration, _ in plan)


def _passes() -> Iterator[Finding]:
    last = lease.last_run()
    remedy = (
        "Run bitsby_reconcile every minute, by cron or with --loop 60 as a service. If it does run,"
        " see in its log what keeps it from ending, such as a Bitsby that does not answer."
    )
    if last is None:
        yield Finding(PROBLEM, "No pass of bitsby_reconcile has ever come to its end.", remedy)
        return
    ago = _ago(db_now() - last)
    if lease.is_overdue(last):
        yield Finding(PROBLEM, f"The last pass of bitsby_reconcile ended {ago}.", remedy)
    else:
        yield Finding(OK, f"The last pass of bitsby_reconcile ended {ago}.")


def _ago(time: dt.timedelta) -> str:
    minutes = round(time.total_seconds() / 60)
    if minutes < 120:
        return f"{minutes} minutes ago"
    return f"{minutes // 60} hours ago" if minutes < 48 * 60 else f"{minutes // 1440} days ago"


def _webhook() -> Iterator[Finding]:
    try:
        path = reverse("oscar_bitsby:webhook")
    except NoReverseMatch:
        # Said by the checks.
        return
    if not conf.get().webhook_token.matches(""):
        # The token is a secret, and what a doctor says is sent around.
        path += "<WEBHOOK_TOKEN>/"
    try:
        site = Site.objects.get_current()
    except (Site.DoesNotExist, ImproperlyConfigured) as error:
        yield Finding(
            PROBLEM,
            f"The shop has no site ({error}), so no mail can be sent.",
            "Set SITE_ID to one of the Sites in the admin.",
        )
        return
    address = absolute_url(site.domain, path)
    if site.domain in ("example.com", "localhost"):
        yield Finding(
            WARNING,
            f"The site's domain is {site.domain}, so links in mails lead nowhere.",
            "Enter the shop's domain under Sites in the admin.",
        )
    since = timezone.now() - LATELY
    came = WebhookDelivery.objects.filter(received_at__gte=since).exists()
    if came:
        yield Finding(OK, f"Deliveries have come to {address} lately.")
    elif BitsbyInvoice.objects.filter(status="paid", created_at__gte=since).exists():
        yield Finding(
            WARNING,
            "Invoices were paid in the last days, and no delivery has come: they were settled by"
            " passes, later than need be.",
            f"Enter {address} in the project's settings at Bitsby, and see that it can be reached.",
        )
    else:
        yield Finding(OK, f"Deliveries are expected at {address}.")


def _clock() -> Iterator[Finding]:
    apart = abs(db_now() - timezone.now())
    if apart > CLOCKS_APART:
        yield Finding(
            WARNING,
            f"This machine's clock and the database's are {apart.total_seconds():.0f} seconds"
            " apart. The app goes by the database's; people who compare times may not.",
            "Let both keep their time by NTP.",
        )


def _money() -> Iterator[Finding]:
    waiting = BitsbyPayment.objects.needs_review().count()
    if waiting:
        yield Finding(
            WARNING,
            f"{waiting} payments wait for staff.",
            "Look into the money inbox: dashboard, Bitsby.",
        )
    unpaid = BitsbyInvoice.objects.filter(status=InvoiceStatus.UNPAID)
    nameless = unpaid.filter(failure=models.PAID_WITHOUT_PAYMENT).count()
    if nameless:
        yield Finding(
            WARNING,
            f"{nameless} invoices are paid at Bitsby, which does not say by what payment.",
            "Look at them at Bitsby; in the dashboard they are the invoices that need attention.",
        )
    late = unpaid.exclude(failure=models.PAID_WITHOUT_PAYMENT)
    over = late.filter(expires_at__lt=timezone.now() - OVER_FOR).count()
    if over:
        yield Finding(
            PROBLEM,
            f"{over} invoices are over for more than an hour and still count as unpaid.",
            "Run bitsby_reconcile by hand and read what it says.",
        )
    if not waiting and not over:
        yield Finding(OK, "No payment waits for staff, and no invoice is overdue.")


def _mails() -> Iterator[Finding]:
    failed = BuyerMail.objects.filter(
        status=MailStatus.FAILED, created_at__gte=timezone.now() - LATELY
    ).count()
    if failed:
        yield Finding(
            WARNING,
            f"{failed} mails to buyers could not be sent in the last days.",
            "The admin's list of mails says why.",
        )


def _bitsby(client: BitsbyClient | None) -> Iterator[Finding]:
    settings = conf.get()
    try:
        client = client or factory.for_staff(factory.BACKGROUND_MAX_WAIT)
        balance = client.balances().internal
        projects = {tariff.id: tariff.name for tariff in client.tariffs()}
    except Refused as error:
        yield Finding(
            PROBLEM, f"Bitsby refuses: {error}.", "Compare API_KEY with your Bitsby account."
        )
    except ConnectionFailed as error:
        remedy = "See that this machine can reach it; nothing is lost meanwhile."
        yield Finding(PROBLEM, f"Bitsby cannot be reached: {error}.", remedy)
    except RateLimitTimeout:
        yield Finding(
            WARNING, "Bitsby was not asked: others were before us.", "Try again in a minute."
        )
    except GatewayError as error:
        remedy = "See that API_URL is right, and try again in a minute."
        yield Finding(PROBLEM, f"Bitsby's answer was of no use: {error}.", remedy)
    else:
        yield Finding(OK, "Bitsby answers, and takes the key.")
        if balance < 0:
            yield Finding(
                PROBLEM,
                f"The balance at Bitsby is {balance}: on Monday it blocks new invoices.",
                "Settle it in your Bitsby account.",
            )
        if projects and settings.project_id not in projects:
            # Whether Bitsby lists a project without payments is not known.
            yield Finding(
                WARNING,
                f"The account's list of projects does not have {settings.project_id}.",
                f"Compare PROJECT_ID; those in the list are: {', '.join(sorted(projects))}.",
            )
