"""Bind payments by hand: fetch those of an order's time, and attach one to its invoice."""

import datetime as dt
import logging
from typing import Any
from uuid import UUID

from django.utils.formats import localize
from django.utils.translation import gettext as _

from oscar_bitsby.choices import InvoiceStatus, Resolution, ReviewReason
from oscar_bitsby.exceptions import BitsbyError, RateLimited, Refused
from oscar_bitsby.gateway import factory
from oscar_bitsby.models import BitsbyInvoice, BitsbyPayment, BitsbyRefund
from oscar_bitsby.reconciliation import cursor, invoice_refresh, payment_sync
from oscar_bitsby.reconciliation.report import ReconcileRun
from oscar_bitsby.staff import review
from oscar_bitsby.staff.decision import ActionResult, log_admin_entry
from oscar_bitsby.utils import i18n
from oscar_bitsby.utils.clock import db_now

logger = logging.getLogger("oscar_bitsby")

#: Seconds that a request by staff waits for a slot.
STAFF_MAX_WAIT = 8.0
#: Maximum number of pages of Bitsby's payments that are read for one order.
MAX_PAGES = 6
#: Maximum age, in days, of the payments that are read for one order.
DAYS_BACK = 60


def refresh_payments(order: Any) -> str:
    """Sync the payments since the order was placed; return what went wrong, or nothing.

    Raises:
        RuntimeError: called inside a transaction.
    """
    now = db_now()
    start = max(order.date_placed, now - dt.timedelta(days=DAYS_BACK))
    try:
        run = ReconcileRun(factory.for_staff(STAFF_MAX_WAIT))
        payment_sync.sync_payments(run, start, max_pages=MAX_PAGES)
    except BitsbyError as error:
        logger.info("payments not fetched for order %s: %s", order.number, error)
        return i18n.translate_stored(str(error))
    cursor.mark_fetched(now)
    return ""


def bind(
    invoice: BitsbyInvoice,
    payment_id: UUID,
    user: Any,
    note: str = "",
    *,
    ask_for_rest: bool = False,
) -> ActionResult:
    """Attach a payment to an invoice at Bitsby, then fetch the invoice and settle it.

    A payment of a wrong amount is booked, and then waits in the payments to review for a decision
    about the difference.

    Args:
        invoice: one of the order's invoices that is not paid.
        payment_id: Bitsby's id of the payment.
        user: the member of staff. The caller checks the permission ``oscar_bitsby.bind_payment``.
        note: the reason.
        ask_for_rest: if the payment is short, ask the buyer for the rest.

    Raises:
        RuntimeError: called inside a transaction.
    """
    if invoice.bitsby_id is None:
        text = _("This invoice was never created at Bitsby. Choose another one.")
        return ActionResult(False, text)
    if BitsbyRefund.objects.counted().filter(payment__bitsby_id=payment_id).exists():
        text = _(
            "This payment cannot be bound, because it was refunded or a refund of it is"
            " open. An open refund can be cancelled."
        )
        return ActionResult(False, text)
    # Stored before the request: any run that settles the answer does as staff chose.
    BitsbyInvoice.objects.filter(pk=invoice.pk).update(asks_for_rest=ask_for_rest)
    entry = _log_request(invoice, user, _("asked Bitsby to bind payment %s") % payment_id, note)
    refusal, was_refused = _send_binding(invoice.bitsby_id, payment_id)
    # Whatever was answered, only the API's list says what is true now.
    unclear = _refresh(invoice)
    payment = BitsbyPayment.objects.filter(bitsby_id=payment_id, invoice=invoice).first()
    if was_refused and not unclear and payment is None:
        # Nothing was bound: the choice was about this payment only. After a lost answer Bitsby may
        # still bind it.
        BitsbyInvoice.objects.filter(pk=invoice.pk).update(asks_for_rest=invoice.is_for_rest)
    result = _binding_result(invoice, payment, refusal, unclear)
    _log_result(entry, result)
    logger.info(
        "bind: order=%s invoice=%s payment=%s user=%s done=%s",
        invoice.order_number,
        invoice.bitsby_id,
        payment_id,
        user.pk,
        result.done,
    )
    return result


