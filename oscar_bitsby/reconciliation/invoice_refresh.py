"""One invoice: fetch it, settle it; who may ask for that, and how often."""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Callable

from oscar_bitsby.choices import InvoiceStatus
from oscar_bitsby.exceptions import BitsbyError, RateLimitTimeout, Refused
from oscar_bitsby.gateway import factory, schemas
from oscar_bitsby.gateway.client import BitsbyClient
from oscar_bitsby.models import BitsbyInvoice
from oscar_bitsby.reconciliation import payment_sync
from oscar_bitsby.reconciliation.payment_sync import _incremental_start
from oscar_bitsby.settlement import service
from oscar_bitsby.utils.clock import db_now

#: The same invoice is asked about at most once in this time because of what somebody sent.
REFRESH_INTERVAL = dt.timedelta(seconds=10)

#: Seconds that a page waits for an answer which it can do without.
OPPORTUNISTIC_TIMEOUT = 3.0

logger = logging.getLogger("oscar_bitsby")


def fetch_invoice(client: BitsbyClient, invoice: BitsbyInvoice) -> schemas.Invoice | None:
    """Return what Bitsby says of one invoice, or None when it does not know it."""
    page = next(client.invoice_pages(invoice_id=invoice.bitsby_id), None)
    # A server that does not heed the filter answers with others.
    found = (
        (remote for remote in page.items if remote.id == invoice.bitsby_id) if page else iter(())
    )
    return next(found, None)


def fetch_invoice_or_none(client: BitsbyClient, invoice: BitsbyInvoice) -> schemas.Invoice | None:
    """Return the same, or None where Bitsby refuses to say.

    How it refuses an invoice that it does not know is not documented, and one such invoice must
    not stop a whole pass.
    """
    try:
        return fetch_invoice(client, invoice)
    except Refused as error:
        logger.warning("no word on invoice %s: %s", invoice.bitsby_id, error)
        return None


def settle_fetched(
    client: BitsbyClient, invoice: BitsbyInvoice, remote: schemas.Invoice, *, dry_run: bool = False
) -> service.Outcome:
    """Settle what was told; where it is called paid without its payment, ask for that too."""
    payment = remote.payment
    if remote.status == schemas.PAID and (payment is None or payment.wallet is None):
        payment = _fetch_payment(client, remote) or payment
    return service.settle(invoice, remote, payment, dry_run=dry_run)


def _fetch_payment(client: BitsbyClient, remote: schemas.Invoice) -> schemas.Payment | None:
    try:
        page = next(client.payment_pages(invoice_id=remote.id), None)
    except Refused as error:
        logger.warning("no payments of invoice %s: %s", remote.id, error)
        return None
    items = page.items if page else ()
    return next((item for item in items if item.invoice and item.invoice.id == remote.id), None)


def refresh(invoice: BitsbyInvoice, client: BitsbyClient | None = None) -> service.Outcome | None:
    """Ask Bitsby about one invoice and settle what it says.

    Returns:
        what was done; None when Bitsby does not know the invoice or it has no id yet.

    Raises:
        GatewayError: Bitsby could not be asked; nothing was changed.
        RuntimeError: called inside a transaction.
    """
    if invoice.bitsby_id is None:
        return None
    client = client or factory.for_background()
    remote = fetch_invoice(client, invoice)
    return None if remote is None else settle_fetched(client, invoice, remote)


def refresh_if_idle(invoice: BitsbyInvoice) -> bool:
    """Look at an invoice because its buyer does, if that costs nobody anything.

    Only a live invoice, at most once in ``ASK_AGAIN_AFTER``, and only when a slot is free at this
    moment. Never raises for Bitsby's sake.

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
        logger.info("no look at invoice %s: %s", invoice.bitsby_id, error)
        return False
    except Exception:
        # A page that only wanted to look must not break over it.
        logger.exception("no look at invoice %s", invoice.bitsby_id)
        return False
    return True


def refresh_for_delivery(invoice: BitsbyInvoice) -> bool:
    """Look at an invoice because a delivery said so, and at all others that wait for a look.

    Sends at most one request, and none when no slot is free or the invoice was asked about just
    now; the delivery then stays noted for the next look.

    Returns:
        whether Bitsby was asked.

    Raises:
        GatewayError: Bitsby gave no answer that could be used.
    """
    _flag(invoice)
    return _refresh_claimed(invoice, factory.without_waiting)


def refresh_flagged(invoice: BitsbyInvoice) -> bool:
    """Look again at an invoice whose delivery is still noted, in line with other background work.

    For a worker that need not answer at once. Nothing is asked when the note is gone, nor when
    the invoice was asked about just now. The note stays until a look decides the matter, so that
    the next pass finds whatever is left.

    Returns:
        whether Bitsby was asked.

    Raises:
        GatewayError: Bitsby gave no answer that could be used.
        RuntimeError: called inside a transaction.
    """
    is_noted = BitsbyInvoice.objects.filter(
        pk=invoice.pk, webhook_pending_since__isnull=False
    ).exists()
    return is_noted and _refresh_claimed(invoice, factory.for_background)


def refresh_delay(invoice: BitsbyInvoice) -> dt.timedelta:
    """Return how long it takes until somebody's word may have this invoice asked about again."""
    return max(invoice.last_refreshed_at + REFRESH_INTERVAL - db_now(), dt.timedelta())


def _flag(invoice: BitsbyInvoice) -> None:
    rows = BitsbyInvoice.objects.filter(pk=invoice.pk, webhook_pending_since=None)
    rows.update(webhook_pending_since=db_now())


def _refresh_claimed(invoice: BitsbyInvoice, make_client: Callable[[], BitsbyClient]) -> bool:
    """Ask about one invoice, or about all that wait for a look if there are others."""
    claim = _claim(invoice)
    if claim is None:
        return False
    # Those that are noted while Bitsby answers may have come too late for that answer.
    flagged = BitsbyInvoice.objects.filter(webhook_pending_since__lte=claim).exclude(pk=invoice.pk)
    is_one_of_many = flagged.exists()
    client = None
    try:
        client = make_client()
        if is_one_of_many:
            payment_sync.sync_first_page(client, _incremental_start())
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
    """Take the right to ask about an invoice, which is there once in ``ASK_AGAIN_AFTER``.

    Before the slot is taken, since writing may wait for a row's lock and a slot does not keep.
    """
    now = db_now()
    free = BitsbyInvoice.objects.filter(
        pk=invoice.pk, last_refreshed_at__lte=now - REFRESH_INTERVAL
    )
    return now if free.update(last_refreshed_at=now) else None


def _unclaim(invoice: BitsbyInvoice, claim: dt.datetime) -> None:
    """Give the right back, unused."""
    mine = BitsbyInvoice.objects.filter(pk=invoice.pk, last_refreshed_at=claim)
    mine.update(last_refreshed_at=invoice.last_refreshed_at)
