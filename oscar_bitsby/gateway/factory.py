"""The client as this shop has configured it, with the account's one request a second kept."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from oscar_bitsby import conf
from oscar_bitsby.gateway.client import BitsbyClient
from oscar_bitsby.gateway.rate_limit import acquire

#: Seconds that a buyer waits for a free slot before the page says that it tries again.
BUYER_MAX_WAIT = 4.0
#: Seconds that background work waits for one; buyers go before it, so it may take a while.
BACKGROUND_MAX_WAIT = 60.0


def for_buyer(max_wait: float = BUYER_MAX_WAIT) -> BitsbyClient:
    """Return a client for a request that somebody waits for: first in line, and tried once."""
    return _client(partial(acquire, max_wait, buyer=True), tries=1)


def for_background() -> BitsbyClient:
    """Return a client for work that nobody waits for: reads are tried again."""
    return _client(partial(acquire, BACKGROUND_MAX_WAIT), tries=3)


def for_staff(max_wait: float) -> BitsbyClient:
    """Return a client for what staff look up: they wait a little, and buyers go before them."""
    return _client(partial(acquire, max_wait), tries=1)


def without_waiting(timeout: float | None = None) -> BitsbyClient:
    """Take the slot if it is free at this moment, and return a client whose first request is in it.

    A further request of that client is sent only if a slot is free then.

    Args:
        timeout: seconds for one request, where somebody waits and needs no answer; at most the
            shop's ``TIMEOUT``.

    Raises:
        RateLimitTimeout: it is not free; nothing was sent.
    """
    acquire(0)
    is_first = iter([True])

    def wait() -> None:
        if not next(is_first, False):
            acquire(0)

    return _client(wait, tries=1, timeout=timeout)


def _client(wait: Callable[[], None], tries: int, timeout: float | None = None) -> BitsbyClient:
    settings = conf.get()
    return BitsbyClient(
        settings.api_key,
        api_url=settings.api_url,
        timeout=min(settings.timeout, timeout or settings.timeout),
        acquire_slot=wait,
        tries=tries,
    )
