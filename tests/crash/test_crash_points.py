"""A sample of the crash points: ``make crash-test`` tries all of them."""

import pytest

from tests.crash.command import assert_kept, results_of
from tests.crash.wrong_amounts import OPERATIONS

#: Points of each operation, drawn with the operation's name as the seed.
SAMPLE = 1


@pytest.fixture(scope="session")
def results():
    return results_of(f"--sample={SAMPLE}")


@pytest.mark.parametrize("name", OPERATIONS)
def test_killed_process_breaks_no_promise(results, name):
    """A shop that is killed between two effects and started again agrees with Bitsby."""
    assert_kept(results[name])
