"""Runs histories of the machine, with the numbers of each profile."""

import os

from hypothesis import HealthCheck, seed, settings
from hypothesis.internal.conjecture import providers
from hypothesis.stateful import run_state_machine_as_test

from tests.machine.common import counts
from tests.machine.shop_machine import Shop

if hasattr(providers, "_get_local_constants"):
    # Hypothesis draws some values from the source of all imported modules. Without this, the same
    # seed would make other histories when the tests run in another order.
    providers._get_local_constants = lambda: providers._local_constants

PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "ci")
PROFILES = {
    # The same histories each time, so that a run fails because of a change and not by chance.
    "ci": {"max_examples": 24, "stateful_step_count": 40, "start": 14},
    "nightly": {"max_examples": 750, "stateful_step_count": 50, "print_blob": True},
}


def run(start=None, **choices):
    """Run histories; the first violated invariant raises an ``AssertionError``.

    Args:
        start: the seed; the same number makes the same histories.
        choices: Hypothesis' settings.
    """
    counts.clear()
    machine = Shop if start is None else seed(start)(type("Shop", (Shop,), {}))
    run_state_machine_as_test(
        machine,
        settings=settings(
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
            **choices,
        ),
    )
