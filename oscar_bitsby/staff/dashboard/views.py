"""The dashboard's pages of invoices and of binding."""

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

from oscar_bitsby.choices import InvoiceStatus
from oscar_bitsby.conf import CURRENCIES
from oscar_bitsby.models import BitsbyInvoice, BitsbyPayment
from oscar_bitsby.staff import bind_flow, permissions
from oscar_bitsby.staff.dashboard.access import (
    DashboardMixin,
    may_open_orders,
    only_visible,
    order_page,
    orders_for,
)
from oscar_bitsby.staff.pagination import MAX_COUNT, BoundedPaginator, load_rows
from oscar_bitsby.staff.search import find_invoices

PAGE = 25
DAY = dt.timedelta(days=1)
#: Outside this range, a day has no midnight in some time zones.
SANE_DAYS = (MinValueValidator(dt.date(2000, 1, 1)), MaxValueValidator(dt.date(2200, 1, 1)))


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
