"""``decide``: facts and actions, as a table."""

from decimal import Decimal
from itertools import product

import pytest

from oscar_bitsby.choices import ReviewReason
from oscar_bitsby.orders.stage import OrderStage
from oscar_bitsby.settlement import Action, ActionType, SettlementInput, decide

PENDING, CANCELLED = OrderStage.PENDING, OrderStage.CANCELLED
OTHER, GONE = OrderStage.OTHER, OrderStage.GONE
TEN = Decimal("10.00")
PAID = {
    "remote_status": "paid",
    "has_payment": True,
    "fiat_value": TEN,
    "owed": TEN,
    "order": PENDING,
}
ENDED = {"remote_status": "expired", "order": PENDING, "is_live": False, "time_is_up": True}

WAIT = (ActionType.WAIT,)
MARK_PAID = ActionType.MARK_PAID
SETTLE = (MARK_PAID, ActionType.BOOK, ActionType.PAY_ORDER)
BOOK_ONLY = (MARK_PAID, ActionType.BOOK)
TOLERATED = (MARK_PAID, ActionType.BOOK, ActionType.TOLERATE, ActionType.PAY_ORDER)
TOLERANT = {"tolerance": Decimal("0.10")}
ASKS = {"asks_for_rest": True, "can_ask": True}

