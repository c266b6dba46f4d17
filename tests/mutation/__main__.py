"""Run mutmut on the modules that handle money: ``python -m tests.mutation [MODULE ...]``.

mutmut makes one small change at a time in a module and runs the tests that reach it. A change that
no test notices survives. ``docs/mutation.rst`` lists the known survivors and the reasons.

The options for all modules are in ``setup.cfg``, section ``mutmut``. This runner adds what mutmut
lacks: it runs each module with its own test files only, lets mutmut change decorated functions,
and requires a minimum score for each module.
"""

import argparse
import ast
import configparser
import json
import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "oscar_bitsby"
#: Copies of the project, one for each module. mutmut's own commands work inside them.
COPIES = ROOT / "build" / "mutation"

#: Modules of the package, and the test files that have to notice every change in them.
MODULES = {
    "reconciliation/run": [
        "reconciliation/test_run",
        "reconciliation/test_run_failures",
        "reconciliation/test_expiry",
        "reconciliation/test_flagged_invoices",
        "reconciliation/test_invoice_refresh",
        "reconciliation/test_payment_list",
        "reconciliation/test_payment_sync",
        "test_webhook",
        "test_tasks",
        "mails/test_sender",
    ],
    "settlement/service": [
        "settlement/test_service",
        "settlement/test_invoice_updates",
        "settlement/test_review_reasons",
        "test_databases",
        "mails/test_sender",
    ],
    "facade": [
        "test_facade",
        "test_facade_answers",
        "test_facade_attempts",
        "test_payment_page",
        "test_databases",
    ],
    "gateway/client": ["gateway/test_client"],
    "webhook": ["test_webhook", "test_webhook_delivery", "test_tasks"],
    "gateway/rate_limit": [
        "gateway/test_rate_limit",
        "utils/test_clock",
        "test_databases",
    ],
    "accounting/ledger": [
        "accounting/test_ledger",
        "settlement/test_service",
        "settlement/test_review_reasons",
        "test_databases",
    ],
    "accounting/valuation": ["accounting/test_valuation", "settlement/test_service"],
    "orders/stage": ["orders/test_stage"],
    "orders/transitions": ["orders/test_transitions", "orders/test_discounts"],
    "settlement/rules": ["settlement/test_rules"],
    "settlement/payments": [
        "settlement/test_payments",
        "settlement/test_service",
        "settlement/test_review_reasons",
        "settlement/test_rests",
    ],
    "settlement/cancellation": ["settlement/test_cancellation", "test_databases"],
    "settlement/attempts": ["test_facade_attempts", "test_facade", "test_facade_answers"],
    "settlement/rests": ["settlement/test_rests", "test_facade_rests"],
    "settlement/short_payments": ["settlement/test_rests", "test_facade_rests"],
    "settlement/locks": [
        "settlement/test_service",
        "settlement/test_refund_requests",
        "settlement/test_refund_sending",
    ],
    "settlement/refunds": [
        "settlement/test_refund_requests",
        "settlement/test_refund_sending",
        "settlement/test_refunds",
    ],
    "settlement/refund_checks": [
        "settlement/test_refund_requests",
        "settlement/test_refund_sending",
        "settlement/test_refunds",
    ],
    "settlement/refund_effects": ["settlement/test_refund_sending"],
    "accounting/refundable": ["settlement/test_refund_requests", "settlement/test_refund_sending"],
    "accounting/addresses": ["accounting/test_addresses"],
    "accounting/matching": ["accounting/test_matching"],
    "accounting/unmatched": ["accounting/test_unmatched"],
    "reconciliation/auto_binding": ["reconciliation/test_auto_binding"],
    "gateway/buyer_queue": ["gateway/test_buyer_queue"],
    "staff/decision": ["staff/test_review", "staff/test_review_results"],
    "staff/review": ["staff/test_review", "staff/test_review_results", "test_databases"],
}
#: Each of these tests takes seconds, and faster ones notice the same changes.
SLOW = [
    "tests/gateway/test_rate_limit.py::test_four_processes_share_the_rate_limit",
    "tests/reconciliation/test_payment_list.py::test_incremental_sync_without_news_makes_two_requests",
    "tests/reconciliation/test_expiry.py::test_overdue_invoices_unknown_to_bitsby_cause_few_requests",
    "tests/reconciliation/test_expiry.py::test_overdue_invoices_are_fetched_in_bulk",
    "tests/reconciliation/test_payment_list.py::test_incremental_sync_finds_payments_in_any_order_and_page_size",
    "tests/test_webhook.py::test_burst_of_deliveries_causes_few_requests",
]
#: The percentage of changes that the tests must notice in each module.
MIN_SCORE = 95


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutation")
    parser.add_argument("modules", nargs="*", metavar="MODULE", help=", ".join(MODULES))
    parser.add_argument("--processes", type=int, default=2, help="modules at once (default: 2)")
    parser.add_argument("--resume", action="store_true", help="continue the last, interrupted run")
    args = parser.parse_args()
    modules = args.modules or list(MODULES)
    if unknown := set(modules) - set(MODULES):
        parser.error(f"unknown module: {', '.join(sorted(unknown))}")
    # Each change gets a new test database, which is much faster in memory.
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with (
        tempfile.TemporaryDirectory(prefix="mutation-", dir=memory) as temporary,
        ThreadPoolExecutor(args.processes) as pool,
    ):
        stats = list(pool.map(lambda name: run(name, args.resume, temporary), modules))
    print(f"{'module':<32}{'changes':>8}{'killed':>8}{'timeout':>8}{'survived':>9}{'score':>8}")
    scores = [report(*pair) for pair in zip(modules, stats, strict=True)]
    return 0 if min(scores) >= MIN_SCORE else 1


