"""Test that a Celery worker with Redis settles payments at the simulator."""

import datetime as dt
import os
import shutil
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from django.db import connection
from oscar.core.loading import get_model

from oscar_bitsby.facade import start_payment
from oscar_bitsby.models import BitsbyInvoice, GatewayState, WebhookDelivery
from oscar_bitsby.simulator.process import running_simulator
from oscar_bitsby.utils.clock import db_now
from tests.support.bitsby import KEY
from tests.support.simulator import assert_spaced, gateway_settings, pay

celery = pytest.importorskip("celery", reason="the package celery is not installed")
pytest.importorskip("redis", reason="the package redis is not installed")

Order = get_model("order", "Order")
Transaction = get_model("payment", "Transaction")

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("real_time"),
    pytest.mark.skipif(
        shutil.which("redis-server") is None,
        reason="redis-server is not installed (Debian's package of that name)",
    ),
]

ROOT = Path(__file__).resolve().parent.parent
#: Seconds to wait for a condition. It takes a few, but a busy machine is slow.
WAIT_TIMEOUT = 90


def until(what, found):
    """Poll until ``found()`` is true, or fail after a timeout."""
    deadline = time.monotonic() + WAIT_TIMEOUT
    while not found():
        assert time.monotonic() < deadline, what()
        time.sleep(0.1)  # noqa: TID251  # other processes keep their own time


@contextmanager
def running(command, log, env=None):
    """Run a command, and terminate its process at the end of the block."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=ROOT, env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(WAIT_TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@pytest.fixture
def broker(tmp_path):
    """Return the address of a new Redis without persistence."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = {"port": port, "bind": "127.0.0.1", "save": "", "appendonly": "no", "dir": tmp_path}
    command = ["redis-server"]
    for name, value in options.items():
        command += [f"--{name}", str(value)]
    log = tmp_path / "redis.log"

    def answers(process):
        assert process.poll() is None, log.read_text()
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", port)) == 0

    with running(command, log) as process:
        until(log.read_text, lambda: answers(process))
        yield f"redis://127.0.0.1:{port}/0"


@pytest.fixture
def simulator(configure):
    with running_simulator(webhooks=False, token=KEY) as simulator:
        configure(**gateway_settings(simulator), CELERY=True)
        yield simulator


@pytest.fixture
def env(broker, simulator):
    """Return the environment of the shop's other processes."""
    return os.environ | {
        "DJANGO_SETTINGS_MODULE": "tests.celery_shop.settings",
        "SHOP_DATABASE": str(connection.settings_dict["NAME"]),
        "SHOP_SIMULATOR": simulator.url,
        "SHOP_BROKER": broker,
    }


def shops_celery(*arguments):
    return [sys.executable, "-m", "celery", "-A", "tests.celery_shop", *arguments]


@pytest.fixture
def worker(env, tmp_path):
    """Start a worker, and return its log file."""
    log = tmp_path / "worker.log"
    with running(shops_celery("worker", "--pool=solo", "--loglevel=INFO"), log, env) as process:

        def is_ready():
            assert process.poll() is None, log.read_text()
            return " ready." in log.read_text()

        until(log.read_text, is_ready)
        yield log


@pytest.fixture
def paid_invoice(order, simulator):
    """Return an invoice that is paid at the simulator and not yet settled."""
    invoice = start_payment(order)
    pay(simulator, invoice)
    return invoice


def is_settled():
    return Order.objects.get().status == "Being processed"


def test_periodic_task_settles_a_payment(paid_invoice, worker, env, simulator, tmp_path):
    """Celery's beat sends ``reconcile``, the worker runs it, and the order is paid once."""
    beat = shops_celery("beat", f"--schedule={tmp_path / 'beat'}", "--pidfile=", "--loglevel=INFO")
    log = tmp_path / "beat.log"
    with running(beat, log, env):
        until(lambda: log.read_text() + worker.read_text(), is_settled)
        settled = worker.read_text().count("run: ")
        until(worker.read_text, lambda: worker.read_text().count("run: ") > settled + 1)

    assert Transaction.objects.count() == 1
    assert_spaced(simulator)


def test_worker_settles_a_delivery_without_a_free_slot(
    paid_invoice, worker, broker, simulator, deliver
):
    """The webhook answers 503 and sends no request; the worker waits for a slot and settles."""
    before = celery.current_app._get_current_object()
    celery.Celery("web", broker=broker, set_as_current=True)
    GatewayState.objects.update(next_request_at=db_now() + dt.timedelta(seconds=3))
    requests_before = len(simulator.control("state")["requests"])
    try:
        answer = deliver(paid_invoice)
    finally:
        before.set_current()
    assert answer.status_code == 503
    assert "no free slot" in WebhookDelivery.objects.get().outcome

    until(worker.read_text, is_settled)

    assert Transaction.objects.count() == 1
    assert BitsbyInvoice.objects.get().webhook_pending_since is None
    assert len(simulator.control("state")["requests"]) == requests_before + 1
    assert_spaced(simulator)
