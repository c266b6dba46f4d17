"""Forks children of a process that has loaded Django, so that starting one is quick.

The parent must hold no database connection and run no thread when it forks.
"""

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
#: Seconds after which a child counts as hanging.
MAX_WAIT = 90


@dataclass
class Child:
    """A forked process and the pipe for its report."""

    pid: int
    pipe: int


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


def start(job, gate=None):
    """Fork a child that runs ``job(crash)``; ``crash(value)`` kills it at once."""
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
        # No handler, no finally and no rollback, as when a process is killed.
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
    """Wait for a child and return how it exited; one that hangs is killed."""
    deadline = time.monotonic() + MAX_WAIT
    data = b""
    while True:
        ready, _, _ = select.select([child.pipe], [], [], max(0, deadline - time.monotonic()))
        if not ready:
            os.kill(child.pid, signal.SIGKILL)
            os.waitpid(child.pid, 0)
            os.close(child.pipe)
            return Exit("hung", f"not finished after {MAX_WAIT} seconds")
        chunk = os.read(child.pipe, 1 << 16)
        if not chunk:
            break
        data += chunk
    os.close(child.pipe)
    _, status = os.waitpid(child.pid, 0)
    if not data:
        return Exit("failed", f"ended with status {status} and no report")
    return Exit(*pickle.loads(data))


def run(job):
    """Run ``job(crash)`` in a child and return how it exited."""
    return wait(start(job))


def at_once(jobs, ready):
    """Run each job in a child, all started together, and return how they exited.

    Args:
        jobs: functions without arguments.
        ready: is called in each child before the start, to open its database connection.
    """
    gate = os.pipe()
    is_ready = os.pipe()

    def held(job):
        def run_held(crash):
            ready()
            os.write(is_ready[1], b".")
            # The parent opens the gate for all of them by closing its side.
            os.read(gate[0], 1)
            return job()

        return run_held

    children = [start(held(job), gate) for job in jobs]
    for _ in children:
        if not select.select([is_ready[0]], [], [], MAX_WAIT)[0]:
            break
        os.read(is_ready[0], 1)
    os.close(gate[1])
    ended = [wait(child) for child in children]
    for end in (gate[0], *is_ready):
        os.close(end)
    return ended