def run(module: str, resume: bool, temporary: str) -> dict[str, int]:
    """Run mutmut on a module, print the survivors, and return the number of each result."""
    copy = COPIES / module
    if not resume or not copy.exists():
        shutil.rmtree(copy, ignore_errors=True)
        prepare(module, copy)
    # One change at a time: parallel ones of the same mutmut would share a test database.
    mutmut(copy, "run", "--max-children", "1", temporary=temporary)
    mutmut(copy, "export-cicd-stats")
    for line in mutmut(copy, "results").splitlines():
        name, _, status = line.strip().rpartition(": ")
        if status != "timeout":
            print(mutmut(copy, "show", name), flush=True)
    stats: dict[str, int] = json.loads((copy / "mutants/mutmut-cicd-stats.json").read_text())
    return stats


def mutmut(copy: Path, *args: str, temporary: str = "") -> str:
    """Run a command of mutmut in a copy of the project and return what it printed."""
    environment = os.environ | {
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONPATH": str(Path(__file__).parent),
        "PYTEST_PLUGINS": "quickest_first",
    }
    if temporary:
        environment["TMPDIR"] = temporary
    ended = subprocess.run(
        [sys.executable, "-m", "mutmut", *args],
        cwd=copy,
        env=environment,
        capture_output=True,
        text=True,
    )
    if ended.returncode:
        raise SystemExit(f"{copy.name}: {ended.stdout[-2000:]}\n{ended.stderr[-4000:]}")
    return ended.stdout


def prepare(module: str, copy: Path) -> None:
    """Copy what the tests of a module need, and tell mutmut which module and which tests."""
    for folder in (PACKAGE, "tests"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    source = copy / PACKAGE / f"{module}.py"
    source.write_text(undecorated(source.read_text()))
    config = configparser.RawConfigParser()
    config.optionxform = str  # type: ignore[method-assign,assignment]  # keep capital letters
    config.read(ROOT / "setup.cfg")
    options = config["mutmut"]
    options["only_mutate"] = f"{PACKAGE}/{module}.py"
    options["pytest_add_cli_args"] += "".join(f"\n--deselect={name}" for name in SLOW)
    options["pytest_add_cli_args_test_selection"] = "\n".join(
        f"tests/{name}.py" for name in MODULES[module]
    )
    with (copy / "setup.cfg").open("w") as file:
        config.write(file)


def undecorated(source: str) -> str:
    """Return a module whose functions are decorated by an assignment below them.

    This means the same to Python. mutmut skips decorated functions, and the webhook is one.
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


def report(module: str, stats: dict[str, int]) -> float:
    """Print a module's line of the table and return its score in percent."""
    killed, timeout, total = stats["killed"], stats["timeout"], stats["total"]
    survived = total - killed - timeout
    score = 100 * (killed + timeout) / total
    print(f"{module:<32}{total:>8}{killed:>8}{timeout:>8}{survived:>9}{score:>7.1f}%")
    return score


if __name__ == "__main__":
    sys.exit(main())
