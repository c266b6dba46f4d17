"""Decisions by staff about payments to review, idempotent and safe under concurrency.

All take the primary key of the payment, the member of staff and, but for ``undo``, the reason. Each
is written under the locks of settlement and logged in Django's admin log, if the shop has it.
"""

from decimal import Decimal
from typing import Any

from django.utils.formats import localize
from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop

from oscar_bitsby import conf, signals
from oscar_bitsby.accounting import ledger
from oscar_bitsby.choices import InvoiceStatus, MailCode, Resolution, ReviewReason
from oscar_bitsby.exceptions import NotPayable
from oscar_bitsby.mails import outbox
from oscar_bitsby.models import BitsbyInvoice, BitsbyPayment
from oscar_bitsby.orders import transitions
from oscar_bitsby.orders.stage import OrderStage, order_stage
from oscar_bitsby.settlement import short_payments
from oscar_bitsby.settlement.cancellation import DISMISSED, await_payment_again
from oscar_bitsby.settlement.payments import flag_for_review
from oscar_bitsby.staff.decision import (
    ActionResult,
    locked,
    log_admin_entry,
    refusal,
    resolve,
)
from oscar_bitsby.utils import i18n

#: Added to the note and the message about a reinstated order.
KEPT_DISCOUNTS = gettext_noop(
    "Used up meanwhile, but the order keeps the discounts that its buyer was promised:"
    " %(discounts)s."
)

#: Reasons about the amount of a booked payment, which reinstating its order does not settle.
ABOUT_AMOUNT = (ReviewReason.SHORT, ReviewReason.OVER)


def accept(
    payment_pk: Any, user: Any, note: str, fiat_value: Decimal | None = None
) -> ActionResult:
    """Book a payment if it is not booked, and mark its pending order as paid.

    Args:
        fiat_value: the value in the invoice's currency; used only if none is stored.
    """
    with locked(payment_pk) as rows:
        order, invoice, payment = rows.order, rows.invoice, rows.payment
        if refused := refusal(payment):
            return refused
        if order is None or invoice is None:
            return ActionResult(
                False, _("This payment does not belong to an order yet. Bind it to one first.")
            )
        if problem := _why_not_accept(order, payment):
            return ActionResult(False, problem)
        if payment.booked_at is None:
            payment.fiat_value = (
                payment.fiat_value if payment.fiat_value is not None else fiat_value
            )
            if payment.fiat_value is None:
                return ActionResult(
                    False, _("Enter the value of the payment: no exchange rate was locked for it.")
                )
            payment.save(update_fields=["fiat_value"])
            ledger.book_payment(order, payment, ledger.lock_sources(order))
            BitsbyInvoice.objects.filter(pk=invoice.pk).update(status=InvoiceStatus.PAID)
            signals.send_after_commit(
                signals.invoice_paid, BitsbyInvoice, invoice=invoice, order=order
            )
        if not _mark_order_paid(order, payment):
            flag_for_review(payment, ReviewReason.STATUS, order)
            return ActionResult(
                False,
                _(
                    "The payment is booked, but the shop's status pipeline does not allow order %s"
                    " to become paid. Change its status by hand, then dismiss the payment."
                )
                % order.number,
            )
        resolve(payment, Resolution.ACCEPTED, user, note, order)
        outbox.enqueue(MailCode.PAID, order)
        message = _("Accepted: %(fiat_value)s %(currency)s booked for order %(number)s.")
        values = {"currency": payment.currency, "number": order.number}
        return ActionResult(True, message % (values | {"fiat_value": localize(payment.fiat_value)}))


