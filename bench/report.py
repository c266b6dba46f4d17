"""The rows of the table, statistics over many runs, and the output."""

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
    """One row of the table; ``met`` is None if there is no goal."""

    key: str
    work: str
    goal: str
    measured: str
    met: bool | None
    how: str

    def as_dict(self) -> dict[str, object]:
        return dataclasses.asdict(self)


def spread(values: Sequence[float], digits: int = 2, unit: str = "") -> str:
    """Return the median of several runs, with the smallest and the largest."""
    median = statistics.median(values)
    return (
        f"{median:.{digits}f}{unit}"
        f" ({min(values):.{digits}f}–{max(values):.{digits}f}, {len(values)} runs)"
    )


def percentile(values: Iterable[float], share: float) -> float:
    """Return the value that a ``share`` of all values does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, round(share * len(ordered) + 0.5) - 1))]


def verdict(row: Row) -> str:
    return "–" if row.met is None else "met" if row.met else "MISSED"


def as_table(rows: Sequence[Row]) -> str:
    """Return the table for a terminal."""
    lines = [("#", "benchmark", "goal", "measured", "")]
    lines += [(row.key, row.work, row.goal, row.measured, verdict(row)) for row in rows]
    widths = [max(len(line[column]) for line in lines) for column in range(5)]
    return "\n".join(
        "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def as_markdown(rows: Sequence[Row], postgresql: str, quick: bool, notes: str = "") -> str:
    """Return the text of ``RESULTS.md``."""
    lines = [
        "# Results of the benchmarks",
        "",
        "Written by `make bench` in one run, together with the other projects. Ratios are medians",
        "of many interleaved runs, with the smallest and the largest in brackets. How many orders",
        "a shop can take with one request a second is described in [CAPACITY.md](CAPACITY.md).",
        "",
    ]
    if quick:
        lines += [
            "**A quick run with small sizes: it only shows that the benchmarks work.**",
            "",
        ]
    lines += [f"- {line}" for line in machine(postgresql)]
    lines += ["", "| # | benchmark | goal | measured | |", "|---|---|---|---|---|"]
    for row in rows:
        cells = (row.key, row.work, row.goal, row.measured, verdict(row))
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    lines += ["", "## Method", ""]
    written: set[str] = set()
    for row in rows:
        if row.how and row.how not in written:
            written.add(row.how)
            lines.append(f"- **{row.key}**: {row.how}")
    return "\n".join([*lines, "", notes]).rstrip() + "\n"


def machine(postgresql: str) -> list[str]:
    """Describe the machine and the versions of the software."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return [
        f"Date: {dt.datetime.now(dt.timezone.utc):%Y-%m-%d %H:%M} UTC",
        f"Machine: {_cpu()}, {os.cpu_count()} cores, {memory:.0f} GiB,"
        f" {platform.system()} {platform.release()}; load average before the run"
        f" {os.environ.get('BENCH_LOAD', 'unknown')}",
        f"Python {platform.python_version()}, PostgreSQL {postgresql} with fsync,"
        " synchronous_commit and full_page_writes off (a temporary server; waiting for the disk"
        " would slow down both sides and bring the ratios closer to 1)",
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
