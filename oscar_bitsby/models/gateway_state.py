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

    ONLY = 1

    next_request_at = models.DateTimeField(default=EPOCH)
    buyer_waits_until = models.DateTimeField(default=EPOCH)
    pass_until = models.DateTimeField(default=EPOCH)
    pass_token = models.CharField(max_length=32, blank=True, default="")
    #: When a pass last came to its end.
    passed_at = models.DateTimeField(default=EPOCH)
    far_look_at = models.DateTimeField(default=EPOCH)
    deep_look_at = models.DateTimeField(default=EPOCH)
    #: The transaction time up to which the list of payments was read without a gap.
    read_to = models.DateTimeField(default=EPOCH)
    #: What the last look that read a whole list found of its order.
    newest_first = models.BooleanField(default=False)

    class Meta:
        verbose_name = _("Bitsby gateway state")
        verbose_name_plural = _("Bitsby gateway state")

    def __str__(self) -> str:
        return f"next request at {self.next_request_at}"

    @classmethod
    def create_only(cls) -> None:
        """Create the row if it is not there; harmless when another process was quicker."""
        cls.objects.bulk_create([cls(pk=cls.ONLY)], ignore_conflicts=True)
