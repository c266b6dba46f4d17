"""P10: an export of a million payments: its memory, and its rate beside a bare loop."""

import csv
import datetime as dt
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psycopg
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.db import connection

from bench import rows
from bench.report import Row, spread
from oscar_bitsby.accounting.export import COLUMNS
from oscar_bitsby.models import BitsbyInvoice, BitsbyPayment

MAX_MEGABYTES, MIN_RATIO = 150, 0.4
#: The same columns, as simple as SQL can name them.
SQL = """
    SELECT coalesce(p.transaction_at, p.seen_at), i.order_number, '', i.bitsby_id, i.uid,
        p.bitsby_id, 'payment', p.cryptocurrency, p.blockchain, p.amount, p.address, p.hash,
        i.amount, p.fiat_value, p.currency, p.locked_rate, i.commission_usd, p.review_reason,
        p.resolution, u.{username}, p.resolution_note, 'chain', p.booked_at, 'settled'
    FROM {payment} p
    LEFT JOIN {invoice} i ON i.id = p.invoice_id
    LEFT JOIN {user} u ON u.id = p.resolved_by_id
    WHERE NOT p.is_foreign
        AND coalesce(p.transaction_at, p.seen_at) >= '2000-01-01'
        AND coalesce(p.transaction_at, p.seen_at) < '2200-01-01'
    ORDER BY 1, p.id
"""


def measure(key: str, quick: bool) -> list[Row]:
    """Export with the command, and write the same columns with a bare loop, in turn."""
    count, times = (100_000, 3) if quick else (1_000_000, 3)
    rows.add_orders(count)
    rows.add_invoices(count, status="'paid'", commission_usd="0.10")
    decided = {
        "review_reason": "CASE WHEN n % 20 = 0 THEN 'short' ELSE '' END",
        "resolution": "CASE WHEN n % 20 = 0 THEN 'accepted' ELSE '' END",
        "resolved_at": "CASE WHEN n % 20 = 0 THEN now() END",
        "resolved_by_id": f"CASE WHEN n % 20 = 0 THEN {get_user_model().objects.get().pk} END",
        "resolution_note": "CASE WHEN n % 20 = 0 THEN 'a cent is missing' ELSE '' END",
    }
    rows.add_payments(count, locked_rate="1.000250062516", **decided)
    before = _peak()
    ratios, seconds = [], []
    with tempfile.TemporaryDirectory() as folder:
        ours, bare = Path(folder) / "ours.csv", Path(folder) / "bare.csv"
        for _ in range(times):
            seconds.append(_time(_export, ours))
            ratios.append(_time(_bare_loop, bare) / seconds[-1])
        assert _lines(ours) == _lines(bare) == count + 1
    peak, ratio = _peak(), sorted(ratios)[len(ratios) // 2]
    how = (
        f"bitsby_export as CSV into a file, {count:,} payments of as many invoices, one of twenty"
        f" decided by staff: {count / min(seconds):,.0f} rows a second at best. The other side is a"
        " server-side cursor of psycopg and csv.writer, with the same columns of the same joins, in"
        " turn in the same process. ru_maxrss of that process, with Django and Oscar loaded:"
        f" {before:.0f} MB before."
    )
    return [
        Row(
            "P10",
            f"peak memory of an export of {count:,} rows",
            f"≤ {MAX_MEGABYTES} MB",
            f"{peak:.0f} MB",
            peak <= MAX_MEGABYTES,
            how,
        ),
        Row(
            "P10",
            "its rate ÷ that of a bare loop",
            f"≥ {MIN_RATIO}",
            spread(ratios),
            ratio >= MIN_RATIO,
            how,
        ),
    ]


def _time(write: Callable[[Path], None], path: Path) -> float:
    begin = time.perf_counter()
    write(path)
    return time.perf_counter() - begin


def _export(path: Path) -> None:
    days = {"from": dt.date(2000, 1, 1), "to": dt.date(2200, 1, 1)}
    call_command("bitsby_export", output=str(path), **days)


def _bare_loop(path: Path) -> None:
    tables = {"payment": BitsbyPayment, "invoice": BitsbyInvoice, "user": get_user_model()}
    names = {name: f'"{model._meta.db_table}"' for name, model in tables.items()}
    statement = SQL.format(**names, username=get_user_model().USERNAME_FIELD)
    with (
        psycopg.connect(dbname=connection.settings_dict["NAME"]) as own,
        own.cursor("bare") as cursor,
        path.open("w", newline="", encoding="utf-8") as file,
    ):
        cursor.itersize = 2_000
        cursor.execute(statement)  # type: ignore[arg-type]  # names of our own
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for row in cursor:
            writer.writerow(row)


def _lines(path: Path) -> int:
    with path.open(encoding="utf-8") as file:
        return sum(1 for _ in file)


def _peak() -> float:
    """Return the peak memory of this process in megabytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
