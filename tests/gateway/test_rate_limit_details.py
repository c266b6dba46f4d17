"""The throttle's smaller promises: whose clock counts on PostgreSQL, and what is said."""

from __future__ import annotations

import datetime as dt
from contextlib import contextmanager

import pytest

from oscar_bitsby.exceptions import RateLimitTimeout
from oscar_bitsby.gateway import rate_limit
from oscar_bitsby.gateway.rate_limit import acquire
from oscar_bitsby.models import GatewayState
from oscar_bitsby.utils.clock import database_now

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
    monkeypatch.setattr("oscar_bitsby.utils.clock.connections", {"default": server})

    assert database_now() == MOMENT
    assert server.asked == ["select clock_timestamp()"]


@pytest.mark.django_db
def test_who_gets_no_slot_is_told_why(clock):
    """The error says that the limit is in use, and that nothing was sent."""
    rate_limit.acquire(0)

    with pytest.raises(
        RateLimitTimeout, match=r"^the account's one request a second is in use; nothing was"
    ):
        rate_limit.acquire(0)


@pytest.fixture
def looks(clock, db, monkeypatch):
    """The moments at which the database was looked at; its clock moves by sleeping only."""
    moments = []

    def now():
        moments.append(MOMENT + dt.timedelta(seconds=clock.slept))
        return moments[-1]

    monkeypatch.setattr("oscar_bitsby.gateway.rate_limit.database_now", now)
    return moments


def test_a_slot_that_comes_free_soon_is_taken_then(looks, clock):
    """Nobody waits longer than until the slot is free."""
    rate_limit.acquire(0)
    clock.sleep(1)
    rate_limit.acquire(10)

    assert clock.slept == pytest.approx(1.1)


def test_who_stands_back_for_a_buyer_sleeps_meanwhile(looks, clock):
    """Background work looks again when the buyer's turn is over, and not all the time."""
    rate_limit.acquire(0)
    with pytest.raises(RateLimitTimeout):
        rate_limit.acquire(0, buyer=True)
    looks.clear()

    rate_limit.acquire(10)

    assert clock.slept == pytest.approx(1.4)
    assert len(looks) <= 3


def test_a_buyers_later_turn_is_not_taken_back(looks, clock):
    """Another buyer's wait, noted by a clock that is a little ahead, stays as it is."""
    GatewayState.ensure_exists()
    later = MOMENT + dt.timedelta(seconds=5)
    GatewayState.objects.update(
        next_request_at=MOMENT + dt.timedelta(seconds=1), buyer_waits_until=later
    )
    with pytest.raises(RateLimitTimeout):
        rate_limit.acquire(0, buyer=True)

    assert GatewayState.objects.get().buyer_waits_until == later


@pytest.mark.django_db(transaction=True)
def test_the_first_request_of_a_shop_takes_a_free_slot_at_once(real_time):
    """Where the row that all share is not there yet, nobody is told that the slot is taken."""
    GatewayState.objects.all().delete()

    acquire(0)

    with pytest.raises(RateLimitTimeout):
        acquire(0)


@pytest.mark.django_db(transaction=True)
def test_a_slot_at_the_last_moment_of_the_wait_is_taken(clock):
    """Who wants to wait just as long as it takes gets the slot."""
    acquire(0)

    acquire(rate_limit.MIN_INTERVAL.total_seconds())

    assert clock.slept == rate_limit.MIN_INTERVAL.total_seconds()
