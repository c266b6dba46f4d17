"""The list of payments to review, as its address says: its filters, its order, and links to it."""

import datetime as dt
from contextlib import suppress
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django import forms
from django.db.models import CharField, F, OuterRef, Q, Subquery, Value
from django.db.models.functions import Coalesce, Concat
from django.http import QueryDict
from django.urls import reverse
from django.utils import timezone
from django.utils.text import format_lazy
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from oscar_bitsby.choices import ReviewReason
from oscar_bitsby.models import PAYMENT_TIME, BitsbyInvoice
from oscar_bitsby.staff import search
from oscar_bitsby.utils.blockchains import BLOCKCHAINS
from oscar_bitsby.utils.money import CRYPTO_PLACES, parse_typed_amount

#: Words of a customer's name that are looked for at most.
MAX_WORDS = 5

#: Payments whose customers' names are read at most, the newest ones.
MAX_SEARCHED = 1_000

#: A shorter part of a hash, an address or a note would be found in most of them.
MIN_PART = 4

#: The ages to choose from: at least and less than so many days since a payment was first seen.
AGES: dict[str, tuple[Any, int, int | None]] = {
    "day": (_("less than 1 day"), 0, 1),
    "week": (_("1 to 7 days"), 1, 7),
    "month": (_("7 to 30 days"), 7, 30),
    "older": (_("30 days or more"), 30, None),
}

#: What the list can be sorted by, ascending. The age rises as the time falls.
SORTS: dict[str, tuple[Any, bool]] = {
    "value": (F("fiat_value"), False),
    "time": (PAYMENT_TIME, False),
    "age": (F("seen_at"), True),
}


class PaymentFilterForm(forms.Form):
    """The filters of the payments to review; each narrows the list."""

    reason = forms.ChoiceField(
        label=_("Review reason"),
        required=False,
        choices=[("", _("any")), *ReviewReason.choices],
    )
    coin = forms.CharField(
        label=_("Coin"),
        required=False,
        max_length=64,
        widget=forms.TextInput(attrs={"list": "bitsby_coins", "autocapitalize": "none"}),
    )
    age = forms.ChoiceField(
        label=_("Age"),
        required=False,
        choices=[("", _("any")), *((name, label) for name, (label, *_days) in AGES.items())],
    )
    order = forms.CharField(
        label=pgettext_lazy("bitsby", "Order number"), required=False, max_length=128
    )
    customer = forms.CharField(
        label=_("Customer's name or e-mail"),
        required=False,
        max_length=200,
        help_text=format_lazy(
            _("A whole address, or words that the newest {count} payments are searched for."),
            count=MAX_SEARCHED,
        ),
    )
    q = forms.CharField(
        label=_("Amount, hash, address, ID or note"), required=False, max_length=200
    )

    def clean_q(self) -> str:
        text: str = self.cleaned_data["q"]
        if text and len(text) < MIN_PART and _amount_in(text) is None:
            error = _("Enter an amount, or at least %(count)d characters.")
            raise forms.ValidationError(error, params={"count": MIN_PART})
        return text

    @property
    def is_used(self) -> bool:
        """Whether any filter is set."""
        return any(self.data.get(name, "").strip() for name in self.fields)

    @property
    def coins(self) -> list[str]:
        """Coins to choose from; others can be entered."""
        return ["usdt", "usdc", *dict.fromkeys(chain.own_coin for chain in BLOCKCHAINS.values())]


#: The parameters of the list's address. Other parameters are dropped.
PARAMETERS = ("show", *PaymentFilterForm.base_fields, "sort", "dir", "page")


