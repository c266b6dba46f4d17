"""P4, P5, P5b, P5c and P8: the requests that a reconcile run sends, and its memory."""

import datetime as dt
import resource
import time

from django.db import connection
from django.utils import timezone

from bench import rows
from bench.fake_bitsby import FakeBitsby
from bench.report import Row
from oscar_bitsby.choices import InvoiceStatus
from oscar_bitsby.models import BitsbyInvoice
from oscar_bitsby.reconciliation import reconcile
from tests.support.bitsby import invoice_item

#: Watched invoices: of ten, six are unpaid, three expired and one paid.
MIXED = "CASE WHEN n % 10 < 6 THEN 'unpaid' WHEN n % 10 < 9 THEN 'expired' ELSE 'paid' END"
ENDED = "CASE WHEN n % 10 BETWEEN 6 AND 8 THEN now() - interval '2 days' END"
HOW = (
    "counted in this process, with a fake Bitsby that answers with lists of at most 50 items; the"
    " database itself generates the rows; once an hour a run sends one more request for the balance"
)


def measure(key: str, quick: bool) -> list[Row]:
    """Run one of the benchmarks of a run."""
    benchmarks = {"P4": quiet, "P5": hundred_paid, "P5b": busy, "P5c": lagging, "P8": memory}
    return benchmarks[key](quick)


def _empty() -> None:
    with connection.cursor() as cursor:
        names = ("webhookdelivery", "bitsbypayment", "bitsbyinvoice", "gatewaystate")
        tables = ", ".join(f"oscar_bitsby_{name}" for name in names)
        cursor.execute(f"TRUNCATE {tables}, order_order CASCADE")


def quiet(quick: bool) -> list[Row]:
    """P4: nothing has happened since the last run, and no full sync is due."""
    counts, full_counts = {}, {}
    for count in (0, 10, 1_000, 5_000 if quick else 100_000):
        _empty()
        if count:
            rows.add_orders(count, status="'Being processed'")
            rows.add_invoices(count, status=MIXED, ended_at=ENDED, order_awaits_payment="false")
            rows.add_payments(min(count, 20))
        bitsby = FakeBitsby()
        bitsby.list_known_payments()
        for kind in (full_counts, counts):
            with bitsby.replace_network() as client:
                report = reconcile(client=client)
            assert report.booked == 0
            kind[count] = len(bitsby.paths)
    met = counts.pop(0) == 0 and max(counts.values()) <= 2
    text = ", ".join(f"{requests} with {count:,}" for count, requests in counts.items())
    full_counts.pop(0)
    return [
        Row(
            "P4",
            "API requests of a quiet run, by the number of watched invoices",
            "≤ 2 each; 0 with none",
            f"{text}; 0 with none" if met else f"{text}",
            met,
            f"{HOW}; six of ten invoices unpaid, three expired, one paid, and 20 known payments."
            f" The daily full sync took at most {max(full_counts.values())}.",
        )
    ]


