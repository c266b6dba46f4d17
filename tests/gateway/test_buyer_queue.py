"""The queue of buyers: first come, first served, and background work keeps a share."""

import datetime as dt
import heapq
from itertools import pairwise

import pytest
from django.db import transaction

from oscar_bitsby.exceptions import Queued, RateLimitTimeout
from oscar_bitsby.gateway import buyer_queue, rate_limit
from oscar_bitsby.gateway.buyer_queue import Turn
from oscar_bitsby.models import GatewayState, QueuedBuyer

START = dt.datetime(2024, 2, 29, 12, tzinfo=dt.timezone.utc)
SPACING = 1.1

pytestmark = pytest.mark.django_db


class Asleep(Exception):
    """A request waits for the slot; in a rush the others go on meanwhile."""


class Clock:
    """Stands still but for sleeping, and for ``at``, which the test sets."""

    at = 0.0

    def now(self):
        return START + dt.timedelta(seconds=self.at)

    def monotonic(self):
        return self.at

    def sleep(self, seconds):
        self.at += seconds


@pytest.fixture
def queue_clock(monkeypatch):
    """The database's clock and that of the processes."""
    clock = Clock()
    for module in (buyer_queue, rate_limit):
        monkeypatch.setattr(module, "db_now", clock.now)
        monkeypatch.setattr(module, "time", clock)
    return clock


def rush(clock, buyers, *, returns=lambda key, seconds: seconds, jobs=()):
    """Let buyers click, and return when each had a turn, by the buyer's key.

    Args:
        clock: the clock, which moves on.
        buyers: the time of each buyer's click.
        returns: the seconds after which a buyer's page returns, or None if it never does.
        jobs: the times at which background work asks for a slot, again and again until it has one.
    """

    def sleep(seconds):
        assert seconds <= buyer_queue.MAX_WAIT
        raise Asleep(seconds)

    clock.sleep = sleep
    events = [(at, number, f"buyer {number}") for number, at in enumerate(buyers)]
    events += [(at, -number, f"job {number}") for number, at in enumerate(jobs, 1)]
    heapq.heapify(events)
    turns = {}
    while events:
        at, number, key = heapq.heappop(events)
        clock.at = max(clock.at, at)
        assert clock.at < 10_000, "somebody never gets a turn"
        if key.startswith("job"):
            wait = rate_limit._take_for_background(will_wait=True)
        else:
            turn = Turn(key)
            try:
                turn.take()
                wait = None
            except Asleep as asleep:
                (wait,) = asleep.args
            except Queued as queued:
                wait = returns(key, queued.seconds)
                if wait is None:
                    continue
        if wait is None:
            turns[key] = clock.at
            if not key.startswith("job"):
                turn.leave()
        else:
            heapq.heappush(events, (clock.at + wait, number, key))
    return turns


def fill_queue(*keys):
    """Take the slot, and let buyers wait whose pages return at the next one."""
    Turn("100000").take()
    now = buyer_queue.db_now()
    for key in keys:
        QueuedBuyer.objects.create(key=key, returns_at=now + dt.timedelta(seconds=SPACING))


def test_lone_buyer_takes_a_free_slot_without_a_place_in_the_queue(queue_clock):
    """A buyer who finds a free slot and no queue causes no row."""
    Turn("100001").take()
    assert not QueuedBuyer.objects.exists()
    assert GatewayState.objects.get().next_request_at == queue_clock.now() + dt.timedelta(
        seconds=SPACING
    )


def test_buyer_waits_for_the_page_and_not_in_the_request(queue_clock):
    """A buyer who is not the next learns when to return, and no worker waits."""
    fill_queue("100001")
    with pytest.raises(Queued) as caught:
        Turn("100002").take()
    assert (caught.value.ahead, caught.value.seconds) == (1, pytest.approx(2 * SPACING - 0.3))
    assert queue_clock.at == 0


def test_next_buyer_waits_for_the_slot_in_the_request(queue_clock):
    """The first of the queue needs no waiting page for the next slot."""
    Turn("100001").take()
    Turn("100002").take()
    assert queue_clock.at == pytest.approx(SPACING)


@pytest.mark.parametrize("count", [30, 100])
def test_rush_is_served_in_order_and_without_gaps(queue_clock, count):
    """Buyers who click together get their turns in the order of their clicks, one each spacing."""
    turns = rush(queue_clock, [0.01 * number for number in range(count)])
    moments = list(turns.values())
    assert list(turns) == [f"buyer {number}" for number in range(count)]
    assert min(b - a for a, b in pairwise(moments)) >= SPACING - 1e-6
    assert moments[-1] <= count * SPACING * 1.05


