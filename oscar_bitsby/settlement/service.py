"""The one writer of money and order states after checkout: applies what ``decide`` says.

Rows are locked in one order everywhere, so that no two processes can wait for each other: the
order, which guards all its invoices, then an invoice, then the payment, then ``ledger``'s rows
(source, vouchers in the order of their model as Oscar locks them, offers, stock by its key).
What is noted of many invoices at once skips those that are locked: see ``update_unlocked``.
Nothing here talks to Bitsby; whoever calls has asked before, outside of any transaction.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from django.db import IntegrityError, router, transaction
from django.utils.translation import gettext_noop
from oscar.core.loading import get_model

from oscar_bitsby import conf, signals
from oscar_bitsby.accounting import ledger
from oscar_bitsby.accounting.valuation import fiat_value_of
from oscar_bitsby.choices import InvoiceStatus, Resolution, ReviewReason
from oscar_bitsby.gateway import schemas
from oscar_bitsby.models import PAID_WITHOUT_PAYMENT, BitsbyInvoice, BitsbyPayment, log_change
from oscar_bitsby.orders import transitions
from oscar_bitsby.orders.stage import order_stage
from oscar_bitsby.settlement import notifications
from oscar_bitsby.settlement.payments import record_payment
from oscar_bitsby.settlement.rules import Action, ActionType, SettlementInput, decide
from oscar_bitsby.utils import i18n
from oscar_bitsby.utils.clock import db_now

T = TypeVar("T")

logger = logging.getLogger("oscar_bitsby")


Order = get_model("order", "Order")


@dataclass(frozen=True)
class Outcome:
    """What an answer led to; ``remote_status`` is Bitsby's word for the invoice."""

    actions: tuple[Action, ...]
    remote_status: str

    @property
    def is_final(self) -> bool:
        """Tell whether anything was decided but to wait."""
        return self.actions != (Action(ActionType.WAIT),)

    def did(self, do: ActionType) -> bool:
        return any(action.do is do for action in self.actions)


def settle(
    invoice: BitsbyInvoice,
    remote: schemas.Invoice,
    payment: schemas.Payment | None = None,
    *,
    dry_run: bool = False,
) -> Outcome:
    """Bring the invoice and its order to what Bitsby has just said; safe to repeat and to race.

    Args:
        invoice: one of ours; only its key and its order's are used, the rows are read again under
            locks.
        told: what ``invoices/list`` or ``payments/list`` says of it.
        payment: the payment that is bound to it, where ``remote`` does not carry it itself.
        dry_run: decide, write nothing.

    Raises:
        RuntimeError: called inside a transaction, where nothing would be settled until its end.
    """
    payment = payment or remote.payment
    return retry_on_conflict(lambda: _settle(invoice, remote, payment, dry_run))


def _settle(
    invoice: BitsbyInvoice,
    remote: schemas.Invoice,
    payment: schemas.Payment | None,
    dry_run: bool,
) -> Outcome:
    settings = conf.get()
    with transaction.atomic(using=router.db_for_write(BitsbyInvoice), durable=True):
        order, invoice = lock_order_and_invoice(invoice.pk, invoice.order_id)
        record = None
        # Of an invoice that may still be paid nothing is kept yet.
        if payment is not None and remote.status != schemas.UNPAID:
            record = record_payment(payment, invoice=invoice, remote=remote, save=not dry_run)
        before = invoice.status, invoice.page_views
        if remote.views is not None:
            invoice.page_views = remote.views
        # Where this holds, and only there, a payment may be booked: see ``decide``.
        is_new = remote.status == schemas.PAID and (record is None or record.booked_at is None)
        sources = ledger.lock_sources(order) if is_new and order is not None else []
        facts = _build_input(settings, order, invoice, remote, payment, record, sources)
        actions = decide(facts)
        if not dry_run:
            for action in actions:
                _apply(action, settings, order, invoice, record, sources)
            if invoice.page_views != before[1] and invoice.status == before[0]:
                invoice.save(update_fields=["page_views"])
            notifications.enqueue_for_actions(actions, order, invoice, record)
            if actions != (Action(ActionType.WAIT),):
                _clear_pending_webhook(invoice)
            elif remote.status == schemas.PAID and payment is None:
                _mark_paid_without_payment(invoice)
    return Outcome(actions, remote.status)


def lock_order_and_invoice(invoice_pk: Any, order_pk: Any) -> tuple[Any, BitsbyInvoice]:
    """Lock the order, then the invoice, and return both as they are now.

    Args:
        invoice_pk: the invoice's key.
        order_pk: its order's, as the caller has read it: an invoice can lose its order but never
            gets another one. None where it had lost it.
    """
    order = Order._default_manager.select_for_update().filter(pk=order_pk).first()
    invoice = BitsbyInvoice.objects.select_for_update().get(pk=invoice_pk)
    return order, invoice


def _build_input(
    settings: conf.Conf,
    order: Any,
    invoice: BitsbyInvoice,
    remote: schemas.Invoice,
    payment: schemas.Payment | None,
    record: BitsbyPayment | None,
    sources: list[Any],
) -> SettlementInput:
    booked = record is not None and record.booked_at is not None
    is_paid = remote.status == schemas.PAID and not booked
    received = ledger.amount_held(sources)
    owed = order.total_incl_tax if order is not None else invoice.amount
    return SettlementInput(
        remote_status=remote.status,
        order=order_stage(settings, order),
        same_project=remote.project_id in ("", invoice.project_id),
        same_money=invoice.asks(remote.amount, remote.currency),
        has_payment=record is not None,
        fiat_value=fiat_value_of(payment, invoice) if payment is not None and is_paid else None,
        owed=owed,
        booked=booked,
        dismissed=record is not None and record.resolution == Resolution.DISMISSED,
        booked_elsewhere=booked and record is not None and record.invoice_id != invoice.pk,
        received=received,
        paid_otherwise=received > 0 and received >= owed,
        is_live=invoice.status in BitsbyInvoice.LIVE,
    )


