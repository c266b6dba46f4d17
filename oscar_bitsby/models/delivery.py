"""A webhook delivery."""

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

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
    remote_address = models.CharField(pgettext_lazy("bitsby", "From"), max_length=64, blank=True)
    headers = models.JSONField(_("Headers"), default=dict)
    body = models.TextField(pgettext_lazy("bitsby", "Body"))
    answered = models.PositiveSmallIntegerField(_("Response status"), null=True)
    outcome = models.CharField(_("Outcome"), max_length=300, blank=True)

    class Meta:
        verbose_name = _("Webhook delivery")
        verbose_name_plural = _("Webhook deliveries")
        ordering = ("-pk",)

    def __str__(self) -> str:
        return f"{self.invoice} {self.received_at:%Y-%m-%d %H:%M:%S}"