def _why_not_accept(order: Any, payment: BitsbyPayment) -> str:
    """Return why money that was sent back cannot pay for a locked order, or nothing."""
    is_booked = payment.booked_at is not None
    was_refunded = payment.refunds.counted().exists()
    if was_refunded and not is_booked:
        return _("The payment was refunded, so it cannot be booked. Dismiss it.")
    if was_refunded and ReviewReason.REBOUND in payment.review_reasons:
        return _("The payment was refunded, so it cannot be accepted. Dismiss it.")
    is_pending = order_stage(conf.get(), order) is OrderStage.PENDING
    if is_booked and is_pending and not ledger.has_money(order):
        text = _("Order %s holds no money any more, so it cannot become paid. Dismiss it.")
        return str(text % order.number)
    return ""


def ask(payment_pk: Any, user: Any, note: str) -> ActionResult:
    """Ask the buyer for the rest of a payment that is booked and short.

    Raises:
        RuntimeError: called inside a transaction.
    """
    payment = BitsbyPayment.objects.select_related("invoice__order").get(pk=payment_pk)
    if refused := refusal(payment):
        return refused
    try:
        payment = short_payments.ask_for_rest(payment_pk, user, note)
    except NotPayable as error:
        return ActionResult(False, str(error))
    order = payment.invoice.order if payment.invoice else None
    decision = payment.get_resolution_display()
    log_admin_entry(user, order, payment, f"{decision}: {note.strip()}")
    return ActionResult(True, rest_message(order))


def rest_message(order: Any) -> str:
    """Return what to tell staff after the buyer was asked for the rest."""
    text = _("The buyer of order %(number)s is asked for the rest: %(rest)s %(currency)s.")
    rest = localize(ledger.amount_to_pay(order))
    return text % {"number": order.number, "rest": rest, "currency": order.currency}


def reinstate(payment_pk: Any, user: Any, note: str) -> ActionResult:
    """Mark the cancelled order of a booked payment as paid, if stock and pipeline allow it.

    Otherwise nothing is written, and the payment stays in the payments to review. So does one of a
    wrong amount after it, until staff decide about the amount. The buyer keeps discounts that are
    used up meanwhile; note and message name them.
    """
    with locked(payment_pk) as rows:
        order, payment = rows.order, rows.payment
        if refused := refusal(payment):
            return refused
        if order is None or payment.booked_at is None:
            return ActionResult(False, _("Only a booked payment can reinstate its order."))
        settings = conf.get()
        if order_stage(settings, order) is not OrderStage.CANCELLED:
            return ActionResult(False, _("The order is not cancelled. Accept the payment instead."))
        if problem := why_not_reinstate(order):
            return ActionResult(False, problem)
        text = i18n.shop_text(gettext_noop("Reinstated by payment %(payment)s."), payment=payment)
        used_up = transitions.used_up_discounts(order, lock=True)
        if used_up:
            text += " " + i18n.shop_text(KEPT_DISCOUNTS, discounts=_join(used_up))
        if not transitions.reopen_order(order, settings.order_status_paid, text):
            return ActionResult(False, _why_not_reopened(order))
        message = _("Order %s is reinstated: it is paid, and its stock is reserved.") % order.number
        if used_up:
            message += " " + _(KEPT_DISCOUNTS) % {"discounts": _join(used_up)}
        outbox.enqueue(MailCode.PAID, order)
        about_amount = [one for one in payment.review_reasons if one in ABOUT_AMOUNT]
        if about_amount:
            payment.review_reason, payment.further_reasons = about_amount[0], ""
            payment.save(update_fields=["review_reason", "further_reasons"])
            decision = Resolution.REINSTATED.label
            log_admin_entry(user, order, payment, f"{decision}: {note.strip()}")
            message += " " + _("Decide about the amount of the payment now.")
        else:
            resolve(payment, Resolution.REINSTATED, user, note, order)
        return ActionResult(True, message)


def why_not_reinstate(order: Any) -> str:
    """Return why the status pipeline keeps a cancelled order from becoming paid, or nothing."""
    paid = conf.get().order_status_paid
    if paid in order.available_statuses():
        return ""
    text = _(
        "The order cannot be reinstated: the shop's status pipeline does not allow “%(status)s” to"
        " become “%(paid)s”. Add %(line)s to OSCAR_ORDER_STATUS_PIPELINE, or refund the payment."
    )
    line = f'"{order.status}": ("{paid}",)'
    return text % {"status": order.status, "paid": paid, "line": line}


