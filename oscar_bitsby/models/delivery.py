"""A webhook delivery."""

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from oscar_bitsby.models.invoice import BitsbyInvoice


class WebhookDelivery(models.Model):
    """A POST by Bitsby about one of our invoices, and our answer."""

    invoice = models.ForeignKey(
        BitsbyInvoice,
        on_delete=models.CASCADE,
        related_name="deliveries",
        verbose_name=_("Invoice"),
    )
    received_at = models.DateTimeField(_("Received"), default=timezone.now, db_index=True)
    remote_address = models.CharField(_("Sender's IP address"), max_length=64, blank=True)
    headers = models.JSONField(_("HTTP headers"), default=dict)
    body = models.TextField(_("Content"))
    answered = models.PositiveSmallIntegerField(_("Our answer"), null=True)
    outcome = models.CharField(_("What was done"), max_length=300, blank=True)

    class Meta:
        verbose_name = _("Webhook delivery")
        verbose_name_plural = _("Webhook deliveries")
        ordering = ("-pk",)

    def __str__(self) -> str:
        return f"{self.invoice} {self.received_at:%Y-%m-%d %H:%M:%S}"
