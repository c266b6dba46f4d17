"""Staff's decisions about payments in the money inbox: accept, settle again, dismiss, undo.

Each is written under settlement's locks, noted in the admin log with who, when and why, and
harmless when repeated or made by two people at once: the second one is told what the first did.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.contenttypes.models import ContentType
from django.db import router, transaction
from django.utils import timezone
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

logger = logging.getLogger("oscar_bitsby")

#: What is noted of an invoice that was called paid by money which staff have dismissed.
DISMISSED = gettext_noop("its payment was dismissed by staff")


@dataclass(frozen=True)
class ActionResult:
    """What came of a decision: whether it was carried out, and what to tell who made it."""

    done: bool
    message: str


class ChangedMeanwhile(BitsbyError):
    """The payment was bound elsewhere between reading and locking it; nothing was done."""


@dataclass
class _Locked:
    order: Any
    invoice: BitsbyInvoice | None
    record: BitsbyPayment


@contextmanager
def _locked(payment_pk: Any) -> Iterator[_Locked]:
    """Lock the payment's order, its invoice and the payment, in settlement's order."""
    with transaction.atomic(using=router.db_for_write(BitsbyPayment), durable=True):
        keys = BitsbyPayment.objects.values_list("invoice_id", "invoice__order_id")
        invoice_pk, order_pk = keys.get(pk=payment_pk)
        order, invoice = (
            lock_order_and_invoice(invoice_pk, order_pk) if invoice_pk else (None, None)
        )
        record = BitsbyPayment.objects.select_for_update().get(pk=payment_pk)
        if record.invoice_id != invoice_pk:
            raise ChangedMeanwhile(_("This payment has just changed. Check it again."))
        yield _Locked(order, invoice, record)


def accept(
    payment_pk: Any, user: Any, note: str, fiat_value: Decimal | None = None
) -> ActionResult:
    """Take a payment as it is: book it if it is not booked, and pay its order by it.

    Args:
        payment_pk: the key of a payment that is bound to one of our invoices.
        user: the member of staff.
        note: why.
        worth: its worth in the invoice's currency, where it could not be told.
    """
    with _locked(payment_pk) as locked:
        order, invoice, record = locked.order, locked.invoice, locked.record
        if record.resolved_at is not None or not record.review_reason:
            return _already(record)
        if order is None or invoice is None:
            return ActionResult(
                False, _("This payment does not belong to an order yet. Bind it to one first.")
            )
        if record.booked_at is None:
            record.fiat_value = record.fiat_value if record.fiat_value is not None else fiat_value
            if record.fiat_value is None:
                return ActionResult(
                    False, _("Enter the value of the payment: no exchange rate was locked for it.")
                )
            record.save(update_fields=["fiat_value"])
            ledger.book_payment(order, record, ledger.lock_sources(order))
            BitsbyInvoice.objects.filter(pk=invoice.pk).update(status=InvoiceStatus.PAID)
            signals.send_after_commit(
                signals.invoice_paid, BitsbyInvoice, invoice=invoice, order=order
            )
        if not _pay(order, record):
            flag_for_review(record, ReviewReason.STATUS, order)
            return ActionResult(
                False,
                _(
                    "The payment is booked, but the shop's status pipeline does not allow order %s"
                    " to become paid. Change its status by hand, then dismiss the payment."
                )
                % order.number,
            )
        _resolve(record, Resolution.ACCEPTED, user, note, order)
        outbox.enqueue(MailCode.PAID, order)
        message = _("Accepted: %(fiat_value)s %(currency)s booked for order %(number)s.")
        values = {"currency": record.currency, "number": order.number}
        return ActionResult(True, message % (values | {"fiat_value": localize(record.fiat_value)}))


def reinstate(payment_pk: Any, user: Any, note: str) -> ActionResult:
    """Bring back the cancelled order of a late payment, if the shop's pipeline allows it.

    Otherwise the order gets a note, since its status is the shop's to decide.
    """
    with _locked(payment_pk) as locked:
        order, record = locked.order, locked.record
        if record.resolved_at is not None or not record.review_reason:
            return _already(record)
        if order is None or record.booked_at is None:
            return ActionResult(False, _("Only a booked payment can reinstate its order."))
        settings = conf.get()
        if order_stage(settings, order) is not OrderStage.CANCELLED:
            return ActionResult(False, _("The order is not cancelled. Accept the payment instead."))
        text = i18n.shop_text(
            gettext_noop("Reinstated by late payment %(payment)s."), payment=record
        )
        if transitions.reopen_order(order, settings.order_status_paid, text):
            message = (
                _("Order %s is reinstated: it is paid, and its stock is reserved.") % order.number
            )
            outbox.enqueue(MailCode.PAID, order)
        else:
            text = i18n.shop_text(
                gettext_noop("Late payment %(payment)s accepted by staff: %(note)s"),
                payment=record,
                note=note,
            )
            order.notes.create(message=text, note_type="System", user=user)
            message = _(
                "The order cannot become paid: its stock or the shop's status pipeline does not"
                " allow it. A note was added to the order. Ship it, or refund it by hand."
            )
        _resolve(record, Resolution.REINSTATED, user, note, order)
        return ActionResult(True, message)


def dismiss(payment_pk: Any, user: Any, note: str) -> ActionResult:
    """Take a payment out of the inbox: refunded by hand, or not this shop's."""
    if not note.strip():
        return ActionResult(False, _("Enter a reason: others may need it later."))
    with _locked(payment_pk) as locked:
        if locked.record.resolved_at is not None or not locked.record.review_reason:
            return _already(locked.record)
        _resolve(locked.record, Resolution.DISMISSED, user, note, locked.order)
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
    """Let an order go on whose invoice was called paid by money that staff have just dismissed."""
    order, invoice, record = locked.order, locked.invoice, locked.record
    if order is None or invoice is None or record.booked_at is not None:
        return False
    if order_stage(conf.get(), order) is not OrderStage.PENDING:
        return False
    if invoice.status == InvoiceStatus.PAID:
        invoice.status, invoice.ended_at = InvoiceStatus.CANCELED, timezone.now()
        invoice.order_awaits_payment, invoice.failure = True, DISMISSED
        invoice.save(update_fields=["status", "ended_at", "order_awaits_payment", "failure"])
    return True


