"""Simulate how buyers and background work share the slots of the rate limit."""

import random
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import inf

from oscar_bitsby.gateway.rate_limit import BUYERS_IN_A_ROW, MIN_INTERVAL

#: Seconds between two requests of the account.
SECONDS = MIN_INTERVAL.total_seconds()


@dataclass
class Result:
    """Seconds that each buyer waited, and when the requests of each background job were sent."""

    buyers: list[float] = field(default_factory=list)
    jobs: list[list[float]] = field(default_factory=list)


def arrivals(rate: float, until: float, seed: int) -> Iterator[float]:
    """Yield the times of independent clicks, ``rate`` of them a second on average."""
    draw, at = random.Random(seed), 0.0
    while rate and (at := at + draw.expovariate(rate)) < until:
        yield at


def simulate(buyers: Sequence[float], jobs: Sequence[tuple[float, int]] = ()) -> Result:
    """Assign slots until all requests are sent.

    Buyers are served in the order of their clicks. A job sends its requests one after another,
    when no buyer waits or after ``BUYERS_IN_A_ROW`` buyers.

    Args:
        buyers: the time of each click, in order.
        jobs: the start of each job and its number of requests, in order of time.
    """
    result = Result(jobs=[[] for _ in jobs])
    waiting = deque(buyers)
    queue = deque((at, number) for number, (at, count) in enumerate(jobs) for _ in range(count))
    free_at, streak = 0.0, 0
    while waiting or queue:
        soonest = min(waiting[0] if waiting else inf, queue[0][0] if queue else inf)
        free_at = max(free_at, soonest)
        is_job_due = bool(queue) and queue[0][0] <= free_at
        has_buyer = bool(waiting) and waiting[0] <= free_at
        if has_buyer and not (is_job_due and streak >= BUYERS_IN_A_ROW):
            result.buyers.append(free_at - waiting.popleft())
            streak += 1
        else:
            result.jobs[queue.popleft()[1]].append(free_at)
            streak = 0
        free_at += SECONDS
    return result
