"""Children of a warmed-up process: forked, so that Django is loaded once and a start costs little.

The parent must hold no database connection and run no thread when it forks.
"""

from __future__ import annotations

import os
import pickle
import select
import signal
import time
import traceback
from dataclasses import dataclass
from typing import Any

#: The status of a process that was killed at its point.
CRASHED = 86
#: Seconds after which a child is taken for one that hangs.
PATIENCE = 90


@dataclass
class Child:
    """A forked process and the pipe that it reports through."""

    pid: int
    pipe: int


@dataclass
class Ended:
    """How a child ended: ``value`` is what it returned or handed over when it crashed."""

    how: str
    value: Any

    @property
    def crashed(self):
        return self.how == "crashed"

    @property
    def failed(self):
        return self.how in ("failed", "hung")


def start(job, gate=None):
    """Fork a child that runs ``job(crash)``; ``crash(value)`` ends it there and then."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writer)
        return Child(pid, reader)
    os.close(reader)

    def send(how, value):
        data = memoryview(pickle.dumps((how, value)))
        while data:
            data = data[os.write(writer, data) :]

    def crash(value):
        send("crashed", value)
        # No handler, no finally, no rollback: the process is gone.
        os._exit(CRASHED)

    status = 1
    try:
        if gate is not None:
            os.close(gate[1])
        send("done", job(crash))
        status = 0
    except BaseException:
        send("failed", traceback.format_exc())
    finally:
        os._exit(status)


def wait(child):
    """Return how a child ended; one that hangs is killed."""
    deadline = time.monotonic() + PATIENCE
    data = b""
    while True:
        ready, _, _ = select.select([child.pipe], [], [], max(0, deadline - time.monotonic()))
        if not ready:
            os.kill(child.pid, signal.SIGKILL)
            os.waitpid(child.pid, 0)
            os.close(child.pipe)
            return Ended("hung", f"no end after {PATIENCE} seconds")
        chunk = os.read(child.pipe, 1 << 16)
        if not chunk:
            break
        data += chunk
    os.close(child.pipe)
    _, status = os.waitpid(child.pid, 0)
    if not data:
        return Ended("failed", f"ended with status {status} and no word")
    return Ended(*pickle.loads(data))


def run(job):
    """Run ``job(crash)`` in a child and return how it ended."""
    return wait(start(job))


def at_once(jobs, ready):
    """Run the jobs in a child each, started together; return how they ended.

    Args:
        jobs: functions without arguments.
        ready: is called in each child before the start, to open its database connection.
    """
    gate = os.pipe()
    remote = os.pipe()

    def held(job):
        def run_held(crash):
            ready()
            os.write(remote[1], b".")
            # The gate opens for all in the same moment: when the parent closes its end.
            os.read(gate[0], 1)
            return job()

        return run_held

    children = [start(held(job), gate) for job in jobs]
    for _ in children:
        if not select.select([remote[0]], [], [], PATIENCE)[0]:
            break
        os.read(remote[0], 1)
    os.close(gate[1])
    ended = [wait(child) for child in children]
    for end in (gate[0], *remote):
        os.close(end)
    return ended
