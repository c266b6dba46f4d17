"""State of the gateway that all processes of a shop share."""

from __future__ import annotations

import datetime as dt

from django.db import models
from django.utils.translation import gettext_lazy as _

#: Earlier than any time that the app stores. It means "never" in comparisons.
EPOCH = dt.datetime(2000, 1, 1, tzinfo=dt.timezone.utc)


class GatewayState(models.Model):
    """One row: when the next request may be sent, which run holds the lease, how far the list of
    payments is synced."""

    SINGLETON_PK = 1

    next_request_at = models.DateTimeField(default=EPOCH)
    buyer_waits_until = models.DateTimeField(default=EPOCH)
    lease_until = models.DateTimeField(default=EPOCH)
    lease_token = models.CharField(max_length=32, blank=True, default="")
    #: When a run was last completed.
    last_run_at = models.DateTimeField(default=EPOCH)
    last_full_sync_at = models.DateTimeField(default=EPOCH)
    last_overlap_sync_at = models.DateTimeField(default=EPOCH)
    #: The transaction time up to which the list of payments was read without a gap.
    sync_cursor = models.DateTimeField(default=EPOCH)
    #: When the list of payments was last read, by a run or for staff.
    payments_fetched_at = models.DateTimeField(default=EPOCH)
    #: Whether the last full sync found the list in descending order.
    lists_newest_first = models.BooleanField(default=False)

    class Meta:
        verbose_name = _("Bitsby gateway state")
        verbose_name_plural = _("Bitsby gateway state")

    def __str__(self) -> str:
        return f"next request at {self.next_request_at}"

    @classmethod
    def row(cls) -> models.QuerySet[GatewayState]:
        """Return the query of the one row, to update it without reading it."""
        return cls.objects.filter(pk=cls.SINGLETON_PK)

    @classmethod
    def ensure_exists(cls) -> None:
        """Create the row if it does not exist; safe under concurrency."""
        GatewayState.objects.bulk_create([GatewayState(pk=cls.SINGLETON_PK)], ignore_conflicts=True)
