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
from oscar_bitsby.choices import InvoiceStatus, ReviewReason
from oscar_bitsby.conf import CURRENCIES
from oscar_bitsby.models import BitsbyInvoice, BitsbyPayment
from oscar_bitsby.reconciliation import lease
from oscar_bitsby.staff import bind_flow, binding, permissions
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
#: Very small payments are dismissed together, so a page shows many of them.
DUST_PAGE = 100
DAY = dt.timedelta(days=1)
#: Outside this range, a day has no midnight in some time zones.
SANE_DAYS = (MinValueValidator(dt.date(2000, 1, 1)), MaxValueValidator(dt.date(2200, 1, 1)))

#: What staff can do about a payment, by its review reason.
ADVICE: dict[str, Any] = {
    ReviewReason.UNMATCHED: _(
        "The buyer sent a different amount. Bind the payment to its order, or refund it by hand and"
        " dismiss it."
    ),
    ReviewReason.SHORT: _(
        "The payment is booked. Accept it, or settle the difference with the buyer."
    ),
    ReviewReason.OVER: _("The payment is booked. Accept it, or refund the excess by hand."),
    ReviewReason.LATE: _(
        "The payment is booked. Reinstate the order if you can still deliver. Otherwise refund the"
        " payment by hand and dismiss it."
    ),
    ReviewReason.SECOND: _("The payment is booked. Refund it by hand, then dismiss it."),
    ReviewReason.MISMATCH: _(
        "The payment is not booked. Check the invoice at Bitsby. Accept the payment if it is for"
        " this order."
    ),
    ReviewReason.UNKNOWN_INVOICE: _(
        "The invoice was created outside this shop. Find out what it is for, then dismiss the"
        " payment."
    ),
    ReviewReason.UNKNOWN_VALUE: _("The payment is not booked. Accept it and enter its value."),
    ReviewReason.ORDER_GONE: _(
        "The order was deleted. Refund the payment by hand, then dismiss it."
    ),
    ReviewReason.STATUS: _(
        "The payment is booked. Change the status of the order by hand, then dismiss the payment."
    ),
    ReviewReason.NOT_PAID: _(
        "The payment is not booked. Accept it if the money has arrived. It is booked automatically"
        " if Bitsby shows the invoice as paid later."
    ),
    ReviewReason.REBOUND: _(
        "The payment is booked for one order, but Bitsby now shows it on the invoice of another."
        " Check both orders."
    ),
}

#: About an unbound payment that repeats the exact amount of a paid invoice.
SECOND_ADVICE = _(
    "The buyer has probably paid twice. Refund the payment. Do not bind it to another order."
)


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
        last_run = lease.last_run()
        return context | {
            "rows": [self._row(payment, suggested) for payment in payments],
            "offered": MAX_INVOICES,
            "shows_resolved": self.shows_resolved,
            "shows_dust": self.shows_dust,
            "last_run": last_run,
            "is_overdue": lease.is_overdue(last_run),
            "may_bind": permissions.may_move_money(self.request.user),
        }

    def _row(self, payment: BitsbyPayment, suggested: Suggestions) -> dict[str, Any]:
        match = suggested.found.get(payment.pk)
        order = payment.invoice.order if payment.invoice else None
        if order is None and match is not None:
            order = match.invoice.order
        difference = None
        if payment.fiat_value is not None and payment.invoice is not None:
            difference = payment.fiat_value - payment.invoice.amount
        advice = ADVICE.get(payment.review_reason, "")
        if match is not None and match.is_second and payment.invoice is None:
            advice = SECOND_ADVICE
        return {
            "payment": payment,
            "match": match,
            "order_page": order_page(self.request.user, order.number) if order else "",
            "is_exhaustive": suggested.is_exhaustive(payment),
            "explorer": binding.explorer_url(payment),
            "difference": difference,
            "advice": advice,
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
