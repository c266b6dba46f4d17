"""The app's rows in Django's admin, read-only: money first, ids last."""

from django.contrib import admin
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, pgettext, pgettext_lazy

from oscar_bitsby.models import (
    EPOCH,
    BitsbyInvoice,
    BitsbyPayment,
    BitsbyRefund,
)
from oscar_bitsby.staff import admin_formats as show
from oscar_bitsby.staff import log_admin  # noqa: F401  # registers further pages
from oscar_bitsby.staff.admin_base import (
    IDS,
    ORDER_NUMBER,
    SEARCHED,
    CurrencyFilter,
    ProjectFilter,
    ReadOnlyAdmin,
    by_date,
    column,
    section,
    titled,
    translated,
)
from oscar_bitsby.staff.search import find_invoices, find_payments, find_refunds
from oscar_bitsby.utils.blockchains import network_name

NETWORK = column(
    gettext_lazy("Network"), lambda row: network_name(row.blockchain, row.cryptocurrency)
)


@admin.register(BitsbyInvoice)
class BitsbyInvoiceAdmin(ReadOnlyAdmin):
    list_display = ("order_number", "asked", "status", "created_at", "remark", "uid")
    list_filter = (
        ("status", titled(gettext_lazy("status"))),
        CurrencyFilter,
        ("created_at", by_date(gettext_lazy("date of creation"))),
    )
    # Only indexed columns: any other would sort all rows for one page.
    sortable_by = ("order_number", "created_at")
    # Sorted by the column of the date filter, so that one index serves both.
    ordering = ("-created_at", "-pk")
    search_fields = ("=order_number", "=uid", "=bitsby_id")
    search_help_text = SEARCHED
    keys_named = staticmethod(find_invoices)
    fieldsets = (
        section(None, "order_number", "order", "asked", "status", "payments"),
        section(
            gettext_lazy("How it can be paid"),
            "expires_at",
            "wallets_shown",
            "url",
            "page_views",
            "addresses_shown_at",
            "is_for_rest",
        ),
        section(
            gettext_lazy("History"),
            "created_at",
            "ended_at",
            "checked",
            "webhook_pending_since",
            "commission_usd",
            "remark",
            "unanswered_since",
            "why_unanswered",
        ),
        section(
            IDS, "uid", "bitsby_id", "project_id", "order_awaits_payment", "answer", is_open=False
        ),
    )
    asked = column(gettext_lazy("Asked"), lambda row: show.money(row.amount, row.currency))
    checked = column(
        gettext_lazy("Last checked at Bitsby"),
        lambda row: row.last_refreshed_at if row.last_refreshed_at > EPOCH else None,
    )
    wallets_shown = column(
        gettext_lazy("Addresses to pay to"), lambda row: show.wallet_table(row.wallets)
    )
    answer = column(gettext_lazy("Bitsby's answer"), lambda row: show.facts_table(row.reply))
    remark = translated("failure", gettext_lazy("What went wrong"))
    why_unanswered = translated("unanswered_reason", gettext_lazy("Why the answer is not usable"))

    @admin.display(description=gettext_lazy("Received"))
    def payments(self, row: BitsbyInvoice) -> str:
        found = show.table(
            (pgettext("bitsby", "Value"), _("Amount in coin"), _("Status"), _("Transaction hash")),
            (
                (
                    show.money(payment.fiat_value, payment.currency) or _("unknown"),
                    show.coins(payment.amount, payment.cryptocurrency),
                    show.payment_status(payment),
                    show.transaction_link(payment.blockchain, payment.hash),
                )
                for payment in row.payments.order_by("pk")[: self.list_per_page]
            ),
        )
        return found or _("nothing")


