"""An invoice: one attempt to have an order paid."""

from __future__ import annotations

import datetime as dt
import logging
from decimal import Decimal
from typing import Any

from django.conf import settings
from django.db import models, router, transaction
from django.db.models.functions import Coalesce
from django.utils import timezone
from django.utils.crypto import salted_hmac
from django.utils.translation import gettext_lazy as _
from django.utils.translation import gettext_noop, pgettext_lazy

from oscar_bitsby.choices import InvoiceStatus
from oscar_bitsby.models.gateway_state import EPOCH

logger = logging.getLogger("oscar_bitsby")

#: How long after its expiry time the payments of a paid invoice are synced.
WATCHED_AFTER_PAYMENT = dt.timedelta(days=2)

PAID_WITHOUT_PAYMENT = gettext_noop("Bitsby reports it as paid without naming the payment")


def email_keys(email: str) -> list[str]:
    """Return the values of ``email_key`` that an address may have, the present one first.

    An address cannot be read from its key in the database, so nothing has to be erased
    with an account. After a change of ``SECRET_KEY``, its fallbacks still find older invoices.
    """
    text = email.strip().lower()
    secrets = (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS) if text else ()
    return [
        salted_hmac("oscar_bitsby.email", text, secret, algorithm="sha256").hexdigest()
        for secret in secrets
    ]


class InvoiceQuerySet(models.QuerySet["BitsbyInvoice"]):
    """Named sets of invoices."""

    def update_unlocked(self, **values: Any) -> None:
        """Update all of these rows that are not locked.

        One UPDATE of many rows would lock them in any order, and hold some while it waits for
        others: it could deadlock with settling.
        """
        with transaction.atomic(using=router.db_for_write(self.model)):
            unlocked = self.select_for_update(skip_locked=True, of=("self",)).order_by("pk")
            keys = list(unlocked.values_list("pk", flat=True))
            BitsbyInvoice.objects.filter(pk__in=keys).update(**values)

    def stop_awaiting_payment(self) -> None:
        """Write that the orders of these invoices no longer wait for a payment."""
        self.filter(order_awaits_payment=True).update(order_awaits_payment=False)

    def live(self) -> InvoiceQuerySet:
        """Return those that a buyer can still pay: at most one of an order."""
        return self.filter(status__in=BitsbyInvoice.LIVE)

    def failed_attempts(self) -> InvoiceQuerySet:
        """Return those without an id from Bitsby that have expired: no buyer has seen them."""
        found: InvoiceQuerySet = self.filter(status=InvoiceStatus.EXPIRED, bitsby_id=None)
        return found

    def unanswered(self) -> InvoiceQuerySet:
        """Return those without a usable answer that is still needed."""
        is_needed = models.Q(status=InvoiceStatus.UNPAID) | models.Q(order_awaits_payment=True)
        return self.filter(is_needed, unanswered_since__isnull=False)

    def watched(self, since: dt.datetime) -> InvoiceQuerySet:
        """Return those whose payments are synced: unpaid ones, and others for some time.

        Expired and canceled ones are left out if they ended before ``since``.
        """
        ended = models.Q(
            status__in=(InvoiceStatus.EXPIRED, InvoiceStatus.CANCELED), ended_at__gte=since
        )
        unpaid = models.Q(status=InvoiceStatus.UNPAID)
        # The buyer may pay a second time, or may have sent a wrong amount before.
        paid = models.Q(
            status=InvoiceStatus.PAID, expires_at__gte=timezone.now() - WATCHED_AFTER_PAYMENT
        )
        return self.filter(unpaid | ended | paid, bitsby_id__isnull=False)


