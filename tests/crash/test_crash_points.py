"""A sample of the crash points: ``make crash-test`` tries all of them."""

from __future__ import annotations

import pytest

from tests.crash.command import results_of, told
from tests.crash.operations import OPERATIONS

#: For the whole sample. Each operation is tried once to its end and killed once at least.
SECONDS = 20


@pytest.fixture(scope="module")
def results():
    return results_of(f"--seconds={SECONDS}")


@pytest.mark.parametrize("name", OPERATIONS)
def test_a_killed_process_breaks_no_promise(results, name):
    """Killed between two effects and started again, the shop agrees with Bitsby's truth."""
    result = results[name]

    assert result["tried"] >= 1
    assert result["findings"] == [], told(result["findings"])
