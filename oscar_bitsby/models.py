"""What the app remembers: invoices, the payments that Bitsby saw, and deliveries."""

from __future__ import annotations

import datetime as dt
import logging
from decimal import Decimal
from typing import Any

from django.db import models, router, transaction
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from django.utils.translation import gettext_noop
from oscar.core.compat import AUTH_USER_MODEL

from oscar_bitsby.mail_models import BuyerMail as BuyerMail
from oscar_bitsby.state_models import EPOCH, GatewayState

NAMELESS = gettext_noop("Bitsby calls it paid without naming the payment")

__all__ = [
    "EPOCH",
    "BitsbyInvoice",
    "BitsbyPayment",
    "GatewayState",
    "WebhookDelivery",
    "log_change",
]

logger = logging.getLogger("oscar_bitsby")

#: How long after its time a paid invoice still has payments looked for.
WATCHED_AFTER_PAYMENT = dt.timedelta(days=2)


class InvoiceQuerySet(models.QuerySet["BitsbyInvoice"]):
    """The sets of invoices that the rest of the app asks for by name."""

    def note_on(self, **values: Any) -> None:
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
            status__in=(BitsbyInvoice.EXPIRED, BitsbyInvoice.CANCELED), ended_at__gte=since
        )
        unpaid = models.Q(status=BitsbyInvoice.UNPAID)
        # Whoever has paid may pay once more, or may have sent a wrong amount before.
        paid = models.Q(
            status=BitsbyInvoice.PAID, expires_at__gte=timezone.now() - WATCHED_AFTER_PAYMENT
        )
        found: InvoiceQuerySet = self.filter(unpaid | ended | paid, bitsby_id__isnull=False)
        return found


class BitsbyInvoice(models.Model):
    """One attempt to have an order paid: Bitsby's request to pay, kept for good."""

    CREATING, UNPAID, PAID, EXPIRED, CANCELED = "creating", "unpaid", "paid", "expired", "canceled"
    LIVE = (CREATING, UNPAID)
    STATUSES = (
        (CREATING, _("being created")),
        (UNPAID, _("waiting for payment")),
        (PAID, _("paid")),
        (EXPIRED, _("expired")),
        (CANCELED, _("canceled")),
    )

    # An order that the shop deletes takes no record of money with it; its number stays here.
    order = models.ForeignKey(
        "order.Order",
        null=True,
        on_delete=models.SET_NULL,
        related_name="bitsby_invoices",
        verbose_name=_("Order"),
    )
    order_number = models.CharField(_("Order number"), max_length=128, db_index=True)
    status = models.CharField(_("Status"), max_length=16, choices=STATUSES, default=CREATING)
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
    checked_at = models.DateTimeField(_("Asked about"), default=EPOCH)
    #: When a delivery about it was last stored; of a flood only one in a while is.
    delivery_kept_at = models.DateTimeField(default=EPOCH, editable=False)
    hinted_at = models.DateTimeField(_("Delivery to look into"), null=True, blank=True)
    holds_order = models.BooleanField(_("The order waits for it"), default=True)
    #: Of the payment page, as Bitsby last said.
    views = models.PositiveIntegerField(_("Page views"), null=True, blank=True)
    error = models.CharField(_("What went wrong"), max_length=300, blank=True)

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
                condition=models.Q(holds_order=True, ended_at__isnull=False),
                name="bitsby_holds_order",
            ),
            # Deliveries that could not be looked into at once.
            models.Index(
                fields=["hinted_at"],
                condition=models.Q(hinted_at__isnull=False),
                name="bitsby_hinted",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.order_number}/{self.uid or self.pk}"

    def is_over(self, now: dt.datetime) -> bool:
        """Tell whether the time to pay has passed by our own clock; what counts is Bitsby's."""
        return self.expires_at is not None and self.expires_at <= now

    @property
    def may_be_cancelled(self) -> bool:
        """Tell whether Bitsby allows cancelling, by its last word: unpaid, and 0 page views."""
        return self.status == self.UNPAID and self.views == 0

    def asks(self, amount: Decimal, currency: str) -> bool:
        """Tell whether this invoice asks for that amount of that currency."""
        return self.amount == amount and self.currency == currency

    def fits(self, order: Any) -> bool:
        """Tell whether this invoice asks for what the order costs now."""
        return self.asks(order.total_incl_tax, order.currency)


class PaymentQuerySet(models.QuerySet["BitsbyPayment"]):
    """The sets of payments that the rest of the app asks for by name."""

    def in_inbox(self) -> PaymentQuerySet:
        """Those that need a person, and nobody has dealt with."""
        found: PaymentQuerySet = self.exclude(attention="").filter(resolved_at=None)
        return found


