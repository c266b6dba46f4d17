"""What the Bitsby tab on the dashboard's page of an order shows."""

import datetime as dt
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode

from django.db.models import Prefetch, prefetch_related_objects
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _

from oscar_bitsby import conf
from oscar_bitsby.accounting import ledger
from oscar_bitsby.accounting.matching import Match
from oscar_bitsby.choices import InvoiceStatus
from oscar_bitsby.models import BitsbyInvoice, BitsbyPayment, WebhookDelivery
from oscar_bitsby.orders import signed_urls
from oscar_bitsby.staff import bind_flow, bind_summary, binding, permissions, refund_flow
from oscar_bitsby.staff.dashboard.invoices import InvoiceRow
from oscar_bitsby.staff.refund_subject import order_refund_error

#: How many unbound payments and webhook deliveries are shown at most.
MAX_CANDIDATES, MAX_DELIVERIES = 5, 50


def tab_context(order: Any, request: HttpRequest) -> dict[str, Any] | None:
    """Return the context of an order's tab; None if it has nothing to do with Bitsby."""
    # Oscar's own tab reads them as well.
    prefetch_related_objects([order], "sources")
    payments = BitsbyPayment.objects.select_related("resolved_by")
    rows = BitsbyInvoice.objects.filter(order=order).defer("reply", "wallets")
    invoices = list(rows.prefetch_related(Prefetch("payments", payments)))
    if not invoices and not order.sources.filter(source_type__code=conf.METHOD_CODE).exists():
        return None
    return {
        **_amounts(order, invoices),
        **_actions(order, request.user),
        "invoices": [InvoiceEntry(invoice) for invoice in invoices],
        "payments": _payments(invoices),
        "deliveries": _deliveries(invoices),
        "refunds": refund_flow.refunds_of(order, refund_flow.dashboard_url),
        "review_url": reverse("oscar_bitsby:dashboard-inbox")
        + f"?{urlencode({'order': order.number})}",
        "link": request.build_absolute_uri(signed_urls.order_url(order)),
    }


def _amounts(order: Any, invoices: list[BitsbyInvoice]) -> dict[str, Any]:
    sources, total = list(order.sources.all()), order.total_incl_tax
    held = ledger.amount_held(sources)
    received = sum((source.amount_debited for source in sources), Decimal(0))
    undecided = [
        payment.fiat_value or Decimal(0)
        for invoice in invoices
        for payment in invoice.payments.all()
        if payment.booked_at is None and payment.review_reason and payment.resolved_at is None
    ]
    return {
        "received": received,
        "refunded": sum(source.amount_refunded for source in sources),
        "undecided": sum(undecided, Decimal(0)),
        # The buyer of an order that was paid does not owe what the shop has refunded.
        "missing": max(total - held, Decimal(0)) if received < total else Decimal(0),
        "surplus": max(held - total, Decimal(0)),
    }


def _actions(order: Any, user: Any) -> dict[str, Any]:
    """Return what a user can do now and, for what is not possible, why."""
    may_bind, may_refund = permissions.may_move_money(user), permissions.may_refund(user)
    offers_binding = may_bind and bind_flow.should_offer_binding(order)
    why_not_bind = ""
    if may_bind and not offers_binding:
        why_not_bind = bind_flow.binding_error(order) or _("The order's total has been received.")
    why_not_refund = order_refund_error(order) if may_refund else ""
    likely = binding.likely_candidates(order) if offers_binding else []
    return {
        "may_bind": may_bind,
        "may_refund": may_refund,
        "offers_binding": offers_binding,
        "why_not_bind": why_not_bind,
        "offers_refund": may_refund and not why_not_refund,
        "why_not_refund": why_not_refund,
        "candidates": [PaymentEntry(match.payment, match) for match in likely[:MAX_CANDIDATES]],
    }


def _payments(invoices: list[BitsbyInvoice]) -> list["PaymentEntry"]:
    """Return the payments of these invoices, the newest first."""
    found = [PaymentEntry(row) for invoice in invoices for row in invoice.payments.all()]
    return sorted(found, key=lambda entry: entry.time, reverse=True)


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
        if invoice.page_views is None:
            return _("Refresh it to see whether it can be cancelled.")
        return _("Cannot be cancelled: its payment page has been opened.")


@dataclass(frozen=True)
class PaymentEntry:
    """A payment of the order, or one that is probably for it: ``match`` tells why."""

    payment: BitsbyPayment
    match: Match | None = None

    @property
    def time(self) -> dt.datetime:
        """The time of its transaction or, where Bitsby names none, when it was first seen."""
        return self.payment.transaction_at or self.payment.seen_at

    @property
    def coins(self) -> str:
        """The coins and their network."""
        return bind_summary.coins_of(self.payment)

    @property
    def explorer(self) -> str:
        """The transaction in a block explorer, or nothing."""
        return bind_summary.explorer_url(self.payment)

    @property
    def needs_review(self) -> bool:
        """Whether staff have to decide about it."""
        return bool(self.payment.review_reason) and self.payment.resolved_at is None
