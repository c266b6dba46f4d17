"""One invoice: fetch it and settle the result; who may cause that, and how often."""

import datetime as dt
import logging
from collections.abc import Callable

from django.db.models import Value
from django.db.models.functions import Coalesce
from django.utils.translation import gettext_noop

from oscar_bitsby.choices import InvoiceStatus
from oscar_bitsby.exceptions import (
    UNUSABLE_ANSWERS,
    BitsbyError,
    PaymentInProgress,
    RateLimitTimeout,
    ReplyNotUnderstood,
)
from oscar_bitsby.gateway import factory, schemas
from oscar_bitsby.gateway.client import BitsbyClient
from oscar_bitsby.models import BitsbyInvoice
from oscar_bitsby.reconciliation import payment_sync
from oscar_bitsby.settlement import service
from oscar_bitsby.settlement.rules import Outcome
from oscar_bitsby.utils.clock import db_now

#: Buyers and deliveries cause at most one fetch of an invoice in this time.
REFRESH_INTERVAL = dt.timedelta(seconds=10)
#: Seconds that a page waits for an optional refresh.
OPPORTUNISTIC_TIMEOUT = 3.0
#: The reason that is stored when the answer does not contain the invoice.
UNKNOWN_INVOICE = gettext_noop("Bitsby does not know this invoice.")

logger = logging.getLogger("oscar_bitsby")


def fetch_invoice(
    client: BitsbyClient, invoice: BitsbyInvoice, *, dry_run: bool = False
) -> schemas.Invoice | None:
    """Return the remote invoice, or None when Bitsby does not know it.

    If the answer is of no use, it is recorded for staff, and the invoice counts as refreshed, so
    that others come before it. ``dry_run`` writes nothing.

    Raises:
        GatewayError: ``UNUSABLE_ANSWERS`` concern this invoice alone.
    """
    try:
        page = next(client.invoice_pages(invoice_id=invoice.bitsby_id))
        # A server that ignores the filter answers with other invoices, too.
        remote = next((item for item in page.items if item.id == invoice.bitsby_id), None)
        if remote is None and page.unreadable:
            raise ReplyNotUnderstood("/invoices/list: the invoice is not as documented")
    except UNUSABLE_ANSWERS as error:
        if not dry_run:
            _record_no_answer(invoice, str(error))
        raise
    if remote is None and not dry_run:
        _record_no_answer(invoice, UNKNOWN_INVOICE)
    return remote


def _record_no_answer(invoice: BitsbyInvoice, reason: str) -> None:
    now = db_now()
    BitsbyInvoice.objects.filter(pk=invoice.pk).update(
        last_refreshed_at=now,
        unanswered_since=Coalesce("unanswered_since", Value(now)),
        unanswered_reason=reason[:300],
    )


def settle_fetched(
    client: BitsbyClient, invoice: BitsbyInvoice, remote: schemas.Invoice, *, dry_run: bool = False
) -> Outcome:
    """Settle a remote invoice; if it is paid and its payment is missing, fetch that first."""
    payment = remote.payment
    if remote.status == schemas.PAID and (payment is None or payment.wallet is None):
        payment = _fetch_payment(client, remote) or payment
    return service.settle(invoice, remote, payment, dry_run=dry_run)


def _fetch_payment(client: BitsbyClient, remote: schemas.Invoice) -> schemas.Payment | None:
    try:
        page = next(client.payment_pages(invoice_id=remote.id))
    except UNUSABLE_ANSWERS as error:
        logger.warning("payments of invoice %s not fetched: %s", remote.id, error)
        return None
    bound = (item for item in page.items if item.invoice and item.invoice.id == remote.id)
    return next(bound, None)


def refresh(invoice: BitsbyInvoice, client: BitsbyClient | None = None) -> Outcome | None:
    """Fetch one invoice and settle the result.

    Returns:
        what was done; None when Bitsby does not know the invoice or it has no id yet.

    Raises:
        GatewayError: Bitsby gave no answer that can be used; nothing was settled.
        RuntimeError: called inside a transaction.
    """
    if invoice.bitsby_id is None:
        return None
    client = client or factory.for_background()
    remote = fetch_invoice(client, invoice)
    return None if remote is None else settle_fetched(client, invoice, remote)


