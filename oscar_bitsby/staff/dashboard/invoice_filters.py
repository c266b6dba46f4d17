"""The filters and the order of the dashboard's list of invoices."""

import datetime as dt
from typing import Any

from django import forms
from django.core.validators import MaxValueValidator, MinValueValidator
from django.http import QueryDict
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from oscar_bitsby.choices import InvoiceStatus
from oscar_bitsby.conf import CURRENCIES
from oscar_bitsby.models import BitsbyInvoice, BitsbyPayment
from oscar_bitsby.staff import search
from oscar_bitsby.staff.dashboard.sorting import Sorting
from oscar_bitsby.utils.days import FIRST_DAY, LAST_DAY

DAY = dt.timedelta(days=1)
SANE_DAYS = (MinValueValidator(FIRST_DAY), MaxValueValidator(LAST_DAY))
#: The columns by which the list can be sorted. Each has an index.
SORTABLE = {"number": "order_number", "asked": "amount", "created": "created_at"}


def _day_field(label: Any) -> forms.DateField:
    widget = forms.DateInput(attrs={"type": "date"})
    return forms.DateField(label=label, required=False, validators=SANE_DAYS, widget=widget)


class InvoiceFilterForm(forms.Form):
    """The filters of the list of invoices."""

    q = forms.CharField(
        label=_("Order number, ID or hash"),
        required=False,
        max_length=200,
        help_text=_("Enter a whole ID or hash, or at least 3 characters of the order number."),
    )
    email = forms.EmailField(
        label=_("E-mail address"), required=False, help_text=_("Enter the whole address.")
    )
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
    date_from = _day_field(_("Created from"))
    date_to = _day_field(_("Created until"))
    attention = forms.BooleanField(label=_("Needs review"), required=False)

    #: The fields that are always shown.
    MAIN = ("q", "email", "status")
    #: Whether so many invoices matched the text or the address that some may be missing.
    is_cut = False

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        first, last = data.get("date_from"), data.get("date_to")
        if first and last and first > last:
            self.add_error("date_to", _("The last day is before the first day."))
        return data

    @property
    def main_fields(self) -> list[forms.BoundField]:
        """The fields that are always shown."""
        return [self[name] for name in self.MAIN]

    @property
    def more_fields(self) -> list[forms.BoundField]:
        """The other fields."""
        return [field for field in self if field.name not in self.MAIN]

    @property
    def uses_more_fields(self) -> bool:
        """Whether one of the other fields has a value."""
        return any(field.data for field in self.more_fields)

    @property
    def finds_few(self) -> bool:
        """Whether a filter finds keys, which are few, and not rows by an index of a column."""
        return any(self.cleaned_data[name] for name in ("q", "email", "attention"))

    def apply(self, invoices: Any) -> Any:
        """Return the invoices that pass the filters; none if a filter is not valid."""
        if not self.is_valid():
            return invoices.none()
        wanted = self.cleaned_data
        if wanted["status"]:
            invoices = invoices.filter(status=wanted["status"])
        if wanted["currency"]:
            invoices = invoices.filter(currency=wanted["currency"])
        if wanted["date_from"]:
            invoices = invoices.filter(created_at__gte=_midnight(wanted["date_from"]))
        if wanted["date_to"]:
            invoices = invoices.filter(created_at__lt=_midnight(wanted["date_to"]) + DAY)
        if wanted["attention"]:
            invoices = invoices.filter(pk__in=_keys_to_review())
        text = wanted["q"].strip()
        if text:
            found = {*search.find_invoices(text), *search.find_by_number_part(text)}
            invoices = self._restrict(invoices, found)
        if wanted["email"]:
            invoices = self._restrict(invoices, set(search.find_by_email(wanted["email"])))
        return invoices

    def _restrict(self, invoices: Any, keys: set[Any]) -> Any:
        self.is_cut = self.is_cut or len(keys) >= search.MAX_RESULTS
        return invoices.filter(pk__in=keys)


def _keys_to_review() -> Any:
    needs_review = BitsbyPayment.objects.needs_review().filter(invoice__isnull=False)
    unnamed = BitsbyInvoice.objects.filter(status=InvoiceStatus.UNPAID).exclude(failure="")
    # A union, since each side can use an index. A subquery in an OR would read every row.
    payments = needs_review.order_by().values("invoice")
    others = (unnamed, BitsbyInvoice.objects.unanswered())
    return payments.union(*(rows.order_by().values("pk") for rows in others), all=True)


def _midnight(day: dt.date) -> dt.datetime:
    return timezone.make_aware(dt.datetime.combine(day, dt.time.min))


def sorting_of(query: QueryDict) -> Sorting:
    """Return by what the list is sorted; at first by the creation, the newest first."""
    return Sorting(query, SORTABLE, rising=("number",), default="created")


def sorted_by(invoices: Any, sorting: Sorting) -> Any:
    """Return the invoices in this order."""
    sign = "-" if sorting.is_descending else ""
    return invoices.order_by(f"{sign}{SORTABLE[sorting.column]}", f"{sign}pk")
