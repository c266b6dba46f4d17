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
    TOLERATE = "accept a difference within the tolerance"
    ASK_FOR_REST = "ask the buyer for the rest"
    FLAG = "add the payment to the payments to review"
    EXPIRE = "mark the invoice expired"
    CANCEL = "mark the invoice canceled"
    CANCEL_ORDER = "cancel the order"


@dataclass(frozen=True)
class Action:
    """One action; ``reason`` is a ``ReviewReason`` for ``ActionType.FLAG``, else empty."""

    type: ActionType
    reason: str = ""

    def __str__(self) -> str:
        return f"{self.type.value} ({self.reason})" if self.reason else self.type.value


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
        dismissed: staff dismissed this payment, or it was refunded, and it was not bound anew.
        returned: it is booked for this invoice, and its pending order holds no money any more.
        refunded: it has a refund that is open or sent.
        in_time: by the chain it was made before the invoice expired, or before the order was
            cancelled.
        tolerance: the largest difference from ``owed`` that the shop accepts.
        asks_for_rest: it was decided that a short payment of this invoice is booked, and the buyer
            asked for the rest.
        can_ask: the buyer can be asked for the rest of this payment.
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
    returned: bool = False
    refunded: bool = False
    in_time: bool = False
    tolerance: Decimal = Decimal(0)
    asks_for_rest: bool = False
    can_ask: bool = False
    paid_otherwise: bool = False
    is_live: bool = True
    others_open: bool = False
    time_is_up: bool = False


@dataclass(frozen=True)
class Outcome:
    """The actions that an answer led to, and the remote invoice's status in that answer."""

    actions: tuple[Action, ...]
    remote_status: str

    @property
    def is_final(self) -> bool:
        """Tell whether there was anything to do but wait."""
        return self.actions != (Action(ActionType.WAIT),)

    def did(self, action_type: ActionType) -> bool:
        """Tell whether an action of this type was taken."""
        return any(action.type is action_type for action in self.actions)


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
        # Money that was sent back must not keep its order from being paid or cancelled.
        return [WAIT if facts.returned else MARK_PAID]
    if not facts.same_project:
        # An answer about another project says nothing about our invoice.
        return [_flag(ReviewReason.MISMATCH)]
    if not facts.same_money:
        return [MARK_PAID, _flag(ReviewReason.MISMATCH)]
    if facts.fiat_value is None:
        return [MARK_PAID, _flag(ReviewReason.UNKNOWN_VALUE)]
    if facts.order is OrderStage.GONE:
        return [MARK_PAID, _flag(ReviewReason.ORDER_GONE)]
    if facts.refunded:
        # The shop has sent it back, or will: it must not pay for an order.
        return [MARK_PAID, _flag(ReviewReason.REBOUND)]
    return [MARK_PAID, Action(ActionType.BOOK), *_decide_booked(facts, facts.fiat_value)]


def _decide_booked(facts: SettlementInput, fiat_value: Decimal) -> list[Action]:
    """Return what becomes of the order and of a payment that is booked."""
    difference = facts.received + fiat_value - facts.owed
    is_off = abs(difference) > facts.tolerance
    is_pending = facts.order is OrderStage.PENDING
    pay_order = [Action(ActionType.PAY_ORDER)] if is_pending else []
    reasons = []
    if facts.order is OrderStage.CANCELLED:
        reasons.append(ReviewReason.CANCELLED if facts.in_time else ReviewReason.LATE)
    if facts.paid_otherwise:
        reasons.append(ReviewReason.SECOND)
    elif is_off:
        reasons.append(ReviewReason.SHORT if difference < 0 else ReviewReason.OVER)
    if is_pending and facts.asks_for_rest and ReviewReason.SHORT in reasons:
        if facts.can_ask:
            return [Action(ActionType.ASK_FOR_REST)]
        # It was decided that so little does not pay the order: staff decide again.
        return [_flag(ReviewReason.SHORT)]
    if difference and not reasons:
        # First: an order that cannot become paid puts the payment into review after all.
        return [Action(ActionType.TOLERATE), *pay_order]
    return [*pay_order, *map(_flag, reasons)]


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
