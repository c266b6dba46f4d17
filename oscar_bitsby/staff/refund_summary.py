"""What pages tell staff about a refund: its steps, the next one, and what is already refunded."""

from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, pgettext

from oscar_bitsby import conf
from oscar_bitsby.choices import RefundState
from oscar_bitsby.models import BitsbyPayment, BitsbyRefund
from oscar_bitsby.orders.refund_status import RefundStatus
from oscar_bitsby.orders.stage import OrderStage, order_stage
from oscar_bitsby.utils.money import plain_amount

#: The next step of staff, by the refund's state.
NEXT_STEPS = {
    RefundState.REQUESTED: gettext_lazy("Wait for the address, or enter it"),
    RefundState.ADDRESS_GIVEN: gettext_lazy("Send the coins and enter the transaction hash"),
    RefundState.SENT: gettext_lazy("None: the refund is done"),
    RefundState.CANCELLED: gettext_lazy("None: the refund was cancelled"),
}
#: Classes of the badges, by the refund's state. Oscar's green and blue have too little contrast.
BADGES = {
    RefundState.REQUESTED: "badge-secondary",
    RefundState.ADDRESS_GIVEN: "badge-warning",
    RefundState.SENT: "badge-dark",
    RefundState.CANCELLED: "badge-light",
}


def row_of(refund: BitsbyRefund, url: str) -> dict[str, Any]:
    """Return what a list shows of a refund."""
    state, status = RefundState(refund.state), RefundStatus(refund)
    next_step = str(NEXT_STEPS[state])
    if state is RefundState.REQUESTED and refund.order_id is None:
        next_step = _("Find out the address and enter it")
    return {
        "refund": refund,
        "url": url,
        "state": refund.get_state_display(),
        "badge": BADGES[state],
        "amount": refund.amount,
        "currency": refund.currency,
        "coin_amount": plain_amount(refund.coin_amount),
        "coins": status.coins,
        "network": status.network,
        "customer": customer_of(refund.order),
        "next_step": next_step,
        "explorer": status.explorer_url,
    }


def is_mailed(order: Any) -> bool:
    """Tell whether the buyer of an order has an address, and the shop sends the app's e-mails."""
    return order is not None and bool(order.email) and conf.get().mails


def customer_of(order: Any) -> str:
    """Return the name and the e-mail address of an order's customer, as far as they are known."""
    if order is None:
        return ""
    name = order.user.get_full_name() if order.user else ""
    return f"{name} <{order.email}>" if name and order.email else name or order.email or ""


def steps_of(refund: BitsbyRefund) -> list[dict[str, Any]]:
    """Return the steps of a refund in their order: label, when, by whom, and how far it is."""
    state = RefundState(refund.state)
    requested = _step(_("Requested"), refund.requested_at, _name(refund.requested_by))
    buyer = _("the buyer") if refund.address_given_at else ""
    by = _name(refund.address_given_by) if refund.address_given_by_id else buyer
    given = _step(_("Address given"), refund.address_given_at, by)
    closed = _step(
        pgettext("of a refund", "Cancelled")
        if state is RefundState.CANCELLED
        else pgettext("of a refund", "Sent"),
        refund.closed_at,
        _name(refund.closed_by) if refund.closed_at else "",
    )
    steps = [requested, given, closed]
    if state is RefundState.CANCELLED and not refund.address_given_at:
        steps.remove(given)
    current = next((step for step in steps if step["at"] is None), None)
    for step in steps:
        step["is_current"] = step is current
    return steps


def _step(label: str, at: Any, by: str) -> dict[str, Any]:
    return {"label": label, "at": at, "by": by}


def _name(user: Any) -> str:
    return str(user) if user is not None else _("a former user")


def earlier_refunds(payment: BitsbyPayment | None, order: Any) -> list[BitsbyRefund]:
    """Return the refunds that reduce what is left of a payment or, without one, of an order."""
    refunds: Any = payment.refunds if payment is not None else order.bitsby_refunds
    return list(refunds.counted().order_by("pk"))


def can_cancel_order(order: Any) -> bool:
    """Tell whether an order is not cancelled and the shop's pipeline allows cancelling it."""
    settings = conf.get()
    if order is None or order_stage(settings, order) is OrderStage.CANCELLED:
        return False
    return settings.order_status_cancelled in order.available_statuses()
