"""Sets the pace of the processes of a race: one is held back, the others pause at random.

So each round contains what is rare otherwise: a process writes values that it read before another
one changed them, or holds a lock that all the others wait for.
"""

import mmap
import random
import re
import time

from django.db import connections

#: Seconds of pause after a statement of a process that is not held, so that they overlap.
PAUSES = (0, 0, 0.002, 0.006)
#: The most seconds that a process is held at one statement.
MAX_HOLD = 10
POLL_INTERVAL = 0.002

WAITING = (
    "SELECT count(*) FROM pg_stat_activity"
    " WHERE datname = current_database() AND wait_event_type = 'Lock'"
)


class Barrier:
    """Lets the processes of one round meet. It must be made before they are forked.

    The held process begins alone. At one of its statements inside a transaction the others begin.
    From then on it waits at each statement until all others have finished or wait for a lock.

    Args:
        jobs: functions of a shop, one for each process.
        held: the number of the job that is held; None for none.
        begin: the others begin at a statement that matches this pattern.
        skip: how many matching statements are skipped before they begin.
        seed: the seed of the pauses.
    """

    def __init__(self, jobs, held, *, begin="", skip=0, seed=""):
        self.jobs = jobs
        self.held = held
        self.begin = begin
        self.skip = skip
        self.seed = seed
        #: One byte for each process that has finished, and one that lets the others begin.
        self._shared = mmap.mmap(-1, len(jobs) + 1)

    def paced_jobs(self):
        """Return the jobs, each at its pace."""
        return [self._paced(number) for number in range(len(self.jobs))]

    def _paced(self, number):
        def run(shop):
            try:
                if number == self.held:
                    self._run_held(shop)
                else:
                    self._run(number, shop)
            finally:
                self._shared[number] = 1
                if number == self.held:
                    self._let_begin()

        return run

    def _let_begin(self):
        self._shared[len(self.jobs)] = 1

    def _run(self, number, shop):
        draw = random.Random(f"{self.seed} {number}")

        def pause(execute, sql, params, many, context):
            result = execute(sql, params, many, context)
            time.sleep(draw.choice(PAUSES))
            return result

        while self.held is not None and not self._shared[len(self.jobs)]:
            time.sleep(POLL_INTERVAL)
        with connections["default"].execute_wrapper(pause):
            self.jobs[number](shop)

    def _run_held(self, shop):
        # Another connection, since a transaction sees the activity of the moment when it began.
        watch = connections.create_connection("default")

        def hold(execute, sql, params, many, context):
            result = execute(sql, params, many, context)
            if context["connection"].in_atomic_block:
                self.skip -= re.search(self.begin, sql) is not None
                if self.skip < 0:
                    self._let_begin()
                self._wait_for_others(watch)
            return result

        try:
            with connections["default"].execute_wrapper(hold):
                self.jobs[self.held](shop)
            if self.begin and not self._shared[len(self.jobs)]:
                # There was no race: the pattern is out of date.
                shop.problems.append(f"no statement of the held process matches {self.begin}")
        finally:
            watch.close()

    def _wait_for_others(self, watch):
        if not self._shared[len(self.jobs)]:
            return
        until = time.monotonic() + MAX_HOLD
        while time.monotonic() < until:
            running = len(self.jobs) - 1 - sum(self._shared[: len(self.jobs)])
            if not running:
                return
            with watch.cursor() as cursor:
                cursor.execute(WAITING)
                (waiting,) = cursor.fetchone()
            if waiting >= running:
                return
            time.sleep(POLL_INTERVAL)
