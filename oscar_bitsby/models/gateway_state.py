"""What all processes of a shop share about the gateway, in one row."""

from __future__ import annotations

import datetime as dt

from django.db import models
from django.utils.translation import gettext_lazy as _

#: Long before anything that the app does: "never", where a moment is compared.
EPOCH = dt.datetime(2000, 1, 1, tzinfo=dt.timezone.utc)


class GatewayState(models.Model):
    """The one row that all processes of the shop share: when the next request may be sent, and
    which pass is running."""

    SINGLETON_PK = 1

    next_request_at = models.DateTimeField(default=EPOCH)
    buyer_waits_until = models.DateTimeField(default=EPOCH)
    lease_until = models.DateTimeField(default=EPOCH)
    lease_token = models.CharField(max_length=32, blank=True, default="")
    #: When a pass last came to its end.
    last_run_at = models.DateTimeField(default=EPOCH)
    last_full_sync_at = models.DateTimeField(default=EPOCH)
    last_overlap_sync_at = models.DateTimeField(default=EPOCH)
    #: The transaction time up to which the list of payments was read without a gap.
    sync_cursor = models.DateTimeField(default=EPOCH)
    #: What the last look that read a whole list found of its order.
    lists_newest_first = models.BooleanField(default=False)

    class Meta:
        verbose_name = _("Bitsby gateway state")
        verbose_name_plural = _("Bitsby gateway state")

    def __str__(self) -> str:
        return f"next request at {self.next_request_at}"

    @classmethod
    def ensure_exists(cls) -> None:
        """Create the row if it is not there; harmless when another process was quicker."""
        GatewayState.objects.bulk_create([GatewayState(pk=cls.SINGLETON_PK)], ignore_conflicts=True)