def undo(payment_pk: Any, user: Any) -> ActionResult:
    """Put a dismissed payment back into the inbox."""
    with _locked(payment_pk) as locked:
        record = locked.record
        if record.resolution != Resolution.DISMISSED or record.resolved_at is None:
            return ActionResult(
                False, _("Only a dismissal can be undone, and this payment is not dismissed.")
            )
        record.resolved_at, record.resolution = None, ""
        record.save(update_fields=["resolved_at", "resolution"])
        log_admin_entry(user, locked.order, record, _("Dismissal undone"))
        return ActionResult(True, _("The payment is in Payments to review again."))


def resolve_as_bound(payment_pk: Any, user: Any, note: str) -> None:
    """Note that staff bound this payment knowing its amount: it needs nobody any more."""
    with _locked(payment_pk) as locked:
        # What else is strange about it (late, second, ...) is still for somebody to decide.
        knew = (ReviewReason.SHORT, ReviewReason.OVER)
        if locked.record.review_reason in knew and locked.record.resolved_at is None:
            _resolve(locked.record, Resolution.BOUND, user, note, locked.order, log=False)
            outbox.enqueue(MailCode.PAID, locked.order)


def _pay(order: Any, record: BitsbyPayment) -> bool:
    settings = conf.get()
    order.bitsby_invoices.filter(order_awaits_payment=True).update(order_awaits_payment=False)
    if order_stage(settings, order) is not OrderStage.PENDING:
        return True
    note = i18n.shop_text(gettext_noop("Payment %(payment)s accepted by staff."), payment=record)
    return transitions.change_order_status(order, settings.order_status_paid, note)


def _resolve(
    record: BitsbyPayment, how: str, user: Any, note: str, order: Any, *, log: bool = True
) -> None:
    record.resolved_at = timezone.now()
    record.resolution, record.resolved_by = how, user
    record.resolution_note = note.strip()[:300]
    record.save(update_fields=["resolved_at", "resolution", "resolved_by", "resolution_note"])
    logger.info(
        "payment %s: order=%s invoice=%s payment=%s user=%s",
        how,
        getattr(order, "number", None),
        record.bound_to,
        record.bitsby_id,
        user.pk,
    )
    if log:
        log_admin_entry(user, order, record, f"{record.get_resolution_display()}: {note.strip()}")


def _already(record: BitsbyPayment) -> ActionResult:
    by = record.resolved_by or (_("a former user") if record.resolved_at else _("the app"))
    how = record.get_resolution_display() or pgettext("of a payment", "settled")
    return ActionResult(False, _("Already resolved: %(how)s, by %(by)s.") % {"how": how, "by": by})


def log_admin_entry(user: Any, order: Any, subject: Any, message: str) -> LogEntry:
    """Write who did what and why into Django's admin log, on the order where there is one.

    In that person's language: what was said and asked stands there as it was.
    """
    target = order if order is not None else subject
    entry: LogEntry = LogEntry.objects.create(
        user_id=user.pk,
        content_type=ContentType.objects.get_for_model(target),
        object_id=str(target.pk),
        object_repr=str(target)[:200],
        action_flag=CHANGE,
        change_message=f"Bitsby: {subject}: {message}",
    )
    return entry
