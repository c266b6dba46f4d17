"""Mutation testing: is every decision in the modules that move money held by a test?

``python -m tests.mutation [MODULE ...]`` changes one small thing at a time in a copy of a module
and runs the tests that go through it; a change that no test notices is a survivor. What is known
to survive, and why, stands in ``docs/mutation.rst``.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "oscar_bitsby"
#: The tests that have to notice a change in a module, so that its survivors point to a gap there.
TESTS = {
    "reconciliation": [
        "reconciliation",
        "reconciliation_details",
        "passes_details",
        "webhook",
        "tasks",
        "communication",
    ],
    "settlement": ["settlement", "settlement_details", "databases", "communication"],
    "facade": ["facade", "facade_details", "databases"],
    "client": ["client", "client_details"],
    "webhook": ["webhook", "webhook_details", "tasks"],
    "throttle": ["throttle", "throttle_details", "databases"],
}
#: They take seconds, and what they hold of a module is held by quicker ones too.
LEFT_OUT = [
    "tests/test_throttle.py::test_four_processes_at_once_keep_the_limit_together",
    "tests/test_reconciliation.py::test_a_near_look_in_which_nothing_happened_costs_two_requests",
    "tests/test_reconciliation.py::test_invoices_that_bitsby_does_not_know_do_not_cost_more_and_more",
    "tests/test_reconciliation.py::test_many_overdue_invoices_are_asked_about_in_bulk",
    "tests/test_reconciliation.py::test_nothing_is_lost_whatever_the_order_and_page_size",
    "tests/test_webhook.py::test_a_burst_of_deliveries_costs_few_requests",
]
#: Percent of the changes that have to be noticed.
WANTED = 95
NOTICED = {1: "killed", 3: "killed", -24: "timeout", 24: "timeout", 36: "timeout", 152: "timeout"}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("modules", nargs="*", metavar="MODULE", help=", ".join(TESTS))
    parser.add_argument("--processes", type=int, default=2, help="modules at once (default: 2)")
    parser.add_argument("--keep", type=Path, help="work in this folder, and go on where it is")
    args = parser.parse_args()
    modules = args.modules or list(TESTS)
    if unknown := set(modules) - set(TESTS):
        parser.error(f"no such module: {', '.join(sorted(unknown))}")
    # In memory where there is a disk for that: each change makes a database of its own.
    memory = Path("/dev/shm")
    base = memory if memory.is_dir() and os.access(memory, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="mutation-", dir=base) as scratch:
        folder = args.keep or Path(scratch)
        with ThreadPoolExecutor(args.processes) as pool:
            results = list(pool.map(lambda name: check(name, folder / name, scratch), modules))
    return report(dict(zip(modules, results, strict=True)))


def check(module: str, copy: Path, scratch: str) -> dict[str, int | None]:
    """Return how the tests of a module ended for each change, in a copy of the project."""
    if not copy.exists():
        prepare(module, copy)
    ran = subprocess.run(
        [sys.executable, "-m", "mutmut", "run", "--max-children", "1"],
        cwd=copy,
        env=os.environ
        | {
            "TMPDIR": scratch,
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONPATH": str(Path(__file__).parent),
            "PYTEST_PLUGINS": "quickest_first",
        },
        capture_output=True,
        text=True,
    )
    found = copy / "mutants" / PACKAGE / f"{module}.py.meta"
    if ran.returncode or not found.exists():
        raise SystemExit(f"{module}: {ran.stdout[-2000:]}\n{ran.stderr[-4000:]}")
    endings: dict[str, int | None] = json.loads(found.read_text())["exit_code_by_key"]
    for name, ending in sorted(endings.items()):
        if ending not in NOTICED:
            shown = subprocess.run(
                [sys.executable, "-m", "mutmut", "show", name],
                cwd=copy,
                capture_output=True,
                text=True,
            ).stdout
            changed = [line for line in shown.splitlines() if line[:2] not in ("--", "++")]
            print(name, f"(exit {ending})", *changed, "", sep="\n", flush=True)
    return endings


def prepare(module: str, copy: Path) -> None:
    left_out = shutil.ignore_patterns("__pycache__")
    for folder in (PACKAGE, "tests"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=left_out)
    for name in ("setup.cfg", "README.rst"):
        shutil.copy(ROOT / name, copy / name)
    options = {
        "source_paths": [PACKAGE],
        "only_mutate": [f"{PACKAGE}/{module}.py"],
        "also_copy": ["README.rst"],
        "pytest_add_cli_args": [
            "--no-migrations",
            "-pno:cacheprovider",
            *(f"--deselect={name}" for name in LEFT_OUT),
        ],
        "pytest_add_cli_args_test_selection": [f"tests/test_{name}.py" for name in TESTS[module]],
        "use_setproctitle": False,
        "use_git_change_detection": False,
        # A change that makes a test run for ever is noticed.
        "timeout_multiplier": 5.0,
        "timeout_constant": 5.0,
    }
    lines = [f"{name} = {json.dumps(value)}" for name, value in options.items()]
    project = (ROOT / "pyproject.toml").read_text()
    (copy / "pyproject.toml").write_text("\n".join([project, "[tool.mutmut]", *lines, ""]))
    source = copy / PACKAGE / f"{module}.py"
    source.write_text(undecorated(source.read_text()))


def undecorated(source: str) -> str:
    """Return the same module with its functions decorated by assignments below them.

    The tool leaves decorated functions as they are; the webhook is one.
    """
    lines = source.split("\n")
    found = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef)]
    for node in sorted(found, key=lambda node: -node.lineno):
        if not node.decorator_list:
            continue
        call = node.name
        for decorator in reversed(node.decorator_list):
            call = f"{ast.unparse(decorator)}({call})"
        lines.insert(node.end_lineno or 0, f"{' ' * node.col_offset}{node.name} = {call}")
        del lines[node.decorator_list[0].lineno - 1 : node.lineno - 1]
    return "\n".join(lines)


def report(endings_by_module: dict[str, dict[str, int | None]]) -> int:
    print(f"{'module':<16}{'changes':>8}{'killed':>8}{'timeout':>8}{'survived':>9}{'score':>8}")
    everything: Counter[str] = Counter()
    for module, endings in endings_by_module.items():
        counts = Counter(NOTICED.get(ending or 0, "survived") for ending in endings.values())
        everything += counts
        print(line(module, counts))
    print(line("all", everything))
    return 0 if score(everything) >= WANTED else 1


def line(name: str, counts: Counter[str]) -> str:
    figures = f"{counts.total():>8}{counts['killed']:>8}{counts['timeout']:>8}"
    return f"{name:<16}{figures}{counts['survived']:>9}{score(counts):>7.1f}%"


def score(counts: Counter[str]) -> float:
    return 100 * (counts["killed"] + counts["timeout"]) / counts.total()


if __name__ == "__main__":
    sys.exit(main())
