"""Buyers who wait for a slot: first come, first served, over all processes and machines.

A buyer's page does not wait inside a web worker. It learns when its turn comes, and returns then.
A page that does not return is passed over, and gets its place back when it does.
"""

import datetime as dt
import time

from django.db import router, transaction
from django.db.models import Exists, F, Q, Value
from django.db.models.functions import Least

from oscar_bitsby.exceptions import Queued
from oscar_bitsby.gateway.rate_limit import BUYERS_IN_A_ROW, MAX_FUTURE, MIN_INTERVAL, take
from oscar_bitsby.models import GatewayState, QueuedBuyer
from oscar_bitsby.utils.clock import db_now

#: Seconds that the first buyer of the queue waits inside the request: for the next slot, no longer.
MAX_WAIT = 1.2
#: Seconds that a page returns before its turn, so that no slot is lost on the way.
EARLY = 0.3
#: Seconds after which a page far behind returns to show its new place. A page that was closed is
#: noticed then.
RETURN_INTERVAL = 10.0
#: After this absence a buyer loses the place.
MAX_ABSENCE = dt.timedelta(minutes=10)
#: A pause further ahead than this is ignored: the clock has been set back since.
MAX_PAUSE = dt.timedelta(minutes=5)


class Turn:
    """The turn of one buyer, for one or more requests.

    Args:
        key: identifies the buyer; the order's number.
    """

    def __init__(self, key: str) -> None:
        self.key = key
        self.is_queued = False

    def take(self) -> None:
        """Take the slot if it is this buyer's turn; the caller may then send one request.

        Raises:
            Queued: it is not. The buyer has a place in the queue now.
            RuntimeError: the caller is inside a database transaction.
        """
        deadline = time.monotonic() + MAX_WAIT
        while True:
            with transaction.atomic(using=router.db_for_write(GatewayState), durable=True):
                queued = self._take()
            if queued is None:
                return
            if queued.ahead or time.monotonic() + queued.seconds > deadline:
                raise queued
            time.sleep(queued.seconds)

    def leave(self) -> None:
        """Give up the place in the queue: the buyer needs no slot any more."""
        if self.is_queued:
            QueuedBuyer.objects.filter(key=self.key).delete()

    def _take(self) -> Queued | None:
        """Take the slot and return None, or return the place in the queue."""
        now = db_now()
        is_paused = Q(creating_paused_until__range=(now, now + MAX_PAUSE))
        # A streak ends when background work had its slot, or when none waits any more.
        is_backgrounds = Q(
            background_waits_until__range=(now, now + MAX_FUTURE), buyer_streak__gte=BUYERS_IN_A_ROW
        )
        may_take = ~is_paused & ~is_backgrounds
        streak = Least(F("buyer_streak") + 1, Value(BUYERS_IN_A_ROW))
        nobody_waits = ~Exists(QueuedBuyer.objects.present(now))
        if take(now, may_take & nobody_waits, buyer_streak=streak) is None:
            return None
        self.is_queued = True
        place = self._join(now)
        ahead = QueuedBuyer.objects.present(now).filter(pk__lt=place.pk).count()
        # Joining may have taken a while, and the next slot counts from this one.
        now = db_now()
        # With buyers ahead this only reads the state.
        state = take(now, may_take if not ahead else Q(pk__in=()), buyer_streak=streak)
        if state is None:
            return None
        wait = _seconds_until_turn(state, ahead, now)
        # Far behind, the page returns several times.
        seconds = min(wait - EARLY if ahead else wait, max(RETURN_INTERVAL, wait / 4))
        place.returns_at = now + dt.timedelta(seconds=seconds)
        place.save(update_fields=["returns_at"])
        return Queued(
            f"{ahead} buyers come first; about {wait:.0f} seconds to wait",
            ahead=ahead,
            seconds=seconds,
            wait=wait,
        )

    def _join(self, now: dt.datetime) -> QueuedBuyer:
        # Those who lost their place. A buyer who returns after that goes to the end.
        QueuedBuyer.objects.filter(returns_at__lt=now - MAX_ABSENCE).delete()
        place: QueuedBuyer
        place, _ = QueuedBuyer.objects.get_or_create(key=self.key, defaults={"returns_at": now})
        return place


def _seconds_until_turn(state: GatewayState, ahead: int, now: dt.datetime) -> float:
    """Estimate the seconds until the slot of a buyer with ``ahead`` others before."""
    at = max(state.next_request_at, now)
    spacing = MIN_INTERVAL.total_seconds()
    if now <= state.background_waits_until <= now + MAX_FUTURE:
        spacing *= 1 + 1 / BUYERS_IN_A_ROW
        if state.buyer_streak >= BUYERS_IN_A_ROW:
            at = max(at, state.next_request_at + MIN_INTERVAL)
    if now <= state.creating_paused_until <= now + MAX_PAUSE:
        at = max(at, state.creating_paused_until)
    return max((at - now).total_seconds() + ahead * spacing, 0.01)
