"""What a shop's Celery workers do for it, in thin wrappers; imported only where Celery is used."""

from __future__ import annotations

import logging

from celery import current_app, shared_task

from oscar_bitsby.exceptions import BitsbyError
from oscar_bitsby.models import BitsbyInvoice
from oscar_bitsby.reconciliation import invoice_refresh, run

logger = logging.getLogger("oscar_bitsby")

#: Seconds after which a look that no worker has come to is left to the next pass, so that what a
#: flood has queued does not keep workers busy when it is over.
EXPIRY = 120


@shared_task(name="oscar_bitsby.tasks.reconcile", ignore_result=True)
def reconcile() -> str:
    """Make one pass, as ``bitsby_reconcile`` does; while another one runs, stand back."""
    try:
        text = str(run.reconcile())
    except BitsbyError as error:
        text = f"{error}. Nothing is lost: the next pass goes on."
        logger.warning("the pass broke off: %s", text)
        return text
    logger.info("pass: %s", text)
    return text


@shared_task(name="oscar_bitsby.tasks.look_into_delivery", ignore_result=True)
def look_into_delivery(invoice_pk: int) -> str:
    """Look at an invoice whose delivery could not be settled when it came."""
    invoice = BitsbyInvoice.objects.filter(pk=invoice_pk).first()
    if invoice is None:
        return "no such invoice"
    try:
        asked = invoice_refresh.refresh_flagged(invoice)
    except BitsbyError as error:
        logger.warning("no look at invoice %s: %s", invoice.bitsby_id, error)
        return str(error)
    return "asked" if asked else "not asked: settled, asked just now, or no free slot"


def queue_refresh(invoice: BitsbyInvoice, delay: float) -> None:
    """Queue ``look_into_delivery``; a broker that is away is logged and does not hold anybody up.

    Args:
        invoice: one with a delivery noted, which the next pass finds if no worker does.
        delay: seconds until it may be asked about.
    """
    try:
        # ``retry=False`` alone still lets the connection be tried for seconds, or for ever.
        once = {"max_retries": 0}
        with current_app.connection_for_write(transport_options=once) as connection:
            look_into_delivery.apply_async(
                (invoice.pk,),
                connection=connection,
                countdown=delay or None,
                expires=delay + EXPIRY,
                retry=False,
            )
    except Exception as error:
        # Its text may name the broker's address, and with that a password.
        logger.warning(
            "no worker was told of the delivery, the next pass looks: invoice=%s error=%s",
            invoice.bitsby_id,
            type(error).__name__,
        )
