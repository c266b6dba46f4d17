"""An invoice: one attempt to have an order paid."""

from __future__ import annotations

import datetime as dt
import logging
from decimal import Decimal
from typing import Any

from django.db import models, router, transaction
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from django.utils.translation import gettext_noop

from oscar_bitsby.choices import InvoiceStatus
from oscar_bitsby.models.gateway_state import EPOCH

logger = logging.getLogger("oscar_bitsby")

#: How long after its time a paid invoice still has payments looked for.
WATCHED_AFTER_PAYMENT = dt.timedelta(days=2)

PAID_WITHOUT_PAYMENT = gettext_noop("Bitsby calls it paid without naming the payment")


class InvoiceQuerySet(models.QuerySet["BitsbyInvoice"]):
    """The sets of invoices that the rest of the app asks for by name."""

    def update_unlocked(self, **values: Any) -> None:
        """Write times and marks on all of these that nobody is just working with.

        One statement over many rows locks them in any order, and waits while it holds some.
        """
        with transaction.atomic(using=router.db_for_write(self.model)):
            free = self.select_for_update(skip_locked=True, of=("self",)).order_by("pk")
            BitsbyInvoice.objects.filter(pk__in=list(free.values_list("pk", flat=True))).update(
                **values
            )

    def live(self) -> InvoiceQuerySet:
        """Those that a buyer may still pay; at most one of an order."""
        found: InvoiceQuerySet = self.filter(status__in=BitsbyInvoice.LIVE)
        return found

    def watched(self, since: dt.datetime) -> InvoiceQuerySet:
        """Those that money is looked for: unpaid ones, and ended ones for a while after."""
        ended = models.Q(
            status__in=(InvoiceStatus.EXPIRED, InvoiceStatus.CANCELED), ended_at__gte=since
        )
        unpaid = models.Q(status=InvoiceStatus.UNPAID)
        # Whoever has paid may pay once more, or may have sent a wrong amount before.
        paid = models.Q(
            status=InvoiceStatus.PAID, expires_at__gte=timezone.now() - WATCHED_AFTER_PAYMENT
        )
        found: InvoiceQuerySet = self.filter(unpaid | ended | paid, bitsby_id__isnull=False)
        return found


class BitsbyInvoice(models.Model):
    """One attempt to have an order paid: Bitsby's request to pay, kept for good."""

    #: Those that a buyer may still pay.
    LIVE = (InvoiceStatus.CREATING, InvoiceStatus.UNPAID)

    # An order that the shop deletes takes no record of money with it; its number stays here.
    order = models.ForeignKey(
        "order.Order",
        null=True,
        on_delete=models.SET_NULL,
        related_name="bitsby_invoices",
        verbose_name=_("Order"),
    )
    order_number = models.CharField(_("Order number"), max_length=128, db_index=True)
    status = models.CharField(
        _("Status"), max_length=16, choices=InvoiceStatus.choices, default=InvoiceStatus.CREATING
    )
    amount = models.DecimalField(_("Asked amount"), max_digits=12, decimal_places=2)
    currency = models.CharField(_("Currency"), max_length=12)
    project_id = models.CharField(_("Project"), max_length=36)
    bitsby_id = models.UUIDField(_("Bitsby id"), null=True, unique=True, editable=False)
    uid = models.CharField(_("Short id"), max_length=64, blank=True, db_index=True)
    url = models.URLField(_("Payment page"), max_length=2000, blank=True)
    wallets = models.JSONField(_("Wallets and reserved amounts"), default=list, blank=True)
    reply = models.JSONField(_("Bitsby's answer"), default=dict, blank=True)
    created_at = models.DateTimeField(_("Created"), default=timezone.now)
    expires_at = models.DateTimeField(_("To be paid until"), null=True, blank=True)
    ended_at = models.DateTimeField(_("Expired or canceled"), null=True, blank=True)
    last_refreshed_at = models.DateTimeField(_("Asked about"), default=EPOCH)
    #: When a delivery about it was last stored; of a flood only one in a while is.
    last_delivery_stored_at = models.DateTimeField(default=EPOCH, editable=False)
    webhook_pending_since = models.DateTimeField(_("Delivery to look into"), null=True, blank=True)
    order_awaits_payment = models.BooleanField(_("The order waits for it"), default=True)
    #: Of the payment page, as Bitsby last said.
    page_views = models.PositiveIntegerField(_("Page views"), null=True, blank=True)
    failure = models.CharField(_("What went wrong"), max_length=300, blank=True)

    objects = InvoiceQuerySet.as_manager()

    class Meta:
        verbose_name = _("Bitsby invoice")
        verbose_name_plural = _("Bitsby invoices")
        ordering = ("-pk",)
        constraints = [
            models.UniqueConstraint(
                fields=["order"],
                condition=models.Q(status__in=["creating", "unpaid"]),
                name="bitsby_one_live_invoice",
            )
        ]
        indexes = [
            # The order of the dashboard's and the admin's lists and their filters by date, and the
            # invoices that a payment may be meant for.
            models.Index(fields=["created_at"], name="bitsby_created"),
            # The last word on invoices whose time is up, in every pass.
            models.Index(fields=["status", "expires_at"], name="bitsby_status_expires"),
            # The filters by currency, of which a shop may use one rarely.
            models.Index(fields=["currency"], name="bitsby_currency"),
            # Whether an ended invoice is still watched.
            models.Index(fields=["status", "ended_at"], name="bitsby_status_ended"),
            # Orders that wait for a payment which no longer comes, in every pass.
            models.Index(
                fields=["ended_at"],
                condition=models.Q(order_awaits_payment=True, ended_at__isnull=False),
                name="bitsby_awaits_payment",
            ),
            # Deliveries that could not be looked into at once.
            models.Index(
                fields=["webhook_pending_since"],
                condition=models.Q(webhook_pending_since__isnull=False),
                name="bitsby_webhook_pending",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.order_number}/{self.uid or self.pk}"

    def is_over(self, now: dt.datetime) -> bool:
        """Tell whether the time to pay has passed by our own clock; what counts is Bitsby's."""
        return self.expires_at is not None and self.expires_at <= now

    @property
    def can_be_cancelled(self) -> bool:
        """Tell whether Bitsby allows cancelling, by its last word: unpaid, and 0 page views."""
        return self.status == InvoiceStatus.UNPAID and self.page_views == 0

    def asks(self, amount: Decimal, currency: str) -> bool:
        """Tell whether this invoice asks for that amount of that currency."""
        return self.amount == amount and self.currency == currency

    def fits(self, order: Any) -> bool:
        """Tell whether this invoice asks for what the order costs now."""
        return self.asks(order.total_incl_tax, order.currency)


def log_change(what: str, invoice: BitsbyInvoice, **details: Any) -> None:
    """Log a state change with the order's number and the invoice's id, as operators search them."""
    extra = "".join(f" {name}={value}" for name, value in details.items())
    logger.info("%s: order=%s invoice=%s%s", what, invoice.order_number, invoice.bitsby_id, extra)
