"""How fast the processes of a race are: one as slow as can be, the others never the same twice.

What a busy machine does once in a thousand times is then done in each round: a process reads,
and writes what is out of date, or holds a lock while all others come.
"""

from __future__ import annotations

import mmap
import random
import re
import time

from django.db import connections

#: Seconds after a statement of one that is not held. Together they make it overlap the others.
PAUSES = (0, 0, 0.002, 0.006)
#: Seconds that one is held at a statement at most, should the others wait for something else.
LONGEST = 10
AGAIN = 0.002

WAITING = (
    "SELECT count(*) FROM pg_stat_activity"
    " WHERE datname = current_database() AND wait_event_type = 'Lock'"
)


class Meeting:
    """The processes of one round. To be made before they are forked; they share what it knows.

    The held one begins alone. At a statement of its inside a transaction the others begin; there
    and at each further one it waits until all others have ended or wait for a lock.

    Args:
        jobs: functions of a shop, one for each process.
        held: the number of the job that is held; None for none.
        begin: the others begin at a statement in which this pattern is found.
        skip: how many such statements pass before they begin.
        seed: of the pauses of the others.
    """

    def __init__(self, jobs, held, *, begin="", skip=0, seed=""):
        self.jobs = jobs
        self.held = held
        self.begin = begin
        self.skip = skip
        self.seed = seed
        #: One byte for each process that has ended, and one for the word to begin.
        self._shared = mmap.mmap(-1, len(jobs) + 1)

    def paced_jobs(self):
        """Return the jobs, each with its pace."""
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

        def dawdle(execute, sql, params, many, context):
            result = execute(sql, params, many, context)
            time.sleep(draw.choice(PAUSES))
            return result

        while self.held is not None and not self._shared[len(self.jobs)]:
            time.sleep(AGAIN)
        with connections["default"].execute_wrapper(dawdle):
            self.jobs[number](shop)

    def _run_held(self, shop):
        # With an eye of its own: inside a transaction one sees the activity of its beginning.
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
                # Then nothing was raced: the pattern is out of date.
                shop.problems.append(f"no statement of the held one has {self.begin}")
        finally:
            watch.close()

    def _wait_for_others(self, watch):
        if not self._shared[len(self.jobs)]:
            return
        until = time.monotonic() + LONGEST
        while time.monotonic() < until:
            running = len(self.jobs) - 1 - sum(self._shared[: len(self.jobs)])
            if not running:
                return
            with watch.cursor() as cursor:
                cursor.execute(WAITING)
                (waiting,) = cursor.fetchone()
            if waiting >= running:
                return
            time.sleep(AGAIN)
