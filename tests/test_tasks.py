"""Test Celery: a worker settles a delivery that cannot be settled at once. Without Celery, broker
or worker the next run does the same."""

import logging
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from django.db import connections
from oscar.core.loading import get_model

from oscar_bitsby import reconciliation
from oscar_bitsby.exceptions import RateLimitTimeout
from oscar_bitsby.gateway.rate_limit import acquire
from oscar_bitsby.models import BitsbyInvoice, GatewayState
from tests.support import bitsby
from tests.support.settling import status_of

celery = pytest.importorskip("celery", reason="the package celery is not installed")

from oscar_bitsby import tasks  # noqa: E402  # imports Celery

Transaction = get_model("payment", "Transaction")

pytestmark = pytest.mark.django_db(transaction=True)

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def app():
    """Set a Celery app without a broker, and restore the earlier app afterwards."""
    before = celery.current_app._get_current_object()
    app = celery.Celery("shop", broker="memory://", set_as_current=True)
    yield app
    before.set_current()


@pytest.fixture
def queued(monkeypatch):
    """Return the arguments of each task that was queued."""
    calls = []
    monkeypatch.setattr(
        celery.Task, "apply_async", lambda task, args, **options: calls.append((args, options))
    )
    return calls


@pytest.fixture(autouse=True)
def enable_celery(configure):
    configure(CELERY=True)


@pytest.fixture
def taken_slot():
    """Take the current slot, as another process would."""
    GatewayState.ensure_exists()
    acquire(0)


# The webhook


def test_delivery_without_a_slot_queues_a_task(
    order, paid_invoice, taken_slot, deliver, queued, clock
):
    """The delivery is answered 503 without waiting, and a task without a delay settles it."""
    assert deliver(paid_invoice).status_code == 503
    assert clock.slept == 0
    ((args, options),) = queued
    assert (options["countdown"], options["retry"]) == (None, False)

    assert tasks.look_into_delivery(*args) == "asked"
    assert status_of(order) == "Being processed"
    assert BitsbyInvoice.objects.get().webhook_pending_since is None


def test_delivery_of_an_unpaid_invoice_queues_a_task_ten_seconds_later(
    order, unpaid_invoice, deliver, queued, fake, clock, move_time
):
    """The task starts when the invoice may be fetched again, and settles it."""
    assert deliver(unpaid_invoice).status_code == 503
    ((args, options),) = queued
    assert 9 < options["countdown"] <= 10

    fake.invoices = []
    fake.add_paid(unpaid_invoice)
    move_time(seconds=10)
    assert tasks.look_into_delivery(*args) == "asked"
    assert status_of(order) == "Being processed"


def test_delivery_whose_refresh_failed_queues_a_task(invoice, deliver, queued, fake):
    """An error of Bitsby is answered 503, and a worker tries again."""
    fake.on("/invoices/list", ConnectionError("down"))

    assert deliver(invoice).status_code == 503
    assert [args for args, _ in queued] == [(invoice.pk,)]


def test_delivery_that_settles_queues_no_task(paid_invoice, deliver, queued):
    """A delivery that settles, and each later one, queues no task."""
    assert {deliver(paid_invoice).status_code for _ in range(3)} == {200}
    assert queued == []


def test_many_deliveries_queue_one_task_in_ten_seconds(
    unpaid_invoice, deliver, queued, clock, move_time
):
    """Any number of deliveries for one invoice queue one task in ten seconds."""
    for _ in range(19):
        assert deliver(unpaid_invoice).status_code == 503
        move_time(milliseconds=500)
        clock.sleep(0.5)
    assert len(queued) == 1

    move_time(seconds=1)
    deliver(unpaid_invoice)
    assert len(queued) == 2


def test_without_the_celery_setting_no_task_is_queued(unpaid_invoice, deliver, queued, configure):
    """Without ``CELERY`` the next delivery or the next run settles the payment."""
    configure(CELERY=False)

    assert deliver(unpaid_invoice).status_code == 503
    assert queued == []


