"""The account's rate limit: who gets a slot, and when."""

import datetime as dt
import os
import subprocess
import sys
from itertools import pairwise

import pytest
from django.db import connection, transaction

from oscar_bitsby.exceptions import RateLimitTimeout
from oscar_bitsby.gateway import rate_limit
from oscar_bitsby.gateway.rate_limit import acquire
from oscar_bitsby.models import GatewayState, QueuedBuyer
from oscar_bitsby.simulator.process import running_simulator
from tests.paths import ROOT
from tests.support.bitsby import KEY

START = dt.datetime(2024, 2, 29, 12, tzinfo=dt.timezone.utc)
SPACING = 1.1
#: Seconds; far more than is needed, so that a hanging process fails the test.
PATIENCE = 90


class DatabaseClock:
    """Stands still but for sleeping and ``move``; ``reads`` counts how often it was read."""

    def __init__(self, clock):
        self.clock = clock
        self.moved = dt.timedelta()
        self.reads = 0

    def now(self):
        self.reads += 1
        assert self.reads < 1000, "it polls without end"
        return START + self.moved + dt.timedelta(seconds=self.clock.slept)

    def move(self, **delta):
        self.moved += dt.timedelta(**delta)


@pytest.fixture
def db_clock(clock, db, monkeypatch):
    """The database's clock, which the test moves."""
    db_clock = DatabaseClock(clock)
    monkeypatch.setattr("oscar_bitsby.gateway.rate_limit.db_now", db_clock.now)
    return db_clock


def assert_no_slot():
    """Assert that no slot is free now."""
    with pytest.raises(RateLimitTimeout):
        acquire(0)


def test_requests_are_spaced(db_clock, clock):
    """Each request waits until 1.1 seconds after the request before."""
    moments = []
    for _ in range(5):
        acquire(10)
        moments.append(clock.slept)
    assert [round(b - a, 3) for a, b in pairwise(moments)] == [SPACING] * 4


def test_slot_is_not_taken_early(db_clock, clock):
    """A slot is free exactly when the interval is over, and not a moment earlier."""
    acquire(0)
    assert clock.slept == 0
    clock.sleep(SPACING - 0.001)
    assert_no_slot()
    clock.sleep(0.001)
    acquire(0)


def test_idle_time_does_not_allow_a_burst(db_clock, clock):
    """After a long pause one request is allowed at once, not several."""
    acquire(0)
    clock.sleep(3600)
    acquire(0)
    assert_no_slot()


def test_zero_max_wait_fails_at_once_without_a_free_slot(db_clock, clock):
    """With ``max_wait=0`` and no free slot, ``RateLimitTimeout`` names the rate limit at once."""
    acquire(0)
    message = r"^the account's one request a second is in use; nothing was sent"
    with pytest.raises(RateLimitTimeout, match=message):
        acquire(0)
    assert clock.slept == 0


@pytest.mark.parametrize("max_wait", [0.5, 1.0, 1.09])
def test_wait_is_not_longer_than_max_wait(db_clock, clock, max_wait):
    """If no slot comes free within ``max_wait``, ``RateLimitTimeout`` is raised in time."""
    acquire(0)
    with pytest.raises(RateLimitTimeout):
        acquire(max_wait)
    assert clock.slept <= max_wait


def test_wait_is_limited_when_others_take_every_slot(db_clock, clock, monkeypatch):
    """A caller who loses each slot to others gets ``RateLimitTimeout`` within ``max_wait``."""
    sleep = clock.sleep

    def sleep_while_others_take_it(seconds):
        sleep(seconds)
        GatewayState.objects.update(next_request_at=db_clock.now() + dt.timedelta(seconds=SPACING))

    acquire(0)
    monkeypatch.setattr(clock, "sleep", sleep_while_others_take_it)
    with pytest.raises(RateLimitTimeout):
        acquire(5)
    assert 3 < clock.slept <= 5


@pytest.mark.parametrize("back", [{"minutes": 1}, {"hours": 1}, {"days": 400}])
def test_clock_set_back_far_does_not_block_requests(db_clock, clock, back):
    """Stored times that are far in the future are ignored."""
    acquire(0)
    assert_no_slot()
    db_clock.move(**{unit: -number for unit, number in back.items()})
    acquire(0)
    assert_no_slot()
    assert clock.slept == 0


@pytest.mark.parametrize("seconds", [1, 5, 8])
def test_clock_set_back_by_seconds_delays_by_seconds(db_clock, clock, seconds):
    """A small step back is waited for like a taken slot."""
    acquire(0)
    db_clock.move(seconds=-seconds)
    acquire(60)
    assert clock.slept == pytest.approx(seconds + SPACING, abs=0.01)


def test_clock_set_forward_frees_the_slot(db_clock, clock):
    """A step forward has the effect of time that has passed."""
    acquire(0)
    db_clock.move(hours=1)
    acquire(0)
    assert clock.slept == 0


def test_missing_row_is_created(db_clock, clock):
    """Without the row, as after a flush, a request is sent at once and the next one is spaced."""
    GatewayState.objects.all().delete()
    acquire(0)
    assert GatewayState.objects.get().pk == GatewayState.SINGLETON_PK
    assert_no_slot()
    assert clock.slept == 0


