"""What a payment to review tells staff: the advice, and the actions that are possible now."""

from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlencode

from django.urls import reverse
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from oscar_bitsby import conf
from oscar_bitsby.accounting.matching import Match
from oscar_bitsby.choices import RefundState, Resolution, ReviewReason
from oscar_bitsby.models import BitsbyPayment, BitsbyRefund
from oscar_bitsby.orders.stage import OrderStage, order_stage
from oscar_bitsby.settlement.short_payments import ASKABLE_REASONS
from oscar_bitsby.staff import review
from oscar_bitsby.staff.dashboard.actions import ACTIONS
from oscar_bitsby.staff.refund_summary import NEXT_STEPS

#: What staff can do about a payment, by its review reason.
ADVICE: dict[str, Any] = {
    ReviewReason.UNMATCHED: _(
        "Find out whose payment it is. Bind it to its order, refund it, or dismiss it if it is not"
        " for this shop."
    ),
    ReviewReason.SHORT: _(
        "The payment is booked. Accept it as it is, or refund it. While the order is pending you"
        " can also ask the buyer for the rest."
    ),
    ReviewReason.OVER: _(
        "The payment is booked. Refund the surplus, or accept the payment as it is."
    ),
    ReviewReason.LATE: _(
        "The payment is booked. Reinstate the order if you can still deliver. Otherwise refund the"
        " payment."
    ),
    ReviewReason.CANCELLED: _(
        "The buyer paid in time, and the payment is booked. Reinstate the order if you can still"
        " deliver. Otherwise refund the payment."
    ),
    ReviewReason.SECOND: _("The payment is booked. Refund it."),
    ReviewReason.MISMATCH: _(
        "The payment is not booked. Check the invoice at Bitsby. Accept the payment if it is for"
        " this order. Otherwise refund it."
    ),
    ReviewReason.UNKNOWN_INVOICE: _(
        "The invoice was created outside this shop. Find out what it is for, then dismiss the"
        " payment."
    ),
    ReviewReason.UNKNOWN_VALUE: _("The payment is not booked. Accept it and enter its value."),
    ReviewReason.ORDER_GONE: _("The order was deleted. Refund the payment."),
    ReviewReason.STATUS: _(
        "The payment is booked. Change the status of the order by hand, then dismiss the payment."
    ),
    ReviewReason.NOT_PAID: _(
        "The payment is not booked. Accept it if the money has arrived. It is booked automatically"
        " if Bitsby shows the invoice as paid later."
    ),
    ReviewReason.REBOUND: _(
        "Bitsby now shows the payment on the invoice of another order than the one that it was"
        " booked for, or after it was refunded. Check both orders."
    ),
    ReviewReason.REST_MISSING: _(
        "The buyer was asked for the rest, and it has not arrived. Refund the payment, or accept it"
        " as it is."
    ),
}

LIKELY_ADVICE = _("The buyer sent a different amount. Bind the payment to its order, or refund it.")
#: About an unbound payment that repeats the exact amount of a paid invoice.
SECOND_ADVICE = _(
    "The buyer has probably paid twice. Refund the payment. Do not bind it to another order."
)
REFUND_ADVICE = _("A refund of this payment is open. First send its coins or cancel it.")

#: Which action is the main one, by the review reason: the first of them that is possible.
PRIMARY: dict[str, tuple[str, ...]] = {
    ReviewReason.SHORT: ("accept",),
    ReviewReason.OVER: ("refund", "accept"),
    ReviewReason.LATE: ("settle", "refund"),
    ReviewReason.CANCELLED: ("settle", "refund"),
    ReviewReason.SECOND: ("refund",),
    ReviewReason.MISMATCH: ("accept",),
    ReviewReason.UNKNOWN_VALUE: ("accept",),
    ReviewReason.ORDER_GONE: ("refund",),
    ReviewReason.NOT_PAID: ("accept",),
    ReviewReason.REST_MISSING: ("refund", "accept"),
}

#: Reasons for which staff may want to reinstate the order.
CANCELLED_REASONS = {ReviewReason.LATE, ReviewReason.CANCELLED}


@dataclass(frozen=True)
class RowAction:
    """A link to an action on a payment."""

    label: Any
    url: str
    is_primary: bool = False