@pytest.mark.parametrize("is_atomic", [False, True])
def test_task_is_queued_after_commit(unpaid_invoice, deliver, monkeypatch, is_atomic):
    """When a task is queued, the mark on the invoice is committed."""
    monkeypatch.setitem(connections.settings["default"], "ATOMIC_REQUESTS", is_atomic)
    monkeypatch.setitem(connections["default"].settings_dict, "ATOMIC_REQUESTS", is_atomic)
    seen = []

    def record(task, args, **options):
        flagged = BitsbyInvoice.objects.get().webhook_pending_since is not None
        seen.append((connections["default"].in_atomic_block, flagged))

    monkeypatch.setattr(celery.Task, "apply_async", record)
    deliver(unpaid_invoice)

    assert seen == [(False, True)]


def test_unreachable_broker_is_a_warning_without_a_delay(
    order, paid_invoice, taken_slot, deliver, app, caplog, monkeypatch, real_time
):
    """If the broker refuses the connection, one warning is logged and the next run settles."""
    pytest.importorskip("redis", reason="the package redis is not installed")
    pauses = []
    monkeypatch.setattr("kombu.utils.functional.sleep", pauses.append)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        app.conf.broker_url = f"redis://:the-password@127.0.0.1:{unused.getsockname()[1]}/0"
        with caplog.at_level(logging.WARNING):
            assert deliver(paid_invoice).status_code == 503

    assert pauses == []
    ours = [one for one in caplog.records if one.name.startswith("oscar_bitsby")]
    assert [(one.levelname, one.exc_info) for one in ours] == [("WARNING", None)]
    assert "refresh not queued" in ours[0].getMessage()
    assert "the-password" not in caplog.text
    reconciliation.reconcile()
    assert status_of(order) == "Being processed"


def test_lost_task_is_covered_by_the_next_run(order, paid_invoice, taken_slot, deliver, queued):
    """If no worker runs the task, the next run settles the payment."""
    deliver(paid_invoice)
    assert len(queued) == 1

    reconciliation.reconcile()
    assert status_of(order) == "Being processed"


# The task of a delivery


def test_worker_waits_for_a_slot(order, paid_invoice, taken_slot, deliver, queued, clock):
    """A worker waits in the queue for a slot, unlike the webhook."""
    deliver(paid_invoice)

    tasks.look_into_delivery(paid_invoice.pk)

    assert 0 < clock.slept < 3
    assert status_of(order) == "Being processed"


def test_task_of_a_settled_invoice_sends_no_request(
    paid_invoice, taken_slot, deliver, queued, fake, clock
):
    """If a run settled the invoice first, the task sends no request."""
    deliver(paid_invoice)
    reconciliation.reconcile()
    fake.requests.clear()

    assert tasks.look_into_delivery(paid_invoice.pk).startswith("not asked")
    assert fake.requests == []


def test_task_that_is_delivered_twice_sends_one_request(
    unpaid_invoice, taken_slot, deliver, queued, fake, clock
):
    """A task that the broker delivers twice sends one request while the invoice is unpaid."""
    deliver(unpaid_invoice)

    results = [tasks.look_into_delivery(unpaid_invoice.pk) for _ in range(3)]

    assert [text == "asked" for text in results] == [True, False, False]
    assert len(fake.requests) == 1


def test_pending_mark_remains_while_the_invoice_is_unpaid(
    order, unpaid_invoice, taken_slot, deliver, queued, fake, clock
):
    """A worker that finds the invoice unpaid keeps its mark, and the next run fetches it again."""
    deliver(unpaid_invoice)
    tasks.look_into_delivery(unpaid_invoice.pk)
    assert BitsbyInvoice.objects.get().webhook_pending_since is not None

    fake.invoices = []
    fake.add_paid(unpaid_invoice)
    reconciliation.reconcile()
    assert status_of(order) == "Being processed"


def test_tasks_of_a_burst_share_a_request(place, invoice_for, deliver, queued, fake, clock):
    """Thirty invoices paid at once cost one request of the webhook and one of the workers."""
    invoices = [invoice_for(place()) for _ in range(30)]
    for row in invoices:
        fake.add_paid(row)
    for row in invoices:
        deliver(row)
    for args, _ in queued:
        tasks.look_into_delivery(*args)

    assert len(queued) == 29
    assert len(fake.requests) == 2
    assert Transaction.objects.count() == 30


