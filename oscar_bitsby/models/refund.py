"""A refund: coins that the shop sends back itself, since Bitsby has no call for it."""

from __future__ import annotations

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy
from oscar.core.compat import AUTH_USER_MODEL

from oscar_bitsby.choices import COUNTED_REFUND, OPEN_REFUND, RefundState
from oscar_bitsby.models.payment import BitsbyPayment


class RefundQuerySet(models.QuerySet["BitsbyRefund"]):
    """Named sets of refunds."""

    def open(self) -> RefundQuerySet:
        """Return those whose coins are not sent yet."""
        return self.filter(state__in=OPEN_REFUND)

    def counted(self) -> RefundQuerySet:
        """Return those that reduce what can still be refunded: open and sent ones."""
        return self.filter(state__in=COUNTED_REFUND)


class BitsbyRefund(models.Model):
    """One refund to the buyer of an order, or to the sender of a payment without an order."""

    order = models.ForeignKey(
        "order.Order",
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="bitsby_refunds",
        verbose_name=pgettext_lazy("bitsby", "Order"),
    )
    order_number = models.CharField(
        pgettext_lazy("bitsby", "Order number"), max_length=128, blank=True, db_index=True
    )
    payment = models.ForeignKey(
        BitsbyPayment,
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="refunds",
        verbose_name=pgettext_lazy("transfer", "Payment"),
    )
    state = models.CharField(
        _("Status"), max_length=16, choices=RefundState.choices, default=RefundState.REQUESTED
    )
    #: None if the payment was never booked and no rate is known.
    amount = models.DecimalField(
        pgettext_lazy("bitsby", "Amount"), max_digits=12, decimal_places=2, null=True, blank=True
    )
    currency = models.CharField(pgettext_lazy("bitsby", "Currency"), max_length=12, blank=True)
    cryptocurrency = models.CharField(_("Coin"), max_length=64)
    blockchain = models.CharField(_("Network"), max_length=64)
    coin_amount = models.DecimalField(_("Amount in coin"), max_digits=30, decimal_places=18)
    #: At the rate that the invoice locked; None if none is known. Staff may send another amount.
    proposed_coin_amount = models.DecimalField(
        _("Proposed amount in coin"), max_digits=30, decimal_places=18, null=True, blank=True
    )
    address = models.CharField(_("Address of the buyer"), max_length=200, blank=True)
    address_given_at = models.DateTimeField(_("Address given"), null=True, blank=True)
    #: The member of staff who entered the address; None if it was the buyer.
    address_given_by = models.ForeignKey(
        AUTH_USER_MODEL,
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="+",
        verbose_name=_("Address entered by"),
    )
    #: The number of the buyer's link to the page for the address. Older links are not valid.
    link_version = models.PositiveSmallIntegerField(default=1, editable=False)
    #: Empty until it is sent. Nobody verifies it.
    transaction_hash = models.CharField(
        _("Transaction hash"), max_length=200, blank=True, db_index=True
    )
    #: Its amount is in Oscar's ledger, because its payment was booked.
    is_booked = models.BooleanField(_("Booked as a refund of the order"), default=False)
    requested_at = models.DateTimeField(_("Requested"), default=timezone.now)
    requested_by = models.ForeignKey(
        AUTH_USER_MODEL,
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="+",
        verbose_name=_("Requested by"),
    )
    #: When it was sent or cancelled, and by whom.
    closed_at = models.DateTimeField(_("Sent or cancelled"), null=True, blank=True)
    closed_by = models.ForeignKey(
        AUTH_USER_MODEL,
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="+",
        verbose_name=_("Sent or cancelled by"),
    )
    #: The reasons of all its steps, one a line.
    note = models.TextField(_("Reasons"), blank=True)

    objects = RefundQuerySet.as_manager()

    class Meta:
        verbose_name = _("Bitsby refund")
        verbose_name_plural = _("Bitsby refunds")
        ordering = ("-pk",)
        constraints = [
            models.UniqueConstraint(
                fields=["payment"],
                condition=models.Q(state__in=["requested", "address_given"]),
                name="bitsby_one_open_refund",
            ),
            models.UniqueConstraint(
                fields=["blockchain", "transaction_hash"],
                condition=~models.Q(transaction_hash=""),
                name="bitsby_one_refund_by_hash",
            ),
        ]
        indexes = [
            # Refunds that wait for the buyer or for staff.
            models.Index(
                fields=["requested_at"],
                condition=models.Q(state__in=["requested", "address_given"]),
                name="bitsby_refund_open",
            ),
            # Sent refunds by their time, for export, overview and audit.
            models.Index(
                fields=["closed_at"], condition=models.Q(state="sent"), name="bitsby_refund_sent"
            ),
            # Addresses to erase.
            models.Index(
                fields=["closed_at"],
                condition=~models.Q(address=""),
                name="bitsby_refund_address",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.coin_amount.normalize():f} {self.cryptocurrency.upper()}".strip()

    @property
    def is_open(self) -> bool:
        """Tell whether the coins are not sent yet."""
        return self.state in OPEN_REFUND
