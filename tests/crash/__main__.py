"""The command ``python -m tests.crash``: prints how many points were run and what broke."""

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
    """Run what the arguments name; return 1 when a promise was broken."""
    options = parser().parse_args()
    turn_warnings_into_errors()
    # SIGTERM must not leave a simulator or a database behind.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    # Small pages, so that a list has several.
    simulated = running_simulator(webhooks=False, page_size=10)
    with databases.temporary() as database, simulated as simulator:
        os.environ["CRASH_DATABASE"] = database.name
        os.environ["CRASH_SIMULATOR"] = simulator.url
        os.environ["DJANGO_SETTINGS_MODULE"] = "tests.crash.settings"
        import django

        django.setup()
        from tests.crash.runner import Runner

        runner = Runner(database, simulator)
        runner.build()
        results = list(run_all(runner, options))
    if options.json:
        print(json.dumps([asdict(result) for result in results]))
    return 1 if any(result.findings for result in results) else 0


def turn_warnings_into_errors():
    """Make warnings errors, except those that setup.cfg ignores."""
    warnings.simplefilter("error")
    for category in (DeprecationWarning, PendingDeprecationWarning):
        warnings.simplefilter("ignore", category)
    warnings.filterwarnings("ignore", ".*is not implemented in this backend", UserWarning)


def run_all(runner, options):
    """Run the operations or races that were asked for; print and yield the result of each."""
    from tests.crash.races import run_race
    from tests.crash.refund_races import RACES
    from tests.crash.wrong_amounts import OPERATIONS

    say = (lambda *texts, **how: None) if options.json else print

    def listed(point):
        if options.list:
            say(f"    {point[:200]}", flush=True)

    began = time.monotonic()
    tested, findings = 0, 0
    vendor = runner.database.vendor
    unit, scenarios = ("rounds", RACES) if options.races else ("points", OPERATIONS)
    say(f"{'Races' if options.races else 'Crash points'} on {vendor}")
    for name, scenario in scenarios.items():
        if not re.search(options.only, name):
            continue
        since = time.monotonic()
        if options.races:
            result = run_race(runner, scenario, options.rounds)
        else:
            result = runner.explore(scenario, sample=options.sample, at=options.at, progress=listed)
        tested += result.tested
        findings += len(result.findings)
        found = f"{len(result.findings)} broken" if result.findings else "all kept"
        say(
            f"  {name:<36} {result.tested:>4} of {result.points:>4} {unit}  {found}"
            f"  ({time.monotonic() - since:.1f} s)",
            flush=True,
        )
        for finding in result.findings[: options.show]:
            say("    " + str(finding).replace("\n", "\n    "), flush=True)
        for text, points in result.observations.items():
            say(f"    seen at {len(points)} {unit}: {text}; first {points[0]}", flush=True)
        yield result
    say(
        f"{tested} {unit} on {vendor}, {findings} with a broken promise,"
        f" {time.monotonic() - began:.0f} s"
    )


def parser():
    """Return the parser of the command line."""
    reader = argparse.ArgumentParser(prog="python -m tests.crash", description=__doc__)
    add = reader.add_argument
    add("--only", default="", metavar="PATTERN", help="only those whose name matches")
    add("--at", type=int, metavar="N", help="only the n-th point of each")
    add("--sample", type=int, metavar="N", help="only n points of each, always the same")
    add("--show", type=int, default=5, metavar="N", help="findings printed for each (default: 5)")
    add("--list", action="store_true", help="print each point")
    add("--races", action="store_true", help="races instead of crash points")
    rounds = "rounds of each race for each job that is held back (default: 10)"
    add("--rounds", type=int, default=10, metavar="N", help=rounds)
    add("--json", action="store_true", help="print only the results, as JSON")
    return reader


if __name__ == "__main__":
    sys.exit(main())
