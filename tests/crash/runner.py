"""Tries an operation with a crash at each of its points, each time in a shop like new."""

from __future__ import annotations

import gc
import logging
import random
from dataclasses import dataclass, field, replace
from itertools import count, pairwise

from django.core.management import call_command
from django.db import connections
from oscar.core.loading import get_model

from oscar_bitsby.models import BitsbyInvoice
from tests.crash import audit, clock, processes
from tests.crash.shop import AGAIN_SECONDS, Complaints, Shop, prepare_process
from tests.crash.tracer import Tracer

Order = get_model("order", "Order")


@dataclass
class Finding:
    """A promise that a crash broke: where, and how the shop differs from what it should be."""

    operation: str
    point: str
    problems: list[str]

    def __str__(self):
        return "\n".join([f"{self.operation}, {self.point}", *(f"    {p}" for p in self.problems)])


@dataclass
class Result:
    """What trying an operation gave."""

    operation: str
    points: int = 0
    tried: int = 0
    findings: list[Finding] = field(default_factory=list)
    remarks: dict[str, list[str]] = field(default_factory=dict)


class Runner:
    """A shop that is put back to a snapshot before each try.

    The process that owns it has Django loaded and warm, and no database connection open.
    """

    def __init__(self, database, simulator):
        self.database = database
        self.simulator = simulator
        self.shop = Shop(simulator)
        prepare_process()

    def build(self):
        """Make the snapshots; it warms this process up, too."""
        # Tables by the models themselves, as migrating takes much longer and gives the same.
        call_command("migrate", run_syncdb=True, verbosity=0)
        self.shop.furnish()
        self._keep("checkout")
        self.shop.place(0)
        self._keep("placed")
        self.shop.place(1)
        self._keep("twoplaced")
        # Children look at what is here and collect nothing: fewer pages to copy at a fork.
        gc.collect()
        gc.freeze()
        gc.disable()

    def _keep(self, stage):
        connections.close_all()
        self.database.save(stage)

    def restore(self, stage):
        """Go back to a snapshot, and to a Bitsby that has seen nothing."""
        self.database.restore(stage.replace(" ", ""))
        self.simulator.control("reset", {})
        self.simulator.control("webhooks", {"enabled": False})
        self.simulator.control("ratelimit", {"seconds": 0})

    def step(self, shop, job):
        """Run ``job(shop)`` in a process of its own; return the shop as it left it.

        Raises:
            RuntimeError: it failed; what it raised is in the text.
        """

        def run(crash):
            return in_shop(shop, job)

        ended = processes.run(run)
        if ended.failed:
            raise RuntimeError(str(ended.value))
        return ended.value

    def act(self, operation, crash_at):
        """Bring about an operation's situation and run it up to a point, in one process.

        Returns:
            how it ended; its value is the shop before and, where it did not crash, after it, with
            the points that it passed or the one that it reached.
        """
        self.restore(operation.stage)
        fresh = replace(self.shop, notes={}, problems=[], remarks=[])

        def run(crash):
            before = in_shop(fresh, operation.prepare)
            tracer = Tracer(crash_at, lambda point: crash((before, point)))

            def act(shop):
                with tracer.watching():
                    operation.act(shop)
                shop.problems += tracer.locks.problems

            return in_shop(before, act), tracer.points

        return processes.run(run)

    def crash(self, operation, number, *, recovers=True):
        """Kill the operation at a point; return where that was, and the shop at rest again.

        Without a ``number``, or when it is not reached, the operation runs to its end. Then all
        points that it passed are returned, too.
        """
        ended = self.act(operation, number)
        if ended.failed:
            shop = replace(self.shop, problems=[f"the operation failed: {ended.value}"])
            return None, shop, []
        shop, passed = ended.value
        point, points = (passed, []) if ended.crashed else (None, passed)
        if not recovers:
            return point, shop, points
        try:
            shop = self.step(shop, lambda shop: recover(operation, shop))
        except RuntimeError as error:
            shop = replace(shop, problems=[*shop.problems, f"not recovered: {error}"])
        return point, shop, points

    def explore(self, operation, *, sample=None, at=None, progress=lambda text: None):
        """Try the points of an operation.

        Args:
            sample: try this many points only, the same ones each time.
            at: try this point only.
            progress: is told each point that was tried.
        """
        result = Result(operation.name)
        # A sample has no time for what other tests try, too: an operation that ends by itself.
        _, shop, points = self.crash(operation, 0, recovers=sample is None)
        _note(result, "not killed", shop)
        result.points = len(points)
        if at is not None:
            numbers = iter([at])
        elif sample is not None:
            numbers = iter(drawn(points, sample, operation.name))
        else:
            # An operation need not take the same way each time: go on until it ends by itself.
            numbers = count(1)
        for number in numbers:
            point, shop, _ = self.crash(operation, number)
            if point is None and not shop.problems:
                break
            result.tried += 1
            _note(result, point or f"point {number}, not reached", shop)
            progress(point)
            if point is None:
                break
        result.points = max(result.points, result.tried)
        return result


def drawn(points, size, seed):
    """Return the numbers of so many points, far from each other, drawn by a seed.

    Every second one is inside a transaction: killed there, the shop should be as it was before.
    At the others the world has changed for good.
    """
    draw = random.Random(seed)
    numbers = range(1, len(points) + 1)
    inside = [number for number in numbers if "(in a transaction)" in points[number - 1]]
    lasting = [number for number in numbers if number not in inside]
    return sorted(
        [*_one_of_each(lasting, (size + 1) // 2, draw), *_one_of_each(inside, size // 2, draw)]
    )


def _one_of_each(numbers, stretches, draw):
    """Cut the numbers into so many stretches and draw one of each."""
    stretches = min(stretches, len(numbers))
    ends = [len(numbers) * end // stretches for end in range(stretches + 1)] if stretches else []
    return [numbers[draw.randrange(*ends)] for ends in pairwise(ends)]


def _note(result, point, shop):
    if shop.problems:
        result.findings.append(Finding(result.operation, point, shop.problems))
    for remark in shop.remarks:
        result.remarks.setdefault(remark, []).append(point)


def in_shop(shop, job):
    """Be a process of the shop that does ``job``; return the shop with what it complained of."""
    if shop.offset is not None:
        clock.offset = shop.offset
    complaints = Complaints()
    for name in ("oscar_bitsby", "django.request", "oscar"):
        logging.getLogger(name).addHandler(complaints)
    try:
        job(shop)
    finally:
        connections.close_all()
    problems = [*shop.problems, *(f"logged: {text}" for text in complaints.texts)]
    return replace(shop, problems=problems, offset=clock.offset)


def recover(operation, shop):
    """Open the shop again: let people come back, make passes until nothing changes, and audit."""
    operation.after(shop)
    shop.until_quiet()
    come_to_rest(shop)
    shop.problems += [*audit.audit(shop), *operation.expect(shop)]


def come_to_rest(shop):
    """Let the passes do what they leave for ten minutes when it is long due: end, then cancel."""
    for _ in range(2):
        is_pending = Order.objects.filter(status=audit.PENDING).exists()
        if not is_pending and not BitsbyInvoice.objects.live().exists():
            return
        shop.later(AGAIN_SECONDS)
        shop.until_quiet()
