"""What the Bitsby tab on the dashboard's page of an order shows."""

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _

from oscar_bitsby.accounting.matching import Match
from oscar_bitsby.choices import InvoiceStatus
from oscar_bitsby.models import BitsbyInvoice, BitsbyPayment, WebhookDelivery
from oscar_bitsby.orders import signed_urls
from oscar_bitsby.staff import bind_flow, bind_summary, candidates, permissions, refund_flow
from oscar_bitsby.staff.dashboard.invoices import InvoiceRow
from oscar_bitsby.staff.dashboard.payment_value import PaymentValue
from oscar_bitsby.staff.order_money import order_money
from oscar_bitsby.staff.refund_subject import order_refund_error

#: How many unbound payments and webhook deliveries are shown at most.
MAX_CANDIDATES, MAX_DELIVERIES = 5, 50


def tab_context(order: Any, request: HttpRequest) -> dict[str, Any] | None:
    """Return the context of an order's tab; None if it has nothing to do with Bitsby."""
    money = order_money(order)
    if money is None:
        return None
    newest_first = sorted(money.payments, key=lambda payment: payment.paid_at, reverse=True)
    return {
        "money": money,
        **_actions(order, request.user),
        "invoices": [InvoiceEntry(invoice) for invoice in money.invoices],
        "payments": [PaymentEntry(payment) for payment in newest_first],
        "deliveries": _deliveries(money.invoices),
        "refunds": refund_flow.refunds_of(order, refund_flow.dashboard_url),
        "review_url": reverse("oscar_bitsby:dashboard-inbox")
        + f"?{urlencode({'order': order.number})}",
        "link": request.build_absolute_uri(signed_urls.order_url(order)),
    }


def _actions(order: Any, user: Any) -> dict[str, Any]:
    """Return what a user can do now and, for what is not possible, why."""
    may_bind, may_refund = permissions.may_move_money(user), permissions.may_refund(user)
    offers_binding = may_bind and bind_flow.should_offer_binding(order)
    why_not_bind = ""
    if may_bind and not offers_binding:
        why_not_bind = bind_flow.binding_error(order) or _("The order's total has been received.")
    why_not_refund = order_refund_error(order) if may_refund else ""
    likely = candidates.likely_candidates(order) if offers_binding else []
    return {
        "may_bind": may_bind,
        "may_refund": may_refund,
        "offers_binding": offers_binding,
        "why_not_bind": why_not_bind,
        "offers_refund": may_refund and not why_not_refund,
        "why_not_refund": why_not_refund,
        "candidates": [PaymentEntry(match.payment, match) for match in likely[:MAX_CANDIDATES]],
    }


def _deliveries(invoices: list[BitsbyInvoice]) -> list[WebhookDelivery]:
    """Return the deliveries for these invoices, the newest first."""
    rows = WebhookDelivery.objects.filter(invoice__in=[row.pk for row in invoices])
    newest = list(rows.defer("headers", "body").order_by("-pk")[:MAX_DELIVERIES])
    by_key = {invoice.pk: invoice for invoice in invoices}
    for delivery in newest:
        delivery.invoice = by_key[delivery.invoice_id]
    return newest


class InvoiceEntry(InvoiceRow):
    """An invoice of the order, with what can be done about it."""

    @property
    def can_be_refreshed(self) -> bool:
        """Whether Bitsby knows the invoice."""
        return self.invoice.bitsby_id is not None

    @property
    def can_be_cancelled(self) -> bool:
        """Whether Bitsby would allow cancelling it, by its last answer and our clock."""
        return self.invoice.can_be_cancelled and not self.invoice.is_over(timezone.now())

    @property
    def why_not_cancel(self) -> str:
        """Why an unpaid invoice cannot be cancelled, or nothing."""
        invoice = self.invoice
        if self.can_be_cancelled or invoice.status != InvoiceStatus.UNPAID:
            return ""
        if invoice.is_over(timezone.now()):
            return _("Cannot be cancelled: its time to pay is over.")
        if invoice.addresses_shown_at is not None:
            return _("Cannot be cancelled: the buyer has seen its addresses and may be paying.")
        if invoice.page_views is None:
            return _("Refresh it to see whether it can be cancelled.")
        return _("Cannot be cancelled: its payment page has been opened.")


@dataclass(frozen=True)
class PaymentEntry:
    """A payment of the order, or one that is probably for it: ``match`` tells why."""

    payment: BitsbyPayment
    match: Match | None = None

    @property
    def value(self) -> PaymentValue | None:
        """Its value in the shop's currency, if a rate is known."""
        return PaymentValue.of(self.payment, self.match)

    @property
    def coins(self) -> str:
        """The coins and their network."""
        return bind_summary.coins_of(self.payment)

    @property
    def explorer(self) -> str:
        """The transaction in a block explorer, or nothing."""
        return bind_summary.explorer_url(self.payment)
