"""Clients with the shop's settings, which respect the account's rate limit."""

from collections.abc import Callable
from functools import partial

from oscar_bitsby import conf
from oscar_bitsby.gateway.buyer_queue import Turn
from oscar_bitsby.gateway.client import BitsbyClient
from oscar_bitsby.gateway.rate_limit import acquire

#: Seconds that background work waits for a slot; buyers go first, so it may take a while.
BACKGROUND_MAX_WAIT = 60.0


def for_buyer(turn: Turn) -> BitsbyClient:
    """Return a client for a buyer's requests, which are sent once.

    Args:
        turn: the buyer's turn. Where it has not come, each request raises ``Queued``.
    """
    return _client(turn.take, tries=1)


def for_background() -> BitsbyClient:
    """Return a client for background work: reads are sent up to three times."""
    return _client(partial(acquire, BACKGROUND_MAX_WAIT), tries=3)


def for_staff(max_wait: float) -> BitsbyClient:
    """Return a client for a request of staff: buyers go first, and it is sent once.

    Each request waits at most ``max_wait`` seconds for a slot.
    """
    return _client(partial(acquire, max_wait), tries=1)


def without_waiting(timeout: float | None = None) -> BitsbyClient:
    """Take a slot if one is free now, and return a client that uses it for its first request.

    Each further request needs a slot that is free at that moment.

    Args:
        timeout: seconds for one request; the shop's ``TIMEOUT`` if that is less or None is given.

    Raises:
        RateLimitTimeout: no slot is free.
    """
    acquire(0)
    is_first = iter([True])

    def acquire_next() -> None:
        if not next(is_first, False):
            acquire(0)

    return _client(acquire_next, tries=1, timeout=timeout)


def _client(
    acquire_slot: Callable[[], None], tries: int, timeout: float | None = None
) -> BitsbyClient:
    settings = conf.get()
    return BitsbyClient(
        settings.api_key,
        api_url=settings.api_url,
        timeout=min(settings.timeout, timeout or settings.timeout),
        acquire_slot=acquire_slot,
        tries=tries,
    )
