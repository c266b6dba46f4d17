"""``BitsbyPayment`` rows: what Bitsby said of a payment, kept once, and what it is worth."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import TypeVar

from django.db import IntegrityError

from oscar_bitsby import replies
from oscar_bitsby.models import BitsbyInvoice, BitsbyPayment
from oscar_bitsby.money import to_cents

T = TypeVar("T")

#: A worth of this much or more fits no column of Oscar's.
TOO_MUCH = Decimal(10) ** 10


def once_more_if_taken(work: Callable[[], T]) -> T:
    """Run a transaction that remembers a payment, and once more if another one was quicker.

    Two processes may see a payment first at the same time. Its unique id lets one of them in; the
    other one's transaction is undone as a whole, and when it begins again the row is there.
    """
    try:
        return work()
    except IntegrityError:
        return work()


def remember(
    payment: replies.Payment,
    *,
    invoice: BitsbyInvoice | None = None,
    told: replies.Invoice | None = None,
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
        "bound_to": told.id if told else None,
        "project_id": told.project_id[:36] if told else "",
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
        values |= {"worth": worth_of(payment, invoice), "currency": invoice.currency}
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
        row.worth is None and values.get("worth") is not None
    )
    if row.booked_at is not None:
        if is_bound_anew:
            row.bound_to = told.id if told else None
            row.save(update_fields=["bound_to"])
    elif is_bound_anew or is_known_better:
        # What made it strange before is settled by that.
        for name, value in values.items():
            setattr(row, name, value)
        row.attention = row.resolution = row.resolution_note = ""
        row.resolved_at = row.resolved_by = None
        row.save()
    return row


def worth_of(payment: replies.Payment, invoice: BitsbyInvoice) -> Decimal | None:
    """Return a payment's worth in the invoice's currency, in cents; None when it cannot be told.

    The invoice locked a rate for each wallet when it was created: its amount against the reserved
    amount of the coin. A wallet that was not reserved has no rate, but the same coin on another
    chain has.
    """
    wallet = payment.wallet
    if wallet is None:
        return None
    return _worth(payment.amount, wallet.id, wallet.cryptocurrency, invoice)


def worth_of_row(payment: BitsbyPayment, invoice: BitsbyInvoice) -> Decimal | None:
    """Return what a remembered payment would be worth, were it bound to ``invoice``."""
    return _worth(payment.amount, payment.wallet_id, payment.cryptocurrency, invoice)


def _worth(amount: Decimal, wallet: str, coin: str, invoice: BitsbyInvoice) -> Decimal | None:
    reserved = _reserved(invoice, "id", wallet) or _reserved(invoice, "cryptocurrency", coin)
    return share_worth(amount, reserved, invoice.amount)


def share_worth(amount: Decimal, reserved: Decimal | None, asked: Decimal) -> Decimal | None:
    """Return what an amount of coins is worth at the rate that an invoice locked.

    Args:
        amount: coins that came.
        reserved: coins that the invoice reserved for ``asked`` of its currency; None or 0 where no
            rate is known.
    """
    if not reserved:
        return None
    worth = asked * amount / reserved
    # Nothing, or nearly, pays for no order by itself: a person decides.
    return to_cents(worth) if worth < TOO_MUCH and to_cents(worth) > 0 else None


def _reserved(invoice: BitsbyInvoice, key: str, value: str) -> Decimal | None:
    for wallet in invoice.wallets:
        if value and str(wallet.get(key, "")).lower() == value.lower() and wallet.get("amount"):
            return Decimal(wallet["amount"])
    return None
