"""The only writer of money and order statuses after checkout: applies what ``decide`` returns.

Rows are locked in the order of ``locks``. Nothing here sends a request to Bitsby: callers fetch
before, outside of any transaction.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

from django.db import router, transaction
from django.utils.translation import gettext_noop

from oscar_bitsby import conf, signals
from oscar_bitsby.accounting import ledger
from oscar_bitsby.choices import Resolution, ReviewReason
from oscar_bitsby.gateway import schemas
from oscar_bitsby.models import BitsbyInvoice, BitsbyPayment, log_change
from oscar_bitsby.orders import transitions
from oscar_bitsby.orders.stage import OrderStage, order_stage
from oscar_bitsby.settlement import invoice_row, notifications, rests
from oscar_bitsby.settlement.locks import lock_order_and_invoice
from oscar_bitsby.settlement.payments import flag_for_review, record_payment, retry_on_conflict
from oscar_bitsby.settlement.rules import Action, ActionType, Outcome, SettlementInput, decide
from oscar_bitsby.utils import i18n
from oscar_bitsby.utils.clock import db_now


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
    can_ask = asks_for_rest and not rests.why_not(order, missing, settings)
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
        can_ask=can_ask and not rests.others_open(order, rows.known_payment),
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
    difference = ledger.total_held(order) - order.total_incl_tax
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
