"""P4, P5, P5b and P8: what a reconcile pass asks for, and the memory that it needs."""

from __future__ import annotations

import datetime as dt
import resource
import time

from django.db import connection
from django.utils import timezone

from bench import rows
from bench.fake_bitsby import FakeBitsby
from bench.report import Row
from oscar_bitsby.models import BitsbyInvoice
from oscar_bitsby.reconciliation import reconcile

#: Watched: six of ten unpaid, three expired, one paid.
MIXED = "CASE WHEN n % 10 < 6 THEN 'unpaid' WHEN n % 10 < 9 THEN 'expired' ELSE 'paid' END"
ENDED = "CASE WHEN n % 10 BETWEEN 6 AND 8 THEN now() - interval '2 days' END"
HOW = (
    "counted in this process with a far side that answers lists of at most 50 items; rows made by"
    " the database itself"
)


def measure(piece: str, quick: bool) -> list[Row]:
    """Measure one of the pieces that a pass is judged by."""
    pieces = {"P4": quiet, "P5": hundred_paid, "P5b": busy, "P8": memory}
    return pieces[piece](quick)


def _empty() -> None:
    with connection.cursor() as cursor:
        names = ("webhookdelivery", "bitsbypayment", "bitsbyinvoice", "gatewaystate")
        tables = ", ".join(f"oscar_bitsby_{name}" for name in names)
        cursor.execute(f"TRUNCATE {tables}, order_order CASCADE")


def quiet(quick: bool) -> list[Row]:
    """P4: nothing has happened since the last pass, and a day has not passed."""
    counts, far_counts = {}, {}
    for count in (0, 10, 1_000, 5_000 if quick else 100_000):
        _empty()
        if count:
            rows.add_orders(count, status="'Being processed'")
            rows.add_invoices(count, status=MIXED, ended_at=ENDED, order_awaits_payment="false")
            rows.add_payments(min(count, 20))
        bitsby = FakeBitsby()
        bitsby.lists_known_payments()
        for kind in (far_counts, counts):
            with bitsby.answering() as client:
                report = reconcile(client=client)
            assert report.booked == 0
            kind[count] = len(bitsby.asked)
    met = counts.pop(0) == 0 and max(counts.values()) <= 2
    text = ", ".join(f"{asked} with {count:,}" for count, asked in counts.items())
    far_counts.pop(0)
    return [
        Row(
            "P4",
            "API requests of a quiet pass by the number of watched invoices",
            "≤ 2 each; 0 with none",
            f"{text}; 0 with none" if met else f"{text}",
            met,
            f"{HOW}; six of ten invoices unpaid, three expired, one paid, and 20 payments known."
            f" The far look once a day took at most {max(far_counts.values())}.",
        )
    ]


def hundred_paid(quick: bool) -> list[Row]:
    """P5: many open invoices, of which a hundred were paid since the last pass."""
    count = 1_000 if quick else 10_000
    rows.add_orders(count)
    rows.add_lines_and_sources(count)
    rows.add_invoices(count)
    bitsby = FakeBitsby()
    bitsby.gets_paid(list(BitsbyInvoice.objects.order_by("?")[:100]))
    with bitsby.answering() as client:
        report = reconcile(client=client)
    assert report.booked == 100, report
    asked = len(bitsby.asked)
    return [
        Row(
            "P5",
            f"API requests with {count:,} open of which 100 were paid",
            "≤ 5",
            f"{asked}; all 100 booked",
            asked <= 5,
            HOW,
        )
    ]


def busy(quick: bool) -> list[Row]:
    """P5b: a long list of payments of which ten are new."""
    known, new = 500 if quick else 5_000, 10
    found = []
    for newest_first in (True, False):
        _empty()
        rows.add_orders(known + 2 * new)
        rows.add_lines_and_sources(known + 2 * new)
        paid = f"CASE WHEN n <= {known} THEN 'paid' ELSE 'unpaid' END"
        rows.add_invoices(known + 2 * new, status=paid)
        apart = f"interval '{2 * 86400 / known} seconds'"
        rows.add_payments(known, transaction_at=f"date_trunc('second', now() - n * {apart})")
        bitsby = FakeBitsby()
        bitsby.lists_known_payments()
        if not newest_first:
            bitsby.shuffle()
        # What the shop knows of the list's order, it has found out by a whole look.
        with bitsby.answering() as client:
            reconcile(client=client)
        bitsby.gets_paid(list(BitsbyInvoice.objects.filter(pk__gt=known)[:new]))
        if not newest_first:
            bitsby.shuffle()
        with bitsby.answering() as client:
            report = reconcile(client=client)
        assert report.booked == new, report
        found.append(len(bitsby.asked))
    fast, dear = found
    return [
        Row(
            "P5b",
            f"API requests in a busy shop: {known:,} payments in two days, {new} of them new",
            "≤ 3 newest first; complete otherwise",
            f"{fast} newest first; {dear} in no order; all {new} booked in both",
            fast <= 3,
            f"{HOW}; the second pass of a shop, after one that has read the whole list.",
        )
    ]


def memory(quick: bool) -> list[Row]:
    """P8: the peak of this process, which does nothing else."""
    count = 5_000 if quick else 100_000
    rows.add_orders(count)
    rows.add_invoices(count)
    before, begin = _peak(), time.monotonic()
    bitsby = FakeBitsby()
    with bitsby.answering() as client:
        reconcile(client=client)
    calm, calm_seconds = _peak(), time.monotonic() - begin

    # The same invoices, all of them overdue and expired at Bitsby: the pass has work with each.
    BitsbyInvoice.objects.update(expires_at=timezone.now() - dt.timedelta(minutes=5))
    bitsby.invoices = ExpiredInvoices()
    begin = time.monotonic()
    with bitsby.answering() as client:
        report = reconcile(client=client)
    peak, seconds = _peak(), time.monotonic() - begin
    return [
        Row(
            "P8",
            f"peak memory of a pass over {count:,} open invoices",
            "≤ 150 MB",
            f"{peak:.0f} MB ({before:.0f} MB before the pass)",
            peak <= 150,
            "ru_maxrss of a process of its own with Django and Oscar loaded. First a quiet pass"
            f" ({calm:.0f} MB, {calm_seconds:.1f} s), then one with all of them overdue, which"
            f" ended {report.ended} by {len(bitsby.asked)} requests ({seconds:.1f} s without"
            " waiting for slots).",
        )
    ]


def _peak() -> float:
    """Return the most that this process ever used, in megabytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


class ExpiredInvoices:
    """The list of expired invoices, newest first, made page by page so that it takes no memory."""

    def __getitem__(self, part: slice) -> list[dict[str, object]]:
        from tests.bitsby import remote

        found = BitsbyInvoice.objects.order_by("-pk").defer("wallets", "reply")[part]
        return [remote(invoice, "expired") for invoice in found]

    def __iter__(self):  # type: ignore[no-untyped-def]
        raise NotImplementedError("asked for one by one, which the bench does not expect")
