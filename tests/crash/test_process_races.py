"""Races between processes, on a database with row locks."""

import pytest
from django.db import connection

from tests.crash.command import assert_kept, results_of
from tests.crash.refund_races import RACES

pytestmark = pytest.mark.skipif(
    connection.vendor != "postgresql",
    reason="races between processes need PostgreSQL; SQLite lets one process write at a time",
)

#: Rounds of each race. Slow processes make one round enough to show an error.
ROUNDS = 1


@pytest.fixture(scope="session")
def results():
    return results_of("--races", f"--rounds={ROUNDS}")


@pytest.mark.parametrize("name", RACES)
def test_concurrent_processes_break_no_promise(results, name):
    """Processes that start together meet no deadlock, and the shop agrees with Bitsby."""
    assert_kept(results[name])
