"""What every decision by staff needs: the locked rows, its result, and the admin log."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from django.apps import apps
from django.contrib.contenttypes.models import ContentType
from django.db import router, transaction
from django.utils.translation import gettext as _
from django.utils.translation import pgettext

from oscar_bitsby.exceptions import BitsbyError
from oscar_bitsby.models import BitsbyInvoice, BitsbyPayment
from oscar_bitsby.settlement.locks import lock_order_and_invoice
from oscar_bitsby.utils.clock import db_now

logger = logging.getLogger("oscar_bitsby")


@dataclass(frozen=True)
class ActionResult:
    """Whether an action by staff was carried out, and the message for the person."""

    done: bool
    message: str


class ChangedMeanwhile(BitsbyError):
    """The payment was bound to another invoice before it was locked; nothing was done."""


@dataclass
class Locked:
    """A payment with its invoice and order, None where it has none."""

    order: Any
    invoice: BitsbyInvoice | None
    payment: BitsbyPayment


@contextmanager
def locked(payment_pk: Any) -> Iterator[Locked]:
    """Lock a payment's order, its invoice and the payment, in the order that settlement locks.

    Raises:
        ChangedMeanwhile: the payment was bound to another invoice meanwhile.
        RuntimeError: called inside a transaction.
    """
    with transaction.atomic(using=router.db_for_write(BitsbyPayment), durable=True):
        keys = BitsbyPayment.objects.values_list("invoice_id", "invoice__order_id")
        invoice_pk, order_pk = keys.get(pk=payment_pk)
        order, invoice = (
            lock_order_and_invoice(invoice_pk, order_pk) if invoice_pk else (None, None)
        )
        payment = BitsbyPayment.objects.select_for_update().get(pk=payment_pk)
        if payment.invoice_id != invoice_pk:
            raise ChangedMeanwhile(_("This payment has just changed. Check it again."))
        yield Locked(order, invoice, payment)


def refusal(payment: BitsbyPayment) -> ActionResult | None:
    """Return why staff cannot decide about a locked payment; None if they can."""
    if payment.resolved_at is not None or not payment.review_reason:
        how = payment.get_resolution_display() or pgettext("of a payment", "settled")
        text = _("Already resolved: %(how)s, by %(by)s.")
        return ActionResult(False, text % {"how": how, "by": payment.decided_by})
    if payment.refunds.open().exists():
        return ActionResult(
            False, _("A refund of this payment is open. First send its coins or cancel it.")
        )
    return None


def resolve(payment: BitsbyPayment, how: str, user: Any, note: str, order: Any) -> None:
    """Store, log and write into the admin log how a locked payment was decided about."""
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
    log_admin_entry(user, order, payment, f"{payment.get_resolution_display()}: {note.strip()}")


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
