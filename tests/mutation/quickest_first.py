"""A pytest plugin that runs the fastest tests first, so that most changes are noticed soon."""

import json
from pathlib import Path

import pytest

#: How long each test took on the unchanged code, as measured by mutmut.
DURATIONS = Path("mutmut-stats.json")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not DURATIONS.exists():
        return
    seconds = json.loads(DURATIONS.read_text())["duration_by_test"]

    def cost(item: pytest.Item) -> tuple[bool, float]:
        marker = item.get_closest_marker("django_db")
        # Tests that empty the database come last, as pytest-django orders them.
        return bool(marker and marker.kwargs.get("transaction")), seconds.get(item.nodeid, 0)

    items.sort(key=cost)
