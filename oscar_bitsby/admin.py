"""Read-only admin of our models, with a bounded search."""

from typing import Any

from django.contrib import admin
from django.db.models import Model
from django.http import HttpRequest
from django.utils.translation import gettext_lazy, pgettext_lazy
from oscar.core.loading import get_model

from oscar_bitsby import conf
from oscar_bitsby.models import (
    BitsbyInvoice,
    BitsbyPayment,
    BitsbyRefund,
    BuyerMail,
    MerchantAlert,
    WebhookDelivery,
)
from oscar_bitsby.staff.pagination import BoundedPaginator
from oscar_bitsby.staff.search import find_invoices, find_payments, find_refunds
from oscar_bitsby.utils import i18n
from oscar_bitsby.utils.money import plain_amount

Order = get_model("order", "Order")


class FixedFilter(admin.SimpleListFilter):
    """Offer fixed values, since finding those that occur would read every row."""

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        return queryset if self.value() is None else queryset.filter(**self.wanted())

    def wanted(self) -> dict[str, Any]:
        return {self.parameter_name or "": self.value()}


class CurrencyFilter(FixedFilter):
    title, parameter_name = pgettext_lazy("bitsby", "Currency"), "currency"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(currency, currency) for currency in conf.CURRENCIES]


class AnswerFilter(FixedFilter):
    title, parameter_name = gettext_lazy("Answered with"), "answered"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [("200", "200"), ("503", "503"), ("none", gettext_lazy("not answered"))]

    def wanted(self) -> dict[str, Any]:
        return {"answered": None if self.value() == "none" else self.value()}


class ReadOnlyAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # no generics at run time
    """Show rows that only this app writes; there may be a million of them."""

    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    paginator = BoundedPaginator
    # Django's default of 100 rows takes longer to render than to query.
    list_per_page = 50
    #: Returns what the lookup ``searched`` compares with, for one search term. ``search_fields``
    #: only makes Django show the search box.
    keys_named: Any
    searched = "pk__in"
    #: Methods that format a field for people, by the field's name.
    shown_as: dict[str, str] = {}

    def get_readonly_fields(self, request: HttpRequest, obj: Model | None = None) -> list[str]:
        return list(self.shown_as.values())

    def get_fields(self, request: HttpRequest, obj: Model | None = None) -> list[Any]:
        shown = self.shown_as
        names = [name for name in super().get_fields(request, obj) if name not in shown.values()]
        return [shown.get(str(name), name) for name in names]

    def get_search_results(
        self, request: HttpRequest, queryset: Any, search_term: str
    ) -> tuple[Any, bool]:
        for word in search_term.split():
            queryset = queryset.filter(**{self.searched: type(self).keys_named(word)})
        return queryset, False

    def _refuse(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    has_add_permission = has_change_permission = has_delete_permission = _refuse


def translated(field: str, description: Any) -> Any:
    """Return a column of a model admin that shows a stored text in the reader's language."""

    @admin.display(description=description)
    def remark(model_admin: ReadOnlyAdmin, row: Model) -> str:
        return i18n.translate_stored(getattr(row, field))

    return remark


def plain_number(field: str, description: Any) -> Any:
    """Return a column of a model admin that shows a coin amount without localization.

    People copy such an amount, and compare it with wallets and block explorers.
    """

    @admin.display(description=description)
    def in_coin(model_admin: ReadOnlyAdmin, row: Model) -> str:
        return plain_amount(getattr(row, field))

    return in_coin


@admin.register(BitsbyInvoice)
class BitsbyInvoiceAdmin(ReadOnlyAdmin):
    list_display = ("order_number", "uid", "status", "amount", "currency", "created_at", "remark")
    list_filter = ("status", CurrencyFilter, "created_at")
    # Only indexed columns: any other would sort all rows for one page.
    sortable_by = ("order_number", "created_at")
    # Sorted by the column of the date filter, so that one index serves both.
    ordering = ("-created_at", "-pk")
    search_fields = ("=order_number", "=uid", "=bitsby_id")
    keys_named = staticmethod(find_invoices)
    raw_id_fields = ("order",)
    shown_as = {"failure": "remark", "unanswered_reason": "why_unanswered"}
    remark = translated("failure", gettext_lazy("What went wrong"))
    why_unanswered = translated("unanswered_reason", gettext_lazy("Why the answer is not usable"))


@admin.register(BitsbyPayment)
class BitsbyPaymentAdmin(ReadOnlyAdmin):
    list_display = (
        "bitsby_id",
        "in_coin",
        "cryptocurrency",
        "fiat_value",
        "currency",
        "review_reason",
        "resolution",
        "booked_at",
        "transaction_at",
    )
    list_filter = ("review_reason", "resolution", "is_foreign")
    sortable_by = ("bitsby_id",)
    search_fields = ("=invoice__order_number", "=invoice__uid", "=bitsby_id", "=hash")
    keys_named = staticmethod(find_payments)
    raw_id_fields = ("invoice",)
    shown_as = {"amount": "in_coin"}
    in_coin = plain_number("amount", gettext_lazy("Amount in cryptocurrency"))


@admin.register(BitsbyRefund)
class BitsbyRefundAdmin(ReadOnlyAdmin):
    list_display = (
        "order_number",
        "amount",
        "currency",
        "in_coin",
        "cryptocurrency",
        "state",
        "requested_at",
        "closed_at",
    )
    list_filter = ("state", "requested_at")
    # Few enough to be sorted: every refund is made by a person.
    ordering = ("-requested_at", "-pk")
    search_fields = ("=order_number", "=transaction_hash", "=payment__bitsby_id", "=payment__hash")
    keys_named = staticmethod(find_refunds)
    raw_id_fields = ("order", "payment", "address_given_by", "requested_by", "closed_by")
    shown_as = {"coin_amount": "in_coin", "proposed_coin_amount": "proposed"}
    in_coin = plain_number("coin_amount", gettext_lazy("Amount in coin"))
    proposed = plain_number("proposed_coin_amount", gettext_lazy("Proposed amount in coin"))


@admin.register(WebhookDelivery)
class WebhookDeliveryAdmin(ReadOnlyAdmin):
    list_display = ("received_at", "invoice", "answered", "remark", "remote_address")
    list_filter = (AnswerFilter, "received_at")
    sortable_by = ("received_at",)
    ordering = ("-received_at", "-pk")
    list_select_related = ("invoice",)
    search_fields = ("=invoice__order_number", "=invoice__uid", "=invoice__bitsby_id")
    keys_named, searched = staticmethod(find_invoices), "invoice__in"
    raw_id_fields = ("invoice",)
    shown_as = {"outcome": "remark"}
    remark = translated("outcome", gettext_lazy("Outcome"))


@admin.register(BuyerMail)
class BuyerMailAdmin(ReadOnlyAdmin):
    list_display = ("order_number", "code", "status", "created_at", "sent_at", "tries", "remark")
    list_filter = ("status", "code", "created_at")
    search_fields = ("=order_number",)
    # An exact match uses the index; Django's own search would compare case-insensitively.
    keys_named, searched = staticmethod(str), "order_number"
    raw_id_fields = ("order", "invoice", "payment", "refund")
    shown_as = {"error": "remark"}
    remark = translated("error", gettext_lazy("Why it was not sent"))


@admin.register(MerchantAlert)
class MerchantAlertAdmin(ReadOnlyAdmin):
    list_display = ("order_number", "code", "mail_status", "post_status", "created_at", "remark")
    list_filter = ("code", "mail_status", "post_status")
    sortable_by = ()
    search_fields = ("=order_number",)
    keys_named, searched = staticmethod(str), "order_number"
    raw_id_fields = ("payment", "refund")
    shown_as = {"error": "remark"}
    remark = translated("error", gettext_lazy("Why it was not sent"))
