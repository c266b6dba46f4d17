"""The throttle's smaller promises: whose clock counts on PostgreSQL, and what is said."""

from __future__ import annotations

import datetime as dt
from contextlib import contextmanager

import pytest

from oscar_bitsby import throttle
from oscar_bitsby.exceptions import NoSlot

MOMENT = dt.datetime(2024, 2, 29, 12, tzinfo=dt.timezone.utc)


class Server:
    """Stands for a PostgreSQL whose clock is far from this machine's."""

    vendor = "postgresql"

    def __init__(self):
        self.asked = []

    @contextmanager
    def cursor(self):
        yield self

    def execute(self, statement):
        self.asked.append(statement.lower())

    def fetchone(self):
        return (MOMENT,)


def test_on_postgresql_the_servers_clock_counts(monkeypatch, real_time):
    """The moment is the server's own, at which it answers and not at which the work began."""
    server = Server()
    monkeypatch.setattr(throttle, "connections", {"default": server})

    assert throttle.database_now() == MOMENT
    assert server.asked == ["select clock_timestamp()"]


@pytest.mark.django_db
def test_who_gets_no_slot_is_told_why(clock):
    """The error says that the limit is in use, and that nothing was sent."""
    throttle.wait_for_slot(0)

    with pytest.raises(NoSlot, match=r"^the account's one request a second is in use; nothing was"):
        throttle.wait_for_slot(0)