TABLE = [
    # Unpaid, or an undocumented status.
    ({"remote_status": "unpaid", "order": PENDING}, WAIT),
    ({"remote_status": "unpaid", "order": PENDING, "time_is_up": True}, WAIT),
    ({"remote_status": "unpaid", "order": PENDING, "has_payment": True, "fiat_value": TEN}, WAIT),
    ({"remote_status": "", "order": PENDING, "time_is_up": True}, WAIT),
    ({"remote_status": "confirming", "order": PENDING, "time_is_up": True}, WAIT),
    # Paid, and the payment is what was asked for.
    (PAID, SETTLE),
    (PAID | {"is_live": False}, SETTLE),
    (PAID | {"time_is_up": True}, SETTLE),
    (PAID | {"others_open": True}, SETTLE),
    (PAID | {"order": OTHER}, BOOK_ONLY),
    # Paid, but without what makes a payment bookable once.
    (PAID | {"has_payment": False, "fiat_value": None}, WAIT),
    (PAID | {"dismissed": True}, WAIT),
    (PAID | {"dismissed": True, "booked": True}, (MARK_PAID,)),
    (PAID | {"booked": True}, (MARK_PAID,)),
    (PAID | {"booked": True, "same_money": False}, (MARK_PAID,)),
    (PAID | {"booked": True, "order": CANCELLED}, (MARK_PAID,)),
    (PAID | {"booked": True, "booked_elsewhere": True}, (MARK_PAID, ReviewReason.REBOUND)),
    # Paid, and to be reviewed.
    (PAID | {"fiat_value": Decimal("9.99")}, (*SETTLE, ReviewReason.SHORT)),
    (PAID | {"fiat_value": Decimal("0.00")}, (*SETTLE, ReviewReason.SHORT)),
    (PAID | {"fiat_value": Decimal("10.01")}, (*SETTLE, ReviewReason.OVER)),
    (PAID | {"order": CANCELLED}, (*BOOK_ONLY, ReviewReason.LATE)),
    (PAID | {"order": CANCELLED, "in_time": True}, (*BOOK_ONLY, ReviewReason.CANCELLED)),
    # The shortfall is not hidden by the other reason.
    (
        PAID | {"order": CANCELLED, "fiat_value": Decimal(1)},
        (*BOOK_ONLY, ReviewReason.LATE, ReviewReason.SHORT),
    ),
    (
        PAID | {"order": CANCELLED, "in_time": True, "fiat_value": Decimal(1)},
        (*BOOK_ONLY, ReviewReason.CANCELLED, ReviewReason.SHORT),
    ),
    (
        PAID | {"order": CANCELLED, "fiat_value": Decimal(11)},
        (*BOOK_ONLY, ReviewReason.LATE, ReviewReason.OVER),
    ),
    (
        PAID | {"order": CANCELLED, "paid_otherwise": True},
        (*BOOK_ONLY, ReviewReason.LATE, ReviewReason.SECOND),
    ),
    (PAID | {"in_time": True}, SETTLE),
    (PAID | {"paid_otherwise": True}, (*SETTLE, ReviewReason.SECOND)),
    (PAID | {"order": OTHER, "paid_otherwise": True}, (*BOOK_ONLY, ReviewReason.SECOND)),
    (PAID | {"order": OTHER, "fiat_value": Decimal(1)}, (*BOOK_ONLY, ReviewReason.SHORT)),
    (PAID | {"order": OTHER, "fiat_value": Decimal(11)}, (*BOOK_ONLY, ReviewReason.OVER)),
    # Within the tolerance, and just beyond it.
    (PAID | TOLERANT | {"fiat_value": Decimal("9.90")}, TOLERATED),
    (PAID | TOLERANT | {"fiat_value": Decimal("10.10")}, TOLERATED),
    (PAID | TOLERANT | {"fiat_value": Decimal("9.89")}, (*SETTLE, ReviewReason.SHORT)),
    (PAID | TOLERANT | {"fiat_value": Decimal("10.11")}, (*SETTLE, ReviewReason.OVER)),
    (PAID | TOLERANT, SETTLE),
    (PAID | TOLERANT | ASKS | {"fiat_value": Decimal("9.90")}, TOLERATED),
    (PAID | TOLERANT | {"fiat_value": Decimal("3.90"), "received": Decimal(6)}, TOLERATED),
    (
        PAID | TOLERANT | {"fiat_value": Decimal("9.90"), "order": OTHER},
        (*BOOK_ONLY, ActionType.TOLERATE),
    ),
    (
        PAID | TOLERANT | {"fiat_value": Decimal("9.90"), "order": CANCELLED},
        (*BOOK_ONLY, ReviewReason.LATE),
    ),
    (PAID | TOLERANT | {"paid_otherwise": True}, (*SETTLE, ReviewReason.SECOND)),
    # Short, and the buyer is to be asked for the rest.
    (PAID | ASKS | {"fiat_value": Decimal(6)}, (*BOOK_ONLY, ActionType.ASK_FOR_REST)),
    (
        PAID | ASKS | {"fiat_value": Decimal(3), "received": Decimal(6)},
        (*BOOK_ONLY, ActionType.ASK_FOR_REST),
    ),
    (PAID | ASKS | {"fiat_value": Decimal(4), "received": Decimal(6)}, SETTLE),
    (
        PAID | ASKS | {"fiat_value": Decimal(5), "received": Decimal(6)},
        (*SETTLE, ReviewReason.OVER),
    ),
    (
        PAID | ASKS | {"fiat_value": Decimal(6), "can_ask": False},
        (*BOOK_ONLY, ReviewReason.SHORT),
    ),
    (PAID | ASKS | {"fiat_value": Decimal(6), "order": OTHER}, (*BOOK_ONLY, ReviewReason.SHORT)),
    (
        PAID | ASKS | {"fiat_value": Decimal(6), "order": CANCELLED},
        (*BOOK_ONLY, ReviewReason.LATE, ReviewReason.SHORT),
    ),
    (PAID | ASKS | {"paid_otherwise": True}, (*SETTLE, ReviewReason.SECOND)),
    (PAID | ASKS | {"booked": True, "fiat_value": Decimal(6)}, (MARK_PAID,)),
    # Sent back, or to be sent back.
    (PAID | {"refunded": True}, (MARK_PAID, ReviewReason.REBOUND)),
    (PAID | {"refunded": True, "same_money": False}, (MARK_PAID, ReviewReason.MISMATCH)),
    (PAID | {"refunded": True, "order": CANCELLED}, (MARK_PAID, ReviewReason.REBOUND)),
    (PAID | {"refunded": True, "booked": True}, (MARK_PAID,)),
    (PAID | {"refunded": True, "booked": True, "returned": True}, WAIT),
    (
        PAID | {"booked": True, "booked_elsewhere": True, "returned": True},
        (MARK_PAID, ReviewReason.REBOUND),
    ),
    (PAID | {"refunded": True, "dismissed": True}, WAIT),
    (PAID | {"refunded": True, "same_project": False}, (ReviewReason.MISMATCH,)),
    # Paid, but not to be booked.
    (PAID | {"same_money": False}, (MARK_PAID, ReviewReason.MISMATCH)),
    (PAID | {"same_project": False}, (ReviewReason.MISMATCH,)),
    (PAID | {"same_project": False, "same_money": False}, (ReviewReason.MISMATCH,)),
    (PAID | {"same_money": False, "order": CANCELLED}, (MARK_PAID, ReviewReason.MISMATCH)),
    (PAID | {"same_money": False, "fiat_value": None}, (MARK_PAID, ReviewReason.MISMATCH)),
    (PAID | {"fiat_value": None}, (MARK_PAID, ReviewReason.UNKNOWN_VALUE)),
    (PAID | {"fiat_value": None, "order": GONE}, (MARK_PAID, ReviewReason.UNKNOWN_VALUE)),
    (PAID | {"order": GONE}, (MARK_PAID, ReviewReason.ORDER_GONE)),
    # Expired or canceled without a payment.
    (ENDED | {"is_live": True, "time_is_up": False}, (ActionType.EXPIRE,)),
    (
        ENDED | {"remote_status": "canceled", "is_live": True, "time_is_up": False},
        (ActionType.CANCEL,),
    ),
    (ENDED | {"is_live": True}, (ActionType.EXPIRE, ActionType.CANCEL_ORDER)),
    (ENDED | {"is_live": True, "order": GONE}, (ActionType.EXPIRE,)),
    (ENDED, (ActionType.CANCEL_ORDER,)),
    (ENDED | {"remote_status": "canceled"}, (ActionType.CANCEL_ORDER,)),
    (ENDED | {"time_is_up": False}, WAIT),
    (ENDED | {"order": OTHER}, WAIT),
    (ENDED | {"order": CANCELLED}, WAIT),
    (ENDED | {"order": GONE}, WAIT),
    (ENDED | {"paid_otherwise": True}, WAIT),
    (ENDED | {"others_open": True}, WAIT),
    (ENDED | {"same_project": False, "is_live": True}, WAIT),
    (ENDED | {"same_project": False, "remote_status": "canceled", "is_live": True}, WAIT),
    # Expired or canceled, with a payment bound to it.
    (ENDED | {"has_payment": True}, (ReviewReason.NOT_PAID,)),
    (ENDED | {"has_payment": True, "is_live": True}, (ActionType.EXPIRE, ReviewReason.NOT_PAID)),
    (
        ENDED | {"has_payment": True, "remote_status": "canceled", "is_live": True},
        (ActionType.CANCEL, ReviewReason.NOT_PAID),
    ),
    (ENDED | {"has_payment": True, "booked": True, "paid_otherwise": True}, WAIT),
]


