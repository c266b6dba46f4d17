"""Rows of payments: one for each payment that Bitsby reports."""

from collections.abc import Callable
from typing import Any, TypeVar

from django.db import IntegrityError

from oscar_bitsby.accounting.valuation import fiat_value_of
from oscar_bitsby.gateway import schemas
from oscar_bitsby.models import BitsbyInvoice, BitsbyPayment

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