class BitsbyInvoice(models.Model):
    """Bitsby's request to pay one order, never deleted. An order can have several over time."""

    #: Statuses in which a buyer can still pay.
    LIVE = (InvoiceStatus.CREATING, InvoiceStatus.UNPAID)

    # Invoices outlive an order that the shop deletes, and keep its number.
    order = models.ForeignKey(
        "order.Order",
        null=True,
        on_delete=models.SET_NULL,
        related_name="bitsby_invoices",
        verbose_name=pgettext_lazy("bitsby", "Order"),
    )
    order_number = models.CharField(
        pgettext_lazy("bitsby", "Order number"), max_length=128, db_index=True
    )
    #: Finds the invoices of an e-mail address: Oscar has no index of the addresses of guests.
    email_key = models.CharField(max_length=64, blank=True, editable=False)
    status = models.CharField(
        _("Status"), max_length=16, choices=InvoiceStatus.choices, default=InvoiceStatus.CREATING
    )
    amount = models.DecimalField(pgettext_lazy("bitsby", "Amount"), max_digits=12, decimal_places=2)
    currency = models.CharField(pgettext_lazy("bitsby", "Currency"), max_length=12)
    project_id = models.CharField(_("Project ID at Bitsby"), max_length=36)
    bitsby_id = models.UUIDField(_("Invoice ID at Bitsby"), null=True, unique=True, editable=False)
    uid = models.CharField(_("Short ID at Bitsby"), max_length=64, blank=True, db_index=True)
    url = models.URLField(_("Payment page"), max_length=2000, blank=True)
    wallets = models.JSONField(_("Addresses to pay to"), default=list, blank=True)
    reply = models.JSONField(_("Bitsby's answer"), default=dict, blank=True)
    created_at = models.DateTimeField(pgettext_lazy("bitsby", "Created"), default=timezone.now)
    expires_at = models.DateTimeField(_("Pay by"), null=True, blank=True)
    ended_at = models.DateTimeField(_("Expired or cancelled"), null=True, blank=True)
    last_refreshed_at = models.DateTimeField(_("Last checked at Bitsby"), default=EPOCH)
    #: When a webhook delivery was last stored. Of many in a short time only one is.
    last_delivery_stored_at = models.DateTimeField(default=EPOCH, editable=False)
    #: The newest stored delivery was not answered 200. The one that is will be stored, too.
    newest_delivery_failed = models.BooleanField(default=False, editable=False)
    webhook_pending_since = models.DateTimeField(_("To be checked since"), null=True, blank=True)
    order_awaits_payment = models.BooleanField(_("The order waits for a payment"), default=True)
    #: If its payment is short, the buyer is asked for the rest.
    asks_for_rest = models.BooleanField(default=False, editable=False)
    #: It asks for the rest of an order that is paid in part.
    is_for_rest = models.BooleanField(_("Asks only for the rest"), default=False)
    #: The order was cancelled, and its offers count it no longer. Vouchers have Oscar's own rows.
    offers_released = models.BooleanField(default=False, editable=False)
    #: Bitsby's commission for the payment, by its last answer. None if that named none.
    commission_usd = models.DecimalField(
        _("Bitsby's commission in USD"), max_digits=12, decimal_places=2, null=True, blank=True
    )
    #: Views of the payment page, by Bitsby's last answer.
    page_views = models.PositiveIntegerField(_("Views of the payment page"), null=True, blank=True)
    #: When the shop's own page first showed its addresses. Bitsby counts no view then.
    addresses_shown_at = models.DateTimeField(
        _("Addresses shown on the shop's page"), null=True, blank=True
    )
    #: Since when a request to cancel it runs, or has had no clear answer.
    cancelling_since = models.DateTimeField(null=True, editable=False)
    failure = models.CharField(_("What went wrong"), max_length=300, blank=True)
    #: Since when Bitsby gives no usable answer about this invoice, and the newest reason.
    unanswered_since = models.DateTimeField(
        _("No usable answer from Bitsby since"), null=True, blank=True
    )
    unanswered_reason = models.CharField(
        _("Why the answer is not usable"), max_length=300, blank=True
    )

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
            # Order and date filters of the lists in dashboard and admin, and the invoices that a
            # payment can be meant for.
            models.Index(fields=["created_at"], name="bitsby_created"),
            # Search by the e-mail address. On PostgreSQL, db_index would create two of them.
            models.Index(fields=["email_key"], name="bitsby_email_key"),
            # The list in the dashboard, sorted by amount.
            models.Index(fields=["amount", "id"], name="bitsby_amount"),
            # Overdue invoices, read in every run.
            models.Index(fields=["status", "expires_at"], name="bitsby_status_expires"),
            # The filter by a currency that few invoices have.
            models.Index(fields=["currency"], name="bitsby_currency"),
            # Expired and canceled invoices that are still watched.
            models.Index(fields=["status", "ended_at"], name="bitsby_status_ended"),
            # Orders to cancel, read in every run.
            models.Index(
                fields=["ended_at"],
                condition=models.Q(order_awaits_payment=True, ended_at__isnull=False),
                name="bitsby_awaits_payment",
            ),
            # Webhook deliveries that are not processed yet.
            models.Index(
                fields=["webhook_pending_since"],
                condition=models.Q(webhook_pending_since__isnull=False),
                name="bitsby_webhook_pending",
            ),
            # Invoices about which Bitsby gives no usable answer.
            models.Index(
                fields=["unanswered_since"],
                condition=models.Q(unanswered_since__isnull=False),
                name="bitsby_unanswered",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.order_number}/{self.uid or self.pk}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        if self._state.adding and self.order is not None and not self.email_key:
            self.email_key = next(iter(email_keys(self.order.email or "")), "")
        super().save(*args, **kwargs)

    def is_over(self, now: dt.datetime) -> bool:
        """Tell whether the time to pay is over by our clock. Bitsby's clock is what counts."""
        return self.expires_at is not None and self.expires_at <= now

    @property
    def can_be_cancelled(self) -> bool:
        """Tell whether it can be cancelled, by Bitsby's last answer: nobody has seen how to pay."""
        is_unseen = self.page_views == 0 and self.addresses_shown_at is None
        return self.status == InvoiceStatus.UNPAID and is_unseen

    def show_addresses(self) -> bool:
        """Tell whether its buyer may be shown the addresses; staff cannot cancel it afterwards.

        Bitsby would cancel it, as its own page was not opened. This write and that of
        ``begin_cancelling`` exclude each other.
        """
        if self.addresses_shown_at is not None:
            return True
        rows = BitsbyInvoice.objects.filter(pk=self.pk, status=InvoiceStatus.UNPAID)
        free = rows.filter(cancelling_since=None)
        return bool(free.update(addresses_shown_at=Coalesce("addresses_shown_at", timezone.now())))

    def begin_cancelling(self, now: dt.datetime) -> bool:
        """Tell whether cancelling may be requested; its buyer is shown no addresses meanwhile.

        Args:
            now: the database's time.
        """
        rows = BitsbyInvoice.objects.filter(pk=self.pk, status=InvoiceStatus.UNPAID)
        return bool(rows.filter(addresses_shown_at=None).update(cancelling_since=now))

    def end_cancelling(self) -> None:
        """After an answer: the request to cancel it has had its effect, or none."""
        BitsbyInvoice.objects.filter(pk=self.pk).update(cancelling_since=None)

    def asks(self, amount: Decimal, currency: str) -> bool:
        """Tell whether this invoice asks for that amount of that currency."""
        return self.amount == amount and self.currency == currency

    def fits(self, order: Any, to_pay: Decimal | None = None) -> bool:
        """Tell whether this invoice asks for ``to_pay``, by default the order's total."""
        return self.asks(order.total_incl_tax if to_pay is None else to_pay, order.currency)


def log_change(what: str, invoice: BitsbyInvoice, **details: Any) -> None:
    """Log a state change with the order's number and the invoice's id, as operators search them."""
    extra = "".join(f" {name}={value}" for name, value in details.items())
    logger.info("%s: order=%s invoice=%s%s", what, invoice.order_number, invoice.bitsby_id, extra)
