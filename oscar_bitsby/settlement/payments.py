"""Rows of payments: one for each payment that Bitsby reports, and their place in the review."""

import logging
from collections.abc import Callable
from typing import Any, TypeVar

from django.db import IntegrityError, router, transaction

from oscar_bitsby import signals
from oscar_bitsby.accounting import matching
from oscar_bitsby.accounting.valuation import fiat_value_of, locked_rate_of
from oscar_bitsby.choices import AlertCode, ReviewReason
from oscar_bitsby.gateway import schemas
from oscar_bitsby.mails import merchant_alerts
from oscar_bitsby.models import BitsbyInvoice, BitsbyPayment
from oscar_bitsby.settlement import notifications

logger = logging.getLogger("oscar_bitsby")

T = TypeVar("T")

_NO_WALLET = schemas.Wallet(id="", name="", blockchain="", cryptocurrency="", address="")


def record_payment(
    remote_payment: schemas.Payment,
    *,
    invoice: BitsbyInvoice | None = None,
    remote: schemas.Invoice | None = None,
    is_foreign: bool = False,
    is_dust: bool = False,
    save: bool = True,
) -> BitsbyPayment:
    """Return the row of a payment, created or updated, and locked.

    A conflict with another process raises ``IntegrityError``: see ``retry_on_conflict``.

    Args:
        remote_payment: the payment in the API's answer.
        invoice: our invoice that it is bound to.
        remote: the remote invoice that it is bound to, ours or not.
        is_foreign: it belongs to another project of the account.
        is_dust: it is bound to no invoice, and worth too little to be meant for one.
        save: False writes and locks nothing. The row is the existing one, or an unsaved one.
    """
    values = _read_values(remote_payment, invoice, remote)
    values |= {"is_foreign": is_foreign, "is_dust": is_dust}
    rows = BitsbyPayment.objects.filter(bitsby_id=remote_payment.id)
    payment: BitsbyPayment | None = (rows.select_for_update() if save else rows).first()
    if payment is None:
        payment = BitsbyPayment(bitsby_id=remote_payment.id, **values)
        if save:
            payment.save()
    elif save and payment.booked_at is not None:
        # What was booked does not change; only the binding can be a new one.
        if payment.bound_to != values["bound_to"]:
            payment.bound_to = values["bound_to"]
            payment.save(update_fields=["bound_to"])
    elif save and _has_news(payment, values):
        _start_over(payment, values)
    return payment


def _read_values(
    remote_payment: schemas.Payment,
    invoice: BitsbyInvoice | None,
    remote: schemas.Invoice | None,
) -> dict[str, Any]:
    """Return the columns of a payment's row, truncated to their lengths."""
    wallet = remote_payment.wallet or _NO_WALLET
    values = {
        "invoice": invoice,
        "bound_to": remote.id if remote else None,
        "project_id": remote.project_id[:36] if remote else "",
        "amount": remote_payment.amount,
        "hash": remote_payment.hash[:200],
        "transaction_at": remote_payment.transaction_at,
        "cryptocurrency": wallet.cryptocurrency[:64],
        "blockchain": wallet.blockchain[:64],
        "wallet_id": wallet.id[:64],
        "address": wallet.address[:200],
    }
    if invoice is not None:
        values["fiat_value"] = fiat_value_of(remote_payment, invoice)
        values["locked_rate"] = locked_rate_of(remote_payment, invoice)
        values["currency"] = invoice.currency
    return values


def _has_news(payment: BitsbyPayment, values: dict[str, Any]) -> bool:
    """Tell whether the binding changed, or our invoice or the fiat value became known."""
    return (
        payment.bound_to != values["bound_to"]
        or (payment.invoice_id is None and values["invoice"] is not None)
        or (payment.fiat_value is None and values.get("fiat_value") is not None)
    )


def _start_over(payment: BitsbyPayment, values: dict[str, Any]) -> None:
    """Save new values of an unbooked payment; its review and decision were about the old ones."""
    for name, value in values.items():
        setattr(payment, name, value)
    payment.review_reason = payment.further_reasons = ""
    payment.resolution = payment.resolution_note = ""
    payment.resolved_at = payment.resolved_by = None
    payment.save()


def retry_on_conflict(work: Callable[[], T]) -> T:
    """Run a transaction that records a payment, and repeat it once after a conflict.

    Of two processes that insert the same payment, one fails and is rolled back, because the id is
    unique. When it is repeated, the row exists.
    """
    try:
        return work()
    except IntegrityError:
        return work()


def flag_for_review(payment: BitsbyPayment, reason: str, order: Any) -> None:
    """Add a payment to the payments to review, once for each reason.

    While it is open, a further reason is added to those that it has.
    """
    if reason in payment.review_reasons:
        return
    # A new reason of a resolved payment needs a new decision, about that reason only. After a new
    # answer by Bitsby, the earlier one that the invoice is not paid is out of date.
    # The same reason after a decision needs a new decision.
    decided = f"{payment.resolved_at:%Y%m%d%H%M%S}" if payment.resolved_at else ""
    open_reasons = payment.review_reasons if payment.needs_review else []
    known = [one for one in open_reasons if one != ReviewReason.NOT_PAID]
    # Staff must first learn that the order's status was not changed.
    reasons = sorted([*known, reason], key=lambda one: one != ReviewReason.STATUS)
    payment.review_reason, payment.further_reasons = reasons[0], " ".join(reasons[1:])
    payment.resolved_at, payment.resolution = None, ""
    names = ("review_reason", "further_reasons", "resolved_at", "resolution")
    payment.save(update_fields=names)
    if not payment.is_dust:
        merchant_alerts.enqueue(
            AlertCode.PAYMENT,
            payment=payment,
            order_number=str(order.number) if order is not None else "",
            occasion=f"{reason}:{decided}",
        )
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
