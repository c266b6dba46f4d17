"""Which mail follows from what settling has done."""

from __future__ import annotations

from typing import Any

from oscar_bitsby.mails.outbox import note
from oscar_bitsby.models import BitsbyInvoice, BitsbyPayment, BuyerMail
from oscar_bitsby.settlement.rules import Action, Do

#: Reasons of the money inbox that the buyer should know of. The others concern staff alone.
TOLD_REASONS = (
    BitsbyPayment.SHORT,
    BitsbyPayment.OVER,
    BitsbyPayment.LATE,
    BitsbyPayment.SECOND,
    BitsbyPayment.MISMATCH,
    BitsbyPayment.UNKNOWN_WORTH,
    BitsbyPayment.ENDED,
)


def note_settled(
    actions: tuple[Action, ...],
    order: Any,
    invoice: BitsbyInvoice,
    payment: BitsbyPayment | None,
) -> None:
    """Note what the buyer is to be told of what settling did, one mail at most."""
    did = {action.do for action in actions}
    if any(action.do is Do.FLAG and action.reason in TOLD_REASONS for action in actions):
        if payment is not None:
            note(BuyerMail.AMOUNT, order, payment=payment)
    elif Do.BOOK in did:
        note(BuyerMail.PAID, order)
    elif Do.EXPIRE in did:
        note(BuyerMail.EXPIRED, order, invoice=invoice)
