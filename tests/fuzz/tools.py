"""Shared by the fuzz tests: sizes, a meter, the shop's WSGI handler, a fake of the API."""

import os
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from django.core.handlers.wsgi import WSGIHandler
from django.core.signals import request_finished, request_started
from django.db import close_old_connections, transaction

from oscar_bitsby.gateway.transport import Transport

#: ``make fuzz`` sets larger numbers than the test suite.
REQUESTS = int(os.environ.get("FUZZ_REQUESTS", "3000"))
ANSWERS = int(os.environ.get("FUZZ_ANSWERS", "1200"))
FLOOD_SECONDS = float(os.environ.get("FUZZ_FLOOD_SECONDS", "4"))
SEED = int(os.environ.get("FUZZ_SEED", "20"))

#: The most seconds of processor time for one request or one answer.
MAX_SECONDS = 5.0
#: The most bytes by which memory may grow, however long the run.
MAX_GROWTH = 80 * 1024 * 1024


def resident():
    """Return the bytes of memory that this process holds."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


@dataclass
class Meter:
    """Counts requests and answers, and measures the most expensive one."""

    what: str
    kinds: Counter = field(default_factory=Counter)
    answers: Counter = field(default_factory=Counter)
    worst: float = 0.0
    worst_kind: str = ""
    wrong: list = field(default_factory=list)
    started_with: int = 0
    ended_with: int = 0

    @contextmanager
    def one(self, kind):
        """Measure one by processor time, on which other processes have no effect."""
        self.kinds[kind] += 1
        since = time.thread_time()
        yield
        took = time.thread_time() - since
        if took > self.worst:
            self.worst, self.worst_kind = took, kind

    def memory(self):
        """Measure the memory; the first call must come when everything is loaded."""
        self.ended_with = resident()
        self.started_with = self.started_with or self.ended_with

    @property
    def growth(self):
        return self.ended_with - self.started_with

    def assert_bounded(self):
        assert self.wrong == [], f"{len(self.wrong)} wrong, such as {self.wrong[:5]}"
        assert self.worst < MAX_SECONDS, self.worst_kind
        assert self.growth < MAX_GROWTH

    def __str__(self):
        lines = [f"{self.kinds.total()} {self.what}, {len(self.wrong)} wrong"]
        lines += [f"  {number:8} {name}" for name, number in self.kinds.most_common()]
        ended = ", ".join(f"{name}: {number}" for name, number in self.answers.most_common())
        lines.append(f"  ended in {ended}")
        lines.append(
            f"  at most {self.worst * 1000:.0f} ms of processor time ({self.worst_kind}),"
            f" memory grew by {self.growth / 1024 / 1024:.1f} MiB"
        )
        return "\n".join(lines)


class Shop:
    """The shop behind WSGI, as a web server calls it."""

    def __init__(self):
        self.handler = WSGIHandler()

    def answer(self, environ):
        """Return the status, the headers and the body."""
        found = {}

        def start(status, headers, exc_info=None):
            found["status"], found["headers"] = int(status.split()[0]), dict(headers)

        response = self.handler(environ, start)
        body = b"".join(response)
        response.close()
        return found["status"], found["headers"], body


@contextmanager
def open_shop():
    """Yield a shop whose requests do not close the test's database connection."""
    for signal in (request_started, request_finished):
        signal.disconnect(close_old_connections)
    try:
        yield Shop()
    finally:
        for signal in (request_started, request_finished):
            signal.connect(close_old_connections)


class Gateway:
    """Replaces all HTTP to Bitsby; ``answer`` gets the path and the fields."""

    def __init__(self, monkeypatch, answer):
        self.answer, self.asked = answer, []
        gateway = self

        def exchange(transport, path, fields):
            gateway.asked.append((path, dict(fields)))
            return gateway.answer(path, dict(fields))

        monkeypatch.setattr(Transport, "_exchange", exchange)


@contextmanager
def undone():
    """Roll back what the block writes, in a transaction that is marked as a test's."""
    atomic = transaction.atomic()
    # Django allows durable transactions inside a test's own.
    atomic._from_testcase = True
    with atomic:
        yield
        transaction.set_rollback(True)
