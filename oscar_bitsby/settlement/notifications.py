"""Which mail follows from what settling has done."""

from __future__ import annotations

from typing import Any

from oscar_bitsby.choices import MailCode, ReviewReason
from oscar_bitsby.mails.outbox import enqueue
from oscar_bitsby.models import BitsbyInvoice, BitsbyPayment
from oscar_bitsby.settlement.rules import Action, ActionType

#: Reasons of the money inbox that the buyer should know of. The others concern staff alone.
NOTIFY_REASONS = (
    ReviewReason.SHORT,
    ReviewReason.OVER,
    ReviewReason.LATE,
    ReviewReason.SECOND,
    ReviewReason.MISMATCH,
    ReviewReason.UNKNOWN_VALUE,
    ReviewReason.NOT_PAID,
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
            enqueue(MailCode.OTHER_AMOUNT, order, payment=payment)
    elif ActionType.BOOK in did:
        enqueue(MailCode.PAID, order)
    elif ActionType.EXPIRE in did:
        enqueue(MailCode.EXPIRED, order, invoice=invoice)
