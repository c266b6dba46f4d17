"""The database's clock, which all machines of a shop share."""

import datetime as dt
from contextlib import contextmanager

import pytest
from django.db import transaction
from django.utils import timezone

from oscar_bitsby.utils.clock import db_now

MOMENT = dt.datetime(2024, 2, 29, 12, tzinfo=dt.timezone.utc)
#: Seconds; far more than is needed, even on a slow machine.
PATIENCE = 90


class Server:
    """A PostgreSQL server whose clock is far from this machine's."""

    vendor = "postgresql"

    def __init__(self):
        self.statements = []

    @contextmanager
    def cursor(self):
        yield self

    def execute(self, statement):
        self.statements.append(statement.lower())

    def fetchone(self):
        return (MOMENT,)


def test_db_now_is_the_servers_time_on_postgresql(monkeypatch, real_time):
    """The time is that of the query and not that of the transaction's start."""
    server = Server()
    monkeypatch.setattr("oscar_bitsby.utils.clock.connections", {"default": server})

    assert db_now() == MOMENT
    assert server.statements == ["select clock_timestamp()"]


@pytest.mark.django_db(transaction=True)
def test_db_now_is_an_aware_time_that_advances_inside_a_transaction(real_time):
    """It agrees with this machine's clock and is not the time when the transaction began."""
    before = timezone.now()
    with transaction.atomic():
        moments = [db_now() for _ in range(100)]
    assert moments[0].tzinfo is not None
    assert abs(moments[0] - before) < dt.timedelta(seconds=PATIENCE)
    assert moments[0] < moments[-1]
    assert moments == sorted(moments)
