"""One reconcile pass at a time over all processes and machines, by a lease in the shared row."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from django.db.models import Q

from oscar_bitsby.exceptions import BitsbyError
from oscar_bitsby.models import EPOCH, GatewayState
from oscar_bitsby.utils.clock import db_now

#: A pass that has not said for this long that it runs is taken for dead. Longer than the slowest
#: single step: a request with its tries and its waiting for slots.
LEASE_DURATION = dt.timedelta(minutes=5)
#: A pass is meant to run every minute or two, and may take some minutes in a very busy shop.
RUN_OVERDUE_AFTER = dt.timedelta(minutes=15)


class LeaseLost(BitsbyError):
    """Another pass took over, because this one was silent for too long."""


@dataclass(frozen=True)
class Lease:
    """The pass that holds the lease."""

    token: str

    def renew_lease(self) -> None:
        """Say that this pass still runs.

        Raises:
            PassLost: another one has taken over.
        """
        mine = GatewayState.objects.filter(pk=GatewayState.SINGLETON_PK, lease_token=self.token)
        if not mine.update(lease_until=db_now() + LEASE_DURATION):
            raise LeaseLost("another pass has taken over")

    def mark_finished(self) -> None:
        """Note that this pass has asked all that it had to ask."""
        GatewayState.objects.filter(pk=GatewayState.SINGLETON_PK).update(last_run_at=db_now())


def last_run() -> dt.datetime | None:
    """Return when a pass last came to its end, by the shared clock; None when none ever did."""
    at = GatewayState.objects.filter(pk=GatewayState.SINGLETON_PK).values_list(
        "last_run_at", flat=True
    )
    found = at.first()
    return None if found is None or found <= EPOCH else found


def is_overdue(last: dt.datetime | None) -> bool:
    """Tell whether the last pass ended so long ago that none seems to be run any more."""
    return last is None or db_now() - last > RUN_OVERDUE_AFTER


@contextmanager
def acquire() -> Iterator[Lease | None]:
    """Hold the lease for the time of the block; None when somebody else has it."""
    GatewayState.ensure_exists()
    token = uuid.uuid4().hex
    now = db_now()
    # A lease that lasts longer than any was given by a clock that has since been put back.
    is_free = Q(lease_until__lte=now) | Q(lease_until__gt=now + 2 * LEASE_DURATION)
    row = GatewayState.objects.filter(pk=GatewayState.SINGLETON_PK)
    if not row.filter(is_free).update(lease_until=now + LEASE_DURATION, lease_token=token):
        yield None
        return
    try:
        yield Lease(token)
    finally:
        row.filter(lease_token=token).update(lease_until=EPOCH, lease_token="")
