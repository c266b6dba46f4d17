"""One API request a second for the account, across processes and machines, by a row in the
shop's database."""

from __future__ import annotations

import datetime as dt
import logging
import time

from django.db import router, transaction
from django.db.models import Q
from django.utils.translation import gettext_noop

from oscar_bitsby.exceptions import RateLimitTimeout
from oscar_bitsby.models import GatewayState
from oscar_bitsby.utils.clock import database_now

logger = logging.getLogger("oscar_bitsby")

#: Between two sends. Bitsby counts arrivals, a second apart; the rest is for uneven roads.
MIN_INTERVAL = dt.timedelta(seconds=1.1)
#: How long a waiting buyer keeps background work away without asking again.
BUYER_PRIORITY = dt.timedelta(seconds=0.3)
#: A moment further ahead than this was written by a clock that has since been put back.
MAX_FUTURE = dt.timedelta(seconds=10)
#: Staff read it, too.
BUSY = gettext_noop("the account's one request a second is in use; nothing was sent")


def acquire(max_wait: float, *, buyer: bool = False) -> None:
    """Return when a request may be sent; the slot is then taken.

    The row is written in a transaction of its own, which must not be inside another one: a lock
    kept while Bitsby answers would stop every other process of the shop.

    Args:
        max_wait: seconds that the caller wants to wait at most; 0 takes a free slot or none.
        buyer: somebody sits before the page. Background work stands back while a buyer waits.

    Raises:
        RateLimitTimeout: no slot came free in time. Nothing was sent.
        RuntimeError: the caller is inside a database transaction.
    """
    deadline = time.monotonic() + max_wait
    while True:
        wait = _take(buyer)
        if wait is None:
            return
        if time.monotonic() + wait > deadline:
            raise RateLimitTimeout(BUSY)
        time.sleep(wait)


def _take(buyer: bool) -> float | None:
    """Take the slot and return None, or return the seconds until it is worth trying again."""
    database = router.db_for_write(GatewayState)
    with transaction.atomic(using=database, durable=True):
        now = database_now()
        free = Q(next_request_at__lte=now) | Q(next_request_at__gt=now + MAX_FUTURE)
        if not buyer:
            free &= Q(buyer_waits_until__lte=now) | Q(buyer_waits_until__gt=now + MAX_FUTURE)
        # One statement that compares and sets: whoever changes the row has the slot.
        # A replica that is behind would have it asked for all the time.
        rows = GatewayState.objects.using(database).filter(pk=GatewayState.SINGLETON_PK)
        if rows.filter(free).update(next_request_at=now + MIN_INTERVAL):
            return None
        state: GatewayState | None = rows.first()
        if state is None:
            # The shop's first request: the row is new, and so is its slot.
            GatewayState.ensure_exists()
            if rows.filter(free).update(next_request_at=now + MIN_INTERVAL):
                return None
            return 0
        at = max(state.next_request_at, now)
        if buyer:
            mark = at + BUYER_PRIORITY
            stale = Q(buyer_waits_until__lt=mark) | Q(buyer_waits_until__gt=now + MAX_FUTURE)
            rows.filter(stale).update(buyer_waits_until=mark)
        elif state.buyer_waits_until <= now + MAX_FUTURE:
            at = max(at, state.buyer_waits_until)
        wait: float = (at - now).total_seconds()
        return max(wait, 0.01)
