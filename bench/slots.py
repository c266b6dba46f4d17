"""The account's slots, played through: buyers and background work, as ``throttle`` lets them in."""

from __future__ import annotations

import heapq
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from oscar_bitsby.buyer.views import RETRY_DELAYS
from oscar_bitsby.gateway.factory import BUYER_MAX_WAIT
from oscar_bitsby.gateway.rate_limit import MIN_INTERVAL

#: Seconds between two requests of the account.
SECONDS = MIN_INTERVAL.total_seconds()


@dataclass
class Played:
    """Seconds that each buyer waited, and when the requests of each background job were sent."""

    buyers: list[float] = field(default_factory=list)
    jobs: list[list[float]] = field(default_factory=list)
    gave_up: int = 0


def arrivals(rate: float, until: float, seed: int) -> Iterator[float]:
    """Yield when buyers come who know nothing of each other, ``rate`` of them a second."""
    draw, at = random.Random(seed), 0.0
    while rate and (at := at + draw.expovariate(rate)) < until:
        yield at


def play(buyers: Sequence[float], jobs: Sequence[tuple[float, int]] = (), seed: int = 1) -> Played:
    """Hand out slots until everybody has got theirs.

    A buyer waits ``BUYER_PATIENCE`` in the request and comes again as the page does; of those who
    wait at the same time, chance takes one. A job sends its requests one after another, and only
    when no buyer waits.

    Args:
        buyers: when each of them clicks.
        jobs: when each begins, and how many requests it sends; in order of time.
    """
    draw, played = random.Random(seed), Played(jobs=[[] for _ in jobs])
    coming = [(at, at, 0) for at in buyers]
    heapq.heapify(coming)
    waiting: list[tuple[float, float, int]] = []
    queue = [(at, number) for number, (at, count) in enumerate(jobs) for _ in range(count)]
    free_at = 0.0
    while coming or waiting or queue:
        if not waiting:
            soonest = min([at for at, *_ in coming[:1]] + [at for at, _ in queue[:1]])
            free_at = max(free_at, soonest)
        while coming and coming[0][0] <= free_at:
            waiting.append(heapq.heappop(coming))
        for buyer in [one for one in waiting if one[0] + BUYER_MAX_WAIT < free_at]:
            waiting.remove(buyer)
            at, clicked, tries = buyer
            if tries < len(RETRY_DELAYS):
                again = at + BUYER_MAX_WAIT + RETRY_DELAYS[tries]
                heapq.heappush(coming, (again, clicked, tries + 1))
            else:
                played.gave_up += 1
        if waiting:
            _, clicked, _ = waiting.pop(draw.randrange(len(waiting)))
            played.buyers.append(free_at - clicked)
        elif queue and queue[0][0] <= free_at:
            played.jobs[queue.pop(0)[1]].append(free_at)
        else:
            continue
        free_at += SECONDS
    return played
