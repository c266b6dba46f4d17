"""The only writer of money and order statuses after checkout: what shops may call."""

from oscar_bitsby.orders.stage import OrderStage
from oscar_bitsby.settlement.payments import record_unbound
from oscar_bitsby.settlement.rules import Action, ActionType, Outcome, SettlementInput, decide
from oscar_bitsby.settlement.service import settle

__all__ = [
    "Action",
    "ActionType",
    "OrderStage",
    "Outcome",
    "SettlementInput",
    "decide",
    "record_unbound",
    "settle",
]
