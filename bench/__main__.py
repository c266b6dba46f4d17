"""``python -m bench [PIECE...] [--quick]``: measure, print one table, write ``RESULTS.md``.

Needs the PostgreSQL that ``.ci/postgresql run`` gives it; ``make bench`` does both. Each piece of
work runs in a process of its own, on a fresh copy of one furnished database.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench import databases, report

#: The pieces of work, and the modules that measure them.
PIECES = {
    "P1": "checkout",
    "P2": "pay_click",
    "P3": "webhook",
    "P4": "runs",
    "P5": "runs",
    "P5b": "runs",
    "P6": "settlement",
    "P7": "staff_pages",
    "P8": "runs",
    "limit": "capacity",
}
RESULTS = Path(__file__).parent / "RESULTS.md"
#: Pieces that are measured with other projects installed beside.
WITH_PEERS = ("P3",)


def main() -> int:
    arguments = _parser().parse_args()
    signal.signal(signal.SIGTERM, _end_on)
    if arguments.child:
        return _measure(arguments.pieces[0], arguments.child, arguments.quick)
    os.environ["BENCH_LOAD"] = f"{os.getloadavg()[0]:.1f}"
    wanted = arguments.pieces or list(PIECES)
    rows: list[report.Row] = []
    failed = []
    with databases.template(databases.TEMPLATE):
        _child(["-c", FURNISH], databases.environment(databases.TEMPLATE, _apps(wanted)))
        for piece in wanted:
            print(f"{piece} …", file=sys.stderr, flush=True)
            began = time.monotonic()
            found = _run(piece, arguments.quick)
            if found is None:
                failed.append(piece)
                continue
            rows += found
            print(f"  {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    print(report.as_table(rows))
    page = report.as_markdown(rows, databases.server_version(), arguments.quick)
    if wanted == list(PIECES) and not arguments.quick and not failed:
        RESULTS.write_text(page, encoding="utf-8")
        print(f"Written to {RESULTS.name}.")
    else:
        print(f"{RESULTS.name} is written by a whole run only; this was none.")
    if failed:
        print(f"Not measured: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


FURNISH = """
import django
django.setup()
from bench import databases
databases.furnish()
"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("pieces", nargs="*", choices=[*PIECES, []], metavar="PIECE")
    parser.add_argument("--quick", action="store_true", help="small sizes, to try the bench")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    return parser


def _run(piece: str, quick: bool) -> list[report.Row] | None:
    name = "bench_" + piece.lower()
    with (
        tempfile.TemporaryDirectory() as folder,
        databases.copy_of(databases.TEMPLATE, name) as database,
    ):
        answer = Path(folder) / "rows.json"
        command = ["-m", "bench", piece, "--child", str(answer), *(["--quick"] if quick else [])]
        try:
            _child(command, databases.environment(database, _apps([piece])))
        except subprocess.CalledProcessError:
            return None
        return [report.Row(**row) for row in json.loads(answer.read_text(encoding="utf-8"))]


def _apps(pieces: list[str]) -> str:
    """Return what must be installed: the other projects only where they are measured."""
    return "peers" if set(pieces) & set(WITH_PEERS) else "shop"


def _child(command: list[str], environment: dict[str, str]) -> None:
    # Not subprocess.run: broken off, that kills at once, and the child's servers would stay.
    process = subprocess.Popen([sys.executable, *command], env=environment)
    try:
        status = process.wait()
    finally:
        process.terminate()
        process.wait()
    if status:
        raise subprocess.CalledProcessError(status, command)


def _end_on(number: int, frame: object) -> None:
    """Leave by way of all ``finally`` blocks, which end what was started."""
    sys.exit(128 + number)


def _measure(piece: str, answer: str, quick: bool) -> int:
    import django

    django.setup()
    module = importlib.import_module(f"bench.{PIECES[piece]}")
    rows = module.measure(piece, quick)
    Path(answer).write_text(json.dumps([row.as_dict() for row in rows]), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
