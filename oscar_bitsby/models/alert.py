"""The outbox of alerts to the merchant."""

from __future__ import annotations

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from oscar_bitsby.choices import AlertCode, MailStatus
from oscar_bitsby.models.gateway_state import EPOCH
from oscar_bitsby.models.payment import BitsbyPayment
from oscar_bitsby.models.refund import BitsbyRefund


class MerchantAlert(models.Model):
    """An alert, written in the transaction that causes it.

    ``key`` names what it is about. It is unique, so nothing is alerted twice.
    """

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
        pgettext_lazy("bitsby", "Order number"), max_length=128, blank=True
    )
    #: Further facts for the text, such as a balance: texts by name.
    details = models.JSONField(_("Details"), default=dict)
    created_at = models.DateTimeField(pgettext_lazy("bitsby", "Created"), default=timezone.now)
    mail_status = models.CharField(
        _("E-mail"), max_length=16, choices=MailStatus.choices, default=MailStatus.WAITING
    )
    post_status = models.CharField(
        _("POST to the URL"), max_length=16, choices=MailStatus.choices, default=MailStatus.WAITING
    )
    mail_tries = models.PositiveSmallIntegerField(default=0, editable=False)
    post_tries = models.PositiveSmallIntegerField(default=0, editable=False)
    #: At once, until a try has failed.
    try_mail_after = models.DateTimeField(default=EPOCH, editable=False)
    try_post_after = models.DateTimeField(default=EPOCH, editable=False)
    error = models.CharField(_("Failure"), max_length=300, blank=True)

    class Meta:
        verbose_name = _("alert to the merchant")
        verbose_name_plural = _("alerts to the merchant")
        ordering = ("-pk",)
        indexes = [
            # Alerts to send, read in every run. They are few among many.
            models.Index(
                fields=["created_at"],
                condition=models.Q(mail_status__in=["waiting", "sending"])
                | models.Q(post_status__in=["waiting", "sending"]),
                name="bitsby_alerts_to_send",
            )
        ]

    def __str__(self) -> str:
        return f"{self.code} {self.order_number}".strip()