def test_rate_limit_timeout_does_not_delay_the_next_task(
    paid_invoice, taken_slot, deliver, queued, monkeypatch, clock
):
    """After a worker got no slot, the next one may fetch the invoice at once."""
    deliver(paid_invoice)

    def none_free(*args, **options):
        raise RateLimitTimeout("busy")

    with monkeypatch.context() as patch:
        patch.setattr("oscar_bitsby.gateway.factory.acquire", none_free)
        assert tasks.look_into_delivery(paid_invoice.pk).startswith("not asked")

    assert tasks.look_into_delivery(paid_invoice.pk) == "asked"
    assert BitsbyInvoice.objects.get().status == "paid"


def test_api_error_is_one_warning_in_the_log(
    invoice, taken_slot, deliver, queued, fake, clock, caplog
):
    """The task logs an API error without a traceback and keeps the mark on the invoice."""
    deliver(invoice)
    fake.on("/invoices/list", bitsby.error("Account blocked"))

    with caplog.at_level(logging.WARNING, "oscar_bitsby"):
        assert "Account blocked" in tasks.look_into_delivery(invoice.pk)

    assert [(one.levelname, one.exc_info) for one in caplog.records] == [("WARNING", None)]
    assert BitsbyInvoice.objects.get().webhook_pending_since is not None


def test_task_of_a_deleted_invoice_is_no_error(fake):
    """A key without a row sends no request."""
    assert tasks.look_into_delivery(0) == "no such invoice"
    assert fake.requests == []


# The periodic task


def test_reconcile_runs_once_and_logs_the_report(order, paid_invoice, caplog):
    """The task settles as the command does, and logs its report."""
    with caplog.at_level(logging.INFO, "oscar_bitsby"):
        text = tasks.reconcile()

    assert "1 booked" in text
    assert f"run: {text}" in caplog.text
    assert status_of(order) == "Being processed"


def test_reconcile_is_skipped_while_another_run_is_in_progress(paid_invoice, fake, other_run):
    """While another run holds the lease, the task sends no request and says so."""
    assert tasks.reconcile() == "another run is in progress; this one was skipped"
    assert fake.requests == []


def test_failed_run_is_one_warning_in_the_log(order, paid_invoice, fake, caplog):
    """An API error is logged and returned, without a traceback."""
    fake.on("/payments/list", bitsby.error("Account blocked"))

    with caplog.at_level(logging.WARNING, "oscar_bitsby"):
        text = tasks.reconcile()

    assert "Account blocked" in text
    assert [(one.levelname, one.exc_info) for one in caplog.records] == [("WARNING", None)]


def test_tasks_have_their_documented_names(app):
    """Schedules use the names of the tasks, and results are not stored."""
    assert tasks.reconcile.name == "oscar_bitsby.tasks.reconcile"
    assert tasks.look_into_delivery.name == "oscar_bitsby.tasks.look_into_delivery"
    assert tasks.reconcile.ignore_result
    assert tasks.look_into_delivery.ignore_result


# Without Celery

WITHOUT_CELERY = """
import importlib, pkgutil, sys
sys.modules["celery"] = None
import django
django.setup()
import oscar_bitsby
from django.urls import reverse
reverse("oscar_bitsby:webhook")
for found in pkgutil.walk_packages(oscar_bitsby.__path__, "oscar_bitsby."):
    if found.name != "oscar_bitsby.tasks" and not found.name.endswith("__main__"):
        importlib.import_module(found.name)
print("oscar_bitsby.tasks" in sys.modules)
"""


def test_celery_is_not_imported_without_the_setting():
    """All modules except the tasks, and the URLs, work where Celery cannot be imported."""
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_CELERY],
        env=os.environ | {"DJANGO_SETTINGS_MODULE": "tests.settings"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "False\n"), done.stderr
