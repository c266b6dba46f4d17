"""The doctor's checks of the webhook: do deliveries arrive, and do they settle their invoices?"""

import datetime as dt
import ipaddress
from collections import Counter
from collections.abc import Iterator, Sequence
from urllib.parse import urlsplit

from django.contrib.sites.models import Site
from django.core.exceptions import ImproperlyConfigured
from django.urls import NoReverseMatch, reverse
from django.utils import timezone
from oscar.templatetags.url_tags import absolute_url

from oscar_bitsby import conf
from oscar_bitsby.choices import InvoiceStatus
from oscar_bitsby.models import BitsbyInvoice, WebhookDelivery
from oscar_bitsby.ops.findings import OK, PROBLEM, RECENT, WARNING, Finding
from oscar_bitsby.utils.plurals import plural

#: Domains that nobody else can reach, with all of their subdomains.
PLACEHOLDERS = ("example.com", "example.net", "example.org", "localhost")
#: The newest deliveries that are checked.
NEWEST = 20
#: By then Bitsby has sent a delivery again twice, and runs have settled its invoice.
SETTLED_WITHIN = dt.timedelta(minutes=30)


def check_webhook() -> Iterator[Finding]:
    """Check the site's domain, and what became of the newest deliveries."""
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
    if _is_placeholder(site.domain):
        yield Finding(
            WARNING,
            f"The site's domain is {site.domain}, so links in e-mails do not work, and the"
            " webhook's address is not known.",
            "Set the shop's domain under Sites in the admin.",
        )
        address = f"{path} below the shop's own domain"
    yield from _check_deliveries(address)


def _is_placeholder(domain: str) -> bool:
    """Return whether a site's domain, perhaps with a port, leads nowhere from elsewhere."""
    try:
        host = urlsplit(f"//{domain}").hostname or ""
    except ValueError:
        return False
    if any(host == name or host.endswith(f".{name}") for name in PLACEHOLDERS):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


def _check_deliveries(address: str) -> Iterator[Finding]:
    since = timezone.now() - RECENT
    recent = WebhookDelivery.objects.filter(received_at__gte=since).select_related("invoice")
    recent = recent.defer("body", "headers", "invoice__reply", "invoice__wallets")
    deliveries = list(recent.order_by("-received_at", "-pk")[:NEWEST])
    open_ones = [delivery for delivery in deliveries if not _is_explained(delivery)]
    if open_ones:
        yield _unsettled(deliveries, open_ones)
    elif deliveries:
        yield Finding(
            OK,
            f"Webhook deliveries have arrived at {address} in the last 7 days."
            f" {_answers(deliveries)}",
        )
    elif BitsbyInvoice.objects.filter(status=InvoiceStatus.PAID, created_at__gte=since).exists():
        yield Finding(
            WARNING,
            "Invoices were paid in the last 7 days, but no webhook delivery has arrived. Payments"
            " are settled by bitsby_reconcile only, which takes longer.",
            f"Enter {address} in the project's settings at Bitsby, and make sure that it can be"
            " reached from the internet.",
        )
    else:
        yield Finding(OK, f"Webhook deliveries are expected at {address}.")


def _is_explained(delivery: WebhookDelivery) -> bool:
    """Return whether a delivery was answered with 200, or nothing is left to do about it.

    A repeated delivery about an invoice that is paid is answered with 200 and not stored. One
    that is over was not paid by the API's final answer.
    """
    is_over = delivery.invoice.status not in BitsbyInvoice.LIVE
    is_new = delivery.received_at > timezone.now() - SETTLED_WITHIN
    return delivery.answered == 200 or is_over or is_new


def _answers(deliveries: Sequence[WebhookDelivery]) -> str:
    """Say how the newest deliveries were answered."""
    counts = Counter(str(delivery.answered or "no answer") for delivery in deliveries)
    answers = ", ".join(f"{answer} ({count})" for answer, count in sorted(counts.items()))
    text = f"Answers to the newest {plural(len(deliveries), 'delivery', 'deliveries')}: {answers}."
    if set(counts) == {"200"}:
        return text
    waiting = sum(delivery.invoice.status in BitsbyInvoice.LIVE for delivery in deliveries)
    if waiting:
        return f"{text} Bitsby sends those without 200 again, and runs settle their invoices."
    return f"{text} The invoices of all of them are settled or over."


def _unsettled(
    deliveries: Sequence[WebhookDelivery], open_ones: Sequence[WebhookDelivery]
) -> Finding:
    newest = open_ones[0]
    outcome = newest.outcome.rstrip(".") or "its processing was interrupted"
    remedy = (
        "Run bitsby_reconcile by hand and read its output: it settles them. Bitsby sends each"
        " delivery again for a day."
    )
    if newest.outcome == "asked":
        outcome = "Bitsby does not call its invoice paid"
        remedy = (
            "Look the invoice up in your Bitsby account. If it is not paid there, somebody else"
            " sends deliveries: set WEBHOOK_TOKEN."
        )
    return Finding(
        WARNING,
        f"{plural(len(open_ones), 'webhook delivery', 'webhook deliveries')} settled nothing,"
        f" most recently that of order {newest.invoice.order_number}: {outcome}."
        f" {_answers(deliveries)}",
        remedy,
    )
