"""``BitsbyPayment`` rows: what Bitsby said of a payment, kept once, and what it is worth."""

from __future__ import annotations

from oscar_bitsby.accounting.valuation import fiat_value_of
from oscar_bitsby.gateway import schemas
from oscar_bitsby.models import BitsbyInvoice, BitsbyPayment


def record_payment(
    payment: schemas.Payment,
    *,
    invoice: BitsbyInvoice | None = None,
    remote: schemas.Invoice | None = None,
    is_foreign: bool = False,
    save: bool = True,
) -> BitsbyPayment:
    """Return the row of a payment, locked; written or completed unless ``save`` is False.

    Args:
        payment: what Bitsby says.
        invoice: the invoice of ours that it is bound to.
        told: what Bitsby says of the invoice that it is bound to, ours or not.
        is_foreign: it concerns another project of the account.
    """
    wallet = payment.wallet
    values = {
        "invoice": invoice,
        "bound_to": remote.id if remote else None,
        "project_id": remote.project_id[:36] if remote else "",
        "is_foreign": is_foreign,
        "amount": payment.amount,
        "hash": payment.hash[:200],
        "transaction_at": payment.transaction_at,
        "cryptocurrency": wallet.cryptocurrency[:64] if wallet else "",
        "blockchain": wallet.blockchain[:64] if wallet else "",
        "wallet_id": wallet.id[:64] if wallet else "",
        "address": wallet.address[:200] if wallet else "",
    }
    if invoice is not None:
        values |= {"fiat_value": fiat_value_of(payment, invoice), "currency": invoice.currency}
    if not save:
        known: BitsbyPayment | None = BitsbyPayment.objects.filter(bitsby_id=payment.id).first()
        return known or BitsbyPayment(bitsby_id=payment.id, **values)
    locked = BitsbyPayment.objects.select_for_update()
    row: BitsbyPayment | None = locked.filter(bitsby_id=payment.id).first()
    if row is None:
        # No savepoint: who is not the first one begins again, see ``once_more_if_taken``.
        created: BitsbyPayment = BitsbyPayment.objects.create(bitsby_id=payment.id, **values)
        return created
    is_bound_anew = row.bound_to != values["bound_to"]
    is_known_better = (invoice is not None and not row.invoice_id) or (
        row.fiat_value is None and values.get("fiat_value") is not None
    )
    if row.booked_at is not None:
        if is_bound_anew:
            row.bound_to = remote.id if remote else None
            row.save(update_fields=["bound_to"])
    elif is_bound_anew or is_known_better:
        # What made it strange before is settled by that.
        for name, value in values.items():
            setattr(row, name, value)
        row.review_reason = row.resolution = row.resolution_note = ""
        row.resolved_at = row.resolved_by = None
        row.save()
    return row
