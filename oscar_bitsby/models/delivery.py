"""A webhook delivery, as it came."""

from __future__ import annotations

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from oscar_bitsby.models.invoice import BitsbyInvoice


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
