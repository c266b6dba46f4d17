"""Runs an operation with a crash at each of its points, each time in a restored shop."""

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
from tests.crash.shop import POLL_BACKOFF_SECONDS, LoggedErrors, Shop, skip_waiting
from tests.crash.tracer import Tracer

Order = get_model("order", "Order")


@dataclass
class Finding:
    """A promise that a crash broke: at which point, and what is wrong."""

    operation: str
    point: str
    problems: list[str]

    def __str__(self):
        return "\n".join([f"{self.operation}, {self.point}", *(f"    {p}" for p in self.problems)])


@dataclass
class Result:
    """The results of all points of an operation, or of all rounds of a race."""

    operation: str
    points: int = 0
    tested: int = 0
    findings: list[Finding] = field(default_factory=list)
    observations: dict[str, list[str]] = field(default_factory=dict)

    def add(self, point, shop):
        """Add the shop at rest after a point or round."""
        self.tested += 1
        if shop.problems:
            self.findings.append(Finding(self.operation, point, shop.problems))
        for text in shop.observations:
            self.observations.setdefault(text, []).append(point)


class Runner:
    """A shop that is restored to a snapshot before each run.

    The process that owns it has Django loaded and warm, and no database connection open.
    """

    def __init__(self, database, simulator):
        self.database = database
        self.simulator = simulator
        self.shop = Shop(simulator)
        skip_waiting()

    def build(self):
        """Make the snapshots, and load everything into this process."""
        # Tables from the models: migrations take much longer and give the same ones.
        call_command("migrate", run_syncdb=True, verbosity=0)
        self.shop.fill()
        self._save("checkout")
        self.shop.place(0)
        self._save("placed")
        self.shop.place(1)
        self._save("twoplaced")
        # Without garbage collection, children share more of this process's memory.
        gc.collect()
        gc.freeze()
        gc.disable()

    def _save(self, stage):
        connections.close_all()
        self.database.save(stage)

    def restore(self, stage):
        """Restore a snapshot, and empty the simulator."""
        self.database.restore(stage.replace(" ", ""))
        self.simulator.control("reset", {})
        self.simulator.control("webhooks", {"enabled": False})
        self.simulator.control("ratelimit", {"seconds": 0})

    def step(self, shop, job):
        """Run ``job(shop)`` in a process of its own and return the shop after it.

        Raises:
            RuntimeError: it failed; the message has its traceback.
        """

        def run(crash):
            return in_shop(shop, job)

        exited = processes.run(run)
        if exited.failed:
            raise RuntimeError(str(exited.value))
        return exited.value

    def act(self, operation, crash_at):
        """Prepare an operation and run it up to a point, in one process.

        Returns:
            how the process exited. Its value is the shop and the point when it crashed, else the
            shop and all its points.
        """
        self.restore(operation.stage)
        fresh = replace(self.shop, memo={}, problems=[], observations=[])

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
        """Kill the operation at a point; return the point, the shop at rest, and no points.

        Without a ``number``, or when it is not reached, the operation completes. Then the point is
        None, and all its points are returned.
        """
        exited = self.act(operation, number)
        if exited.failed:
            shop = replace(self.shop, problems=[f"the operation failed: {exited.value}"])
            return None, shop, []
        shop, trace = exited.value
        point, points = (trace, []) if exited.crashed else (None, trace)
        if not recovers:
            return point, shop, points
        try:
            shop = self.step(shop, lambda shop: recover(operation, shop))
        except RuntimeError as error:
            shop = replace(shop, problems=[*shop.problems, f"not recovered: {error}"])
        return point, shop, points

    def explore(self, operation, *, sample=None, at=None, progress=lambda text: None):
        """Run the points of an operation.

        Args:
            sample: run only this many points, the same ones each time.
            at: run only this point.
            progress: called with each point that was run.
        """
        result = Result(operation.name)
        # A sample skips the recovery of a completed operation, which other tests cover.
        _, shop, points = self.crash(operation, 0, recovers=sample is None)
        result.add("not killed", shop)
        result.tested, result.points = 0, len(points)
        if at is not None:
            numbers = iter([at])
        elif sample is not None:
            numbers = iter(drawn(points, sample, operation.name))
        else:
            # The number of points may differ between runs: go on until the operation completes.
            numbers = count(1)
        for number in numbers:
            point, shop, _ = self.crash(operation, number)
            if point is None and not shop.problems:
                break
            result.add(point or f"point {number}, not reached", shop)
            progress(point)
            if point is None:
                break
        result.points = max(result.points, result.tested)
        return result


def drawn(points, size, seed):
    """Return the numbers of ``size`` points, spread over the operation and drawn by a seed.

    Half of them are inside a transaction, where a kill rolls back; at the others the effects last.
    """
    draw = random.Random(seed)
    numbers = range(1, len(points) + 1)
    inside = [number for number in numbers if "(in a transaction)" in points[number - 1]]
    lasting = [number for number in numbers if number not in inside]
    return sorted(
        [*_one_of_each(lasting, (size + 1) // 2, draw), *_one_of_each(inside, size // 2, draw)]
    )


def _one_of_each(numbers, stretches, draw):
    """Cut the numbers into ``stretches`` and draw one of each."""
    stretches = min(stretches, len(numbers))
    ends = [len(numbers) * end // stretches for end in range(stretches + 1)] if stretches else []
    return [numbers[draw.randrange(*ends)] for ends in pairwise(ends)]


def in_shop(shop, job):
    """Run ``job`` as a process of the shop; return the shop with the errors that it logged."""
    if shop.offset is not None:
        clock.offset = shop.offset
    logged = LoggedErrors()
    for name in ("oscar_bitsby", "django.request", "oscar"):
        logging.getLogger(name).addHandler(logged)
    try:
        job(shop)
    finally:
        connections.close_all()
    problems = [*shop.problems, *(f"logged: {text}" for text in logged.texts)]
    return replace(shop, problems=problems, offset=clock.offset)


def recover(operation, shop):
    """Start the shop again: let people return, run until nothing changes, and audit."""
    operation.after(shop)
    shop.run_until_stable()
    wait_out_poll_backoff(shop)
    shop.problems += [*audit.audit(shop), *operation.expect(shop)]


def wait_out_poll_backoff(shop):
    """Let enough time pass for runs to expire and cancel what they polled recently."""
    for _ in range(2):
        is_pending = Order.objects.filter(status=audit.PENDING).exists()
        if not is_pending and not BitsbyInvoice.objects.live().exists():
            return
        shop.later(POLL_BACKOFF_SECONDS)
        shop.run_until_stable()