class BitsbyPayment(models.Model):
    """A transfer that Bitsby saw and that concerns this shop, or may."""

    # Why a payment needs a person; empty when it is plainly the payment of its order, or settled.
    UNMATCHED, SHORT, OVER, LATE, SECOND = "unmatched", "short", "over", "late", "second"
    MISMATCH, UNKNOWN_INVOICE, UNKNOWN_WORTH = "mismatch", "unknown", "worth"
    ORDER_GONE, STATUS, ENDED, REBOUND = "gone", "status", "ended", "rebound"
    REASONS = (
        (UNMATCHED, _("bound to no invoice: its amount fits none")),
        (SHORT, _("less than the order's total")),
        (OVER, _("more than the order's total")),
        (LATE, _("came after the order was cancelled")),
        (SECOND, _("the order was already paid")),
        (MISMATCH, _("the invoice at Bitsby is not what was asked for")),
        (UNKNOWN_INVOICE, _("bound to an invoice that this shop does not know")),
        (UNKNOWN_WORTH, _("its worth is not known: no rate was locked for its wallet")),
        (ORDER_GONE, _("its order was deleted")),
        (ENDED, _("bound to an invoice that Bitsby does not call paid")),
        (REBOUND, _("Bitsby has it on another invoice than the one it was booked for")),
        (STATUS, _("the order's status could not be changed")),
    )

    # What staff made of a payment that needed them.
    BOUND, ACCEPTED, REOPENED, DISMISSED = "bound", "accepted", "reopened", "dismissed"
    RESOLUTIONS = (
        (BOUND, _("bound to an invoice")),
        (ACCEPTED, _("accepted as it is")),
        (REOPENED, _("settled its order again")),
        (DISMISSED, _("dismissed")),
    )

    bitsby_id = models.UUIDField(_("Bitsby id"), unique=True, editable=False)
    invoice = models.ForeignKey(
        BitsbyInvoice,
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="payments",
        verbose_name=_("Invoice"),
    )
    #: What Bitsby says it is bound to, ours or not.
    bound_to = models.UUIDField(_("Bound to invoice"), null=True, blank=True)
    project_id = models.CharField(_("Project"), max_length=36, blank=True)
    amount = models.DecimalField(_("Amount in coin"), max_digits=30, decimal_places=18)
    cryptocurrency = models.CharField(_("Coin"), max_length=64, blank=True)
    blockchain = models.CharField(_("Chain"), max_length=64, blank=True)
    wallet_id = models.CharField(_("Wallet"), max_length=64, blank=True)
    address = models.CharField(_("Address"), max_length=200, blank=True)
    hash = models.CharField(_("Transaction hash"), max_length=200, blank=True, db_index=True)
    transaction_at = models.DateTimeField(_("On the chain"), null=True, blank=True)
    seen_at = models.DateTimeField(_("First seen"), default=timezone.now)
    #: Worth in the invoice's currency at the rate that the invoice locked.
    worth = models.DecimalField(_("Worth"), max_digits=12, decimal_places=2, null=True, blank=True)
    currency = models.CharField(_("Currency"), max_length=12, blank=True)
    #: Not for this shop: bound to an invoice of another project of the account.
    is_foreign = models.BooleanField(_("Of another project"), default=False)
    attention = models.CharField(
        _("Needs attention"), max_length=16, choices=REASONS, blank=True, default=""
    )
    booked_at = models.DateTimeField(_("Booked"), null=True, blank=True)
    resolved_at = models.DateTimeField(_("Dealt with"), null=True, blank=True)
    resolution = models.CharField(
        _("How"), max_length=16, choices=RESOLUTIONS, blank=True, default=""
    )
    resolved_by = models.ForeignKey(
        AUTH_USER_MODEL,
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="+",
        verbose_name=_("By"),
    )
    resolution_note = models.CharField(_("Why"), max_length=300, blank=True)

    objects = PaymentQuerySet.as_manager()

    class Meta:
        verbose_name = _("Bitsby payment")
        verbose_name_plural = _("Bitsby payments")
        ordering = ("-pk",)
        permissions = [("bind_payment", _("Can bind Bitsby payments and settle them"))]
        indexes = [
            # The money inbox and its number in the navigation.
            models.Index(
                fields=["seen_at"],
                condition=~models.Q(attention="") & models.Q(resolved_at=None),
                name="bitsby_attention",
            ),
            # The payments that may be meant for an order, on the binding page.
            models.Index(
                fields=["transaction_at"],
                condition=models.Q(bound_to=None, booked_at=None),
                name="bitsby_unbound",
            ),
            # The inbox's other side: what was dealt with, newest first.
            models.Index(
                fields=["-resolved_at", "-id"],
                condition=models.Q(resolved_at__isnull=False),
                name="bitsby_resolved",
            ),
            # The admin's filters by reason, by decision and by project: a few rows among many.
            models.Index(
                fields=["attention"], condition=~models.Q(attention=""), name="bitsby_reason"
            ),
            models.Index(
                fields=["resolution"], condition=~models.Q(resolution=""), name="bitsby_resolution"
            ),
            models.Index(
                fields=["is_foreign"], condition=models.Q(is_foreign=True), name="bitsby_foreign"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.amount.normalize():f} {self.cryptocurrency}".strip()


class WebhookDelivery(models.Model):
    """A delivery about one of our invoices, as it came, and what became of it."""

    invoice = models.ForeignKey(
        BitsbyInvoice,
        on_delete=models.CASCADE,
        related_name="deliveries",
        verbose_name=_("Invoice"),
    )
    received_at = models.DateTimeField(_("Received"), default=timezone.now, db_index=True)
    remote_address = models.CharField(_("From"), max_length=64, blank=True)
    headers = models.JSONField(_("Headers"), default=dict)
    body = models.TextField(_("Body"))
    answered = models.PositiveSmallIntegerField(_("Answered with"), null=True)
    outcome = models.CharField(_("Outcome"), max_length=300, blank=True)

    class Meta:
        verbose_name = _("Webhook delivery")
        verbose_name_plural = _("Webhook deliveries")
        ordering = ("-pk",)

    def __str__(self) -> str:
        return f"{self.invoice} {self.received_at:%Y-%m-%d %H:%M:%S}"


def log_change(what: str, invoice: BitsbyInvoice, **details: Any) -> None:
    """Log a state change with the order's number and the invoice's id, as operators search them."""
    extra = "".join(f" {name}={value}" for name, value in details.items())
    logger.info("%s: order=%s invoice=%s%s", what, invoice.order_number, invoice.bitsby_id, extra)