def cancel_invoice(invoice: BitsbyInvoice, user: Any, note: str = "") -> ActionResult:
    """Cancel an invoice at Bitsby, which allows it while it is unpaid and its page is unopened.

    Bitsby does not know when the shop's own page has shown the addresses: then it is refused here.
    """
    may_cancel = invoice.bitsby_id is not None and invoice.begin_cancelling(db_now())
    invoice.refresh_from_db()
    if invoice.bitsby_id is None or invoice.status != InvoiceStatus.UNPAID:
        return ActionResult(False, _("Only an unpaid invoice can be cancelled."))
    if not may_cancel:
        text = _(
            "The invoice was not cancelled, because the buyer has seen its addresses and may be"
            " paying now. Wait until its time to pay is over."
        )
        return ActionResult(False, text)
    asked = _("asked Bitsby to cancel invoice %s") % invoice.bitsby_id
    entry = _log_request(invoice, user, asked, note)
    problem, is_answered = "", True
    try:
        factory.for_staff(STAFF_MAX_WAIT).cancel_invoice(invoice.bitsby_id)
    except BitsbyError as error:
        problem = i18n.translate_stored(str(error))
        # After a lost answer the invoice may still become cancelled.
        is_answered = isinstance(error, Refused | RateLimited)
    # Whatever was answered, only the API's list says what is true now.
    unclear = _refresh(invoice)
    if is_answered and not unclear:
        invoice.end_cancelling()
    if invoice.status == InvoiceStatus.CANCELED:
        result = ActionResult(True, _("The invoice is cancelled."))
    else:
        why = problem or unclear or _("Bitsby does not show it as cancelled")
        result = ActionResult(False, _("The invoice was not cancelled: %s.") % why)
    _log_result(entry, result)
    return result


def _send_binding(invoice_id: UUID, payment_id: UUID) -> tuple[str, bool]:
    """Ask Bitsby to bind; return why it did not confirm, or nothing, and whether it refused."""
    try:
        factory.for_staff(STAFF_MAX_WAIT).bind_payment(invoice_id, payment_id)
    except Refused as error:
        return _("Bitsby refused: %s") % error, True
    except BitsbyError as error:
        return _("Bitsby did not answer: %s") % i18n.translate_stored(str(error)), False
    return "", False


def _refresh(invoice: BitsbyInvoice) -> str:
    """Fetch an invoice, settle it and read its row again; return what went wrong, or nothing."""
    problem = ""
    try:
        invoice_refresh.refresh(invoice, factory.for_staff(STAFF_MAX_WAIT))
    except BitsbyError as error:
        problem = i18n.translate_stored(str(error))
    invoice.refresh_from_db()
    return problem


def _binding_result(
    invoice: BitsbyInvoice, payment: BitsbyPayment | None, refusal: str, unclear: str
) -> ActionResult:
    """Return what to say after binding, by what the refresh has stored.

    Args:
        payment: the payment, if it is now bound to the invoice.
        refusal: why Bitsby did not confirm the binding.
        unclear: why the invoice could not be fetched afterwards.
    """
    if payment is not None and payment.booked_at is not None:
        message = _("Bound and booked: %(fiat_value)s %(currency)s for order %(number)s.") % {
            "fiat_value": localize(payment.fiat_value),
            "currency": payment.currency,
            "number": invoice.order_number,
        }
        return ActionResult(True, f"{message} {_open_question(invoice, payment)}".strip())
    if payment is not None and payment.review_reason:
        text = _("The payment is bound but not booked (%s). Open Payments to review to decide.")
        return ActionResult(False, text % payment.review_text)
    if invoice.status == InvoiceStatus.PAID:
        text = _("%s The invoice was paid by another payment. Check the order.")
        return ActionResult(False, (text % (f"{refusal}." if refusal else "")).strip())
    if refusal:
        return ActionResult(False, _("%s Nothing was booked.") % f"{refusal}.")
    if unclear:
        text = _(
            "Bitsby accepted the binding, but its result could not be fetched (%s). The next"
            " run books the payment."
        )
        return ActionResult(False, text % unclear)
    text = _(
        "Bitsby accepted the binding, but does not show the invoice as paid by this payment"
        " yet. Nothing was booked. The next run checks again."
    )
    return ActionResult(False, text)


def _open_question(invoice: BitsbyInvoice, payment: BitsbyPayment) -> str:
    """Return what is still to be done about a payment that was just bound and booked."""
    if payment.resolution == Resolution.ASKED and invoice.order is not None:
        return review.rest_message(invoice.order)
    if payment.resolved_at is not None or not payment.review_reason:
        return ""
    if {ReviewReason.SHORT, ReviewReason.OVER} & set(payment.review_reasons):
        text = _("The difference still waits in Payments to review (%s).")
    else:
        text = _("The payment still waits in Payments to review (%s).")
    return text % payment.review_text


def _log_request(invoice: BitsbyInvoice, user: Any, asked: str, note: str) -> Any:
    """Log a request before it is sent, and let the next run fetch the invoice.

    Return the entry in the admin log, or None in a shop without the admin.

    If this process stops during the request, the log still says who made it, and the next run
    settles what came of it. Settling an invoice clears the mark.
    """
    BitsbyInvoice.objects.filter(pk=invoice.pk, webhook_pending_since=None).update(
        webhook_pending_since=db_now()
    )
    return log_admin_entry(user, invoice.order, invoice, f"{asked}: {note}".strip(" :"))


def _log_result(entry: Any, result: ActionResult) -> None:
    if entry is not None:
        type(entry).objects.filter(pk=entry.pk).update(
            change_message=f"{entry.change_message} — {result.message}"
        )
