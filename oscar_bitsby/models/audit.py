"""Audits: records of their results, and the remote items that one has read so far."""

from __future__ import annotations

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from oscar_bitsby.choices import AuditState
from oscar_bitsby.models.invoice import BitsbyInvoice
from oscar_bitsby.models.payment import BitsbyPayment


class AuditRunQuerySet(models.QuerySet["AuditRun"]):
    """Named sets of audits."""

    def finished(self) -> AuditRunQuerySet:
        """Return those that are finished, the last one first."""
        return self.exclude(state=AuditState.RUNNING).order_by("-pk")


class AuditRun(models.Model):
    """One audit: the range that it covers, how far it is, and the counts of what it found."""

    #: The range of days in UTC, half open. None means no limit on that side.
    date_from = models.DateField(pgettext_lazy("day", "From"), null=True, blank=True)
    date_to = models.DateField(pgettext_lazy("day", "To"), null=True, blank=True)
    state = models.CharField(
        _("State"), max_length=16, choices=AuditState.choices, default=AuditState.RUNNING
    )
    started_at = models.DateTimeField(_("Started"), default=timezone.now)
    finished_at = models.DateTimeField(_("Finished"), null=True, blank=True)
    #: When a page was last stored. An aborted audit is resumed only for some hours.
    touched_at = models.DateTimeField(default=timezone.now, editable=False)
    #: The process that reads the lists for this audit now, or did so last.
    token = models.CharField(max_length=32, blank=True, default="", editable=False)
    #: How far the lists are read: see ``audit_lists.ListProgress``. Empty once it is finished.
    progress = models.JSONField(default=dict, editable=False)
    invoices_read = models.PositiveIntegerField(_("Invoices read"), default=0)
    payments_read = models.PositiveIntegerField(_("Payments read"), default=0)
    requests = models.PositiveIntegerField(_("Requests"), default=0)
    #: The number of differences by kind.
    differences = models.JSONField(_("Differences"), default=dict)

    objects = AuditRunQuerySet.as_manager()

    class Meta:
        verbose_name = _("Bitsby audit")
        verbose_name_plural = _("Bitsby audits")
        ordering = ("-pk",)

    def __str__(self) -> str:
        return f"{self.started_at:%Y-%m-%d %H:%M:%S} {self.state}"

    @property
    def difference_count(self) -> int:
        """The number of differences of all kinds."""
        return sum(self.differences.values())


class AuditedItem(models.Model):
    """An item of Bitsby's lists that an audit compares; deleted when the audit is finished."""

    run = models.ForeignKey(AuditRun, on_delete=models.CASCADE, related_name="items")
    is_payment = models.BooleanField()
    bitsby_id = models.UUIDField()
    #: Of an invoice its amount, of a payment its coins.
    amount = models.DecimalField(max_digits=30, decimal_places=18)
    currency = models.CharField(max_length=64, blank=True)
    project_id = models.CharField(max_length=36, blank=True)
    #: Of an invoice.
    status = models.CharField(max_length=64, blank=True)
    #: Of a payment: the invoice that it is bound to. Of an invoice: its payment.
    bound_to = models.UUIDField(null=True)
    wallet_id = models.CharField(max_length=64, blank=True)
    hash = models.CharField(max_length=200, blank=True)
    #: Of an invoice: the order's number in its service data.
    order_number = models.CharField(max_length=128, blank=True)
    #: Of a payment the time of its transaction, of an invoice when it was created.
    at = models.DateTimeField(null=True)
    #: Of a paid invoice: the time of the payment's transaction.
    paid_at = models.DateTimeField(null=True)
    #: A run would record it: it belongs to this shop's project, and not to the time before.
    is_ours = models.BooleanField(default=False)
    #: Our rows: of a payment, its row and the invoice that it is bound to; of an invoice, its row
    #: and that of its payment. Set before they are compared, and without constraints, so
    #: that no other statement waits for a comparison.
    payment = models.ForeignKey(
        BitsbyPayment,
        null=True,
        on_delete=models.DO_NOTHING,
        db_constraint=False,
        # Never searched for: audits go from the items to the payments.
        db_index=False,
        related_name="+",
    )
    invoice = models.ForeignKey(
        BitsbyInvoice, null=True, on_delete=models.DO_NOTHING, db_constraint=False, related_name="+"
    )

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["run", "is_payment", "bitsby_id"], name="bitsby_audited_once"
            )
        ]

    def __str__(self) -> str:
        return str(self.bitsby_id)
