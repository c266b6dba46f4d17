"""What one account's request a second allows, by simulation: no machine is measured here."""

from __future__ import annotations

import statistics
from collections.abc import Iterator

from bench.report import Row, percentile
from bench.slots import SECONDS, arrivals, play
from oscar_bitsby.gateway.client import PAGE_SIZE
from oscar_bitsby.gateway.factory import BUYER_MAX_WAIT

DAY, HOUR = 86_400, 3_600
#: Requests of a pass in which something happened: two pages of payments, one of last words.
PASS_REQUESTS = 3
#: Seconds from the end of a pass to the next one.
PASS_EVERY = 60.0
#: What a shop sells in its busiest hour, of a day's orders.
BUSIEST_HOUR = 0.1
HOW = (
    f"simulation of the throttle's rules: a request every {SECONDS} s, buyers first, a buyer waits"
    f" {BUYER_MAX_WAIT:.0f} s and then the page tries again after 3, 5, 8 … s; a pass every"
    f" {PASS_EVERY:.0f} s with {PASS_REQUESTS} requests; {PAGE_SIZE} payments on a page. Settling"
    " itself is left out, see P6."
)


def measure(piece: str, quick: bool) -> list[Row]:
    """Play hours of checkouts, bursts of payments and bursts of buyers."""
    hours = 1 if quick else 6
    rows = [_row("requests a day, at most", f"{DAY / SECONDS:,.0f}")]
    rows += _hours_of_checkouts(hours)
    return [*rows, *_bursts_of_payments(), *_bursts_of_buyers()]


def _row(work: str, measured: str) -> Row:
    return Row("limit", work, "–", measured, None, HOW)


def _hours_of_checkouts(hours: int) -> Iterator[Row]:
    for share in (0.1, 0.25, 0.5, 0.75, 0.9):
        rate, until = share / SECONDS, hours * HOUR
        passes = [(at, PASS_REQUESTS) for at in _every(PASS_EVERY, until)]
        played = play(list(arrivals(rate, until, seed=round(share * 100))), passes)
        took = [sent[-1] - at + SECONDS for (at, _), sent in zip(passes, played.jobs, strict=True)]
        yield _row(
            f"{rate * HOUR:,.0f} checkouts an hour (buyers take {share:.0%} of the slots)",
            f"payment page after {statistics.median(played.buyers):.1f} s, p95"
            f" {percentile(played.buyers, 0.95):.1f} s; a pass takes"
            f" {statistics.median(took):.0f} s, p95 {percentile(took, 0.95):.0f} s;"
            f" {rate * HOUR / BUSIEST_HOUR:,.0f} orders a day if that is the busiest hour",
        )


def _every(seconds: float, until: float) -> list[float]:
    return [seconds * number for number in range(1, int(until / seconds))]


def _bursts_of_payments() -> Iterator[Row]:
    """Payments come in the middle between two passes.

    The first delivery's look takes in the newest page; the next pass reads all of them.
    """
    for count in (10, 100, 1_000):
        pages = -(-count // PAGE_SIZE)
        texts = []
        for rate in (0.0, 0.5 / SECONDS):
            buyers = list(arrivals(rate, 2 * HOUR, seed=count))
            begin = HOUR / 2
            look, reading = play(buyers, [(begin, 1), (begin + PASS_EVERY / 2, pages)]).jobs
            after = [
                (look[0] if number < PAGE_SIZE else reading[number // PAGE_SIZE]) - begin
                for number in range(count)
            ]
            texts.append(
                f"half of them after {statistics.median(after):.0f} s, all after {max(after):.0f} s"
            )
        work = f"{count:,} payments at once ({pages} pages)"
        yield _row(work, f"{texts[0]}; where buyers take half of the slots: {texts[1]}")


def _bursts_of_buyers() -> Iterator[Row]:
    for count in (10, 100, 1_000):
        played = play([number * 1e-3 for number in range(count)])
        text = (
            f"payment page after {statistics.median(played.buyers):,.0f} s (median), the last one"
            f" after {max(played.buyers):,.0f} s"
        )
        if played.gave_up:
            text += f"; {played.gave_up:,} pages stop trying by themselves"
        yield _row(f"{count:,} buyers click at once", text)