@pytest.mark.parametrize(("facts", "steps"), TABLE, ids=lambda value: str(value)[:120])
def test_each_row_of_facts_leads_to_its_actions(facts, steps):
    """Each combination of facts leads to exactly these actions, in this order."""
    expected = tuple(
        Action(ActionType.FLAG, step) if isinstance(step, ReviewReason) else Action(step)
        for step in steps
    )

    assert decide(SettlementInput(**facts)) == expected


def every_facts():
    """Yield all combinations of facts."""
    flags = ("same_project", "same_money", "has_payment", "booked")
    flags += ("paid_otherwise", "is_live", "others_open", "time_is_up", "asks_for_rest")
    statuses = ("unpaid", "paid", "expired", "canceled", "strange")
    fiat_values = (None, Decimal(9), TEN, Decimal(11))
    for remote, order, fiat_value in product(statuses, OrderStage, fiat_values):
        for values in product((True, False), repeat=len(flags)):
            named = dict(zip(flags, values, strict=True))
            yield SettlementInput(
                remote_status=remote,
                order=order,
                fiat_value=fiat_value,
                owed=TEN,
                can_ask=named["is_live"],
                refunded=named["others_open"],
                **named,
            )


def did(facts):
    return {action.type for action in decide(facts)}


def test_payment_is_booked_only_under_all_conditions():
    """A payment is booked only if it is paid, new, ours, as asked and of known value."""
    for facts in every_facts():
        if ActionType.BOOK in did(facts):
            assert (facts.remote_status, facts.has_payment, facts.booked) == ("paid", True, False)
            assert facts.same_project
            assert facts.same_money
            assert not facts.refunded
            assert facts.fiat_value is not None
            assert facts.order is not OrderStage.GONE


