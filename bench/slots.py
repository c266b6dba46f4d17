"""Simulate how buyers and background work share the slots of the rate limit."""

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
class Result:
    """Seconds that each buyer waited, and when the requests of each background job were sent."""

    buyers: list[float] = field(default_factory=list)
    jobs: list[list[float]] = field(default_factory=list)
    gave_up: int = 0


def arrivals(rate: float, until: float, seed: int) -> Iterator[float]:
    """Yield the times of independent clicks, ``rate`` of them a second on average."""
    draw, at = random.Random(seed), 0.0
    while rate and (at := at + draw.expovariate(rate)) < until:
        yield at


def simulate(
    buyers: Sequence[float], jobs: Sequence[tuple[float, int]] = (), seed: int = 1
) -> Result:
    """Assign slots until all requests are sent.

    A buyer's request waits for ``BUYER_MAX_WAIT``, and then the page retries after its delays. A
    slot goes to a random one of the waiting buyers. A job sends its requests one after another,
    and only when no buyer waits.

    Args:
        buyers: the time of each click.
        jobs: the start of each job and its number of requests, in order of time.
    """
    draw, result = random.Random(seed), Result(jobs=[[] for _ in jobs])
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
                result.gave_up += 1
        if waiting:
            _, clicked, _ = waiting.pop(draw.randrange(len(waiting)))
            result.buyers.append(free_at - clicked)
        elif queue and queue[0][0] <= free_at:
            result.jobs[queue.pop(0)[1]].append(free_at)
        else:
            continue
        free_at += SECONDS
    return result
