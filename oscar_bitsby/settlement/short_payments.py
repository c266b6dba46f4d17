"""Booked payments that are short: asking the buyer for the rest, and what if it is missing."""

from typing import Any

from django.db import router, transaction
from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop
from oscar.core.loading import get_model

from oscar_bitsby import conf
from oscar_bitsby.accounting import ledger
from oscar_bitsby.choices import Resolution, ReviewReason
from oscar_bitsby.exceptions import NotPayable
from oscar_bitsby.models import BitsbyInvoice, BitsbyPayment, log_change
from oscar_bitsby.orders import transitions
from oscar_bitsby.orders.stage import OrderStage, cancellation_deadline, order_stage
from oscar_bitsby.settlement import notifications, rests
from oscar_bitsby.settlement.locks import lock_order_and_invoice
from oscar_bitsby.settlement.payments import flag_for_review
from oscar_bitsby.utils import i18n
from oscar_bitsby.utils.clock import db_now

Order = get_model("order", "Order")

#: Open payments for these reasons can be resolved by asking for the rest.
ASKABLE_REASONS = {ReviewReason.SHORT, ReviewReason.REST_MISSING}


def why_not_ask(payment: BitsbyPayment) -> str:
    """Return why the buyer cannot be asked for the rest of a payment, for staff; else nothing."""
    invoice = payment.invoice
    order: Any = invoice.order if invoice is not None else None
    if payment.resolved_at is not None or not ASKABLE_REASONS & set(payment.review_reasons):
        return _(
            "The rest can be asked for only if the payment is short and in Payments to review."
        )
    if order is None or payment.booked_at is None:
        return _("The rest can be asked for once the payment is booked for an order.")
    settings = conf.get()
    stage = order_stage(settings, order)
    # Stock of a cancelled order is released; any other status depends on the shop's pipeline.
    may_return = settings.order_status_pending in order.available_statuses()
    if stage is OrderStage.CANCELLED or (stage is not OrderStage.PENDING and not may_return):
        text = _("The order's status, “%(status)s”, cannot go back to “%(pending)s”.")
        return text % {"status": order.status, "pending": settings.order_status_pending}
    if rests.others_open(order, payment):
        return _("Another payment of this order needs a decision first.")
    if payment.refunds.open().exists():
        return _("A refund of this payment is open. First send its coins or cancel it.")
    missing = order.total_incl_tax - ledger.total_held(order)
    return rests.why_not(order, missing, settings)


def ask_for_rest(payment_pk: Any, user: Any, note: str) -> BitsbyPayment:
    """Ask the buyer for the rest of a payment that is booked and short.

    The order waits for a payment again, if it did not.

    Args:
        payment_pk: the primary key of the payment.
        user: the member of staff. The caller checks the permission ``oscar_bitsby.bind_payment``.
        note: the reason.

    Raises:
        NotPayable: the rest cannot be asked for; nothing was changed. The message is for staff.
        RuntimeError: called inside a transaction.
    """
    with transaction.atomic(using=router.db_for_write(BitsbyPayment), durable=True):
        keys = BitsbyPayment.objects.values_list("invoice_id", "invoice__order_id")
        invoice_pk, order_pk = keys.get(pk=payment_pk)
        if invoice_pk is None:
            raise NotPayable(
                _("The rest can be asked for once the payment is booked for an order.")
            )
        order, invoice = lock_order_and_invoice(invoice_pk, order_pk)
        payment = BitsbyPayment.objects.select_for_update().get(pk=payment_pk)
        if payment.invoice_id != invoice_pk:
            raise NotPayable(_("This payment has just changed. Check it again."))
        # The locked rows, so that all see the same order.
        invoice.order, payment.invoice = order, invoice
        problem = why_not_ask(payment)
        if problem:
            raise NotPayable(problem)
        _return_to_pending(order, payment)
        rests.mark_asked(order, payment, user, note)
        notifications.enqueue_rest(order, payment)
        log_change("rest asked for", invoice, payment=payment.bitsby_id, user=user.pk)
    return payment


def _return_to_pending(order: Any, payment: BitsbyPayment) -> None:
    settings = conf.get()
    if order_stage(settings, order) is OrderStage.PENDING:
        return
    text = i18n.shop_text(
        gettext_noop("The rest of payment %(payment)s is asked for by staff."), payment=payment
    )
    if not transitions.change_order_status(order, settings.order_status_pending, text):
        raise NotPayable(_("The order's status could not be changed."))


def flag_missing_rest(order_pk: Any, *, only_if_due: bool = False, dry_run: bool = False) -> bool:
    """Put the payments whose rest was asked for back into the payments to review.

    Args:
        order_pk: the primary key of their order.
        only_if_due: do so only if the time for the rest is over and no invoice is live.
        dry_run: write nothing.

    Returns:
        whether there was such a payment of a pending order.

    Raises:
        RuntimeError: called inside a transaction.
    """
    settings = conf.get()
    with transaction.atomic(using=router.db_for_write(BitsbyPayment), durable=True):
        order = Order._default_manager.select_for_update().filter(pk=order_pk).first()
        if order_stage(settings, order) is not OrderStage.PENDING:
            return False
        invoices = list(order.bitsby_invoices.select_for_update().order_by("pk"))
        asked = BitsbyPayment.objects.filter(
            invoice__in=invoices, resolution=Resolution.ASKED, booked_at__isnull=False
        )
        payments = list(asked.select_for_update().order_by("pk"))
        if not payments or (only_if_due and not _is_due(order, invoices, settings)):
            return False
        if not dry_run:
            for payment in payments:
                flag_for_review(payment, ReviewReason.REST_MISSING, order)
    return True


def _is_due(order: Any, invoices: list[BitsbyInvoice], settings: conf.Conf) -> bool:
    """Tell whether the time for the rest of a locked order is over."""
    if any(invoice.status in BitsbyInvoice.LIVE for invoice in invoices):
        return False
    deadline = cancellation_deadline(order, invoices, settings, ledger.rest_asked_at(order))
    return deadline is not None and deadline <= db_now()
