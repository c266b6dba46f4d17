"""Run the benchmarks: ``python -m bench [BENCHMARK...] [--quick]``.

Prints one table, and writes ``RESULTS.md`` after a complete run. It needs the PostgreSQL server
that ``.ci/postgresql run`` starts; ``make bench`` does both. Each benchmark runs in a process of
its own, on a fresh copy of one prepared database.
"""

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

#: The benchmarks, and the modules that measure them.
BENCHMARKS = {
    "P1": "checkout",
    "P2": "pay_click",
    "P3": "webhook",
    "P4": "runs",
    "P5": "runs",
    "P5b": "runs",
    "P5c": "runs",
    "P6": "settlement",
    "P7": "staff_pages",
    "P8": "runs",
    "P9": "rush",
    "P10": "export",
    "P11": "audit",
    "P12": "order_page",
    "limit": "capacity",
}
RESULTS = Path(__file__).parent / "RESULTS.md"
#: Benchmarks that need other projects to be installed.
WITH_PEERS = ("P3",)


def main() -> int:
    arguments = _parser().parse_args()
    signal.signal(signal.SIGTERM, _exit_on_signal)
    if arguments.child:
        return _measure(arguments.benchmarks[0], arguments.child, arguments.quick)
    os.environ["BENCH_LOAD"] = f"{os.getloadavg()[0]:.1f}"
    wanted = arguments.benchmarks or list(BENCHMARKS)
    rows: list[report.Row] = []
    failed = []
    with databases.template(databases.TEMPLATE):
        _run_child(["-c", PREPARE], databases.environment(databases.TEMPLATE, _apps(wanted)))
        for key in wanted:
            print(f"{key} …", file=sys.stderr, flush=True)
            began = time.monotonic()
            found = _run(key, arguments.quick)
            if found is None:
                failed.append(key)
                continue
            rows += found
            print(f"  {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    print(report.as_table(rows))
    page = report.as_markdown(rows, databases.server_version(), arguments.quick)
    if wanted == list(BENCHMARKS) and not arguments.quick and not failed:
        RESULTS.write_text(page, encoding="utf-8")
        print(f"Written to {RESULTS.name}.")
    else:
        print(f"{RESULTS.name} was not written: only a complete run does that.")
    if failed:
        print(f"Not measured: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


PREPARE = """
import django
django.setup()
from bench import databases
databases.prepare()
"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("benchmarks", nargs="*", choices=[*BENCHMARKS, []], metavar="BENCHMARK")
    parser.add_argument("--quick", action="store_true", help="small sizes, to try the benchmarks")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    return parser


def _run(key: str, quick: bool) -> list[report.Row] | None:
    name = "bench_" + key.lower()
    with (
        tempfile.TemporaryDirectory() as folder,
        databases.copy_of(databases.TEMPLATE, name) as database,
    ):
        answer = Path(folder) / "rows.json"
        command = ["-m", "bench", key, "--child", str(answer), *(["--quick"] if quick else [])]
        try:
            _run_child(command, databases.environment(database, _apps([key])))
        except subprocess.CalledProcessError:
            return None
        return [report.Row(**row) for row in json.loads(answer.read_text(encoding="utf-8"))]


def _apps(keys: list[str]) -> str:
    """Return what must be installed: other projects only for the benchmarks that need them."""
    return "peers" if set(keys) & set(WITH_PEERS) else "shop"


def _run_child(command: list[str], environment: dict[str, str]) -> None:
    # subprocess.run would kill the child when it is interrupted, and the child's servers would
    # keep running.
    process = subprocess.Popen([sys.executable, *command], env=environment)
    try:
        status = process.wait()
    finally:
        process.terminate()
        process.wait()
    if status:
        raise subprocess.CalledProcessError(status, command)


def _exit_on_signal(number: int, frame: object) -> None:
    """Exit through all ``finally`` blocks, which stop the processes that were started."""
    sys.exit(128 + number)


def _measure(key: str, answer: str, quick: bool) -> int:
    import django

    django.setup()
    module = importlib.import_module(f"bench.{BENCHMARKS[key]}")
    rows = module.measure(key, quick)
    Path(answer).write_text(json.dumps([row.as_dict() for row in rows]), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
