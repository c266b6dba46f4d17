"""The outbox of e-mails to buyers."""

from __future__ import annotations

import datetime as dt

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from oscar_bitsby.choices import MailCode, MailStatus
from oscar_bitsby.models.gateway_state import EPOCH

#: Older e-mails are not sent: they would only confuse the buyer.
MAX_AGE = dt.timedelta(days=1)


class BuyerMailQuerySet(models.QuerySet["BuyerMail"]):
    """Named sets of e-mails."""

    def waiting(self, now: dt.datetime) -> BuyerMailQuerySet:
        """Return those that are due, and that no process is sending."""
        return self.filter(
            status=MailStatus.WAITING, try_after__lte=now, created_at__gt=now - MAX_AGE
        )


class BuyerMail(models.Model):
    """An e-mail to the buyer of an order, written in the transaction that causes it.

    ``key`` names what it is about. It is unique, so no e-mail is sent twice.
    """

    order = models.ForeignKey(
        "order.Order",
        null=True,
        on_delete=models.SET_NULL,
        related_name="bitsby_mails",
        verbose_name=pgettext_lazy("bitsby", "Order"),
    )
    order_number = models.CharField(
        pgettext_lazy("bitsby", "Order number"), max_length=128, db_index=True
    )
    invoice = models.ForeignKey(
        "oscar_bitsby.BitsbyInvoice",
        null=True,
        on_delete=models.SET_NULL,
        related_name="mails",
        verbose_name=_("Invoice"),
    )
    payment = models.ForeignKey(
        "oscar_bitsby.BitsbyPayment",
        null=True,
        on_delete=models.SET_NULL,
        related_name="mails",
        verbose_name=pgettext_lazy("transfer", "Payment"),
    )
    refund = models.ForeignKey(
        "oscar_bitsby.BitsbyRefund",
        null=True,
        on_delete=models.SET_NULL,
        related_name="mails",
        verbose_name=_("Refund"),
    )
    code = models.CharField(_("E-mail"), max_length=40, choices=MailCode.choices)
    key = models.CharField(max_length=100, unique=True, editable=False)
    #: Of the first e-mail: the buyer's language when placing the order. For later ones it is
    #: determined when they are sent.
    language = models.CharField(_("Language"), max_length=20)
    status = models.CharField(
        _("Status"), max_length=16, choices=MailStatus.choices, default=MailStatus.WAITING
    )
    created_at = models.DateTimeField(pgettext_lazy("bitsby", "Created"), default=timezone.now)
    tries = models.PositiveSmallIntegerField(_("Attempts"), default=0)
    #: At once, until a try has failed.
    try_after = models.DateTimeField(default=EPOCH, editable=False)
    sending_since = models.DateTimeField(_("Being sent since"), null=True, blank=True)
    sent_at = models.DateTimeField(_("Sent"), null=True, blank=True)
    error = models.CharField(_("Why it was not sent"), max_length=300, blank=True)

    objects = BuyerMailQuerySet.as_manager()

    class Meta:
        verbose_name = _("e-mail to a buyer")
        verbose_name_plural = _("e-mails to buyers")
        ordering = ("-pk",)
        indexes = [
            # E-mails to send, read in every run. They are few among many.
            models.Index(
                fields=["status"],
                condition=models.Q(status__in=["waiting", "sending"]),
                name="bitsby_mails_to_send",
            )
        ]

    def __str__(self) -> str:
        return f"{self.code} {self.order_number}"