def hundred_paid(quick: bool) -> list[Row]:
    """P5: many open invoices, of which a hundred were paid since the last run."""
    count = 1_000 if quick else 10_000
    rows.add_orders(count)
    rows.add_lines_and_sources(count)
    rows.add_invoices(count)
    bitsby = FakeBitsby()
    bitsby.add_payments_for(list(BitsbyInvoice.objects.order_by("?")[:100]))
    with bitsby.replace_network() as client:
        report = reconcile(client=client)
    assert report.booked == 100, report
    requests = len(bitsby.paths)
    return [
        Row(
            "P5",
            f"API requests with {count:,} open invoices, of which 100 were paid",
            "≤ 5",
            f"{requests}; all 100 booked",
            requests <= 5,
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
        bitsby.list_known_payments()
        if not newest_first:
            bitsby.shuffle()
        # Only a full sync shows whether the list is newest first.
        with bitsby.replace_network() as client:
            reconcile(client=client)
        bitsby.add_payments_for(list(BitsbyInvoice.objects.filter(pk__gt=known)[:new]))
        if not newest_first:
            bitsby.shuffle()
        with bitsby.replace_network() as client:
            report = reconcile(client=client)
        assert report.booked == new, report
        found.append(len(bitsby.paths))
    ordered, shuffled = found
    return [
        Row(
            "P5b",
            f"API requests in a busy shop: {known:,} payments in two days, {new} of them new",
            "≤ 3 newest first; the whole list otherwise",
            f"{ordered} newest first; {shuffled} in random order; all {new} booked in both",
            ordered <= 3,
            f"{HOW}; the second run of a shop; the first one has read the whole list.",
        )
    ]


def lagging(quick: bool) -> list[Row]:
    """P5c: an overdue invoice that Bitsby still calls unpaid, among many expired ones."""
    count, overdue = 200 if quick else 1_900, 5
    rows.add_orders(count)
    is_overdue = f"CASE WHEN n > {count - overdue}"
    rows.add_invoices(
        count,
        status=f"{is_overdue} THEN 'unpaid' ELSE 'expired' END",
        ended_at=f"{is_overdue} THEN NULL ELSE now() - interval '1 hour' END",
        expires_at="now() - interval '5 minutes'",
        order_awaits_payment="false",
    )
    lagging, *others = BitsbyInvoice.objects.order_by("-pk")
    bitsby = FakeBitsby()
    bitsby.invoices = [invoice_item(lagging), *(invoice_item(row, "expired") for row in others)]
    with bitsby.replace_network() as client:
        report = reconcile(client=client)
    assert report.ended == overdue - 1, report
    return [
        Row(
            "P5c",
            f"API requests of a run with one late invoice among {count:,} expired ones",
            "≤ 4",
            f"{len(bitsby.paths)}",
            len(bitsby.paths) <= 4,
            f"{HOW}; {overdue - 1} other invoices have just expired, and Bitsby still calls the"
            " late one unpaid.",
        )
    ]


def memory(quick: bool) -> list[Row]:
    """P8: the peak memory of this process, which does nothing else."""
    count = 5_000 if quick else 100_000
    rows.add_orders(count)
    rows.add_invoices(count)
    before, begin = _peak(), time.monotonic()
    bitsby = FakeBitsby()
    with bitsby.replace_network() as client:
        reconcile(client=client)
    quiet_peak, quiet_seconds = _peak(), time.monotonic() - begin

    # Now all invoices are overdue and expired at Bitsby, so the run changes each of them.
    BitsbyInvoice.objects.update(expires_at=timezone.now() - dt.timedelta(minutes=5))
    bitsby.invoices = ExpiredInvoices()
    begin = time.monotonic()
    with bitsby.replace_network() as client:
        reconcile(client=client)
    expired = BitsbyInvoice.objects.filter(status=InvoiceStatus.EXPIRED).count()
    peak, seconds = _peak(), time.monotonic() - begin
    return [
        Row(
            "P8",
            f"peak memory of a run with {count:,} open invoices",
            "≤ 150 MB",
            f"{peak:.0f} MB ({before:.0f} MB before the run)",
            peak <= 150,
            "ru_maxrss of a process of its own with Django and Oscar loaded. First a quiet run"
            f" ({quiet_peak:.0f} MB, {quiet_seconds:.1f} s), then one with all invoices overdue,"
            f" which expired {expired:,} with {len(bitsby.paths)} requests ({seconds:.1f} s"
            " without waiting for slots).",
        )
    ]


def _peak() -> float:
    """Return the peak memory of this process in megabytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


class ExpiredInvoices:
    """The list of expired invoices, newest first; each page is built on request to save memory."""

    def __getitem__(self, part: slice) -> list[dict[str, object]]:
        from tests.support.bitsby import invoice_item

        found = BitsbyInvoice.objects.order_by("-pk").defer("wallets", "reply")[part]
        return [invoice_item(invoice, "expired") for invoice in found]

    def __iter__(self):  # type: ignore[no-untyped-def]
        raise NotImplementedError("the benchmark expects requests for pages only")
