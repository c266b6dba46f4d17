"""The rules of settling: which actions an answer leads to. Pure, without database or HTTP."""

from dataclasses import dataclass
from decimal import Decimal
from enum import Enum

from oscar_bitsby.choices import ReviewReason
from oscar_bitsby.gateway import schemas
from oscar_bitsby.orders.stage import OrderStage


class ActionType(Enum):
    """What ``settlement`` can do."""

    WAIT = "wait"
    MARK_PAID = "mark the invoice paid"
    BOOK = "book the money"
    PAY_ORDER = "move the order to the paid status"
    FLAG = "add the payment to the payments to review"
    EXPIRE = "mark the invoice expired"
    CANCEL = "mark the invoice canceled"
    CANCEL_ORDER = "cancel the order"


@dataclass(frozen=True)
class Action:
    """One action; ``reason`` is a ``ReviewReason`` for ``ActionType.FLAG``, else empty."""

    type: ActionType
    reason: str = ""


@dataclass(frozen=True)
class SettlementInput:
    """Everything that the decision depends on.

    Attributes:
        remote_status: the remote invoice's status: ``unpaid``, ``paid``, ``expired``,
            ``canceled``, or an undocumented one.
        order: the order's stage.
        same_project, same_money: whether the remote invoice has our invoice's project, and its
            amount and currency.
        has_payment: the answer contains the payment.
        fiat_value: the payment's fiat value; None where no rate is known.
        owed: the order's total.
        received: the amount booked for the order before.
        booked: this payment is booked already.
        booked_elsewhere: it is booked for another invoice than the one it is bound to now.
        dismissed: staff dismissed this payment.
        paid_otherwise: the amount booked before, by Bitsby or another source, covers the total.
        is_live: our invoice is live.
        others_open: another invoice of the order is live or paid, or the API's answer does not
            rule out that it can be paid.
        time_is_up: ``CANCEL_AFTER`` has passed since the order's last invoice ended, or
            ``HOLD_ORDER_FOR`` since it was placed.
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


WAIT, MARK_PAID = Action(ActionType.WAIT), Action(ActionType.MARK_PAID)


def decide(facts: SettlementInput) -> tuple[Action, ...]:
    """Return the actions to take, in order."""
    if facts.remote_status == schemas.PAID:
        return tuple(_decide_paid(facts))
    if facts.remote_status in (schemas.EXPIRED, schemas.CANCELED):
        if facts.same_project:
            return tuple(_decide_ended(facts))
        if facts.has_payment and not facts.booked:
            return (_flag(ReviewReason.MISMATCH),)
    elif facts.remote_status != schemas.UNPAID and facts.has_payment and not facts.booked:
        # An undocumented status, with money: staff decide.
        return (_flag(ReviewReason.NOT_PAID),)
    return (WAIT,)


def _flag(reason: ReviewReason) -> Action:
    return Action(ActionType.FLAG, reason)


def _decide_paid(facts: SettlementInput) -> list[Action]:
    if not facts.has_payment:
        # Without the payment's id it could be booked twice.
        return [WAIT]
    if facts.dismissed and not facts.booked:
        return [WAIT]
    if facts.booked_elsewhere:
        return [MARK_PAID, _flag(ReviewReason.REBOUND)]
    if facts.booked:
        return [MARK_PAID]
    if not facts.same_project:
        # An answer about another project says nothing about our invoice.
        return [_flag(ReviewReason.MISMATCH)]
    if not facts.same_money:
        return [MARK_PAID, _flag(ReviewReason.MISMATCH)]
    if facts.fiat_value is None:
        return [MARK_PAID, _flag(ReviewReason.UNKNOWN_VALUE)]
    if facts.order is OrderStage.GONE:
        return [MARK_PAID, _flag(ReviewReason.ORDER_GONE)]
    actions = [MARK_PAID, Action(ActionType.BOOK)]
    if facts.order is OrderStage.PENDING:
        actions.append(Action(ActionType.PAY_ORDER))
    reason = _review_reason(facts, facts.fiat_value)
    if reason is not None:
        actions.append(_flag(reason))
    return actions


def _review_reason(facts: SettlementInput, fiat_value: Decimal) -> ReviewReason | None:
    """Return why staff should review a payment that is booked, if they should."""
    if facts.order is OrderStage.CANCELLED:
        return ReviewReason.LATE
    if facts.paid_otherwise:
        return ReviewReason.SECOND
    total = facts.received + fiat_value
    if total < facts.owed:
        return ReviewReason.SHORT
    if total > facts.owed:
        return ReviewReason.OVER
    return None


def _decide_ended(facts: SettlementInput) -> list[Action]:
    actions = []
    if facts.is_live:
        is_expired = facts.remote_status == schemas.EXPIRED
        actions.append(Action(ActionType.EXPIRE if is_expired else ActionType.CANCEL))
    if facts.has_payment and not facts.booked:
        # It is not documented whether such a payment counts: staff decide.
        return [*actions, _flag(ReviewReason.NOT_PAID)]
    if (
        facts.time_is_up
        and facts.order is OrderStage.PENDING
        and not facts.paid_otherwise
        and not facts.others_open
    ):
        actions.append(Action(ActionType.CANCEL_ORDER))
    return actions or [WAIT]
