"""Fixtures for the tests of staff: who acts, and what each part of a page is."""

from __future__ import annotations

import pytest

from tests.support.staff import MAY_BIND, log_in


@pytest.fixture
def staff(db):
    """The browser of a member of staff who may bind payments."""
    return log_in("staff", *MAY_BIND)


@pytest.fixture
def colleague(db):
    """The browser of another member of staff who may bind payments."""
    return log_in("colleague", *MAY_BIND)
