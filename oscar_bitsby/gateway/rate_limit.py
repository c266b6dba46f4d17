"""The account's rate limit: one request a second over all processes and machines.

A row in the shop's database holds the time of the next free slot. Buyers come first, in the order
of ``buyer_queue``. Background work gets what they leave, and at least one slot in five.
"""

import datetime as dt
import time
from typing import Any

from django.db import router, transaction
from django.db.models import Exists, Q
from django.utils.translation import gettext_noop

from oscar_bitsby.exceptions import RateLimitTimeout
from oscar_bitsby.models import GatewayState, QueuedBuyer
from oscar_bitsby.utils.clock import db_now

#: Between two sends. Bitsby requires a second between arrivals; the margin covers network jitter.
MIN_INTERVAL = dt.timedelta(seconds=1.1)
#: How long after a slot comes free background work leaves it to the buyer whose turn it is.
BUYER_PRIORITY = dt.timedelta(seconds=0.3)
#: How many slots buyers take before waiting background work gets one.
BUYERS_IN_A_ROW = 4
#: How long buyers leave that slot to background work.
BACKGROUND_PRIORITY = dt.timedelta(seconds=0.5)
#: A stored time further ahead than this is ignored: the clock has been set back since.
MAX_FUTURE = dt.timedelta(seconds=10)
#: Staff see this text, too.
BUSY = gettext_noop("the account's one request a second is in use; nothing was sent")


def acquire(max_wait: float) -> None:
    """Wait for a slot for background work or staff, and take it; the caller may send one request.

    The slot is taken in a transaction of its own, which must not be inside another one: a lock
    that is held while Bitsby answers would block every other process of the shop.

    Args:
        max_wait: the seconds to wait at most; with 0 the slot must be free now.

    Raises:
        RateLimitTimeout: no slot came free in time.
        RuntimeError: the caller is inside a database transaction.
    """
    deadline = time.monotonic() + max_wait
    while True:
        wait = _take_for_background(will_wait=max_wait > 0)
        if wait is None:
            return
        if time.monotonic() + wait > deadline:
            raise RateLimitTimeout(BUSY)
        time.sleep(wait)


def _take_for_background(*, will_wait: bool) -> float | None:
    """Take a free slot and return None, or return the seconds until the next try."""
    with transaction.atomic(using=router.db_for_write(GatewayState), durable=True):
        now = db_now()
        buyers = QueuedBuyer.objects.present(now)
        mine = Q(next_request_at__lte=now - BUYER_PRIORITY) | _is_ahead("next_request_at", now)
        is_due = Q(buyer_streak__gte=BUYERS_IN_A_ROW)
        state = take(now, ~Exists(buyers) | mine | is_due, buyer_streak=0)
        if state is None:
            return None
        at = max(state.next_request_at, now)
        if state.buyer_streak < BUYERS_IN_A_ROW and buyers.exists():
            at = max(state.next_request_at + BUYER_PRIORITY, now)
        if will_wait:
            mark = at + BACKGROUND_PRIORITY
            stale = Q(background_waits_until__lt=mark) | _is_ahead("background_waits_until", now)
            rows().filter(stale).update(background_waits_until=mark)
        return max((at - now).total_seconds(), 0.01)


def take(now: dt.datetime, condition: Any, **values: Any) -> GatewayState | None:
    """Take the slot if it is free and a condition holds.

    Args:
        now: the database's time.
        condition: a condition on the shared row.
        values: columns of the row to change with it.

    Returns:
        None, or the shared row if the slot was not taken.
    """
    free = rows().filter(Q(next_request_at__lte=now) | _is_ahead("next_request_at", now))
    free = free.filter(condition)
    values["next_request_at"] = now + MIN_INTERVAL
    # One statement compares and sets, so only one process gets the slot.
    if free.update(**values):
        return None
    state: GatewayState | None = rows().first()
    if state is None:
        # This is the shop's first request.
        GatewayState.ensure_exists()
        return None if free.update(**values) else rows().get()
    return state


def rows() -> Any:
    """Return the shared row as a query.

    Reads go to the primary as well: a replica that lags behind would show a free slot again and
    again.
    """
    return GatewayState.row().using(router.db_for_write(GatewayState))


def _is_ahead(column: str, now: dt.datetime) -> Q:
    return Q(**{f"{column}__gt": now + MAX_FUTURE})
