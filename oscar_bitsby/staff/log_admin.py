"""What came from Bitsby, what was sent to buyers, and the audits, read-only in Django's admin."""

from typing import Any

from django.contrib import admin
from django.utils.translation import gettext_lazy

from oscar_bitsby.choices import AuditState
from oscar_bitsby.models import AuditRun, BuyerMail, MerchantAlert, WebhookDelivery
from oscar_bitsby.staff import admin_formats as show
from oscar_bitsby.staff.admin_base import (
    ANSWERS,
    IDS,
    NOT_ANSWERED,
    ORDER_NUMBER,
    SEARCHED,
    AnswerFilter,
    ReadOnlyAdmin,
    by_date,
    column,
    section,
    titled,
    translated,
)
from oscar_bitsby.staff.search import find_invoices


@admin.register(WebhookDelivery)
class WebhookDeliveryAdmin(ReadOnlyAdmin):
    list_display = ("order_number", "asked", "received_at", "answer", "remark", "invoice")
    list_filter = (AnswerFilter, ("received_at", by_date(gettext_lazy("date received"))))
    sortable_by = ("received_at",)
    ordering = ("-received_at", "-pk")
    list_select_related = ("invoice",)
    search_fields = ("=invoice__order_number", "=invoice__uid", "=invoice__bitsby_id")
    search_help_text = SEARCHED
    keys_named, searched = staticmethod(find_invoices), "invoice__in"
    fieldsets = (
        section(None, "order_number", "asked", "received_at", "answer", "remark"),
        section(gettext_lazy("What Bitsby sent"), "content"),
        section(IDS, "invoice", "remote_address", "headers_shown", "body_shown", is_open=False),
    )
    order_number = column(ORDER_NUMBER, lambda row: row.invoice.order_number)
    asked = column(
        gettext_lazy("Asked"), lambda row: show.money(row.invoice.amount, row.invoice.currency)
    )
    answer = column(
        gettext_lazy("Our answer"),
        lambda row: (
            NOT_ANSWERED if row.answered is None else ANSWERS.get(row.answered, row.answered)
        ),
    )
    remark = translated("outcome", gettext_lazy("What was done"))
    content = column(gettext_lazy("Content"), lambda row: show.body_table(row.body))
    headers_shown = column(gettext_lazy("HTTP headers"), lambda row: show.facts_table(row.headers))
    body_shown = column(
        gettext_lazy("Content as it was received"), lambda row: show.long_text(row.body)
    )


@admin.register(BuyerMail)
class BuyerMailAdmin(ReadOnlyAdmin):
    list_display = ("order_number", "code", "status", "created_at", "sent_at", "tries", "remark")
    list_filter = (
        ("status", titled(gettext_lazy("status"))),
        ("code", titled(gettext_lazy("e-mail"))),
        ("created_at", by_date(gettext_lazy("date of creation"))),
    )
    search_fields = ("=order_number",)
    search_help_text = gettext_lazy("Enter a whole order number.")
    # An exact match uses the index; Django's own search would compare case-insensitively.
    keys_named, searched = staticmethod(str), "order_number"
    fieldsets = (
        section(None, "order_number", "order", "code", "status", "remark"),
        section(
            gettext_lazy("History"),
            "created_at",
            "sending_since",
            "sent_at",
            "tries",
            "language",
        ),
        section(gettext_lazy("What it is about"), "invoice", "payment", "refund"),
    )
    remark = translated("error", gettext_lazy("Why it was not sent"))


@admin.register(MerchantAlert)
class MerchantAlertAdmin(ReadOnlyAdmin):
    list_display = ("order_number", "code", "mail_status", "post_status", "created_at", "remark")
    list_filter = (
        ("code", titled(gettext_lazy("alert"))),
        ("mail_status", titled(gettext_lazy("e-mail"))),
        ("post_status", titled(gettext_lazy("POST to the URL"))),
    )
    sortable_by = ()
    search_fields = ("=order_number",)
    search_help_text = gettext_lazy("Enter a whole order number.")
    keys_named, searched = staticmethod(str), "order_number"
    fieldsets = (
        section(None, "order_number", "code", "facts", "created_at"),
        section(
            gettext_lazy("History"),
            "mail_status",
            "mailed_at",
            "post_status",
            "posted_at",
            "remark",
        ),
        section(gettext_lazy("What it is about"), "payment", "refund"),
    )
    facts = column(gettext_lazy("Details"), lambda row: show.facts_table(row.details))
    remark = translated("error", gettext_lazy("Why it was not sent"))


@admin.register(AuditRun)
class AuditRunAdmin(ReadOnlyAdmin):
    list_display = ("started_at", "state", "number", "date_from", "date_to", "finished_at")
    list_filter = (
        ("state", titled(gettext_lazy("result"))),
        ("started_at", by_date(gettext_lazy("date of start"))),
    )
    fieldsets = (
        section(None, "started_at", "finished_at", "state", "number", "kinds"),
        section(
            gettext_lazy("What was compared"),
            "date_from",
            "date_to",
            "payments_read",
            "invoices_read",
            "requests",
        ),
    )
    kinds = column(
        gettext_lazy("Differences by kind"), lambda row: show.facts_table(row.differences)
    )

    @admin.display(description=gettext_lazy("Differences"))
    def number(self, row: AuditRun) -> Any:
        return "" if row.state == AuditState.RUNNING else row.difference_count
