"""The outbox of mails to buyers: what is to be told, and what became of it."""

from __future__ import annotations

import datetime as dt

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from oscar_bitsby.choices import MailCode, MailStatus

#: A mail about what happened longer ago than this would only puzzle its reader.
MAX_AGE = dt.timedelta(days=1)


class BuyerMailQuerySet(models.QuerySet["BuyerMail"]):
    """The sets of mails that the rest of the app asks for by name."""

    def waiting(self, now: dt.datetime) -> BuyerMailQuerySet:
        """Those that may be sent now; nobody has begun to."""
        found: BuyerMailQuerySet = self.filter(
            status=MailStatus.WAITING, try_after__lte=now, created_at__gt=now - MAX_AGE
        )
        return found


class BuyerMail(models.Model):
    """One mail to the buyer of one order, written together with what it tells of.

    ``key`` says what it is about: there is one of each, so nothing is told twice.
    """

    order = models.ForeignKey(
        "order.Order",
        null=True,
        on_delete=models.SET_NULL,
        related_name="bitsby_mails",
        verbose_name=_("Order"),
    )
    order_number = models.CharField(_("Order number"), max_length=128, db_index=True)
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
    code = models.CharField(_("Mail"), max_length=40, choices=MailCode.choices)
    key = models.CharField(max_length=100, unique=True, editable=False)
    #: The buyer's when placing the order; of later mails it is found when they are sent.
    language = models.CharField(_("Language"), max_length=20)
    status = models.CharField(
        _("Status"), max_length=16, choices=MailStatus.choices, default=MailStatus.WAITING
    )
    created_at = models.DateTimeField(_("Created"), default=timezone.now)
    tries = models.PositiveSmallIntegerField(_("Tries"), default=0)
    try_after = models.DateTimeField(default=timezone.now, editable=False)
    sending_since = models.DateTimeField(_("Being sent since"), null=True, blank=True)
    sent_at = models.DateTimeField(_("Sent"), null=True, blank=True)
    error = models.CharField(_("Why not"), max_length=300, blank=True)

    objects = BuyerMailQuerySet.as_manager()

    class Meta:
        verbose_name = _("mail to a buyer")
        verbose_name_plural = _("mails to buyers")
        ordering = ("-pk",)
        indexes = [
            # What each pass looks for; of thousands of rows hardly ever one.
            models.Index(
                fields=["status"],
                condition=models.Q(status__in=["waiting", "sending"]),
                name="bitsby_mails_to_send",
            )
        ]

    def __str__(self) -> str:
        return f"{self.code} {self.order_number}"