def _apply(
    action: Action,
    settings: conf.Conf,
    order: Any,
    invoice: BitsbyInvoice,
    record: BitsbyPayment | None,
    sources: list[Any],
) -> None:
    if action.do is ActionType.MARK_PAID:
        _change_invoice_status(invoice, InvoiceStatus.PAID)
        # Whatever comes of the money, want of payment no longer ends this order.
        BitsbyInvoice.objects.filter(order=order, order_awaits_payment=True).update(
            order_awaits_payment=False
        )
    elif action.do is ActionType.EXPIRE:
        _change_invoice_status(invoice, InvoiceStatus.EXPIRED)
        signals.send_after_commit(
            signals.invoice_expired, BitsbyInvoice, invoice=invoice, order=order
        )
    elif action.do is ActionType.CANCEL:
        _change_invoice_status(invoice, InvoiceStatus.CANCELED)
    elif record is None:
        return
    elif action.do is ActionType.BOOK:
        record.review_reason = ""
        ledger.book_payment(order, record, sources)
        log_change(
            "payment booked", invoice, payment=record.bitsby_id, fiat_value=record.fiat_value
        )
        signals.send_after_commit(signals.invoice_paid, BitsbyInvoice, invoice=invoice, order=order)
    elif action.do is ActionType.PAY_ORDER:
        note = i18n.shop_text(
            gettext_noop("Bitsby payment %(id)s received: %(payment)s for invoice %(invoice)s."),
            id=record.bitsby_id,
            payment=record,
            invoice=invoice.uid,
        )
        if transitions.change_order_status(order, settings.order_status_paid, note):
            log_change("order paid", invoice, status=order.status)
        else:
            flag_for_review(record, ReviewReason.STATUS, order)
    elif action.do is ActionType.FLAG:
        flag_for_review(record, action.reason, order)


def _change_invoice_status(invoice: BitsbyInvoice, status: str) -> None:
    if invoice.status == status:
        return
    before, invoice.status = invoice.status, status
    if status != InvoiceStatus.PAID:
        # The end is when the time to pay was over, not when somebody noticed.
        now = db_now()
        is_over = status == InvoiceStatus.EXPIRED and invoice.expires_at is not None
        invoice.ended_at = min(now, invoice.expires_at) if is_over and invoice.expires_at else now
    invoice.save(update_fields=["status", "ended_at", "page_views"])
    log_change(f"invoice {status}", invoice, before=before)


def _mark_paid_without_payment(invoice: BitsbyInvoice) -> None:
    """Let staff see that money is there which cannot be booked, for want of the payment's id."""
    if invoice.failure != PAID_WITHOUT_PAYMENT:
        invoice.failure = PAID_WITHOUT_PAYMENT
        invoice.save(update_fields=["failure"])
        logger.warning("%s: order=%s", PAID_WITHOUT_PAYMENT, invoice.order_number)


def _clear_pending_webhook(invoice: BitsbyInvoice) -> None:
    """Forget the delivery that asked for this look: it was answered by it."""
    if invoice.webhook_pending_since is not None:
        invoice.webhook_pending_since = None
        invoice.save(update_fields=["webhook_pending_since"])


def flag_for_review(record: BitsbyPayment, reason: str, order: Any) -> None:
    """Put a payment into the money inbox, once for each reason."""
    if record.review_reason == reason:
        return
    if record.review_reason == ReviewReason.STATUS and record.resolved_at is None:
        # That the order did not move is what staff must know first.
        return
    record.review_reason = reason
    # A new reason is a new question, whatever was decided about the one before.
    record.resolved_at, record.resolution = None, ""
    record.save(update_fields=["review_reason", "resolved_at", "resolution"])
    logger.warning(
        "payment needs attention: payment=%s reason=%s order=%s invoice=%s",
        record.bitsby_id,
        reason,
        getattr(order, "number", None),
        record.bound_to,
    )
    signals.send_after_commit(
        signals.payment_needs_attention, BitsbyPayment, payment=record, reason=reason, order=order
    )


def record_unbound(payment: schemas.Payment, *, reason: str = "") -> BitsbyPayment:
    """Remember a payment that is bound to none of our invoices.

    Args:
        payment: what Bitsby says.
        reason: why staff should look at it; without one it is another project's.
    """

    def work() -> BitsbyPayment:
        with transaction.atomic(using=router.db_for_write(BitsbyPayment), durable=True):
            record = record_payment(payment, remote=payment.invoice, is_foreign=not reason)
            if reason and record.booked_at is None:
                flag_for_review(record, reason, None)
        return record

    return retry_on_conflict(work)


def retry_on_conflict(work: Callable[[], T]) -> T:
    """Run a transaction that remembers a payment, and once more if another one was quicker.

    Two processes may see a payment first at the same time. Its unique id lets one of them in; the
    other one's transaction is undone as a whole, and when it begins again the row is there.
    """
    try:
        return work()
    except IntegrityError:
        return work()
