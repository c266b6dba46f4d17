"""The dashboard's pages: payments to review, and binding."""

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.views.generic import ListView, View

from oscar_bitsby.accounting.matching import Suggestions, suggest_invoices
from oscar_bitsby.accounting.offers import MAX_INVOICES
from oscar_bitsby.models import BitsbyPayment
from oscar_bitsby.reconciliation import lease
from oscar_bitsby.staff import bind_flow, bind_summary, permissions
from oscar_bitsby.staff.dashboard.access import (
    DashboardMixin,
    only_visible,
    order_page,
    orders_for,
)
from oscar_bitsby.staff.dashboard.payment_rows import PaymentRow, open_refunds
from oscar_bitsby.staff.pagination import BoundedPaginator, load_rows

PAGE = 25
#: Very small payments are dismissed together, so a page shows many of them.
DUST_PAGE = 100


class PaymentReviewView(DashboardMixin, ListView):  # type: ignore[type-arg]
    """List the payments to review with their possible actions, dust, or what is resolved."""

    template_name = "oscar_bitsby/dashboard/payments.html"
    context_object_name = "payments"
    paginator_class = BoundedPaginator

    @property
    def shows_resolved(self) -> bool:
        return self.request.GET.get("show") == "done"

    @property
    def shows_dust(self) -> bool:
        return self.request.GET.get("show") == "dust"

    def get_paginate_by(self, queryset: Any) -> int:
        return DUST_PAGE if self.shows_dust else PAGE

    def get_queryset(self) -> Any:
        # Only keys are sorted; the joined rows are read for one page.
        payments: Any = BitsbyPayment.objects.all()
        if self.shows_resolved:
            payments = payments.filter(resolved_at__isnull=False).order_by("-resolved_at", "-pk")
        else:
            payments = payments.needs_review().filter(is_dust=self.shows_dust)
            payments = payments.order_by("-seen_at", "-pk")
        visible = only_visible(payments, self.request.user, "invoice__order")
        return visible.values_list("pk", flat=True)

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        context = super().get_context_data(**kwargs)
        rows = BitsbyPayment.objects.select_related("invoice__order", "resolved_by")
        rows = rows.defer("invoice__reply", "invoice__wallets")
        payments = load_rows(rows, context["payments"])
        suggested = suggest_invoices([] if self.shows_dust else payments)
        refunds = {} if self.shows_dust else open_refunds(payments)
        user, last_run = self.request.user, lease.last_run()
        may = {
            "may_bind": permissions.may_move_money(user),
            "may_refund": permissions.may_refund(user),
        }
        return context | {
            "rows": [
                self._row(
                    PaymentRow(row, suggested.found.get(row.pk), refunds.get(row.pk), **may),
                    suggested,
                )
                for row in payments
            ],
            "offered": MAX_INVOICES,
            "shows_resolved": self.shows_resolved,
            "shows_dust": self.shows_dust,
            "last_run": last_run,
            "is_overdue": lease.is_overdue(last_run),
            "may_bind": may["may_bind"],
        }

    def _row(self, row: PaymentRow, suggested: Suggestions) -> dict[str, Any]:
        payment, match = row.payment, row.match
        order = payment.invoice.order if payment.invoice else None
        if order is None and match is not None:
            order = match.invoice.order
        difference = None
        if payment.fiat_value is not None and payment.invoice is not None:
            difference = payment.fiat_value - payment.invoice.amount
        return {
            "payment": payment,
            "match": match,
            "order_page": order_page(self.request.user, order.number) if order else "",
            "is_exhaustive": suggested.is_exhaustive(payment),
            "explorer": bind_summary.explorer_url(payment),
            "difference": difference,
            "advice": row.advice,
            "refund": row.refund,
            "actions": row.actions,
            "why_not_reinstate": row.why_not_reinstate,
        }


class BindView(DashboardMixin, View):
    """Bind a payment to an invoice of one order."""

    def get(self, request: HttpRequest, order_pk: int) -> HttpResponse:
        # The list shows payments that may belong to any order.
        permissions.require_money_permission(request.user)
        order = get_object_or_404(orders_for(request.user), pk=order_pk)
        page = order_page(request.user, order.number)
        template = "oscar_bitsby/dashboard/bind.html"
        return bind_flow.bind_view(request, order, template, {"order_page": page}, page)

    post = get
