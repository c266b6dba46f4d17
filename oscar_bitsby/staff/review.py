"""Decisions by staff about payments to review, idempotent and safe under concurrency.

All take the primary key of the payment, the member of staff and, but for ``undo``, the reason. Each
is written under the locks of settlement and logged in Django's admin log, if the shop has it.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from django.apps import apps
from django.contrib.contenttypes.models import ContentType
from django.db import router, transaction
from django.utils.formats import localize
from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop, pgettext

from oscar_bitsby import conf, signals
from oscar_bitsby.accounting import ledger
from oscar_bitsby.choices import InvoiceStatus, MailCode, Resolution, ReviewReason
from oscar_bitsby.exceptions import BitsbyError
from oscar_bitsby.mails import outbox
from oscar_bitsby.models import BitsbyInvoice, BitsbyPayment
from oscar_bitsby.orders import transitions
from oscar_bitsby.orders.stage import OrderStage, order_stage
from oscar_bitsby.settlement.service import flag_for_review, lock_order_and_invoice
from oscar_bitsby.utils import i18n
from oscar_bitsby.utils.clock import db_now

logger = logging.getLogger("oscar_bitsby")

#: The failure of an invoice that Bitsby called paid by a payment that staff dismissed.
DISMISSED = gettext_noop("its payment was dismissed by staff")

#: Added to the note and the message about a reinstated order.
KEPT_DISCOUNTS = gettext_noop(
    "Used up meanwhile, but the order keeps the discounts that its buyer was promised:"
    " %(discounts)s."
)


@dataclass(frozen=True)
class ActionResult:
    """Whether an action by staff was carried out, and the message for the person."""

    done: bool
    message: str


class ChangedMeanwhile(BitsbyError):
    """The payment was bound to another invoice before it was locked; nothing was done."""


@dataclass
class _Locked:
    order: Any
    invoice: BitsbyInvoice | None
    payment: BitsbyPayment


@contextmanager
def _locked(payment_pk: Any) -> Iterator[_Locked]:
    """Lock a payment's order, its invoice and the payment, in the order that settlement locks."""
    with transaction.atomic(using=router.db_for_write(BitsbyPayment), durable=True):
        keys = BitsbyPayment.objects.values_list("invoice_id", "invoice__order_id")
        invoice_pk, order_pk = keys.get(pk=payment_pk)
        order, invoice = (
            lock_order_and_invoice(invoice_pk, order_pk) if invoice_pk else (None, None)
        )
        payment = BitsbyPayment.objects.select_for_update().get(pk=payment_pk)
        if payment.invoice_id != invoice_pk:
            raise ChangedMeanwhile(_("This payment has just changed. Check it again."))
        yield _Locked(order, invoice, payment)


def accept(
    payment_pk: Any, user: Any, note: str, fiat_value: Decimal | None = None
) -> ActionResult:
    """Book a payment if it is not booked, and mark its pending order as paid.

    Args:
        fiat_value: the value in the invoice's currency; used only if none is stored.
    """
    with _locked(payment_pk) as locked:
        order, invoice, payment = locked.order, locked.invoice, locked.payment
        if payment.resolved_at is not None or not payment.review_reason:
            return _already_resolved(payment)
        if order is None or invoice is None:
            return ActionResult(
                False, _("This payment does not belong to an order yet. Bind it to one first.")
            )
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
        _resolve(payment, Resolution.ACCEPTED, user, note, order)
        outbox.enqueue(MailCode.PAID, order)
        message = _("Accepted: %(fiat_value)s %(currency)s booked for order %(number)s.")
        values = {"currency": payment.currency, "number": order.number}
        return ActionResult(True, message % (values | {"fiat_value": localize(payment.fiat_value)}))


def reinstate(payment_pk: Any, user: Any, note: str) -> ActionResult:
    """Mark the cancelled order of a late payment as paid, if stock and pipeline allow it.

    Otherwise add a note to the order: its status is then for the shop to decide. The buyer keeps
    discounts that are used up meanwhile; note and message name them.
    """
    with _locked(payment_pk) as locked:
        order, payment = locked.order, locked.payment
        if payment.resolved_at is not None or not payment.review_reason:
            return _already_resolved(payment)
        if order is None or payment.booked_at is None:
            return ActionResult(False, _("Only a booked payment can reinstate its order."))
        settings = conf.get()
        if order_stage(settings, order) is not OrderStage.CANCELLED:
            return ActionResult(False, _("The order is not cancelled. Accept the payment instead."))
        text = i18n.shop_text(
            gettext_noop("Reinstated by late payment %(payment)s."), payment=payment
        )
        used_up = transitions.used_up_discounts(order, lock=True)
        if used_up:
            text += " " + i18n.shop_text(KEPT_DISCOUNTS, discounts=_join(used_up))
        if transitions.reopen_order(order, settings.order_status_paid, text):
            message = (
                _("Order %s is reinstated: it is paid, and its stock is reserved.") % order.number
            )
            if used_up:
                message += " " + _(KEPT_DISCOUNTS) % {"discounts": _join(used_up)}
            outbox.enqueue(MailCode.PAID, order)
        else:
            text = i18n.shop_text(
                gettext_noop("Late payment %(payment)s accepted by staff: %(note)s"),
                payment=payment,
                note=note,
            )
            order.notes.create(message=text, note_type="System", user=user)
            message = _(
                "The order cannot become paid: its stock or the shop's status pipeline does not"
                " allow it. A note was added to the order. Ship it, or refund it by hand."
            )
        _resolve(payment, Resolution.REINSTATED, user, note, order)
        return ActionResult(True, message)


