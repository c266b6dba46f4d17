"""The account's rate limit, one request a second over all machines: a row has the next slot."""

import datetime as dt
import logging
import time

from django.db import router, transaction
from django.db.models import Q
from django.utils.translation import gettext_noop

from oscar_bitsby.exceptions import RateLimitTimeout
from oscar_bitsby.models import GatewayState
from oscar_bitsby.utils.clock import db_now

logger = logging.getLogger("oscar_bitsby")

#: Between two sends. Bitsby requires a second between arrivals; the margin covers network jitter.
MIN_INTERVAL = dt.timedelta(seconds=1.1)
#: How long after a slot comes free background work leaves it to the buyer who waits for it.
BUYER_PRIORITY = dt.timedelta(seconds=0.3)
#: A stored time further ahead than this is ignored: the clock has been set back since.
MAX_FUTURE = dt.timedelta(seconds=10)
#: Staff see this text, too.
BUSY = gettext_noop("the account's one request a second is in use; nothing was sent")


def acquire(max_wait: float, *, buyer: bool = False) -> None:
    """Wait for a free slot and take it; the caller may then send one request.

    The slot is taken in a transaction of its own, which must not be inside another one: a lock
    that is held while Bitsby answers would block every other process of the shop.

    Args:
        max_wait: the seconds to wait at most; with 0 the slot must be free now.
        buyer: whether a buyer waits for the page. Buyers go before background work.

    Raises:
        RateLimitTimeout: no slot came free in time.
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
    """Take a free slot and return None, or return the seconds until the next try."""
    database = router.db_for_write(GatewayState)
    with transaction.atomic(using=database, durable=True):
        now = db_now()
        free = Q(next_request_at__lte=now) | Q(next_request_at__gt=now + MAX_FUTURE)
        if not buyer:
            free &= Q(buyer_waits_until__lte=now) | Q(buyer_waits_until__gt=now + MAX_FUTURE)
        # Reads go to the primary as well: a replica that lags behind would show a free slot again
        # and again.
        rows = GatewayState.row().using(database)
        # One statement compares and sets, so only one process gets the slot.
        if rows.filter(free).update(next_request_at=now + MIN_INTERVAL):
            return None
        state: GatewayState | None = rows.first()
        if state is None:
            # This is the shop's first request: create the row and try again.
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
