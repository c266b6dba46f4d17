"""Forks children of a process that has loaded Django, so that starting one is quick.

The parent must hold no database connection and run no thread when it forks.
"""

import multiprocessing
import os
import traceback
from dataclasses import dataclass
from typing import Any

FORK = multiprocessing.get_context("fork")
#: The status of a process that was killed at its point.
CRASHED = 86
#: Seconds after which a child counts as hanging.
MAX_WAIT = 90


@dataclass
class Exit:
    """How a child exited; ``value`` is what it returned or reported when it crashed."""

    how: str
    value: Any

    @property
    def crashed(self):
        return self.how == "crashed"

    @property
    def failed(self):
        return self.how in ("failed", "hung")


class Child:
    """A forked process that runs ``job(crash)``; ``crash(value)`` kills it at once."""

    def __init__(self, job):
        self.job = job
        self.reports, self._report = FORK.Pipe(duplex=False)
        self.process = FORK.Process(target=self._run)
        self.process.start()
        self._report.close()

    def _run(self):
        try:
            self._report.send(Exit("done", self.job(self._crash)))
        except BaseException:
            self._report.send(Exit("failed", traceback.format_exc()))
        # The parent's handlers and finalizers are not the child's.
        os._exit(0)

    def _crash(self, value):
        self._report.send(Exit("crashed", value))
        # No handler, no finally and no rollback, as when a process is killed.
        os._exit(CRASHED)

    def wait(self):
        """Wait for the child and return how it exited; one that hangs is killed."""
        try:
            if self.reports.poll(MAX_WAIT):
                exited = self.reports.recv()
            else:
                self.process.kill()
                exited = Exit("hung", f"not finished after {MAX_WAIT} seconds")
        except EOFError:
            exited = Exit("failed", "ended without a report")
        self.reports.close()
        self.process.join()
        return exited


def run(job):
    """Run ``job(crash)`` in a child and return how it exited."""
    return Child(job).wait()


def at_once(jobs, ready):
    """Run each job in a child, all started together, and return how they exited.

    Args:
        jobs: functions without arguments.
        ready: is called in each child before the start, to open its database connection.
    """
    start = FORK.Barrier(len(jobs))

    def held(job):
        def run_held(crash):
            ready()
            start.wait(MAX_WAIT)
            return job()

        return run_held

    children = [Child(held(job)) for job in jobs]
    return [child.wait() for child in children]