def used_up_discounts(payment: BitsbyPayment) -> list[transitions.UsedUpDiscount]:
    """Return the discounts that are used up, if the payment's order is cancelled."""
    order = payment.invoice.order if payment.invoice else None
    if order is None or order_stage(conf.get(), order) is not OrderStage.CANCELLED:
        return []
    return transitions.used_up_discounts(order)


def _join(discounts: list[transitions.UsedUpDiscount]) -> str:
    return ", ".join(str(discount) for discount in discounts)


def dismiss(payment_pk: Any, user: Any, note: str) -> ActionResult:
    """Remove a payment from the payments to review, and book nothing; a reason is required."""
    if not note.strip():
        return ActionResult(False, _("Enter a reason: others may need it later."))
    with _locked(payment_pk) as locked:
        if locked.payment.resolved_at is not None or not locked.payment.review_reason:
            return _already_resolved(locked.payment)
        _resolve(locked.payment, Resolution.DISMISSED, user, note, locked.order)
        message = _("Dismissed. You can undo this under “Resolved”.")
        if _unblock_cancellation(locked):
            message += (
                " "
                + _(
                    "Order %s is still unpaid. Its buyer can pay again, or it is cancelled"
                    " automatically."
                )
                % locked.order.number
            )
        return ActionResult(True, message)


def _unblock_cancellation(locked: _Locked) -> bool:
    """Let a pending order be paid or cancelled again after its unbooked payment was dismissed.

    Return whether it is.
    """
    order, invoice, payment = locked.order, locked.invoice, locked.payment
    if invoice is None or payment.booked_at is not None:
        return False
    if order_stage(conf.get(), order) is not OrderStage.PENDING:
        return False
    if invoice.status == InvoiceStatus.PAID:
        invoice.status, invoice.ended_at = InvoiceStatus.CANCELED, db_now()
        invoice.order_awaits_payment, invoice.failure = True, DISMISSED
        invoice.save(update_fields=["status", "ended_at", "order_awaits_payment", "failure"])
    return True


def undo(payment_pk: Any, user: Any) -> ActionResult:
    """Put a dismissed payment back into the payments to review."""
    with _locked(payment_pk) as locked:
        payment = locked.payment
        if payment.resolution != Resolution.DISMISSED or payment.resolved_at is None:
            return ActionResult(
                False, _("Only a dismissal can be undone, and this payment is not dismissed.")
            )
        payment.resolved_at, payment.resolution = None, ""
        payment.save(update_fields=["resolved_at", "resolution"])
        log_admin_entry(user, locked.order, payment, _("Dismissal undone"))
        return ActionResult(True, _("The payment is in Payments to review again."))


def resolve_as_bound(payment_pk: Any, user: Any, note: str) -> None:
    """Resolve a payment that staff have bound, if only its amount needed a decision."""
    with _locked(payment_pk) as locked:
        # Staff saw the amount before they bound it. Other reasons (late, second, ...) stay open.
        about_amount = (ReviewReason.SHORT, ReviewReason.OVER)
        if locked.payment.review_reason in about_amount and locked.payment.resolved_at is None:
            _resolve(locked.payment, Resolution.BOUND, user, note, locked.order, log=False)
            outbox.enqueue(MailCode.PAID, locked.order)


def _mark_order_paid(order: Any, payment: BitsbyPayment) -> bool:
    settings = conf.get()
    order.bitsby_invoices.filter(order_awaits_payment=True).update(order_awaits_payment=False)
    if order_stage(settings, order) is not OrderStage.PENDING:
        return True
    note = i18n.shop_text(gettext_noop("Payment %(payment)s accepted by staff."), payment=payment)
    return transitions.change_order_status(order, settings.order_status_paid, note)


def _resolve(
    payment: BitsbyPayment, how: str, user: Any, note: str, order: Any, *, log: bool = True
) -> None:
    payment.resolved_at = db_now()
    payment.resolution, payment.resolved_by = how, user
    payment.resolution_note = note.strip()[:300]
    payment.save(update_fields=["resolved_at", "resolution", "resolved_by", "resolution_note"])
    logger.info(
        "payment %s: order=%s invoice=%s payment=%s user=%s",
        how,
        getattr(order, "number", None),
        payment.bound_to,
        payment.bitsby_id,
        user.pk,
    )
    if log:
        log_admin_entry(user, order, payment, f"{payment.get_resolution_display()}: {note.strip()}")


def _already_resolved(payment: BitsbyPayment) -> ActionResult:
    by = payment.resolved_by or (_("a former user") if payment.resolved_at else _("the app"))
    how = payment.get_resolution_display() or pgettext("of a payment", "settled")
    return ActionResult(False, _("Already resolved: %(how)s, by %(by)s.") % {"how": how, "by": by})


def log_admin_entry(user: Any, order: Any, subject: Any, message: str) -> Any:
    """Log an action in Django's admin log, on the order if there is one.

    Return the entry, or None in a shop without the admin.
    """
    if not apps.is_installed("django.contrib.admin"):
        return None
    # Without the app, the model cannot be imported.
    from django.contrib.admin.models import CHANGE, LogEntry

    target = order if order is not None else subject
    return LogEntry.objects.create(
        user_id=user.pk,
        content_type=ContentType.objects.get_for_model(target),
        object_id=str(target.pk),
        object_repr=str(target)[:200],
        action_flag=CHANGE,
        change_message=f"Bitsby: {subject}: {message}",
    )
