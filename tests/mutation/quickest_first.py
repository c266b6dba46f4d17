"""Runs the tests that take least time first, so that most changes are noticed within a moment."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

#: How long each test took on the unchanged code, as the tool has noted it.
NOTED = Path("mutmut-stats.json")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not NOTED.exists():
        return
    seconds = json.loads(NOTED.read_text())["duration_by_test"]

    def cost(item: pytest.Item) -> tuple[bool, float]:
        marker = item.get_closest_marker("django_db")
        # Those that empty the database come last, as pytest-django has them.
        return bool(marker and marker.kwargs.get("transaction")), seconds.get(item.nodeid, 0)

    items.sort(key=cost)
