"""Rows of the table, what is made of many runs, and how it is all printed."""

from __future__ import annotations

import dataclasses
import datetime as dt
import os
import platform
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = (
    "Django",
    "django-oscar",
    "django-oscar-bitsby",
    "gunicorn",
    "psycopg",
    "dj-stripe",
    "django-payments",
    "stripe",
)


@dataclass(frozen=True)
class Row:
    """One line of the table. ``met`` is None where there is no goal, only something to know."""

    key: str
    work: str
    goal: str
    measured: str
    met: bool | None
    how: str

    def as_dict(self) -> dict[str, object]:
        return dataclasses.asdict(self)


def spread(values: Sequence[float], digits: int = 2, unit: str = "") -> str:
    """Return the median of several runs, and the smallest and largest."""
    median = statistics.median(values)
    return (
        f"{median:.{digits}f}{unit}"
        f" ({min(values):.{digits}f}–{max(values):.{digits}f}, {len(values)} runs)"
    )


def percentile(values: Iterable[float], share: float) -> float:
    """Return the value that ``share`` of all values do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, round(share * len(ordered) + 0.5) - 1))]


def verdict(row: Row) -> str:
    return "–" if row.met is None else "met" if row.met else "MISSED"


def as_table(rows: Sequence[Row]) -> str:
    """Return the table as people read it in a terminal."""
    lines = [("#", "work", "goal", "measured", "")]
    lines += [(row.key, row.work, row.goal, row.measured, verdict(row)) for row in rows]
    widths = [max(len(line[column]) for line in lines) for column in range(5)]
    return "\n".join(
        "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def as_markdown(rows: Sequence[Row], postgresql: str, quick: bool, notes: str = "") -> str:
    """Return the page that is kept with the project."""
    lines = [
        "# What was measured",
        "",
        "Made by `make bench`: one run, with the opponents beside it. Ratios are medians of many",
        "interleaved runs; in brackets the smallest and the largest. What one account's request a",
        "second means for a shop stands in [CAPACITY.md](CAPACITY.md).",
        "",
    ]
    if quick:
        lines += [
            "**A quick run with small sizes: the figures only show that the bench works.**",
            "",
        ]
    lines += [f"- {line}" for line in machine(postgresql)]
    lines += ["", "| # | work | goal | measured | |", "|---|---|---|---|---|"]
    for row in rows:
        cells = (row.key, row.work, row.goal, row.measured, verdict(row))
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    lines += ["", "## How", ""]
    remote: set[str] = set()
    for row in rows:
        if row.how and row.how not in remote:
            remote.add(row.how)
            lines.append(f"- **{row.key}**: {row.how}")
    return "\n".join([*lines, "", notes]).rstrip() + "\n"


def machine(postgresql: str) -> list[str]:
    """Say on what and with what it was measured."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return [
        f"Date: {dt.datetime.now(dt.timezone.utc):%Y-%m-%d %H:%M} UTC",
        f"Machine: {_cpu()}, {os.cpu_count()} cores, {memory:.0f} GiB,"
        f" {platform.system()} {platform.release()}; load average before the run"
        f" {os.environ.get('BENCH_LOAD', 'unknown')}",
        f"Python {platform.python_version()}, PostgreSQL {postgresql} with fsync,"
        " synchronous_commit and full_page_writes off (a throw-away server: a disk that waits"
        " would make all sides slower, and ratios between them smaller)",
        ", ".join(f"{name} {_version(name)}" for name in PACKAGES),
        "gunicorn with one sync worker on loopback, database connections kept open",
    ]


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _cpu() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in text.splitlines() if "model name" in line]
    return names[0] if names else platform.machine()
