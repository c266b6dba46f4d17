"""One reconcile run at a time over all machines, held by a lease in the shared row."""

import datetime as dt
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from django.db.models import Q

from oscar_bitsby.exceptions import BitsbyError
from oscar_bitsby.models import EPOCH, GatewayState
from oscar_bitsby.utils.clock import db_now

#: A run that has not renewed its lease for this long is considered dead. It exceeds the slowest
#: single step: a request with its retries and its waits for a slot.
LEASE_DURATION = dt.timedelta(minutes=5)
#: Runs start every minute or two, and may take some minutes in a very busy shop.
RUN_OVERDUE_AFTER = dt.timedelta(minutes=15)


class LeaseLost(BitsbyError):
    """Another run took over, because this one did not renew its lease in time."""


@dataclass(frozen=True)
class Lease:
    """The lease of the current run."""

    token: str

    def renew(self) -> None:
        """Extend the lease.

        Raises:
            LeaseLost: another run has taken over.
        """
        mine = GatewayState.row().filter(lease_token=self.token)
        if not mine.update(lease_until=db_now() + LEASE_DURATION):
            raise LeaseLost("another run has taken over")

    def finish(self) -> None:
        """Record that this run has completed its checks."""
        GatewayState.row().update(last_run_at=db_now())


def last_run() -> dt.datetime | None:
    """Return when a run last completed, by the database's clock; None if none ever did."""
    found = GatewayState.row().values_list("last_run_at", flat=True).first()
    return None if found is None or found <= EPOCH else found


def is_overdue(last: dt.datetime | None) -> bool:
    """Return whether the last run is so long ago that reconciliation seems to have stopped."""
    return last is None or db_now() - last > RUN_OVERDUE_AFTER


@contextmanager
def acquire() -> Iterator[Lease | None]:
    """Hold the lease during the block; yield None when another run holds it."""
    GatewayState.ensure_exists()
    token = uuid.uuid4().hex
    now = db_now()
    # A lease that ends later than any can was written before the clock was put back.
    is_free = Q(lease_until__lte=now) | Q(lease_until__gt=now + 2 * LEASE_DURATION)
    row = GatewayState.row()
    if not row.filter(is_free).update(lease_until=now + LEASE_DURATION, lease_token=token):
        yield None
        return
    try:
        yield Lease(token)
    finally:
        row.filter(lease_token=token).update(lease_until=EPOCH, lease_token="")
