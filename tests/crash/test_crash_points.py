"""A sample of the crash points: ``make crash-test`` tries all of them."""

from __future__ import annotations

import pytest

from tests.crash.command import remote, results_of
from tests.crash.operations import OPERATIONS

#: Points of each operation. Which ones is drawn by the operation's name: the same each time.
SAMPLE = 1


@pytest.fixture(scope="session")
def results():
    return results_of(f"--sample={SAMPLE}")


@pytest.mark.parametrize("name", OPERATIONS)
def test_a_killed_process_breaks_no_promise(results, name):
    """Killed between two effects and started again, the shop agrees with Bitsby's truth."""
    result = results[name]

    assert result["tried"] >= 1
    assert result["findings"] == [], remote(result["findings"])
