"""The dashboard's page of payments to review: the list, its tabs and its rows."""

from typing import Any
from urllib.parse import urlencode

from django.utils.timesince import timesince
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy
from django.views.generic import ListView

from oscar_bitsby.accounting.matching import Suggestions, suggest_invoices
from oscar_bitsby.accounting.offers import MAX_INVOICES
from oscar_bitsby.models import BitsbyPayment
from oscar_bitsby.staff import bind_summary, permissions
from oscar_bitsby.staff.dashboard import payment_filters
from oscar_bitsby.staff.dashboard.access import DashboardMixin, only_visible, order_page
from oscar_bitsby.staff.dashboard.banners import banners
from oscar_bitsby.staff.dashboard.payment_filters import PaymentFilterForm
from oscar_bitsby.staff.dashboard.payment_rows import PaymentRow, open_refunds
from oscar_bitsby.staff.dashboard.payment_value import PaymentValue
from oscar_bitsby.staff.dashboard.sorting import Sorting
from oscar_bitsby.staff.pagination import MAX_COUNT, BoundedPaginator, load_rows
from oscar_bitsby.staff.refund_summary import customer_of

PAGE = 25
#: Very small payments are dismissed together, so a page shows many of them.
DUST_PAGE = 100

#: The tabs, by the parameter ``show``.
TABS = {
    "": pgettext_lazy("several payments", "Open"),
    "dust": _("Very small payments"),
    "done": pgettext_lazy("several payments", "Resolved"),
}


class PaymentReviewView(DashboardMixin, ListView):  # type: ignore[type-arg]
    """List the payments to review with their possible actions, dust, or what is resolved."""

    template_name = "oscar_bitsby/dashboard/payments.html"
    context_object_name = "payments"
    paginator_class = BoundedPaginator

    def get_queryset(self) -> Any:
        shown = self.request.GET.get("show", "")
        self.show = shown if shown in TABS else ""
        self.form = PaymentFilterForm(self.request.GET)
        self.sorting = Sorting(self.request.GET, payment_filters.SORTS)
        # Only keys are sorted; the joined rows are read for one page.
        keys = self._sorted(self._in_tab(self.show)).values_list("pk", flat=True)
        # Filters read more than an index: run them once for the count and the page.
        return list(keys[:MAX_COUNT]) if self.form.is_used else keys

    def _in_tab(self, show: str) -> Any:
        payments: Any = BitsbyPayment.objects.all()
        if not self.form.is_valid():
            return payments.none()
        if show == "done":
            payments = payments.filter(resolved_at__isnull=False)
        else:
            payments = payments.needs_review().filter(is_dust=show == "dust")
        payments = only_visible(payments, self.request.user, "invoice__order")
        newest_by = "resolved_at" if show == "done" else "seen_at"
        return payment_filters.filter_payments(payments, self.form.cleaned_data, newest_by)

    def _sorted(self, payments: Any) -> Any:
        if self.sorting.is_chosen:
            return payment_filters.sorted_by(
                payments, self.sorting.column, is_descending=self.sorting.is_descending
            )
        newest_first = "-resolved_at" if self.show == "done" else "-seen_at"
        return payments.order_by(newest_first, "-pk")

    def get_paginate_by(self, queryset: Any) -> int:
        return DUST_PAGE if self.show == "dust" else PAGE

    def paginate_queryset(self, queryset: Any, page_size: int) -> Any:
        """Show the last page instead of one that is gone: decisions shorten the list."""
        paginator: Any = self.get_paginator(queryset, page_size)
        number = self.request.GET.get("page")
        page = paginator.get_page(paginator.num_pages if number == "last" else number)
        return paginator, page, page.object_list, page.has_other_pages()

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        context = super().get_context_data(**kwargs)
        rows = BitsbyPayment.objects.select_related("invoice__order__user", "resolved_by")
        rows = rows.defer("invoice__reply", "invoice__wallets")
        payments = load_rows(rows, context["payments"])
        shows_dust = self.show == "dust"
        suggested = suggest_invoices([] if shows_dust else payments)
        refunds = open_refunds(payments)
        user = self.request.user
        query = payment_filters.list_query(self.request.GET)
        may = {
            "may_bind": permissions.may_move_money(user),
            "may_refund": permissions.may_refund(user),
        }
        found = [
            PaymentRow(
                row, suggested.found.get(row.pk), refunds.get(row.pk), **may, list_query=query
            )
            for row in payments
        ]
        return context | {
            "rows": [self._row(row, suggested) for row in found],
            "can_dismiss": any(row.can_be_dismissed for row in found),
            "form": self.form,
            "tabs": self._tabs(context["paginator"].count),
            "sorts": self.sorting.headers,
            "list_query": query,
            # A new search starts on the first page of the same tab, in the same order.
            "hidden": ({"show": self.show} if self.show else {}) | self.sorting.hidden,
            "reset_url": payment_filters.list_url(urlencode({"show": self.show})),
            "found": _count_text(context["paginator"].count),
            "offered": MAX_INVOICES,
            "shows_resolved": self.show == "done",
            "shows_dust": shows_dust,
            "banners": banners(user),
            "may_bind": may["may_bind"],
        }

    def _tabs(self, found: int) -> list[dict[str, Any]]:
        """Return the tabs, with the number of payments that each shows.

        With filters, only those of the open tab are counted.
        """
        tabs = []
        for show, label in TABS.items():
            count: int | None = None
            if show == self.show:
                count = found
            elif not self.form.is_used:
                count = self._in_tab(show).order_by()[:MAX_COUNT].count()
            query = payment_filters.list_query(self.request.GET, show=show, page="")
            tabs.append(
                {
                    "label": label,
                    "url": payment_filters.list_url(query),
                    "count": "" if count is None else _count_text(count),
                    "is_active": show == self.show,
                }
            )
        return tabs

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
            "value": PaymentValue.of(payment, match),
            "age": timesince(payment.seen_at, depth=1),
            "customer": customer_of(order),
            "order_page": order_page(self.request.user, order.number) if order else "",
            "is_exhaustive": suggested.is_exhaustive(payment),
            "explorer": bind_summary.explorer_url(payment),
            "difference": difference,
            "advice": row.advice,
            "refund": row.refund,
            "can_be_dismissed": row.can_be_dismissed,
            "actions": row.actions,
            "why_not_reinstate": row.why_not_reinstate,
        }


def _count_text(number: int) -> str:
    """Return a number of payments, which are counted up to ``MAX_COUNT``."""
    return f"{number}+" if number >= MAX_COUNT else str(number)