def _why_not_reopened(order: Any) -> str:
    titles = ", ".join(f"“{line.title}”" for line in transitions.lines_without_stock(order))
    if not titles:
        return _("The order cannot be reinstated: the shop's own code did not allow its status.")
    text = _(
        "The order cannot be reinstated: there is not enough stock of %s. Add stock and try again,"
        " or refund the payment."
    )
    return text % titles


def used_up_discounts(payment: BitsbyPayment) -> list[transitions.UsedUpDiscount]:
    """Return the discounts that are used up, if the payment's order is cancelled."""
    order = payment.invoice.order if payment.invoice else None
    if order is None or order_stage(conf.get(), order) is not OrderStage.CANCELLED:
        return []
    return transitions.used_up_discounts(order)


def _join(discounts: list[transitions.UsedUpDiscount]) -> str:
    return ", ".join(str(discount) for discount in discounts)


def dismiss(payment_pk: Any, user: Any, note: str, seen_reasons: str | None = None) -> ActionResult:
    """Remove a payment from the payments to review, and book nothing; a reason is required.

    Args:
        seen_reasons: why it needed a decision when the person decided, joined by spaces. If that
            has changed meanwhile, for example because it was booked, nothing is done.
    """
    if not note.strip():
        return ActionResult(False, _("Enter a reason: others may need it later."))
    with locked(payment_pk) as rows:
        if refused := refusal(rows.payment):
            return refused
        if seen_reasons not in (None, " ".join(rows.payment.review_reasons)):
            return ActionResult(False, _("This payment has just changed. Check it again."))
        if problem := why_not_dismiss(rows.order, rows.payment):
            return ActionResult(False, problem)
        resolve(rows.payment, Resolution.DISMISSED, user, note, rows.order)
        message = _("Dismissed. You can undo this under “Resolved”.")
        if rows.invoice is not None and await_payment_again(rows.order, DISMISSED):
            message += (
                " "
                + _(
                    "Order %s is still unpaid. Its buyer can pay again, or it is cancelled"
                    " automatically."
                )
                % rows.order.number
            )
        return ActionResult(True, message)


def why_not_dismiss(order: Any, payment: BitsbyPayment) -> str:
    """Return why staff have to decide otherwise: the order would wait for ever, or nothing."""
    is_pending = order_stage(conf.get(), order) is OrderStage.PENDING
    is_short = not short_payments.ASKABLE_REASONS.isdisjoint(payment.review_reasons)
    if payment.booked_at is None or not (is_pending and is_short and ledger.has_money(order)):
        return ""
    text = _("Order %s would wait with this money for ever. Accept the payment or refund it.")
    return str(text % order.number)


def undo(payment_pk: Any, user: Any) -> ActionResult:
    """Put a dismissed payment back into the payments to review."""
    with locked(payment_pk) as rows:
        payment = rows.payment
        if payment.resolution != Resolution.DISMISSED or payment.resolved_at is None:
            return ActionResult(
                False, _("Only a dismissal can be undone, and this payment is not dismissed.")
            )
        payment.resolved_at, payment.resolution = None, ""
        payment.save(update_fields=["resolved_at", "resolution"])
        log_admin_entry(user, rows.order, payment, _("Dismissal undone"))
        return ActionResult(True, _("The payment is in Payments to review again."))


def _mark_order_paid(order: Any, payment: BitsbyPayment) -> bool:
    settings = conf.get()
    order.bitsby_invoices.filter(order_awaits_payment=True).update(order_awaits_payment=False)
    if order_stage(settings, order) is not OrderStage.PENDING:
        return True
    note = i18n.shop_text(gettext_noop("Payment %(payment)s accepted by staff."), payment=payment)
    return transitions.change_order_status(order, settings.order_status_paid, note)