def refresh_if_idle(invoice: BitsbyInvoice) -> bool:
    """Refresh an invoice because its buyer opened a page, if a slot is free at this moment.

    Only unpaid invoices are refreshed, at most once in ``REFRESH_INTERVAL``. Errors of the gateway
    are logged and not raised.

    Returns:
        whether the invoice may have changed.
    """
    claim = _claim(invoice) if invoice.status == InvoiceStatus.UNPAID else None
    if claim is None:
        return False
    try:
        client = factory.without_waiting(timeout=OPPORTUNISTIC_TIMEOUT)
    except RateLimitTimeout:
        _unclaim(invoice, claim)
        return False
    except BitsbyError:
        return False
    try:
        refresh(invoice, client)
    except BitsbyError as error:
        logger.info("invoice %s not refreshed: %s", invoice.bitsby_id, error)
        return False
    except Exception:
        # An optional refresh must not break the page.
        logger.exception("invoice %s not refreshed", invoice.bitsby_id)
        return False
    return True


def refresh_before_replacing(invoice: BitsbyInvoice, client: BitsbyClient) -> Outcome | None:
    """Refresh an invoice that its buyer wants to replace, at most once in ``REFRESH_INTERVAL``.

    Raises:
        PaymentInProgress: it was fetched a moment ago.
        GatewayError: Bitsby could not be asked.
    """
    claim = _claim(invoice)
    if claim is None:
        raise PaymentInProgress(f"invoice {invoice.bitsby_id} was fetched a moment ago")
    try:
        return refresh(invoice, client)
    except RateLimitTimeout:
        _unclaim(invoice, claim)
        raise


def refresh_for_delivery(invoice: BitsbyInvoice) -> bool:
    """Flag an invoice because of a webhook delivery, and refresh it with the others flagged.

    Sends at most one request, and none when no slot is free or the invoice was just fetched. The
    invoice then stays flagged for the next run.

    Returns:
        whether a request was sent.

    Raises:
        GatewayError: Bitsby gave no answer that could be used.
    """
    unflagged = BitsbyInvoice.objects.filter(pk=invoice.pk, webhook_pending_since=None)
    unflagged.update(webhook_pending_since=db_now())
    return _refresh_claimed(invoice, factory.without_waiting)


def refresh_flagged(invoice: BitsbyInvoice) -> bool:
    """Refresh an invoice that is still flagged, waiting for a slot like other background work.

    It stays flagged until a refresh settles it, so that the next run finds it. Returns and raises
    what ``refresh_for_delivery`` does; also ``RuntimeError`` inside a transaction.
    """
    flagged = BitsbyInvoice.objects.filter(pk=invoice.pk, webhook_pending_since__isnull=False)
    return flagged.exists() and _refresh_claimed(invoice, factory.for_background)


def refresh_delay(invoice: BitsbyInvoice) -> dt.timedelta:
    """Return the time until buyers or deliveries may cause the next fetch of this invoice."""
    return max(invoice.last_refreshed_at + REFRESH_INTERVAL - db_now(), dt.timedelta())


def _refresh_claimed(invoice: BitsbyInvoice, make_client: Callable[[], BitsbyClient]) -> bool:
    """Refresh one invoice, or sync the latest payments if others are flagged, too."""
    claim = _claim(invoice)
    if claim is None:
        return False
    # Invoices that are flagged while Bitsby answers may be too late for that answer.
    flagged = BitsbyInvoice.objects.filter(webhook_pending_since__lte=claim).exclude(pk=invoice.pk)
    others_are_flagged = flagged.exists()
    client = None
    try:
        client = make_client()
        if others_are_flagged:
            payment_sync.sync_first_page(client)
            flagged.update_unlocked(last_refreshed_at=db_now())
        else:
            refresh(invoice, client)
    except RateLimitTimeout:
        if client is not None and client.requests:
            raise
        _unclaim(invoice, claim)
        return False
    return True


def _claim(invoice: BitsbyInvoice) -> dt.datetime | None:
    """Claim the one fetch of an invoice in ``REFRESH_INTERVAL``; None when it is taken.

    This comes before the slot: writing may wait for a row lock, and a slot does not last.
    """
    now = db_now()
    rows = BitsbyInvoice.objects.filter(pk=invoice.pk)
    free = rows.filter(last_refreshed_at__lte=now - REFRESH_INTERVAL)
    return now if free.update(last_refreshed_at=now) else None


def _unclaim(invoice: BitsbyInvoice, claim: dt.datetime) -> None:
    """Release an unused claim."""
    mine = BitsbyInvoice.objects.filter(pk=invoice.pk, last_refreshed_at=claim)
    mine.update(last_refreshed_at=invoice.last_refreshed_at)
