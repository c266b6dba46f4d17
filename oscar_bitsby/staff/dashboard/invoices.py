"""The dashboard's list of invoices, and its download."""

from typing import Any

from django.contrib import messages
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.shortcuts import redirect
from django.urls import reverse
from django.utils import timezone
from django.views.generic import ListView, View

from oscar_bitsby.accounting import export, export_formats
from oscar_bitsby.choices import InvoiceStatus
from oscar_bitsby.models import BitsbyInvoice, BitsbyPayment
from oscar_bitsby.staff import permissions, search
from oscar_bitsby.staff.dashboard.access import DashboardMixin, may_open_orders, only_visible
from oscar_bitsby.staff.dashboard.export import stream_rows
from oscar_bitsby.staff.dashboard.invoice_filters import InvoiceFilterForm, sorted_by, sorting_of
from oscar_bitsby.staff.dashboard.sorting import Sorting
from oscar_bitsby.staff.pagination import MAX_COUNT, BoundedPaginator, load_rows

PAGE = 25
#: Classes of the badges, by the invoice's status. Oscar's green has too little contrast.
BADGES = {
    InvoiceStatus.CREATING: "badge-light border",
    InvoiceStatus.UNPAID: "badge-secondary",
    InvoiceStatus.PAID: "badge-dark",
    InvoiceStatus.EXPIRED: "badge-light border",
    InvoiceStatus.CANCELED: "badge-light border",
}
#: What a page of the list reads. Wallets and answers are long.
ROWS = (
    BitsbyInvoice.objects.defer("reply", "wallets")
    .select_related("order__user", "order__shipping_address", "order__billing_address")
    .prefetch_related("payments")
)


class InvoiceListView(DashboardMixin, ListView):  # type: ignore[type-arg]
    """List, filter and sort all invoices."""

    template_name = "oscar_bitsby/dashboard/invoices.html"
    context_object_name = "invoices"
    paginate_by = PAGE
    paginator_class = BoundedPaginator

    def get_queryset(self) -> Any:
        self.form = InvoiceFilterForm(self.request.GET)
        self.sorting = sorting_of(self.request.GET)
        found = filtered_invoices(self.form, self.sorting, self.request.user)
        # Only keys are sorted; the joined rows are read for one page.
        keys = found.values_list("pk", flat=True)
        # A database that reads a page only would look for few rows among all, in their order.
        return list(keys[: MAX_COUNT + 1]) if self.form.is_valid() and self.form.finds_few else keys

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        context = super().get_context_data(**kwargs)
        user = self.request.user
        return context | {
            "form": self.form,
            "sorting": self.sorting,
            "rows": [InvoiceRow(invoice) for invoice in load_rows(ROWS, context["invoices"])],
            "searched": MAX_COUNT,
            "results": search.MAX_RESULTS,
            "may_open_orders": may_open_orders(user),
            "downloads": self._downloads() if permissions.may_see_money(user) else [],
        }

    def _downloads(self) -> list[dict[str, str]]:
        """Return the links that download all invoices that are found: ``label`` and ``url``."""
        formats = [export_formats.CSV, export_formats.XLSX, export_formats.JSONL]
        if not export_formats.has_xlsxwriter():
            formats.remove(export_formats.XLSX)
        query, url = self.request.GET.copy(), reverse("oscar_bitsby:dashboard-invoices-download")
        query.pop("page", None)
        found = []
        for name in formats:
            query["format"] = name
            found.append({"label": name.upper(), "url": f"{url}?{query.urlencode()}"})
        return found


class InvoiceDownloadView(DashboardMixin, View):
    """Download the invoices that the filters find, in the order of the list."""

    require_permission = staticmethod(permissions.require_see_permission)

    def get(self, request: HttpRequest) -> HttpResponseBase:
        query = request.GET.copy()
        format_ = (query.pop("format", None) or [""])[-1]
        form = InvoiceFilterForm(query)
        found = filtered_invoices(form, sorting_of(query), request.user)
        if form.is_valid() and format_ in export_formats.FORMATS:
            day = timezone.localdate().isoformat()
            try:
                export_formats.check_format(format_, found.count)
                return stream_rows(
                    request, export.invoice_rows(found), format_, f"bitsby-invoices-{day}"
                )
            except export.CannotExport as error:
                messages.error(request, f"{error}.")
        # The list shows what is wrong with the filters.
        return redirect(f"{reverse('oscar_bitsby:dashboard-invoices')}?{query.urlencode()}")


def filtered_invoices(form: InvoiceFilterForm, sorting: Sorting, user: Any) -> Any:
    """Return the invoices that pass the filters and that a user may see, in their order."""
    found = form.apply(sorted_by(BitsbyInvoice.objects.all(), sorting))
    return only_visible(found, user, "order")


class InvoiceRow:
    """An invoice of a page, with its order and payments, without a query of its own."""

    def __init__(self, invoice: BitsbyInvoice) -> None:
        self.invoice = invoice
        self.badge = BADGES[InvoiceStatus(invoice.status)]
        payments: list[BitsbyPayment] = list(invoice.payments.all())
        self.booked = [
            payment for payment in payments if payment.booked_at and not payment.is_foreign
        ]
        self.needs_review = any(payment.needs_review for payment in payments)

    @property
    def received(self) -> Any:
        """The value of its booked payments; None without one."""
        values = [row.fiat_value for row in self.booked if row.fiat_value is not None]
        return sum(values) if values else None

    @property
    def paid_at(self) -> Any:
        """The time of the last of these payments, or None."""
        return max((row.paid_at for row in self.booked), default=None)

    @property
    def customer(self) -> str:
        """The customer's name: of the account or, for a guest, of the address."""
        order = self.invoice.order
        if order is None:
            return ""
        if order.user is not None:
            return str(order.user.get_full_name())
        address = order.billing_address or order.shipping_address
        return address.name if address is not None else ""

    @property
    def email(self) -> str:
        """The e-mail address of the customer, as far as it is known."""
        return self.invoice.order.email or "" if self.invoice.order is not None else ""
