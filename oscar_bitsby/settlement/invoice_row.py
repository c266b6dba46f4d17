"""The row of an invoice: what an answer and the decision about it change."""

import datetime as dt
import logging
from decimal import Decimal

from oscar_bitsby.choices import InvoiceStatus
from oscar_bitsby.gateway import schemas
from oscar_bitsby.models import PAID_WITHOUT_PAYMENT, BitsbyInvoice, log_change
from oscar_bitsby.settlement.rules import ActionType, Outcome
from oscar_bitsby.utils.clock import db_now
from oscar_bitsby.utils.money import to_cents

logger = logging.getLogger("oscar_bitsby")

#: The column holds no more.
MAX_COMMISSION = Decimal("9999999999.99")

#: How long after a request to cancel it, whose answer was lost, Bitsby may still cancel an invoice.
CANCELLING_TAKES = dt.timedelta(minutes=1)

#: The invoice's status after an action.
_NEW_STATUS = {
    ActionType.MARK_PAID: InvoiceStatus.PAID,
    ActionType.EXPIRE: InvoiceStatus.EXPIRED,
    ActionType.CANCEL: InvoiceStatus.CANCELED,
}


def update(
    invoice: BitsbyInvoice,
    remote: schemas.Invoice,
    remote_payment: schemas.Payment | None,
    outcome: Outcome,
) -> None:
    """Save what the answer and the decision change on the invoice, in one statement."""
    names = (
        *("status", "ended_at", "page_views", "webhook_pending_since", "failure"),
        *("unanswered_since", "unanswered_reason", "commission_usd", "cancelling_since"),
    )
    before = {name: getattr(invoice, name) for name in names}
    invoice.unanswered_since, invoice.unanswered_reason = None, ""
    if remote.views is not None:
        invoice.page_views = remote.views
    if remote.status == schemas.PAID and remote.commission_usd is not None:
        # As the column stores it: more cents would be a change each time.
        invoice.commission_usd = min(to_cents(remote.commission_usd), MAX_COMMISSION)
    for action in outcome.actions:
        invoice.status = _NEW_STATUS.get(action.type, invoice.status)
    if remote.status == schemas.UNPAID and _cancelling_failed(invoice):
        invoice.cancelling_since = None
    if invoice.status not in (before["status"], InvoiceStatus.PAID):
        invoice.ended_at = _ended_at(invoice)
    if outcome.is_final:
        # The delivery that scheduled this refresh is processed.
        invoice.webhook_pending_since = None
    elif remote.status == schemas.PAID and remote_payment is None:
        # Staff must see it: without the payment's id the money cannot be booked.
        invoice.failure = PAID_WITHOUT_PAYMENT
    changed = [name for name in names if getattr(invoice, name) != before[name]]
    if changed:
        invoice.save(update_fields=changed)
    if "status" in changed:
        log_change(f"invoice {invoice.status}", invoice, before=before["status"])
    if "failure" in changed:
        logger.warning("%s: order=%s", PAID_WITHOUT_PAYMENT, invoice.order_number)


def _cancelling_failed(invoice: BitsbyInvoice) -> bool:
    """Tell whether a request to cancel an invoice that is still unpaid has had no effect."""
    since = invoice.cancelling_since
    return since is not None and db_now() - since > CANCELLING_TAKES


def _ended_at(invoice: BitsbyInvoice) -> dt.datetime:
    """Return when an invoice ended that has just been found expired or canceled."""
    now = db_now()
    if invoice.status == InvoiceStatus.EXPIRED and invoice.expires_at is not None:
        return min(now, invoice.expires_at)
    return now
