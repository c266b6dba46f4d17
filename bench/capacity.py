"""Simulate what a shop can do with one request a second. No machine is measured here."""

import statistics
from collections.abc import Iterator

from bench.report import Row, percentile
from bench.slots import SECONDS, arrivals, simulate
from oscar_bitsby.gateway.client import PAGE_SIZE

DAY, HOUR = 86_400, 3_600
#: Requests of a run with new payments: two pages of payments, one page of overdue invoices.
RUN_REQUESTS = 3
#: Seconds from the end of a run to the next one.
RUN_INTERVAL = 60.0
#: The share of a day's orders that are placed in the busiest hour.
BUSIEST_HOUR = 0.1
HOW = (
    f"simulation of the rate limit: a request every {SECONDS} s, buyers first and in the order of"
    " their clicks, background work at least every fifth; a run every"
    f" {RUN_INTERVAL:.0f} s with {RUN_REQUESTS} requests; {PAGE_SIZE} payments on a page. Settling"
    " itself is left out, see P6."
)


def measure(key: str, quick: bool) -> list[Row]:
    """Simulate hours of checkouts, bursts of payments and bursts of buyers."""
    hours = 1 if quick else 6
    rows = [_row("requests a day, at most", f"{DAY / SECONDS:,.0f}")]
    rows += _hours_of_checkouts(hours)
    return [*rows, *_bursts_of_payments(), *_bursts_of_buyers()]


def _row(work: str, measured: str) -> Row:
    return Row("limit", work, "–", measured, None, HOW)


def _hours_of_checkouts(hours: int) -> Iterator[Row]:
    for share in (0.1, 0.25, 0.5, 0.75, 0.9):
        rate, until = share / SECONDS, hours * HOUR
        runs = [(at, RUN_REQUESTS) for at in _every(RUN_INTERVAL, until)]
        result = simulate(list(arrivals(rate, until, seed=round(share * 100))), runs)
        took = [sent[-1] - at + SECONDS for (at, _), sent in zip(runs, result.jobs, strict=True)]
        yield _row(
            f"{rate * HOUR:,.0f} checkouts an hour (buyers take {share:.0%} of the slots)",
            f"payment page after {statistics.median(result.buyers):.1f} s, p95"
            f" {percentile(result.buyers, 0.95):.1f} s; a run takes"
            f" {statistics.median(took):.0f} s, p95 {percentile(took, 0.95):.0f} s;"
            f" {rate * HOUR / BUSIEST_HOUR:,.0f} orders a day if that is the busiest hour",
        )


def _every(seconds: float, until: float) -> list[float]:
    return [seconds * number for number in range(1, int(until / seconds))]


def _bursts_of_payments() -> Iterator[Row]:
    """Payments arrive half-way between two runs.

    The refresh for the first delivery reads the newest page; the next run reads all pages.
    """
    for count in (10, 100, 1_000):
        pages = -(-count // PAGE_SIZE)
        texts = []
        for rate in (0.0, 0.5 / SECONDS):
            buyers = list(arrivals(rate, 2 * HOUR, seed=count))
            begin = HOUR / 2
            refresh, reading = simulate(
                buyers, [(begin, 1), (begin + RUN_INTERVAL / 2, pages)]
            ).jobs
            after = [
                (refresh[0] if number < PAGE_SIZE else reading[number // PAGE_SIZE]) - begin
                for number in range(count)
            ]
            texts.append(
                f"half of them after {statistics.median(after):.0f} s, all after {max(after):.0f} s"
            )
        work = f"{count:,} payments at once ({pages} pages)"
        yield _row(work, f"{texts[0]}; where buyers take half of the slots: {texts[1]}")


def _bursts_of_buyers() -> Iterator[Row]:
    for count in (10, 100, 1_000):
        result = simulate([number * 1e-3 for number in range(count)])
        text = (
            f"payment page after {statistics.median(result.buyers):,.0f} s (median), the last one"
            f" after {max(result.buyers):,.0f} s"
        )
        yield _row(f"{count:,} buyers click at once", text)
