"""The command: ``python -m tests.crash``. It prints how many points were tried and what broke."""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import sys
import time
import warnings
from dataclasses import asdict

from oscar_bitsby.simulator.process import running_simulator
from tests.crash import databases


def main():
    """Try what the arguments ask for; return 1 when a promise was broken."""
    options = parser().parse_args()
    be_strict()
    # Whoever stops this shall find no simulator and no database left behind.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    # Small pages, so that a list has several.
    far_side = running_simulator(webhooks=False, page_size=10)
    with databases.temporary() as database, far_side as simulator:
        os.environ["CRASH_DATABASE"] = database.name
        os.environ["CRASH_SIMULATOR"] = simulator.url
        os.environ["DJANGO_SETTINGS_MODULE"] = "tests.crash.settings"
        import django

        django.setup()
        from tests.crash.runner import Runner

        runner = Runner(database, simulator)
        runner.build()
        results = list((raced if options.races else explored)(runner, options))
    if options.json:
        print(json.dumps([asdict(result) for result in results]))
    return 1 if any(result.findings for result in results) else 0


def be_strict():
    """Take warnings for errors, but for those that setup.cfg leaves out, too."""
    warnings.simplefilter("error")
    for category in (DeprecationWarning, PendingDeprecationWarning):
        warnings.simplefilter("ignore", category)
    warnings.filterwarnings("ignore", ".*is not implemented in this backend", UserWarning)


def explored(runner, options):
    """Yield the results of the operations that were asked for, printing as they come."""
    from tests.crash.operations import OPERATIONS

    say = (lambda *words, **how: None) if options.json else print

    def listed(point):
        if options.list:
            say(f"    {point[:200]}", flush=True)

    began = time.monotonic()
    tried, findings = 0, 0
    say(f"Crash points on {runner.database.vendor}")
    chosen = {name: one for name, one in OPERATIONS.items() if re.search(options.only, name)}
    for name, operation in chosen.items():
        since = time.monotonic()
        result = runner.explore(operation, sample=options.sample, at=options.at, progress=listed)
        tried += result.tried
        findings += len(result.findings)
        found = f"{len(result.findings)} broken" if result.findings else "all kept"
        say(
            f"  {name:<30} {result.tried:>4} of {result.points:>4} points  {found}"
            f"  ({time.monotonic() - since:.1f} s)",
            flush=True,
        )
        for finding in result.findings[: options.show]:
            say("    " + str(finding).replace("\n", "\n    "), flush=True)
        for remark, points in result.remarks.items():
            say(f"    remark at {len(points)} points: {remark}; first {points[0]}", flush=True)
        yield result
    say(
        f"{tried} points on {runner.database.vendor}, {findings} with a broken promise,"
        f" {time.monotonic() - began:.0f} s"
    )


def raced(runner, options):
    """Yield the outcomes of the races that were asked for, printing as they come."""
    from tests.crash.races import RACES, run_race

    say = (lambda *words, **how: None) if options.json else print
    say(f"Races on {runner.database.vendor}")
    began = time.monotonic()
    rounds, findings = 0, 0
    chosen = {name: one for name, one in RACES.items() if re.search(options.only, name)}
    for name, race in chosen.items():
        outcome = run_race(runner, race, options.rounds)
        rounds += outcome.rounds
        findings += len(outcome.findings)
        found = f"{len(outcome.findings)} broken" if outcome.findings else "all kept"
        say(f"  {name:<34} {outcome.rounds:>4} rounds  {found}  {outcome.ends}", flush=True)
        for finding in outcome.findings[: options.show]:
            say("    " + str(finding).replace("\n", "\n    "), flush=True)
        yield outcome
    say(
        f"{rounds} rounds on {runner.database.vendor}, {findings} with a broken promise,"
        f" {time.monotonic() - began:.0f} s"
    )


def parser():
    """Return the reader of the command line."""
    reader = argparse.ArgumentParser(prog="python -m tests.crash", description=__doc__)
    add = reader.add_argument
    add("--only", default="", metavar="PATTERN", help="those with this in their name")
    add("--at", type=int, metavar="N", help="the n-th point of each only")
    add("--sample", type=int, metavar="N", help="n points of each only, the same each time")
    add("--show", type=int, default=5, metavar="N", help="findings shown of each (default: 5)")
    add("--list", action="store_true", help="print each point that was tried")
    add("--races", action="store_true", help="real races instead of crash points")
    held = "rounds of each race for each job that is held in it (default: 10)"
    add("--rounds", type=int, default=10, metavar="N", help=held)
    add("--json", action="store_true", help="print results as JSON, and nothing else")
    return reader


if __name__ == "__main__":
    sys.exit(main())