def test_late_pages_do_not_reorder_the_queue(queue_clock):
    """Pages that return up to a second late, as without JavaScript, are served in order."""
    turns = rush(
        queue_clock,
        [0.01 * number for number in range(30)],
        returns=lambda key, seconds: float(-(-seconds // 1)),
    )
    order = [int(key.removeprefix("buyer ")) for key in turns]
    overtaken = [sum(later > one for later in order[: order.index(one)]) for one in order]
    assert max(overtaken) <= 2


def test_buyer_who_has_gone_does_not_block_the_others(queue_clock):
    """Pages that never return cost the others a moment, and no more."""
    gone = {f"buyer {number}" for number in range(3, 30, 2)}
    turns = rush(
        queue_clock,
        [0.01 * number for number in range(30)],
        returns=lambda key, seconds: None if key in gone else seconds,
    )
    assert list(turns) == [
        f"buyer {number}" for number in range(30) if f"buyer {number}" not in gone
    ]
    assert list(turns.values())[-1] <= 30 * SPACING + 3


def test_buyer_who_returns_late_is_next(queue_clock):
    """A laptop that was closed for a minute goes before those who came after it."""
    asleep = iter([60.0])
    turns = rush(
        queue_clock,
        [0.01 * number for number in range(100)],
        returns=lambda key, seconds: next(asleep, seconds) if key == "buyer 5" else seconds,
    )
    assert turns["buyer 5"] <= 60 + 2 * SPACING + 0.1


def test_absent_buyer_loses_the_place_after_ten_minutes(queue_clock):
    """Rows of pages that were closed do not remain."""
    fill_queue("100001", "100002")
    queue_clock.at = 660
    fill_queue("100003")
    with pytest.raises(Queued):
        Turn("100004").take()
    assert [row.key for row in QueuedBuyer.objects.all()] == ["100003", "100004"]


def test_slot_counts_from_the_moment_when_it_is_taken(queue_clock, monkeypatch):
    """Requests stay 1.1 seconds apart, however long joining the queue takes on a busy database."""
    fill_queue("100001")
    queue_clock.at = SPACING
    join = Turn._join

    def join_slowly(turn, now):
        queue_clock.at += 0.4
        return join(turn, now)

    monkeypatch.setattr(Turn, "_join", join_slowly)
    Turn("100001").take()
    following = START + dt.timedelta(seconds=queue_clock.at + SPACING)
    assert GatewayState.objects.get().next_request_at == following


def test_who_clicks_more_does_not_come_sooner(queue_clock):
    """Clicks between the returns of the page change nothing."""
    fill_queue("100001")
    for _ in range(5):
        queue_clock.at += 0.05
        with pytest.raises(Queued) as caught:
            Turn("100002").take()
        assert caught.value.ahead == 1
    assert QueuedBuyer.objects.count() == 2


def test_buyer_keeps_the_place_until_it_is_left(queue_clock):
    """A buyer who needs two requests is first in line for the second one, too."""
    fill_queue("100001")
    queue_clock.at = SPACING
    turn = Turn("100001")
    turn.take()
    with pytest.raises(Queued) as caught:
        Turn("100002").take()
    assert caught.value.ahead == 1
    turn.leave()
    assert [row.key for row in QueuedBuyer.objects.all()] == ["100002"]


def test_background_work_gets_one_slot_in_five(queue_clock):
    """In a rush waiting background work is served after four buyers, whoever clicks."""
    turns = rush(
        queue_clock,
        [0.01 * number for number in range(40)],
        jobs=[0.005 + 0.001 * number for number in range(8)],
    )
    assert len(turns) == 48
    # Background work takes the slot that buyers leave as soon as it is free.
    assert list(turns.values())[-1] <= 47 * SPACING + 2.5
    for number, key in enumerate(turns):
        if number >= 4:
            assert any(name.startswith("job") for name in list(turns)[number - 4 : number + 1]), key
        if "job 8" in list(turns)[:number]:
            break


def test_background_work_takes_what_buyers_leave(queue_clock):
    """A slot that the next buyer does not take goes to background work soon."""
    fill_queue("100001")
    queue_clock.at = SPACING
    with pytest.raises(RateLimitTimeout):
        rate_limit.acquire(0)
    rate_limit.acquire(10)
    assert queue_clock.at == pytest.approx(SPACING + 0.3)


def test_background_work_that_gave_up_keeps_no_slot(queue_clock):
    """Its claim on the fifth slot expires half a second after the slot came free."""
    for number in range(4):
        queue_clock.at = number * SPACING
        Turn(f"10000{number}").take()
    with pytest.raises(RateLimitTimeout):
        rate_limit.acquire(0.5)
    queue_clock.at = 4 * SPACING + 0.6
    Turn("100005").take()


def test_pause_of_all_orders_holds_buyers_and_not_background_work(queue_clock):
    """While creating is paused, buyers wait until its end, and background work goes on."""
    GatewayState.ensure_exists()
    GatewayState.objects.update(creating_paused_until=START + dt.timedelta(seconds=20))
    with pytest.raises(Queued) as caught:
        Turn("100001").take()
    assert caught.value.seconds == pytest.approx(10)
    assert caught.value.wait == pytest.approx(20)
    queue_clock.at = 1
    rate_limit.acquire(1)
    queue_clock.at = 20.1
    Turn("100001").take()


@pytest.mark.parametrize("back", [{"hours": 2}, {"days": 400}])
def test_clock_set_back_does_not_block_buyers(queue_clock, back):
    """Stored times far ahead are ignored, those of waiting buyers, too."""
    fill_queue("100001", "100002")
    queue_clock.at = -dt.timedelta(**back).total_seconds()
    Turn("100003").take()


@pytest.mark.django_db(transaction=True)
def test_turn_inside_a_transaction_is_an_error():
    """Inside a transaction of the caller ``RuntimeError`` is raised, and the slot stays free."""
    with pytest.raises(RuntimeError, match="durable"), transaction.atomic():
        Turn("100001").take()
    Turn("100001").take()
