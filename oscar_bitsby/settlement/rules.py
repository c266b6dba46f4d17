"""What is to be done about an invoice and its order: a pure function, without database or HTTP."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from enum import Enum

from oscar_bitsby.gateway import schemas
from oscar_bitsby.orders.stage import OrderState


class Do(Enum):
    """The steps that ``settlement`` can take."""

    WAIT = "wait"
    MARK_PAID = "mark the invoice paid"
    BOOK = "book the money"
    PAY_ORDER = "move the order to the paid status"
    FLAG = "put the payment into the money inbox"
    EXPIRE = "mark the invoice expired"
    CANCEL = "mark the invoice canceled"
    CANCEL_ORDER = "cancel the order"


@dataclass(frozen=True)
class Action:
    """One step; ``reason`` is a ``BitsbyPayment`` reason and only there for ``Do.FLAG``."""

    do: Do
    reason: str = ""


@dataclass(frozen=True)
class Facts:
    """Everything that the decision rests on.

    Attributes:
        told: Bitsby's word for the invoice: ``unpaid``, ``paid``, ``expired``, ``canceled``, or
            one that is not documented.
        same_project, same_money: whether project, and amount and currency, are what was asked.
        has_payment: the answer names the payment.
        worth: the payment's worth in the order's currency; None when it cannot be told.
        owed: the order's total.
        booked: this payment is booked already.
        booked_elsewhere: it is booked, but for another invoice than the one it is bound to now.
        order: what the order is now.
        dismissed: staff took this payment out of the inbox; it is theirs.
        received: what was booked for the order before.
        paid_otherwise: another payment of Bitsby's or another source has paid the order.
        is_live: the invoice is live in our own records.
        others_open: another invoice of the order is live or paid, or Bitsby did not just say
            that it is not.
        time_is_up: ``CANCEL_AFTER`` has passed since the order's last invoice ended.
    """

    told: str
    order: OrderState
    same_project: bool = True
    same_money: bool = True
    has_payment: bool = False
    worth: Decimal | None = None
    owed: Decimal = Decimal(0)
    received: Decimal = Decimal(0)
    booked: bool = False
    booked_elsewhere: bool = False
    dismissed: bool = False
    paid_otherwise: bool = False
    is_live: bool = True
    others_open: bool = False
    time_is_up: bool = False


def decide(facts: Facts) -> tuple[Action, ...]:
    """Return the steps to take, in their order."""
    if facts.told == schemas.PAID:
        return tuple(_decide_paid(facts))
    if facts.told in (schemas.EXPIRED, schemas.CANCELED):
        if facts.same_project:
            return tuple(_decide_ended(facts))
        if facts.has_payment and not facts.booked:
            return (Action(Do.FLAG, "mismatch"),)
    elif facts.told != schemas.UNPAID and facts.has_payment and not facts.booked:
        # A word that is not documented, and money on it.
        return (Action(Do.FLAG, "ended"),)
    return (Action(Do.WAIT),)


def _decide_paid(facts: Facts) -> list[Action]:
    if not facts.has_payment:
        # Without the payment's id nothing could be booked just once.
        return [Action(Do.WAIT)]
    if facts.dismissed and not facts.booked:
        return [Action(Do.WAIT)]
    if facts.booked_elsewhere:
        return [Action(Do.MARK_PAID), Action(Do.FLAG, "rebound")]
    if facts.booked:
        return [Action(Do.MARK_PAID)]
    if not (facts.same_project and facts.same_money):
        actions = [Action(Do.FLAG, "mismatch")]
        # An answer about another project says nothing about our invoice.
        return [Action(Do.MARK_PAID), *actions] if facts.same_project else actions
    if facts.worth is None:
        return [Action(Do.MARK_PAID), Action(Do.FLAG, "worth")]
    if facts.order is OrderState.GONE:
        return [Action(Do.MARK_PAID), Action(Do.FLAG, "gone")]
    actions = [Action(Do.MARK_PAID), Action(Do.BOOK)]
    if facts.order is OrderState.PENDING:
        actions.append(Action(Do.PAY_ORDER))
    reason = _reason_to_look(facts, facts.worth)
    if reason:
        actions.append(Action(Do.FLAG, reason))
    return actions


def _reason_to_look(facts: Facts, worth: Decimal) -> str:
    if facts.order is OrderState.CANCELLED:
        return "late"
    if facts.paid_otherwise:
        return "second"
    total = facts.received + worth
    if total < facts.owed:
        return "short"
    if total > facts.owed:
        return "over"
    return ""


def _decide_ended(facts: Facts) -> list[Action]:
    actions = []
    if facts.is_live:
        ended = Do.EXPIRE if facts.told == schemas.EXPIRED else Do.CANCEL
        actions.append(Action(ended))
    if facts.has_payment and not facts.booked:
        # Whether such a payment counts is not documented: a person decides.
        return [*actions, Action(Do.FLAG, "ended")]
    if (
        facts.time_is_up
        and facts.order is OrderState.PENDING
        and not facts.paid_otherwise
        and not facts.others_open
    ):
        actions.append(Action(Do.CANCEL_ORDER))
    return actions or [Action(Do.WAIT)]
