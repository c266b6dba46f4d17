"""The dashboard's pages: payments to review, invoices, binding."""

import datetime as dt
from typing import Any

from django import forms
from django.core.validators import MaxValueValidator, MinValueValidator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy
from django.views.generic import ListView, View

from oscar_bitsby.accounting.matching import Suggestions, suggest_invoices
from oscar_bitsby.accounting.offers import MAX_INVOICES
from oscar_bitsby.choices import InvoiceStatus
from oscar_bitsby.conf import CURRENCIES
from oscar_bitsby.models import BitsbyInvoice, BitsbyPayment
from oscar_bitsby.staff import bind_flow, bind_summary, permissions
from oscar_bitsby.staff.dashboard.access import (
    DashboardMixin,
    may_open_orders,
    only_visible,
    order_page,
    orders_for,
)
from oscar_bitsby.staff.dashboard.banners import banners
from oscar_bitsby.staff.dashboard.payment_rows import PaymentRow, open_refunds
from oscar_bitsby.staff.pagination import MAX_COUNT, BoundedPaginator, load_rows
from oscar_bitsby.staff.search import find_invoices

PAGE = 25
#: Very small payments are dismissed together, so a page shows many of them.
DUST_PAGE = 100
DAY = dt.timedelta(days=1)
#: Outside this range, a day has no midnight in some time zones.
SANE_DAYS = (MinValueValidator(dt.date(2000, 1, 1)), MaxValueValidator(dt.date(2200, 1, 1)))


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
        user = self.request.user
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
            "banners": banners(user),
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


def _day_field(label: Any) -> forms.DateField:
    widget = forms.DateInput(attrs={"type": "date"})
    return forms.DateField(label=label, required=False, validators=SANE_DAYS, widget=widget)


class InvoiceFilterForm(forms.Form):
    """The filters of the list of invoices."""

    q = forms.CharField(label=_("Order number, ID or hash"), required=False, max_length=200)
    status = forms.ChoiceField(
        label=pgettext_lazy("bitsby", "Status"),
        required=False,
        choices=[("", _("any")), *InvoiceStatus.choices],
    )
    currency = forms.ChoiceField(
        label=pgettext_lazy("bitsby", "Currency"),
        required=False,
        choices=[("", _("any")), *((c, c) for c in CURRENCIES)],
    )
    date_from = _day_field(pgettext_lazy("day", "From"))
    date_to = _day_field(pgettext_lazy("day", "To"))
    attention = forms.BooleanField(label=_("Needs review"), required=False)


class InvoiceListView(DashboardMixin, ListView):  # type: ignore[type-arg]
    """List and filter all invoices, newest first."""

    queryset = BitsbyInvoice.objects.defer("reply", "wallets")
    template_name = "oscar_bitsby/dashboard/invoices.html"
    context_object_name = "invoices"
    paginate_by = PAGE
    paginator_class = BoundedPaginator

    def get_queryset(self) -> Any:
        # Sorted by the column of the date filters, so that one index serves both.
        found: Any = super().get_queryset().order_by("-created_at", "-pk")
        self.form = InvoiceFilterForm(self.request.GET)
        if self.form.is_valid():
            found = _filter(found, self.form.cleaned_data)
        found = only_visible(found, self.request.user, "order")
        self.needs_review = self.form.is_valid() and self.form.cleaned_data["attention"]
        # The subquery of this filter is expensive: run it once for the count and the page.
        return list(found.values_list("pk", flat=True)[:MAX_COUNT]) if self.needs_review else found

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        query = self.request.GET.copy()
        query.pop("page", None)
        context = super().get_context_data(
            form=self.form,
            query=query.urlencode(),
            may_open_orders=may_open_orders(self.request.user),
            **kwargs,
        )
        if self.needs_review:
            context["invoices"] = load_rows(self.queryset, context["invoices"])
        return context


def _filter(invoices: Any, wanted: dict[str, Any]) -> Any:
    if wanted["status"]:
        invoices = invoices.filter(status=wanted["status"])
    if wanted["currency"]:
        invoices = invoices.filter(currency=wanted["currency"])
    if wanted["date_from"]:
        invoices = invoices.filter(created_at__gte=_midnight(wanted["date_from"]))
    if wanted["date_to"]:
        invoices = invoices.filter(created_at__lt=_midnight(wanted["date_to"]) + DAY)
    if wanted["attention"]:
        needs_review = BitsbyPayment.objects.needs_review().filter(invoice__isnull=False)
        unnamed = BitsbyInvoice.objects.filter(status=InvoiceStatus.UNPAID).exclude(failure="")
        # A union, since each side can use an index. A subquery in an OR would read every row.
        payments = needs_review.order_by().values("invoice")
        others = (unnamed, BitsbyInvoice.objects.unanswered())
        keys = payments.union(*(rows.order_by().values("pk") for rows in others), all=True)
        invoices = invoices.filter(pk__in=keys)
    text = wanted["q"].strip()
    if text:
        invoices = invoices.filter(pk__in=find_invoices(text))
    return invoices


def _midnight(day: dt.date) -> dt.datetime:
    return timezone.make_aware(dt.datetime.combine(day, dt.time.min))


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
