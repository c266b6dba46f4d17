"""One request a second for the account: who gets the slot, when, and who goes without."""

from __future__ import annotations

import datetime as dt
import os
import subprocess
import sys
from itertools import pairwise

import pytest
from django.db import connection, transaction
from django.utils import timezone

from oscar_bitsby.exceptions import RateLimitTimeout
from oscar_bitsby.gateway import rate_limit
from oscar_bitsby.gateway.rate_limit import acquire
from oscar_bitsby.models import GatewayState
from oscar_bitsby.simulator.process import running_simulator
from oscar_bitsby.utils.clock import database_now
from tests.bitsby import KEY
from tests.paths import ROOT

START = dt.datetime(2024, 2, 29, 12, tzinfo=dt.timezone.utc)
SPACING = 1.1
#: Far more than is needed, so that a hanging process fails the test instead of stopping it.
PATIENCE = 90


@pytest.fixture
def at(clock, db, monkeypatch):
    """Stop the database's clock, which moves by sleeping only, and return a way to set it."""
    moved = {"by": dt.timedelta()}
    looks = iter(range(1000))

    def now():
        assert next(looks, None) is not None, "it asks for ever"
        return START + moved["by"] + dt.timedelta(seconds=clock.slept)

    def put(**delta):
        moved["by"] += dt.timedelta(**delta)

    monkeypatch.setattr("oscar_bitsby.gateway.rate_limit.database_now", now)
    return put


def test_the_first_request_goes_at_once(at, clock):
    """A free slot is had without waiting, even by those who would not wait."""
    acquire(0)
    assert clock.slept == 0


@pytest.mark.parametrize("buyer", [True, False])
def test_requests_are_spaced(at, clock, buyer):
    """Each of a row of requests waits until 1.1 seconds after the one before."""
    moments = []
    for _ in range(5):
        acquire(10, buyer=buyer)
        moments.append(clock.slept)
    assert [round(b - a, 3) for a, b in pairwise(moments)] == [SPACING] * 4


def test_a_slot_is_not_had_early(at, clock):
    """A moment before the spacing is over there is none, at the moment there is one."""
    acquire(0)
    clock.sleep(SPACING - 0.001)
    with pytest.raises(RateLimitTimeout):
        acquire(0)
    clock.sleep(0.001)
    acquire(0)


def test_idle_time_is_not_saved_up(at, clock):
    """A long pause allows one request at once, not several."""
    acquire(0)
    clock.sleep(3600)
    acquire(0)
    with pytest.raises(RateLimitTimeout):
        acquire(0)


@pytest.mark.parametrize("buyer", [True, False])
def test_who_does_not_wait_gets_a_free_slot_or_none(at, clock, buyer):
    """With 0 seconds of patience a taken slot is a ``RateLimitTimeout`` at once."""
    acquire(0)
    with pytest.raises(RateLimitTimeout, match="nothing was sent"):
        acquire(0, buyer=buyer)
    assert clock.slept == 0


@pytest.mark.parametrize("buyer", [True, False])
@pytest.mark.parametrize("max_wait", [0.5, 1.0, 1.09])
def test_nobody_waits_longer_than_they_want(at, clock, buyer, max_wait):
    """When the slot comes later than ``max_wait``, ``RateLimitTimeout`` is raised in time."""
    acquire(0)
    with pytest.raises(RateLimitTimeout):
        acquire(max_wait, buyer=buyer)
    assert clock.slept <= max_wait


def test_waiting_that_is_in_vain_again_and_again_ends(at, clock, monkeypatch):
    """Who finds the slot taken by others each time gives up within ``max_wait``."""
    sleep = clock.sleep

    def sleep_while_others_take_it(seconds):
        sleep(seconds)
        GatewayState.objects.update(
            next_request_at=rate_limit.database_now() + dt.timedelta(seconds=SPACING)
        )

    acquire(0)
    monkeypatch.setattr(clock, "sleep", sleep_while_others_take_it)
    with pytest.raises(RateLimitTimeout):
        acquire(5, buyer=True)
    assert 3 < clock.slept <= 5


def test_background_work_stands_back_for_a_waiting_buyer(at, clock):
    """When the slot comes free it is the waiting buyer's, and background work goes after."""
    acquire(0)
    with pytest.raises(RateLimitTimeout):
        acquire(0, buyer=True)
    clock.sleep(SPACING)

    with pytest.raises(RateLimitTimeout):
        acquire(0)
    acquire(0, buyer=True)
    acquire(10)
    assert clock.slept == pytest.approx(2 * SPACING)


def test_a_buyer_who_has_gone_keeps_nobody_away_for_long(at, clock):
    """The mark of a buyer who gave up ends by itself soon after the slot came free."""
    acquire(0)
    with pytest.raises(RateLimitTimeout):
        acquire(0, buyer=True)
    acquire(10)
    assert SPACING < clock.slept <= SPACING + 0.5


def test_buyers_do_not_stand_back_for_each_other(at, clock):
    """A buyer takes a free slot even while another one is marked as waiting."""
    acquire(0)
    with pytest.raises(RateLimitTimeout):
        acquire(0, buyer=True)
    acquire(10, buyer=True)
    assert clock.slept == pytest.approx(SPACING)