def test_taking_a_slot_keeps_the_other_columns(db_clock):
    """The state of reconciliation, which is in the same row, does not change."""
    GatewayState.objects.all().delete()
    GatewayState.objects.create(
        pk=GatewayState.SINGLETON_PK, lease_token="mine", lists_newest_first=True
    )
    acquire(0)
    assert_no_slot()
    state = GatewayState.objects.get()
    assert (state.lease_token, state.lists_newest_first) == ("mine", True)


@pytest.mark.django_db(transaction=True)
def test_acquire_inside_a_transaction_is_an_error():
    """Inside a transaction of the caller ``RuntimeError`` is raised, and the slot stays free."""
    with pytest.raises(RuntimeError, match="durable"), transaction.atomic():
        acquire(10)
    acquire(0)


@pytest.mark.django_db(transaction=True)
def test_no_transaction_is_open_while_waiting(clock, monkeypatch):
    """The row is not locked during a wait, so that others can take slots meanwhile."""
    inside = []
    sleep = clock.sleep

    def record_and_sleep(seconds):
        inside.append(connection.in_atomic_block)
        sleep(seconds)

    monkeypatch.setattr(clock, "sleep", record_and_sleep)
    acquire(0)
    acquire(10)
    assert inside
    assert not any(inside)
    assert not connection.in_atomic_block


def test_background_work_sleeps_while_a_buyer_has_priority(db_clock, clock):
    """Background work tries again when the buyer's priority is over, and does not poll."""
    acquire(0)
    returns_at = START + dt.timedelta(seconds=SPACING)
    QueuedBuyer.objects.create(key="100001", returns_at=returns_at)
    db_clock.reads = 0

    acquire(10)

    assert clock.slept == pytest.approx(1.4)
    assert db_clock.reads <= 3


def test_mark_of_waiting_background_work_is_replaced_after_the_clock_was_set_back(db_clock):
    """A mark far in the future is ignored, and a later one of another process is kept."""
    acquire(0)
    later = START + dt.timedelta(seconds=5)
    for mark, kept in ((later, later), (START + dt.timedelta(hours=1), None)):
        GatewayState.objects.update(background_waits_until=mark)
        with pytest.raises(RateLimitTimeout):
            acquire(0.5)
        expected = kept or START + dt.timedelta(seconds=SPACING + 0.5)
        assert GatewayState.objects.get().background_waits_until == expected


@pytest.mark.django_db(transaction=True)
def test_first_request_of_a_shop_takes_a_slot_at_once(real_time):
    """Without the row ``max_wait=0`` takes a slot, and the next caller finds it taken."""
    GatewayState.objects.all().delete()

    acquire(0)

    assert_no_slot()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("waited", [0, 1])
def test_slot_is_taken_when_it_comes_free(clock, waited):
    """A wait ends as soon as the slot is free, also exactly after ``max_wait``."""
    interval = rate_limit.MIN_INTERVAL.total_seconds()
    acquire(0)
    clock.sleep(waited)

    acquire(10 if waited else interval)

    assert clock.slept == pytest.approx(interval) == SPACING


#: A process of the shop, which waits for a line and then sends one request.
PROCESS = """
import sys
import django
from django.conf import settings

name, url, who = sys.argv[1:]
settings.DATABASES["default"]["NAME"] = name
settings.OSCAR_BITSBY = {**settings.OSCAR_BITSBY, "API_URL": url}
django.setup()

from django.db import connection
from oscar_bitsby.gateway import factory

connection.ensure_connection()
client = factory.for_staff(30) if who == "staff" else factory.for_background()
print("ready", flush=True)
sys.stdin.readline()
client.balances()
print(client.requests, flush=True)
"""


@pytest.mark.django_db(transaction=True)
def test_four_processes_share_the_rate_limit(real_time):
    """Requests of processes that share a database arrive a second apart, and none is refused."""
    GatewayState.objects.all().delete()
    root = str(ROOT)
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    env = os.environ | {"PYTHONPATH": path, "DJANGO_SETTINGS_MODULE": "tests.settings"}
    with running_simulator(webhooks=False, token=KEY) as simulator:
        command = [
            *(sys.executable, "-c", PROCESS, str(connection.settings_dict["NAME"])),
            simulator.url,
        ]
        processes = [
            subprocess.Popen(
                [*command, who], env=env, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
            for who in ("staff", "background", "staff", "background")
        ]
        try:
            assert [process.stdout.readline() for process in processes] == ["ready\n"] * 4
            for process in processes:
                process.stdin.write("go\n")
                process.stdin.flush()
            sent = [process.communicate(timeout=PATIENCE)[0] for process in processes]
        finally:
            for process in processes:
                process.kill()
                process.communicate()
        requests = simulator.control("state")["requests"]

    assert [process.returncode for process in processes] == [0] * 4
    assert sent == ["1\n"] * 4
    assert [request["accepted"] for request in requests] == [True] * 4
    moments = [request["at"] for request in requests]
    assert min(b - a for a, b in pairwise(moments)) >= 1.0
    # Nor do they wait much longer than necessary.
    assert moments[-1] - moments[0] < PATIENCE / 3