def filter_payments(payments: Any, wanted: dict[str, Any], newest_by: str = "seen_at") -> Any:
    """Return the payments that fit the cleaned data of a valid ``PaymentFilterForm``.

    Args:
        newest_by: the indexed time of these payments that says which are the newest.
    """
    if wanted["reason"]:
        # No reason's code is part of another one's.
        further = Q(further_reasons__contains=wanted["reason"])
        payments = payments.filter(Q(review_reason=wanted["reason"]) | further)
    if wanted["coin"]:
        payments = payments.filter(cryptocurrency__iexact=wanted["coin"])
    if wanted["age"]:
        payments = payments.filter(_of_age(wanted["age"]))
    if wanted["order"]:
        payments = payments.alias(order_number=_of_invoice("order_number"))
        payments = payments.filter(order_number__icontains=wanted["order"])
    if wanted["q"]:
        payments = payments.filter(_with_text(wanted["q"]))
    if wanted["customer"]:
        # Last, since it reads only the newest payments that the other filters find.
        payments = _of_customer(payments, wanted["customer"], newest_by)
    return payments


def _of_customer(payments: Any, text: str, newest_by: str) -> Any:
    """Return the payments of a customer: all by a whole e-mail address, else the newest by words.

    No index finds a part of a name or an address.
    """
    if "@" in text and (invoices := search.find_by_email(text)):
        return payments.filter(invoice__in=invoices)
    times = payments.order_by(f"-{newest_by}", "-pk").values_list(newest_by, flat=True)
    for oldest in times[MAX_SEARCHED - 1 : MAX_SEARCHED]:
        payments = payments.filter(**{f"{newest_by}__gte": oldest})
    payments = payments.alias(customer=_of_invoice("customer"))
    for word in text.split()[:MAX_WORDS]:
        payments = payments.filter(customer__icontains=word)
    return payments


def _of_age(name: str) -> Q:
    _label, days, before = AGES[name]
    now = timezone.now()
    found = Q(seen_at__lte=now - dt.timedelta(days=days)) if days else Q()
    return found & Q(seen_at__gt=now - dt.timedelta(days=before)) if before else found


def _of_invoice(name: str) -> Subquery:
    """Return a column of each payment's invoice, or its customer's names and e-mail addresses.

    A subquery, which reads the invoices of these few payments by their keys. For a join, PostgreSQL
    may read all invoices and orders.
    """
    names = ("guest_email", "user__first_name", "user__last_name", "user__email")
    parts: list[Any] = []
    for one in names:
        parts += [Coalesce(f"order__{one}", Value("")), Value(" ")]
    invoices = BitsbyInvoice.objects.filter(pk=OuterRef("invoice")).order_by()
    if name == "customer":
        invoices = invoices.annotate(customer=Concat(*parts, output_field=CharField()))
    return Subquery(invoices.values(name)[:1])


def _with_text(text: str) -> Q:
    amount = _amount_in(text)
    found = Q() if amount is None else Q(amount=amount)
    if len(text) < MIN_PART:
        return found
    for name in ("hash", "address", "resolution_note"):
        found |= Q(**{f"{name}__icontains": text})
    found |= Q(invoice__in=BitsbyInvoice.objects.filter(uid=text).order_by().values("pk"))
    with suppress(ValueError):
        found |= Q(bitsby_id=UUID(text)) | Q(bound_to=UUID(text))
    return found


def _amount_in(text: str) -> Decimal | None:
    try:
        return parse_typed_amount(text, CRYPTO_PLACES)
    except ValueError:
        return None


def sorted_by(payments: Any, name: str, *, is_descending: bool) -> Any:
    """Return the payments in an order of ``SORTS``; unknown values come last both ways."""
    expression, is_reversed = SORTS[name]
    if is_descending is is_reversed:
        return payments.order_by(expression.asc(nulls_last=True), "pk")
    return payments.order_by(expression.desc(nulls_last=True), "-pk")


def list_query(parameters: QueryDict, **changes: str) -> str:
    """Return the query of a list's address with some parameters changed; "" leaves one out."""
    wanted = {name: parameters.get(name, "") for name in PARAMETERS} | changes
    return urlencode({name: value for name, value in wanted.items() if value})


def list_url(query: str = "") -> str:
    """Return the address of the list that a query describes, as ``list_query`` returns it.

    It may come from a visitor: whatever it contains, the address is one of the list.
    """
    url = reverse("oscar_bitsby:dashboard-inbox")
    query = list_query(QueryDict(query))
    return f"{url}?{query}" if query else url
