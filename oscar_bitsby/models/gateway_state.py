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
    #: Slots that buyers took since background work had one, up to ``BUYERS_IN_A_ROW``.
    buyer_streak = models.PositiveSmallIntegerField(default=0)
    background_waits_until = models.DateTimeField(default=EPOCH)
    #: Until when no invoice is requested, because Bitsby refused several orders in a row.
    creating_paused_until = models.DateTimeField(default=EPOCH)
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

    #: The account's internal balance in USD by Bitsby's last answer, and when that was.
    balance = models.DecimalField(max_digits=20, decimal_places=2, null=True)
    balance_fetched_at = models.DateTimeField(default=EPOCH)
    #: When a run last asked for it, with or without an answer.
    balance_asked_at = models.DateTimeField(default=EPOCH)
    #: When alerts were last e-mailed to the merchant.
    alerts_mailed_at = models.DateTimeField(default=EPOCH)

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


class QueuedBuyerQuerySet(models.QuerySet["QueuedBuyer"]):
    """Named sets of waiting buyers."""

    #: How late a page may return and keep its place. Without JavaScript it waits whole seconds.
    LATENESS = dt.timedelta(seconds=2)

    def present(self, now: dt.datetime) -> QueuedBuyerQuerySet:
        """Return those whose pages are expected to return, or were a moment ago.

        A time far ahead does not count: the clock has been set back since.
        """
        expected = (now - self.LATENESS, now + dt.timedelta(hours=1))
        found: QueuedBuyerQuerySet = self.filter(returns_at__range=expected)
        return found


class QueuedBuyer(models.Model):
    """A buyer who waits for a slot. The primary keys are the order of the queue."""

    #: Whose turn it is; the facade uses the order's number.
    key = models.CharField(max_length=128, unique=True)
    #: When the buyer's page comes back. One that is late for long has been closed.
    returns_at = models.DateTimeField(db_index=True)

    objects = QueuedBuyerQuerySet.as_manager()

    class Meta:
        verbose_name = _("Buyer who waits for a slot")
        verbose_name_plural = _("Buyers who wait for a slot")

    def __str__(self) -> str:
        return self.key
