"""The one writer of money and order states after checkout; what shops may call."""

from oscar_bitsby.orders.stage import OrderState
from oscar_bitsby.settlement.rules import Action, Do, Facts, decide
from oscar_bitsby.settlement.service import Outcome, keep, settle

__all__ = [
    "Action",
    "Do",
    "Facts",
    "OrderState",
    "Outcome",
    "decide",
    "keep",
    "settle",
]
