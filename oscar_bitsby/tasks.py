"""Celery tasks: thin wrappers, imported only when the shop uses Celery."""

import datetime as dt
import logging

from celery import current_app, shared_task
from django.utils import timezone

from oscar_bitsby.choices import AuditState
from oscar_bitsby.exceptions import BitsbyError
from oscar_bitsby.models import BitsbyInvoice
from oscar_bitsby.reconciliation import audit as audits
from oscar_bitsby.reconciliation import invoice_refresh, run

logger = logging.getLogger("oscar_bitsby")

#: Seconds after which a queued refresh expires and is left to the next run, so that a flood of
#: deliveries does not keep workers busy after it is over.
EXPIRY = 120


@shared_task(name="oscar_bitsby.tasks.reconcile", ignore_result=True)
def reconcile() -> str:
    """Reconcile once, as ``bitsby_reconcile`` does; skip if another run is in progress."""
    try:
        text = str(run.reconcile())
    except BitsbyError as error:
        text = f"{error}. Nothing is lost: the next run continues."
        logger.warning("the run stopped: %s", text)
    else:
        logger.info("run: %s", text)
    return text


@shared_task(name="oscar_bitsby.tasks.audit", ignore_result=True)
def audit(days: int | None = None) -> str:
    """Audit the last days, or everything, as ``bitsby_audit`` does.

    Differences are logged, and alerted if ``ALERTS`` is set; the command names each of them.
    """
    first = timezone.now().astimezone(dt.timezone.utc).date() - dt.timedelta(days=days or 0)
    try:
        result = audits.audit(first if days else None)
    except BitsbyError as error:
        text = f"{error}. The next audit of the same days goes on within some hours."
        logger.warning("the audit stopped: %s", text)
        return text
    if result.state == AuditState.PROVED:
        return str(result)
    why = f" ({'; '.join(result.unproved)})" if result.unproved else ""
    logger.warning("audit: %s%s", result, why)
    return f"{result}{why}"


@shared_task(name="oscar_bitsby.tasks.look_into_delivery", ignore_result=True)
def look_into_delivery(invoice_pk: int) -> str:
    """Refresh an invoice whose webhook delivery could not be settled when it arrived."""
    invoice = BitsbyInvoice.objects.filter(pk=invoice_pk).first()
    if invoice is None:
        return "no such invoice"
    try:
        asked = invoice_refresh.refresh_flagged(invoice)
    except BitsbyError as error:
        logger.warning("invoice %s not refreshed: %s", invoice.bitsby_id, error)
        return str(error)
    return "asked" if asked else "not asked: settled, just fetched, or no free slot"


def queue_refresh(invoice: BitsbyInvoice, delay: float) -> None:
    """Queue ``look_into_delivery``; if the broker is unavailable, log it and return at once.

    Args:
        invoice: a flagged invoice; the next run refreshes it if no worker does.
        delay: seconds until it may be fetched.
    """
    try:
        # ``retry=False`` alone does not limit how long connecting is tried.
        with current_app.connection_for_write(transport_options={"max_retries": 0}) as connection:
            look_into_delivery.apply_async(
                (invoice.pk,),
                connection=connection,
                countdown=delay or None,
                expires=delay + EXPIRY,
                retry=False,
            )
    except Exception as error:
        # Its text may contain the broker's address with a password.
        logger.warning(
            "refresh not queued, the next run will do it: invoice=%s error=%s",
            invoice.bitsby_id,
            type(error).__name__,
        )
