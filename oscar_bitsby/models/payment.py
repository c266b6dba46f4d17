"""A payment: a transfer on the chain that Bitsby saw."""

from __future__ import annotations

import datetime as dt
from typing import Any

from django.db import models
from django.db.models.functions import Coalesce
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy
from oscar.core.compat import AUTH_USER_MODEL

from oscar_bitsby.choices import COUNTED_REFUND, Resolution, ReviewReason
from oscar_bitsby.models.invoice import BitsbyInvoice

#: The time of a payment: of its transaction or, where Bitsby names none, when it was first seen.
PAYMENT_TIME = Coalesce("transaction_at", "seen_at")


class PaymentQuerySet(models.QuerySet["BitsbyPayment"]):
    """Named sets of payments."""

    def needs_review(self) -> PaymentQuerySet:
        """Return those that need a decision by staff and have none."""
        return self.exclude(review_reason="").filter(resolved_at=None)

    def without_refund(self) -> PaymentQuerySet:
        """Return those with no refund that is open or sent."""
        return self.exclude(refunds__state__in=COUNTED_REFUND)


class BitsbyPayment(models.Model):
    """A payment that concerns this shop, or may."""

    bitsby_id = models.UUIDField(_("Payment ID at Bitsby"), unique=True, editable=False)
    invoice = models.ForeignKey(
        BitsbyInvoice,
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="payments",
        verbose_name=_("Invoice"),
    )
    #: The remote invoice that it is bound to, ours or not.
    bound_to = models.UUIDField(_("ID of the invoice that it is bound to"), null=True, blank=True)
    project_id = models.CharField(_("Project ID at Bitsby"), max_length=36, blank=True)
    amount = models.DecimalField(_("Amount in coin"), max_digits=30, decimal_places=18)
    cryptocurrency = models.CharField(_("Coin"), max_length=64, blank=True)
    blockchain = models.CharField(_("Network"), max_length=64, blank=True)
    wallet_id = models.CharField(_("Wallet ID at Bitsby"), max_length=64, blank=True)
    address = models.CharField(_("Received at address"), max_length=200, blank=True)
    hash = models.CharField(_("Transaction hash"), max_length=200, blank=True, db_index=True)
    transaction_at = models.DateTimeField(_("Time of the transaction"), null=True, blank=True)
    seen_at = models.DateTimeField(_("First seen"), default=timezone.now)
    #: In the invoice's currency, at the rate that the invoice locked. None if no rate is known.
    fiat_value = models.DecimalField(
        _("Value at the locked rate"), max_digits=12, decimal_places=2, null=True, blank=True
    )
    currency = models.CharField(pgettext_lazy("bitsby", "Currency"), max_length=12, blank=True)
    #: The fiat amount of one coin, as the invoice locked it. None if no rate is known.
    locked_rate = models.DecimalField(
        _("Locked rate"),
        max_digits=30,
        decimal_places=12,
        null=True,
        blank=True,
    )
    #: Not for this shop, but for another project of the account.
    is_foreign = models.BooleanField(_("Belongs to another project"), default=False)
    #: Worth far too little to be meant for an invoice; decided when it is recorded.
    is_dust = models.BooleanField(_("Very small"), default=False)
    review_reason = models.CharField(
        _("Review reason"),
        max_length=16,
        choices=ReviewReason.choices,
        blank=True,
        default="",
    )
    #: Further reasons of the same payment, joined by spaces: see ``review_reasons``.
    further_reasons = models.CharField(
        _("Further reasons"), max_length=100, blank=True, default="", editable=False
    )
    #: When a run last asked Bitsby to bind it, and how often that came to nothing.
    binding_asked_at = models.DateTimeField(null=True, blank=True, editable=False)
    failed_bindings = models.PositiveSmallIntegerField(default=0, editable=False)
    booked_at = models.DateTimeField(_("Booked for the order"), null=True, blank=True)
    resolved_at = models.DateTimeField(_("Decided"), null=True, blank=True)
    resolution = models.CharField(
        _("Decision"), max_length=16, choices=Resolution.choices, blank=True, default=""
    )
    resolved_by = models.ForeignKey(
        AUTH_USER_MODEL,
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="+",
        verbose_name=_("Decided by"),
    )
    resolution_note = models.CharField(_("Reason for the decision"), max_length=300, blank=True)

    objects = PaymentQuerySet.as_manager()

    class Meta:
        verbose_name = _("Bitsby payment")
        verbose_name_plural = _("Bitsby payments")
        ordering = ("-pk",)
        permissions = [
            ("bind_payment", _("Can bind Bitsby payments and settle them")),
            ("refund_payment", _("Can refund Bitsby payments")),
        ]
        indexes = [
            # Export, overview and audit read payments by their time. The further columns let the
            # overview add those of a month without reading the rows: for that, PostgreSQL needs the
            # columns of the time as well. SQLite has no ``include``, and Django warns about one.
            models.Index(
                PAYMENT_TIME,
                "id",
                "is_foreign",
                "booked_at",
                "currency",
                "cryptocurrency",
                "fiat_value",
                "transaction_at",
                "seen_at",
                name="bitsby_payment_time",
            ),
            # Payments to review with their order, and their number in tabs and navigation.
            models.Index(
                fields=["is_dust", "seen_at", "id"],
                condition=~models.Q(review_reason="") & models.Q(resolved_at=None),
                name="bitsby_attention",
            ),
            # Those of them that are no dust, by their time: the overview adds those of a month.
            models.Index(
                PAYMENT_TIME,
                condition=~models.Q(review_reason="") & models.Q(resolved_at=None, is_dust=False),
                name="bitsby_attention_time",
            ),
            # Payments that can be bound to an invoice.
            models.Index(
                fields=["transaction_at"],
                condition=models.Q(bound_to=None, booked_at=None),
                name="bitsby_unbound",
            ),
            # Resolved payments, newest first.
            models.Index(
                fields=["-resolved_at", "-id"],
                condition=models.Q(resolved_at__isnull=False),
                name="bitsby_resolved",
            ),
            # The admin's filters by reason, decision and project. Each finds few rows.
            models.Index(
                fields=["review_reason"],
                condition=~models.Q(review_reason=""),
                name="bitsby_reason",
            ),
            models.Index(
                fields=["resolution"], condition=~models.Q(resolution=""), name="bitsby_resolution"
            ),
            models.Index(
                fields=["is_foreign"], condition=models.Q(is_foreign=True), name="bitsby_foreign"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.amount.normalize():f} {self.cryptocurrency.upper()}".strip()

    @property
    def needs_review(self) -> bool:
        """Whether staff have to decide about it, as ``PaymentQuerySet.needs_review`` finds it."""
        return bool(self.review_reason) and self.resolved_at is None

    @property
    def paid_at(self) -> dt.datetime:
        """The time of the payment, as ``PAYMENT_TIME`` computes it."""
        return self.transaction_at or self.seen_at

    @property
    def review_reasons(self) -> list[ReviewReason]:
        """All reasons why it needs a decision, the most important one first."""
        reasons = [self.review_reason, *self.further_reasons.split()]
        return [ReviewReason(reason) for reason in reasons if reason in ReviewReason.values]

    @property
    def decided_by(self) -> Any:
        """Who decided about it: a user, or what stands for one that is not known any more."""
        if self.resolved_by is not None:
            return self.resolved_by
        is_by_app = self.resolution in ("", Resolution.ASKED, Resolution.TOLERATED)
        return _("the app") if is_by_app else _("a former user")

    @property
    def review_text(self) -> str:
        """The reasons in words."""
        return "; ".join(str(reason.label) for reason in self.review_reasons)
