"""The outbox of alerts to the merchant."""

from __future__ import annotations

import datetime as dt
import uuid

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from oscar_bitsby.choices import AlertCode, MailStatus
from oscar_bitsby.models.gateway_state import EPOCH
from oscar_bitsby.models.payment import BitsbyPayment
from oscar_bitsby.models.refund import BitsbyRefund


class AlertQuerySet(models.QuerySet["MerchantAlert"]):
    """Named sets of alerts."""

    def due_mails(self, now: dt.datetime) -> AlertQuerySet:
        """Return those that the next e-mail is about, and that no process is sending."""
        return self.filter(mail_status=MailStatus.WAITING, try_mail_after__lte=now)

    def due_posts(self, now: dt.datetime) -> AlertQuerySet:
        """Return those to post to the URL, and that no process is posting."""
        return self.filter(post_status=MailStatus.WAITING, try_post_after__lte=now)


class MerchantAlert(models.Model):
    """An alert, written in the transaction that causes it.

    ``key`` names what it is about. It is unique, so nothing is alerted twice. The status of a way
    that ``ALERTS`` did not name at that time is empty.
    """

    #: Names the alert to the receiver of the POSTs, who may get one twice.
    uid = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    code = models.CharField(_("Alert"), max_length=20, choices=AlertCode.choices)
    key = models.CharField(max_length=100, unique=True, editable=False)
    payment = models.ForeignKey(
        BitsbyPayment,
        null=True,
        on_delete=models.SET_NULL,
        related_name="alerts",
        verbose_name=pgettext_lazy("transfer", "Payment"),
    )
    refund = models.ForeignKey(
        BitsbyRefund,
        null=True,
        on_delete=models.SET_NULL,
        related_name="alerts",
        verbose_name=_("Refund"),
    )
    order_number = models.CharField(
        pgettext_lazy("bitsby", "Order number"), max_length=128, blank=True, db_index=True
    )
    #: Further facts for the text, such as a balance: texts by name.
    details = models.JSONField(_("Details"), default=dict)
    created_at = models.DateTimeField(pgettext_lazy("bitsby", "Created"), default=timezone.now)
    mail_status = models.CharField(
        _("E-mail"), max_length=16, choices=MailStatus.choices, blank=True, default=""
    )
    post_status = models.CharField(
        _("POST to the URL"), max_length=16, choices=MailStatus.choices, blank=True, default=""
    )
    mail_tries = models.PositiveSmallIntegerField(default=0, editable=False)
    post_tries = models.PositiveSmallIntegerField(default=0, editable=False)
    #: At once, until a try has failed.
    try_mail_after = models.DateTimeField(default=EPOCH, editable=False)
    try_post_after = models.DateTimeField(default=EPOCH, editable=False)
    mail_sending_since = models.DateTimeField(null=True, editable=False)
    post_sending_since = models.DateTimeField(null=True, editable=False)
    mailed_at = models.DateTimeField(_("E-mail sent"), null=True, blank=True)
    posted_at = models.DateTimeField(_("Posted to the URL"), null=True, blank=True)
    error = models.CharField(_("Failure"), max_length=300, blank=True)

    objects = AlertQuerySet.as_manager()

    class Meta:
        verbose_name = _("alert")
        verbose_name_plural = _("alerts")
        ordering = ("-pk",)
        indexes = [
            # Alerts to send, read in every run. They are few among many.
            models.Index(
                fields=["mail_status"],
                condition=models.Q(mail_status__in=["waiting", "sending"]),
                name="bitsby_alerts_to_mail",
            ),
            models.Index(
                fields=["post_status"],
                condition=models.Q(post_status__in=["waiting", "sending"]),
                name="bitsby_alerts_to_post",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.code} {self.order_number}".strip()
