"""What is to be done about an invoice and its order: a pure function, without database or HTTP."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from enum import Enum

from oscar_bitsby.choices import ReviewReason
from oscar_bitsby.gateway import schemas
from oscar_bitsby.orders.stage import OrderStage


class ActionType(Enum):
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
    """One step; ``reason`` is a ``BitsbyPayment`` reason and only there for ``ActionType.FLAG``."""

    do: ActionType
    reason: str = ""


@dataclass(frozen=True)
class SettlementInput:
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

    remote_status: str
    order: OrderStage
    same_project: bool = True
    same_money: bool = True
    has_payment: bool = False
    fiat_value: Decimal | None = None
    owed: Decimal = Decimal(0)
    received: Decimal = Decimal(0)
    booked: bool = False
    booked_elsewhere: bool = False
    dismissed: bool = False
    paid_otherwise: bool = False
    is_live: bool = True
    others_open: bool = False
    time_is_up: bool = False


def decide(facts: SettlementInput) -> tuple[Action, ...]:
    """Return the steps to take, in their order."""
    if facts.remote_status == schemas.PAID:
        return tuple(_decide_paid(facts))
    if facts.remote_status in (schemas.EXPIRED, schemas.CANCELED):
        if facts.same_project:
            return tuple(_decide_ended(facts))
        if facts.has_payment and not facts.booked:
            return (Action(ActionType.FLAG, ReviewReason.MISMATCH),)
    elif facts.remote_status != schemas.UNPAID and facts.has_payment and not facts.booked:
        # A word that is not documented, and money on it.
        return (Action(ActionType.FLAG, ReviewReason.NOT_PAID),)
    return (Action(ActionType.WAIT),)


def _decide_paid(facts: SettlementInput) -> list[Action]:
    if not facts.has_payment:
        # Without the payment's id nothing could be booked just once.
        return [Action(ActionType.WAIT)]
    if facts.dismissed and not facts.booked:
        return [Action(ActionType.WAIT)]
    if facts.booked_elsewhere:
        return [Action(ActionType.MARK_PAID), Action(ActionType.FLAG, ReviewReason.REBOUND)]
    if facts.booked:
        return [Action(ActionType.MARK_PAID)]
    if not (facts.same_project and facts.same_money):
        actions = [Action(ActionType.FLAG, ReviewReason.MISMATCH)]
        # An answer about another project says nothing about our invoice.
        return [Action(ActionType.MARK_PAID), *actions] if facts.same_project else actions
    if facts.fiat_value is None:
        return [Action(ActionType.MARK_PAID), Action(ActionType.FLAG, ReviewReason.UNKNOWN_VALUE)]
    if facts.order is OrderStage.GONE:
        return [Action(ActionType.MARK_PAID), Action(ActionType.FLAG, ReviewReason.ORDER_GONE)]
    actions = [Action(ActionType.MARK_PAID), Action(ActionType.BOOK)]
    if facts.order is OrderStage.PENDING:
        actions.append(Action(ActionType.PAY_ORDER))
    reason = _review_reason(facts, facts.fiat_value)
    if reason:
        actions.append(Action(ActionType.FLAG, reason))
    return actions


def _review_reason(facts: SettlementInput, fiat_value: Decimal) -> str:
    if facts.order is OrderStage.CANCELLED:
        return ReviewReason.LATE
    if facts.paid_otherwise:
        return ReviewReason.SECOND
    total = facts.received + fiat_value
    if total < facts.owed:
        return ReviewReason.SHORT
    if total > facts.owed:
        return ReviewReason.OVER
    return ""


def _decide_ended(facts: SettlementInput) -> list[Action]:
    actions = []
    if facts.is_live:
        ended = ActionType.EXPIRE if facts.remote_status == schemas.EXPIRED else ActionType.CANCEL
        actions.append(Action(ended))
    if facts.has_payment and not facts.booked:
        # Whether such a payment counts is not documented: a person decides.
        return [*actions, Action(ActionType.FLAG, ReviewReason.NOT_PAID)]
    if (
        facts.time_is_up
        and facts.order is OrderStage.PENDING
        and not facts.paid_otherwise
        and not facts.others_open
    ):
        actions.append(Action(ActionType.CANCEL_ORDER))
    return actions or [Action(ActionType.WAIT)]