def test_only_a_pending_order_with_a_booked_payment_is_paid():
    """No order is paid without a booking, or from another status."""
    for facts in every_facts():
        if ActionType.PAY_ORDER in did(facts):
            assert ActionType.BOOK in did(facts)
            assert facts.order is OrderStage.PENDING


def test_order_is_cancelled_only_under_all_conditions():
    """No order is cancelled that is paid, can be paid, is not due or not pending."""
    cancelled = [facts for facts in every_facts() if ActionType.CANCEL_ORDER in did(facts)]

    assert cancelled
    for facts in cancelled:
        assert facts.remote_status in ("expired", "canceled")
        assert facts.order is OrderStage.PENDING
        assert facts.time_is_up
        assert facts.booked or not facts.has_payment
        assert not facts.paid_otherwise
        assert not facts.others_open


def test_every_new_payment_is_booked_or_flagged():
    """No payment of a paid, expired or canceled invoice is ignored, of whatever project."""
    for facts in every_facts():
        if facts.has_payment and not facts.booked:
            if facts.remote_status == "paid":
                assert did(facts) & {ActionType.BOOK, ActionType.FLAG}, facts
            elif facts.remote_status in ("expired", "canceled"):
                assert ActionType.FLAG in did(facts), facts


def test_order_whose_rest_is_asked_for_is_not_paid():
    """The rest is asked for only of a booked and short payment of an order that stays pending."""
    asked = [facts for facts in every_facts() if ActionType.ASK_FOR_REST in did(facts)]

    assert asked
    for facts in asked:
        assert did(facts) == {MARK_PAID, ActionType.BOOK, ActionType.ASK_FOR_REST}
        assert facts.order is OrderStage.PENDING
        assert facts.fiat_value < facts.owed
        assert facts.asks_for_rest
        assert facts.can_ask


def test_booked_payment_is_never_booked_again():
    """Whatever the answer is, a booked payment is neither booked nor flagged again."""
    for facts in every_facts():
        if facts.booked:
            assert not did(facts) & {ActionType.BOOK, ActionType.PAY_ORDER, ActionType.FLAG}, facts


def test_only_flags_have_a_reason():
    """Each flag has a review reason, and no other action has one."""
    known = {reason for reason, _ in ReviewReason.choices}
    for facts in every_facts():
        for action in decide(facts):
            assert (action.reason in known) == (action.type is ActionType.FLAG)
            assert action.type is ActionType.FLAG or action.reason == ""


def test_there_is_always_an_action():
    """Every combination has at least one action; waiting is never combined."""
    for facts in every_facts():
        steps = did(facts)
        assert steps
        assert ActionType.WAIT not in steps or steps == {ActionType.WAIT}