@admin.register(BitsbyPayment)
class BitsbyPaymentAdmin(ReadOnlyAdmin):
    list_display = (
        "order_number",
        "value",
        "in_coin",
        "payment_state",
        "transaction_at",
        "hash_shown",
        "bitsby_id",
    )
    list_filter = (
        ("review_reason", titled(gettext_lazy("review reason"))),
        ("resolution", titled(gettext_lazy("decision"))),
        ProjectFilter,
    )
    list_select_related = ("invoice",)
    sortable_by = ("bitsby_id",)
    search_fields = ("=invoice__order_number", "=invoice__uid", "=bitsby_id", "=hash")
    search_help_text = SEARCHED
    keys_named = staticmethod(find_payments)
    fieldsets = (
        section(None, "order_number", "value", "in_coin", "payment_state", "booked_at", "invoice"),
        section(
            gettext_lazy("Transaction"),
            "transaction_at",
            "seen_at",
            "network",
            "address_shown",
            "hash_shown",
            "rate",
            "is_dust",
            "is_foreign",
        ),
        section(
            gettext_lazy("Decision"),
            "reasons",
            "resolution",
            "resolution_note",
            "resolved_by",
            "resolved_at",
        ),
        section(IDS, "bitsby_id", "bound_to", "wallet_id", "project_id", is_open=False),
    )
    order_number = column(
        ORDER_NUMBER, lambda row: row.invoice.order_number if row.invoice else _("no order")
    )
    value = column(
        pgettext_lazy("bitsby", "Value"),
        lambda row: show.money(row.fiat_value, row.currency) or _("unknown"),
    )
    in_coin = column(
        gettext_lazy("Amount in coin"), lambda row: show.coins(row.amount, row.cryptocurrency)
    )
    payment_state = column(gettext_lazy("Status"), show.payment_status)
    reasons = column(gettext_lazy("Review reason"), lambda row: row.review_text)
    network = NETWORK
    address_shown = column(
        gettext_lazy("Received at address"), lambda row: show.long_text(row.address)
    )
    hash_shown = column(
        gettext_lazy("Transaction hash"),
        lambda row: show.transaction_link(row.blockchain, row.hash),
    )
    rate = column(
        gettext_lazy("Locked rate"),
        lambda row: row.locked_rate and show.coins(row.locked_rate, row.currency),
    )


@admin.register(BitsbyRefund)
class BitsbyRefundAdmin(ReadOnlyAdmin):
    list_display = (
        "number",
        "value",
        "in_coin",
        "state",
        "requested_at",
        "closed_at",
        "hash_shown",
    )
    list_filter = (
        ("state", titled(gettext_lazy("status"))),
        ("requested_at", by_date(gettext_lazy("date of request"))),
    )
    # Few enough to be sorted: every refund is made by a person.
    ordering = ("-requested_at", "-pk")
    search_fields = ("=order_number", "=transaction_hash", "=payment__bitsby_id", "=payment__hash")
    search_help_text = SEARCHED
    keys_named = staticmethod(find_refunds)
    fieldsets = (
        section(None, "number", "order", "value", "in_coin", "proposed", "state", "is_booked"),
        section(
            gettext_lazy("Address and transaction"),
            "network",
            "address_shown",
            "address_given_at",
            "address_given_by",
            "hash_shown",
        ),
        section(
            gettext_lazy("Who and why"),
            "requested_at",
            "requested_by",
            "closed_at",
            "closed_by",
            "note",
        ),
        section(gettext_lazy("Refunded payment"), "payment"),
    )
    number = column(ORDER_NUMBER, lambda row: row.order_number or _("no order"))
    value = column(
        pgettext_lazy("bitsby", "Value"),
        lambda row: show.money(row.amount, row.currency) or _("unknown"),
    )
    in_coin = column(
        gettext_lazy("Amount in coin"), lambda row: show.coins(row.coin_amount, row.cryptocurrency)
    )
    proposed = column(
        gettext_lazy("At the locked rate"),
        lambda row: (
            row.proposed_coin_amount and show.coins(row.proposed_coin_amount, row.cryptocurrency)
        ),
    )
    network = NETWORK
    address_shown = column(
        gettext_lazy("Address of the buyer"), lambda row: show.long_text(row.address)
    )
    hash_shown = column(
        gettext_lazy("Transaction hash"),
        lambda row: show.transaction_link(row.blockchain, row.transaction_hash),
    )