@pytest.mark.parametrize("buyer", [True, False])
@pytest.mark.parametrize("back", [{"minutes": 1}, {"hours": 1}, {"days": 400}])
def test_a_clock_that_is_put_back_blocks_nobody(at, clock, buyer, back):
    """Moments written by a clock that was ahead are taken for past."""
    acquire(0)
    with pytest.raises(RateLimitTimeout):
        acquire(0, buyer=True)
    at(**{unit: -number for unit, number in back.items()})
    acquire(0, buyer=buyer)
    with pytest.raises(RateLimitTimeout):
        acquire(0, buyer=buyer)
    assert clock.slept == 0


@pytest.mark.parametrize("buyer", [True, False])
@pytest.mark.parametrize("seconds", [1, 5, 8])
def test_a_clock_that_is_put_back_a_little_costs_a_little(at, clock, buyer, seconds):
    """A step back of seconds is waited out like a slot that is taken."""
    acquire(0)
    at(seconds=-seconds)
    acquire(60, buyer=buyer)
    assert clock.slept == pytest.approx(seconds + SPACING, abs=0.01)


def test_a_clock_that_is_put_forward_frees_the_slot(at, clock):
    """A step forward is like time that has passed."""
    acquire(0)
    at(hours=1)
    acquire(0)
    assert clock.slept == 0


def test_background_work_does_not_wait_for_a_buyer_of_the_future(at, clock):
    """After the clock was put back, a buyer's mark ahead of it delays nobody's later requests."""
    acquire(0)
    with pytest.raises(RateLimitTimeout):
        acquire(0, buyer=True)
    at(hours=-1)
    for _ in range(3):
        acquire(60)
    assert clock.slept == pytest.approx(2 * SPACING)


def test_buyers_go_first_after_the_clock_was_put_back(at, clock):
    """An old mark ahead of the clock does not keep a waiting buyer from being noticed."""
    acquire(0)
    with pytest.raises(RateLimitTimeout):
        acquire(0, buyer=True)
    at(hours=-1)
    acquire(0)
    with pytest.raises(RateLimitTimeout):
        acquire(0, buyer=True)
    clock.sleep(SPACING)
    with pytest.raises(RateLimitTimeout):
        acquire(0)


@pytest.mark.parametrize("buyer", [True, False])
def test_a_missing_row_is_created(at, clock, buyer):
    """Without the row, as after a flush, the request goes at once and the next one is spaced."""
    GatewayState.objects.all().delete()
    acquire(0, buyer=buyer)
    assert GatewayState.objects.get().pk == GatewayState.SINGLETON_PK
    with pytest.raises(RateLimitTimeout):
        acquire(0, buyer=buyer)
    assert clock.slept == 0


def test_taking_a_slot_leaves_the_rest_of_the_row_alone(at):
    """The state of passes, which shares the row, is not touched."""
    GatewayState.objects.all().delete()
    GatewayState.objects.create(
        pk=GatewayState.SINGLETON_PK, lease_token="mine", lists_newest_first=True
    )
    acquire(0)
    with pytest.raises(RateLimitTimeout):
        acquire(0, buyer=True)
    state = GatewayState.objects.get()
    assert (state.lease_token, state.lists_newest_first) == ("mine", True)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("buyer", [True, False])
def test_inside_a_transaction_it_is_refused(buyer):
    """Waiting under a lock of the caller's is a ``RuntimeError``, and the slot stays free."""
    with pytest.raises(RuntimeError, match="durable"), transaction.atomic():
        acquire(10, buyer=buyer)
    acquire(0, buyer=buyer)


@pytest.mark.django_db(transaction=True)
def test_no_transaction_is_open_while_waiting(clock, monkeypatch):
    """The row is not locked while somebody sleeps, so that others can ask meanwhile."""
    inside = []
    sleep = clock.sleep

    def note(seconds):
        inside.append(connection.in_atomic_block)
        sleep(seconds)

    monkeypatch.setattr(clock, "sleep", note)
    acquire(0)
    acquire(10)
    assert inside
    assert not any(inside)
    assert not connection.in_atomic_block


@pytest.mark.django_db
def test_time_is_the_databases(real_time):
    """``database_now`` is an aware time that agrees with the clock of this machine's database."""
    before = timezone.now()
    now = database_now()
    assert now.tzinfo is not None
    assert abs(now - before) < dt.timedelta(seconds=PATIENCE)


@pytest.mark.django_db(transaction=True)
def test_time_goes_on_inside_a_transaction(real_time):
    """It is the present moment and not the one at which the transaction began."""
    with transaction.atomic():
        moments = [database_now() for _ in range(100)]
    assert moments[0] < moments[-1]
    assert moments == sorted(moments)


#: A process of the shop: waits for the word, then sends one request.
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
client = factory.for_buyer(max_wait=30) if who == "buyer" else factory.for_background()
print("ready", flush=True)
sys.stdin.readline()
client.balances()
print(client.requests, flush=True)
"""


@pytest.mark.django_db(transaction=True)
def test_four_processes_at_once_keep_the_limit_together(real_time):
    """Requests of processes that share a database arrive a second apart; none is refused."""
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
            for who in ("buyer", "background", "buyer", "background")
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
    # Nor is the limit kept by waiting needlessly long.
    assert moments[-1] - moments[0] < PATIENCE / 3
