"""The only writer of money and order statuses after checkout: applies what ``decide`` returns.

Rows are always locked in the same order, so that processes cannot deadlock: the order, which
guards all its invoices, then an invoice, then the payment, then ``ledger``'s rows (source,
vouchers in the order of their model as Oscar locks them, offers, stock by its key). Updates of
many invoices at once skip locked rows: see ``update_unlocked``. Nothing here sends a request to
Bitsby: callers fetch before, outside of any transaction.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

from django.db import router, transaction
from django.utils.translation import gettext_noop
from oscar.core.loading import get_model

from oscar_bitsby import conf, signals
from oscar_bitsby.accounting import ledger, matching
from oscar_bitsby.choices import Resolution, ReviewReason
from oscar_bitsby.gateway import schemas
from oscar_bitsby.models import BitsbyInvoice, BitsbyPayment, log_change
from oscar_bitsby.orders import transitions
from oscar_bitsby.orders.stage import OrderStage, order_stage
from oscar_bitsby.settlement import invoice_row, notifications, rests
from oscar_bitsby.settlement.payments import record_payment, retry_on_conflict
from oscar_bitsby.settlement.rules import Action, ActionType, Outcome, SettlementInput, decide
from oscar_bitsby.utils import i18n
from oscar_bitsby.utils.clock import db_now

logger = logging.getLogger("oscar_bitsby")

Order = get_model("order", "Order")


@dataclass
class LockedRows:
    """The rows that one settling reads and writes, locked.

    ``order`` is None if it was deleted, ``payment`` if the answer has none to record; a dry run
    does not save it. ``sources`` is empty where no payment can be booked.
    """

    order: Any
    invoice: BitsbyInvoice
    payment: BitsbyPayment | None = None
    sources: list[Any] = field(default_factory=list)

    @property
    def known_payment(self) -> BitsbyPayment:
        """The payment, for actions that ``decide`` returns only if there is one."""
        return cast(BitsbyPayment, self.payment)


def settle(
    invoice: BitsbyInvoice,
    remote: schemas.Invoice,
    remote_payment: schemas.Payment | None = None,
    *,
    dry_run: bool = False,
) -> Outcome:
    """Apply a remote invoice to our rows and Oscar's, once; idempotent and safe under concurrency.

    Args:
        invoice: our invoice. Only its key and its order's are used: its row is read again under
            a lock.
        remote: the same invoice in an answer of ``invoices/list`` or ``payments/list``.
        remote_payment: the payment that is bound to it, where ``remote`` does not contain it.
        dry_run: decide, but write nothing.

    Raises:
        RuntimeError: called inside a transaction, which could still be rolled back.
    """
    remote_payment = remote_payment or remote.payment
    return retry_on_conflict(lambda: _settle(invoice, remote, remote_payment, dry_run))


def _settle(
    invoice: BitsbyInvoice,
    remote: schemas.Invoice,
    remote_payment: schemas.Payment | None,
    dry_run: bool,
) -> Outcome:
    with transaction.atomic(using=router.db_for_write(BitsbyInvoice), durable=True):
        rows = _load(invoice, remote, remote_payment, dry_run)
        facts = _build_input(rows, remote, remote_payment)
        outcome = Outcome(decide(facts), remote.status)
        if not dry_run:
            invoice_row.update(rows.invoice, remote, remote_payment, outcome)
            for action in outcome.actions:
                if action.type in _APPLY:
                    _APPLY[action.type](rows, action)
            is_short = Action(ActionType.FLAG, ReviewReason.SHORT) in outcome.actions
            if facts.received and outcome.did(ActionType.PAY_ORDER) and not is_short:
                rests.close_missing(rows.order)
            notifications.enqueue_for_actions(
                outcome.actions, rows.order, rows.invoice, rows.payment
            )
    return outcome


def _load(
    invoice: BitsbyInvoice,
    remote: schemas.Invoice,
    remote_payment: schemas.Payment | None,
    dry_run: bool,
) -> LockedRows:
    """Lock the rows in their order, and record the payment unless the invoice is still unpaid."""
    rows = LockedRows(*lock_order_and_invoice(invoice.pk, invoice.order_id))
    if remote_payment is not None and remote.status != schemas.UNPAID:
        rows.payment = record_payment(
            remote_payment, invoice=rows.invoice, remote=remote, save=not dry_run
        )
    # ``decide`` books a payment only under these conditions.
    is_booked = rows.payment is not None and rows.payment.booked_at is not None
    if rows.order is not None and remote.status == schemas.PAID and not is_booked:
        rows.sources = ledger.lock_sources(rows.order)
    return rows


def lock_order_and_invoice(invoice_pk: Any, order_pk: Any) -> tuple[Any, BitsbyInvoice]:
    """Lock the order, then the invoice, and return both as they are now.

    ``order_pk`` is None if the order was deleted. It may be stale: an invoice can lose its order
    but never gets another one.
    """
    order = Order._default_manager.select_for_update().filter(pk=order_pk).first()
    invoice = BitsbyInvoice.objects.select_for_update().get(pk=invoice_pk)
    return order, invoice


def _build_input(
    rows: LockedRows, remote: schemas.Invoice, remote_payment: schemas.Payment | None
) -> SettlementInput:
    order, invoice, payment, settings = rows.order, rows.invoice, rows.payment, conf.get()
    stage = order_stage(settings, order)
    booked = payment is not None and payment.booked_at is not None
    is_new_money = payment is not None and not booked and remote.status == schemas.PAID
    received = ledger.amount_held(rows.sources)
    owed = order.total_incl_tax if order is not None else invoice.amount
    # Of the row, because that is what is booked, and a later answer may say something else.
    fiat_value = payment.fiat_value if payment is not None else None
    asks_for_rest = is_new_money and invoice.asks_for_rest and order is not None
    missing = owed - received - (fiat_value or 0)
    return SettlementInput(
        remote_status=remote.status,
        order=stage,
        same_project=remote.project_id in ("", invoice.project_id),
        same_money=invoice.asks(remote.amount, remote.currency),
        has_payment=payment is not None,
        fiat_value=fiat_value,
        owed=owed,
        booked=booked,
        dismissed=payment is not None
        and payment.resolution in (Resolution.DISMISSED, Resolution.REFUNDED),
        returned=booked and stage is OrderStage.PENDING and not ledger.has_money(order),
        refunded=is_new_money and _is_refunded(rows.known_payment),
        in_time=is_new_money and _is_in_time(rows, settings),
        tolerance=settings.tolerance.of(invoice.amount, invoice.currency),
        asks_for_rest=asks_for_rest,
        can_ask=asks_for_rest and not rests.why_not(order, missing, settings),
        booked_elsewhere=booked and payment is not None and payment.invoice_id != invoice.pk,
        received=received,
        paid_otherwise=received > 0 and received >= owed,
        is_live=invoice.status in BitsbyInvoice.LIVE,
    )


def _is_refunded(payment: BitsbyPayment) -> bool:
    # A dry run does not save the row of a new payment, which has no refund.
    return payment.pk is not None and payment.refunds.counted().exists()


def _is_in_time(rows: LockedRows, settings: conf.Conf) -> bool:
    """Tell whether the payment was made, by the chain, while its order could be paid.

    It matters only once the order is cancelled.
    """
    order, expires_at = rows.order, rows.invoice.expires_at
    at = rows.known_payment.transaction_at
    if at is None or order_stage(settings, order) is not OrderStage.CANCELLED:
        return False
    if expires_at is not None and at <= expires_at:
        return True
    cancelled = order.status_changes.filter(new_status=settings.order_status_cancelled)
    last = cancelled.order_by("-date_created").values_list("date_created", flat=True).first()
    return last is not None and at < last


def _mark_paid(rows: LockedRows, action: Action) -> None:
    # Money has arrived: whatever staff decide about it, the order is not cancelled as unpaid.
    BitsbyInvoice.objects.filter(order=rows.order).stop_awaiting_payment()


def _announce_expiry(rows: LockedRows, action: Action) -> None:
    signals.send_after_commit(
        signals.invoice_expired, BitsbyInvoice, invoice=rows.invoice, order=rows.order
    )


def _book(rows: LockedRows, action: Action) -> None:
    payment, invoice = rows.known_payment, rows.invoice
    payment.review_reason = payment.further_reasons = ""
    ledger.book_payment(rows.order, payment, rows.sources)
    log_change("payment booked", invoice, payment=payment.bitsby_id, fiat_value=payment.fiat_value)
    signals.send_after_commit(
        signals.invoice_paid, BitsbyInvoice, invoice=invoice, order=rows.order
    )


def _pay_order(rows: LockedRows, action: Action) -> None:
    payment = rows.known_payment
    note = i18n.shop_text(
        gettext_noop("Bitsby payment %(id)s received: %(payment)s for invoice %(invoice)s."),
        id=payment.bitsby_id,
        payment=payment,
        invoice=rows.invoice.uid,
    )
    if transitions.change_order_status(rows.order, conf.get().order_status_paid, note):
        log_change("order paid", rows.invoice, status=rows.order.status)
    else:
        flag_for_review(payment, ReviewReason.STATUS, rows.order)


def _tolerate(rows: LockedRows, action: Action) -> None:
    payment, order = rows.known_payment, rows.order
    difference = ledger.amount_held(list(order.sources.all())) - order.total_incl_tax
    text = gettext_noop("Tolerated: %(difference)s %(currency)s more than the order's total.")
    if difference < 0:
        text = gettext_noop("Tolerated: %(difference)s %(currency)s less than the order's total.")
    payment.resolution, payment.resolved_at = Resolution.TOLERATED, db_now()
    payment.resolution_note = i18n.shop_text(
        text, difference=abs(difference), currency=order.currency
    )
    payment.save(update_fields=["resolution", "resolved_at", "resolution_note"])
    log_change(
        "difference tolerated", rows.invoice, payment=payment.bitsby_id, difference=difference
    )


def _ask_for_rest(rows: LockedRows, action: Action) -> None:
    payment = rows.known_payment
    rests.mark_asked(rows.order, payment)
    log_change("rest asked for", rows.invoice, payment=payment.bitsby_id)


def _flag(rows: LockedRows, action: Action) -> None:
    flag_for_review(rows.known_payment, action.reason, rows.order)


#: Actions that do more than change the invoice's row.
_APPLY: dict[ActionType, Callable[[LockedRows, Action], None]] = {
    ActionType.MARK_PAID: _mark_paid,
    ActionType.EXPIRE: _announce_expiry,
    ActionType.BOOK: _book,
    ActionType.TOLERATE: _tolerate,
    ActionType.PAY_ORDER: _pay_order,
    ActionType.ASK_FOR_REST: _ask_for_rest,
    ActionType.FLAG: _flag,
}


def flag_for_review(payment: BitsbyPayment, reason: str, order: Any) -> None:
    """Add a payment to the payments to review, once for each reason.

    While it is open, a further reason is added to those that it has.
    """
    if reason in payment.review_reasons:
        return
    is_open = bool(payment.review_reason) and payment.resolved_at is None
    # A new reason of a resolved payment needs a new decision, about that reason only. After a new
    # answer by Bitsby, the earlier one that the invoice is not paid is out of date.
    known = [one for one in payment.review_reasons if is_open and one != ReviewReason.NOT_PAID]
    # Staff must first learn that the order's status was not changed.
    reasons = sorted([*known, reason], key=lambda one: one != ReviewReason.STATUS)
    payment.review_reason, payment.further_reasons = reasons[0], " ".join(reasons[1:])
    payment.resolved_at, payment.resolution = None, ""
    names = ("review_reason", "further_reasons", "resolved_at", "resolution")
    payment.save(update_fields=names)
    logger.warning(
        "payment needs attention: payment=%s reason=%s order=%s invoice=%s",
        payment.bitsby_id,
        reason,
        getattr(order, "number", None),
        payment.bound_to,
    )
    signals.send_after_commit(
        signals.payment_needs_attention, BitsbyPayment, payment=payment, reason=reason, order=order
    )


def record_unbound(remote_payment: schemas.Payment, *, reason: str = "") -> BitsbyPayment:
    """Record a payment that is bound to none of our invoices.

    ``reason`` says why staff should review it; it is empty for a payment of another project.
    """
    is_dust = reason == ReviewReason.UNMATCHED and matching.is_dust(remote_payment)

    def work() -> BitsbyPayment:
        with transaction.atomic(using=router.db_for_write(BitsbyPayment), durable=True):
            payment = record_payment(
                remote_payment,
                remote=remote_payment.invoice,
                is_foreign=not reason,
                is_dust=is_dust,
            )
            if reason and payment.booked_at is None:
                is_new = reason not in payment.review_reasons
                flag_for_review(payment, reason, None)
                if is_new and not is_dust:
                    notifications.enqueue_if_second(payment)
        return payment

    return retry_on_conflict(work)
