"""Real races between processes, where locks are real."""

from __future__ import annotations

import pytest
from django.db import connection

from tests.crash.command import remote, results_of
from tests.crash.races import RACES

pytestmark = pytest.mark.skipif(
    connection.vendor != "postgresql",
    reason="races between processes need PostgreSQL; SQLite lets one process write at a time",
)

#: Rounds of each race. They are slowed down so that one shows what is wrong.
ROUNDS = 1


@pytest.fixture(scope="session")
def results():
    return results_of("--races", f"--rounds={ROUNDS}")


@pytest.mark.parametrize("name", RACES)
def test_processes_at_once_break_no_promise(results, name):
    """Started at once, they end without deadlock, and the shop agrees with Bitsby's truth."""
    result = results[name]

    assert result["rounds"] >= 1
    assert result["findings"] == [], remote(result["findings"])
