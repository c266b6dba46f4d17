"""The dashboard's pages of refunds: the list, a request, and one refund."""

from typing import Any

from django.db.models import Case, Value, When
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.views.generic import ListView, View

from oscar_bitsby.choices import OPEN_REFUND, RefundState
from oscar_bitsby.models import BitsbyPayment, BitsbyRefund
from oscar_bitsby.staff import refund_flow, refund_page, refund_summary
from oscar_bitsby.staff.dashboard.access import (
    DashboardMixin,
    only_visible,
    order_page,
    orders_for,
)
from oscar_bitsby.staff.pagination import BoundedPaginator, load_rows
from oscar_bitsby.staff.permissions import require_refund_permission

PAGE = 25


class RefundMixin(DashboardMixin):
    """Refuse users who may not refund: the pages show addresses."""

    require_permission = staticmethod(require_refund_permission)


class RefundListView(RefundMixin, ListView):  # type: ignore[type-arg]
    """List the open refunds, those to be sent first, or the closed ones, newest first."""

    template_name = "oscar_bitsby/dashboard/refunds.html"
    context_object_name = "refunds"
    paginate_by = PAGE
    paginator_class = BoundedPaginator

    @property
    def shows_closed(self) -> bool:
        return self.request.GET.get("show") == "closed"

    def get_queryset(self) -> Any:
        # Only keys are sorted; the joined rows are read for one page.
        if self.shows_closed:
            found = BitsbyRefund.objects.exclude(state__in=OPEN_REFUND).order_by(
                "-closed_at", "-pk"
            )
        else:
            needs_staff = When(state=RefundState.ADDRESS_GIVEN, then=Value(0))
            first = Case(needs_staff, default=Value(1))
            found = BitsbyRefund.objects.open().order_by(first, "requested_at", "pk")
        return only_visible(found, self.request.user, "order").values_list("pk", flat=True)

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        context = super().get_context_data(**kwargs)
        refunds = load_rows(BitsbyRefund.objects.select_related("order__user"), context["refunds"])
        return context | {
            "rows": [
                refund_summary.row_of(refund, refund_flow.dashboard_url(refund))
                | {"order_page": order_page(self.request.user, refund.order_number)}
                for refund in refunds
            ],
            "shows_closed": self.shows_closed,
        }


def _frame(user: Any, order: Any) -> refund_flow.Frame:
    back = order_page(user, order.number) if order else reverse("oscar_bitsby:dashboard-inbox")
    return refund_flow.Frame(
        request_template="oscar_bitsby/dashboard/refund_request.html",
        page_template="oscar_bitsby/dashboard/refund.html",
        refund_url=refund_flow.dashboard_url,
        payment_url=lambda payment: reverse(
            "oscar_bitsby:dashboard-refund-payment", args=[payment.pk]
        ),
        back=back,
    )


class RefundOrderView(RefundMixin, View):
    """Request a refund of an order, of its payment or of one of several."""

    def get(self, request: HttpRequest, order_pk: int) -> HttpResponse:
        order = get_object_or_404(orders_for(request.user), pk=order_pk)
        return refund_flow.request_view(request, _frame(request.user, order), order=order)

    post = get


class RefundPaymentView(RefundMixin, View):
    """Request a refund of a payment, bound to an order or not.

    For one that is not, ``?order=`` has the key of the order whose buyer gets the refund.
    """

    def get(self, request: HttpRequest, pk: int) -> HttpResponse:
        payments = BitsbyPayment.objects.select_related("invoice__order")
        visible = only_visible(payments, request.user, "invoice__order")
        payment: BitsbyPayment = get_object_or_404(visible, pk=pk)
        order, chosen = None, request.GET.get("order", "")
        if payment.invoice is not None:
            order = payment.invoice.order
        elif chosen.isdecimal():
            order = get_object_or_404(orders_for(request.user), pk=chosen)
        frame = _frame(request.user, order)
        return refund_flow.request_view(request, frame, order=order, payment=payment)

    post = get


class RefundView(RefundMixin, View):
    """Show one refund, and carry out its steps."""

    def get(self, request: HttpRequest, pk: int) -> HttpResponse:
        rows = BitsbyRefund.objects.select_related("order__user", "payment__invoice")
        refund: BitsbyRefund = get_object_or_404(only_visible(rows, request.user, "order"), pk=pk)
        return refund_page.refund_view(request, _frame(request.user, refund.order), refund)

    post = get