@dataclass(frozen=True)
class PaymentRow:
    """A payment with what the page found out about it, without a query of its own.

    Args:
        match: the order that an unbound payment may be for.
        refund: its refund that is not sent yet.
        may_bind, may_refund: what the user may do.
        list_query: the list that the user returns to after an action, as ``list_query`` returns it.
    """

    payment: BitsbyPayment
    match: Match | None
    refund: BitsbyRefund | None
    may_bind: bool
    may_refund: bool
    list_query: str = ""

    @property
    def advice(self) -> Any:
        """What staff can do, in words."""
        if self.refund is not None:
            return REFUND_ADVICE
        if self.is_unbound and self.match is not None:
            if self.match.is_second:
                return SECOND_ADVICE
            if self.match.is_likely:
                return LIKELY_ADVICE
        return ADVICE.get(self.payment.review_reason, "")

    @property
    def why_not_reinstate(self) -> str:
        """Why the cancelled order of a booked payment cannot become paid, or nothing."""
        return review.why_not_reinstate(self._order) if self._can_reinstate else ""

    @property
    def actions(self) -> list[RowAction]:
        """The actions that are possible, the main one first."""
        if self.payment.resolved_at is not None:
            is_dismissed = self.payment.resolution == Resolution.DISMISSED
            return [self._action("undo")] if is_dismissed and self.may_bind else []
        possible = self._possible()
        primary = next((name for name in self._primary if name in possible), None)
        actions = [replace(action, is_primary=name == primary) for name, action in possible.items()]
        return sorted(actions, key=lambda action: not action.is_primary)

    @property
    def can_be_dismissed(self) -> bool:
        """Whether the user can choose it, to dismiss it together with others."""
        return self.may_bind and self.payment.resolved_at is None and self.refund is None

    @property
    def is_unbound(self) -> bool:
        """Whether it is bound to none of our invoices."""
        return self.payment.invoice is None

    @property
    def _order(self) -> Any:
        return self.payment.invoice.order if self.payment.invoice else None

    @property
    def _stage(self) -> OrderStage:
        return order_stage(conf.get(), self._order)

    @property
    def _can_decide(self) -> bool:
        is_open = self.payment.resolved_at is None and self.refund is None
        return is_open and self.payment.booked_at is not None

    @property
    def _can_reinstate(self) -> bool:
        is_about_it = CANCELLED_REASONS & set(self.payment.review_reasons)
        return bool(is_about_it) and self._can_decide and self._stage is OrderStage.CANCELLED

    @property
    def _primary(self) -> tuple[str, ...]:
        if self.refund is not None:
            return ("refund",)
        if not self.is_unbound:
            return PRIMARY.get(self.payment.review_reason, ())
        if self.match is None:
            return ()
        if self.match.is_second:
            return ("refund",)
        return ("bind",) if self.match.is_likely else ()

    def _possible(self) -> dict[str, RowAction]:
        possible = {}
        if self.refund is not None:
            if self.may_refund:
                possible["refund"] = RowAction(
                    NEXT_STEPS[RefundState(self.refund.state)],
                    reverse("oscar_bitsby:dashboard-refund", args=[self.refund.pk]),
                )
            return possible
        if self.may_bind:
            if self.is_unbound and self.match is not None and not self.match.is_second:
                possible["bind"] = self._bind_action(self.match)
            if self._order is not None:
                possible["accept"] = self._action("accept")
            if self._can_ask:
                possible["ask"] = self._action("ask")
            if self._can_reinstate and not self.why_not_reinstate:
                possible["settle"] = self._action("settle")
        if self.may_refund:
            is_over = ReviewReason.OVER in self.payment.review_reasons
            label = _("Refund the surplus") if is_over else pgettext_lazy("verb", "Refund")
            possible["refund"] = RowAction(label, self._refund_url)
        if self.may_bind:
            possible["dismiss"] = self._action("dismiss")
        return possible

    @property
    def _can_ask(self) -> bool:
        """Whether the buyer can be asked for the rest, as far as it is known without a query."""
        if not self._can_decide or not ASKABLE_REASONS & set(self.payment.review_reasons):
            return False
        if self._stage is OrderStage.OTHER:
            return conf.get().order_status_pending in self._order.available_statuses()
        return self._stage is OrderStage.PENDING

    @property
    def _refund_url(self) -> str:
        url = reverse("oscar_bitsby:dashboard-refund-payment", args=[self.payment.pk])
        match = self.match
        if self.is_unbound and match is not None and (match.is_second or match.is_likely):
            # The buyer of that order is asked for the address.
            url += f"?order={match.invoice.order_id}"
        return url

    def _action(self, name: str) -> RowAction:
        url = reverse("oscar_bitsby:dashboard-payment", args=[self.payment.pk, name])
        if self.list_query:
            url += "?" + urlencode({"list": self.list_query})
        return RowAction(ACTIONS[name].label, url)

    def _bind_action(self, match: Match) -> RowAction:
        url = reverse("oscar_bitsby:dashboard-bind", args=[match.invoice.order_id])
        return RowAction(_("Bind to this order"), f"{url}?payment={self.payment.bitsby_id}")


def open_refunds(payments: list[BitsbyPayment]) -> dict[Any, BitsbyRefund]:
    """Return the refunds that are not sent yet, by the keys of their payments, with one query."""
    keys = [payment.pk for payment in payments]
    return {
        refund.payment_id: refund for refund in BitsbyRefund.objects.open().filter(payment__in=keys)
    }
