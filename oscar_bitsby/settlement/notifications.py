"""Which mail follows from what settling has done."""

from __future__ import annotations

from typing import Any

from oscar_bitsby.mails.outbox import enqueue
from oscar_bitsby.models import BitsbyInvoice, BitsbyPayment, BuyerMail
from oscar_bitsby.settlement.rules import Action, ActionType

#: Reasons of the money inbox that the buyer should know of. The others concern staff alone.
NOTIFY_REASONS = (
    BitsbyPayment.SHORT,
    BitsbyPayment.OVER,
    BitsbyPayment.LATE,
    BitsbyPayment.SECOND,
    BitsbyPayment.MISMATCH,
    BitsbyPayment.UNKNOWN_WORTH,
    BitsbyPayment.ENDED,
)


def enqueue_for_actions(
    actions: tuple[Action, ...],
    order: Any,
    invoice: BitsbyInvoice,
    payment: BitsbyPayment | None,
) -> None:
    """Note what the buyer is to be told of what settling did, one mail at most."""
    did = {action.do for action in actions}
    if any(action.do is ActionType.FLAG and action.reason in NOTIFY_REASONS for action in actions):
        if payment is not None:
            enqueue(BuyerMail.AMOUNT, order, payment=payment)
    elif ActionType.BOOK in did:
        enqueue(BuyerMail.PAID, order)
    elif ActionType.EXPIRE in did:
        enqueue(BuyerMail.EXPIRED, order, invoice=invoice)
