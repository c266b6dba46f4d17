"""Celery: a delivery that cannot be settled at once is handed to a worker, and nothing hangs on
it: without Celery, broker or worker the next pass does the same."""

from __future__ import annotations

import json
import logging
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from django.db import connections
from django.urls import reverse
from oscar.core.loading import get_model

from oscar_bitsby import reconciliation
from oscar_bitsby.exceptions import RateLimitTimeout
from oscar_bitsby.gateway.rate_limit import acquire
from oscar_bitsby.models import BitsbyInvoice, GatewayState
from oscar_bitsby.reconciliation.lease import LEASE_DURATION
from oscar_bitsby.utils.clock import db_now
from tests import bitsby

celery = pytest.importorskip("celery", reason="the package celery is not installed")

from oscar_bitsby import tasks  # noqa: E402  # imports Celery

Order = get_model("order", "Order")
Transaction = get_model("payment", "Transaction")

pytestmark = pytest.mark.django_db(transaction=True)

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def app():
    """A Celery app without a broker; the one that tests before had is back afterwards."""
    before = celery.current_app._get_current_object()
    app = celery.Celery("shop", broker="memory://", set_as_current=True)
    yield app
    before.set_current()


@pytest.fixture(autouse=True)
def is_on(settings):
    settings.OSCAR_BITSBY = {**settings.OSCAR_BITSBY, "CELERY": True}


@pytest.fixture
def queued(monkeypatch):
    """What was queued: the arguments of each call."""
    calls = []
    monkeypatch.setattr(
        celery.Task, "apply_async", lambda task, args, **options: calls.append((args, options))
    )
    return calls


@pytest.fixture
def deliver(client):
    """Return a function that posts a delivery about an invoice."""

    def post(invoice):
        body = json.dumps({"invoice": {"id": str(invoice.bitsby_id)}})
        path = reverse("oscar_bitsby:webhook")
        return client.post(path, body, content_type="application/json")

    return post


@pytest.fixture
def paid(invoice, fake):
    """An invoice that Bitsby calls paid."""
    payment = bitsby.transfer()
    remote = bitsby.invoice_item(invoice, "paid", payment=payment)
    fake.invoices, fake.payments = [remote], [bitsby.payment_item(payment, remote)]
    return invoice


def take_slot():
    """Let another process send a request right now."""
    GatewayState.ensure_exists()
    acquire(0)


def status_of(order):
    return Order.objects.get(pk=order.pk).status


# The webhook


def test_a_delivery_that_finds_no_slot_is_handed_to_a_worker(order, paid, deliver, queued, clock):
    """It is answered 503 at once, one task is queued to begin at once, and that task settles."""
    take_slot()

    assert deliver(paid).status_code == 503
    assert clock.slept == 0
    ((args, options),) = queued
    assert (options["countdown"], options["retry"]) == (None, False)

    assert tasks.look_into_delivery(*args) == "asked"
    assert status_of(order) == "Being processed"
    assert BitsbyInvoice.objects.get().webhook_pending_since is None


def test_a_delivery_before_bitsby_calls_it_paid_is_looked_into_ten_seconds_later(
    order, invoice, deliver, queued, fake, clock, move_time
):
    """The worker asks when it may be asked about again, and settles it then."""
    fake.invoices = [bitsby.invoice_item(invoice)]

    assert deliver(invoice).status_code == 503
    ((args, options),) = queued
    assert 9 < options["countdown"] <= 10

    fake.invoices = [bitsby.invoice_item(invoice, "paid", payment=bitsby.transfer())]
    move_time(seconds=10)
    assert tasks.look_into_delivery(*args) == "asked"
    assert status_of(order) == "Being processed"


def test_a_delivery_whose_look_failed_is_handed_on(invoice, deliver, queued, fake):
    """Bitsby's failure is a 503 as ever, and a worker tries again."""
    fake.on("/invoices/list", ConnectionError("down"))

    assert deliver(invoice).status_code == 503
    assert [args for args, _ in queued] == [(invoice.pk,)]


def test_what_is_settled_at_once_is_not_queued(paid, deliver, queued):
    """A delivery that settles, and each that comes after it, needs no worker."""
    assert {deliver(paid).status_code for _ in range(3)} == {200}
    assert queued == []


def test_a_flood_queues_one_task_in_ten_seconds(invoice, deliver, queued, fake, clock, move_time):
    """Deliveries about one invoice, however many, keep workers busy once in ten seconds."""
    fake.invoices = [bitsby.invoice_item(invoice)]
    for _ in range(19):
        assert deliver(invoice).status_code == 503
        move_time(milliseconds=500)
        clock.sleep(0.5)
    assert len(queued) == 1

    move_time(seconds=1)
    deliver(invoice)
    assert len(queued) == 2


def test_with_the_setting_off_nothing_is_queued(invoice, deliver, queued, fake, settings):
    """Without ``CELERY`` the delivery waits for Bitsby to come again, or for the next pass."""
    settings.OSCAR_BITSBY = {**settings.OSCAR_BITSBY, "CELERY": False}
    fake.invoices = [bitsby.invoice_item(invoice)]

    assert deliver(invoice).status_code == 503
    assert queued == []


@pytest.mark.parametrize("is_atomic", [False, True])
def test_it_is_queued_after_commit(invoice, deliver, fake, monkeypatch, is_atomic):
    """When a worker is told, no transaction is open that could hide the note from it."""
    monkeypatch.setitem(connections.settings["default"], "ATOMIC_REQUESTS", is_atomic)
    monkeypatch.setitem(connections["default"].settings_dict, "ATOMIC_REQUESTS", is_atomic)
    fake.invoices = [bitsby.invoice_item(invoice)]
    seen = []

    def note(task, args, **options):
        flagged = BitsbyInvoice.objects.get().webhook_pending_since is not None
        seen.append((connections["default"].in_atomic_block, flagged))

    monkeypatch.setattr(celery.Task, "apply_async", note)
    deliver(invoice)

    assert seen == [(False, True)]


def test_a_broker_that_is_away_breaks_and_delays_nothing(
    order, paid, deliver, app, caplog, monkeypatch, real_time
):
    """A refused connection: 503 without retries, one warning, and the next pass settles."""
    pytest.importorskip("redis", reason="the package redis is not installed")
    pauses = []
    monkeypatch.setattr("kombu.utils.functional.sleep", pauses.append)
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        app.conf.broker_url = f"redis://:the-password@127.0.0.1:{nobody.getsockname()[1]}/0"
        take_slot()
        with caplog.at_level(logging.WARNING):
            assert deliver(paid).status_code == 503

    assert pauses == []
    ours = [one for one in caplog.records if one.name.startswith("oscar_bitsby")]
    assert [(one.levelname, one.exc_info) for one in ours] == [("WARNING", None)]
    assert "refresh not queued" in ours[0].getMessage()
    assert "the-password" not in caplog.text
    reconciliation.reconcile()
    assert status_of(order) == "Being processed"


def test_a_task_that_is_lost_costs_nothing(order, paid, deliver, queued, clock):
    """No worker ever comes: the note is still there, and the next pass settles it."""
    take_slot()
    deliver(paid)
    assert len(queued) == 1

    reconciliation.reconcile()
    assert status_of(order) == "Being processed"


# The task of a delivery


def test_a_worker_waits_in_line_for_a_slot(order, paid, deliver, queued, clock):
    """Where the webhook gives up at once, the worker waits, and is behind no later slot."""
    take_slot()
    deliver(paid)

    tasks.look_into_delivery(paid.pk)

    assert 0 < clock.slept < 3
    assert status_of(order) == "Being processed"


def test_a_task_for_what_is_settled_asks_nothing(paid, deliver, queued, fake, clock):
    """A pass was quicker: the task that comes after it costs no request."""
    take_slot()
    deliver(paid)
    reconciliation.reconcile()
    fake.requests.clear()

    assert tasks.look_into_delivery(paid.pk).startswith("not asked")
    assert fake.requests == []


def test_a_task_given_twice_asks_once(invoice, deliver, queued, fake, clock):
    """A broker that delivers a task twice costs one request, as long as Bitsby says "unpaid"."""
    fake.invoices = [bitsby.invoice_item(invoice)]
    take_slot()
    deliver(invoice)

    results = [tasks.look_into_delivery(invoice.pk) for _ in range(3)]

    assert [text == "asked" for text in results] == [True, False, False]
    assert len(fake.requests) == 1


def test_the_note_stays_until_a_look_decides(order, invoice, deliver, queued, fake, clock):
    """A worker that hears "unpaid" leaves the note, and the next pass asks a last time."""
    fake.invoices = [bitsby.invoice_item(invoice)]
    take_slot()
    deliver(invoice)
    tasks.look_into_delivery(invoice.pk)
    assert BitsbyInvoice.objects.get().webhook_pending_since is not None

    fake.invoices = [bitsby.invoice_item(invoice, "paid", payment=bitsby.transfer())]
    reconciliation.reconcile()
    assert status_of(order) == "Being processed"


def test_tasks_of_a_burst_share_a_look(place, invoice_for, deliver, queued, fake, clock):
    """Thirty invoices paid at once cost one request of the webhook and one of the workers."""
    invoices = [invoice_for(place()) for _ in range(30)]
    for row in invoices:
        payment = bitsby.transfer()
        remote = bitsby.invoice_item(row, "paid", payment=payment)
        fake.invoices.append(remote)
        fake.payments.append(bitsby.payment_item(payment, remote))
    for row in invoices:
        deliver(row)
    for args, _ in queued:
        tasks.look_into_delivery(*args)

    assert len(queued) == 29
    assert len(fake.requests) == 2
    assert Transaction.objects.count() == 30


def test_without_a_slot_in_time_the_invoice_may_be_asked_about_at_once(
    invoice, deliver, queued, fake, monkeypatch, clock
):
    """A worker that waited in vain has used up nothing: the next one may ask."""
    take_slot()
    deliver(invoice)

    def none_free(*args, **options):
        raise RateLimitTimeout("busy")

    with monkeypatch.context() as patch:
        patch.setattr("oscar_bitsby.gateway.factory.acquire", none_free)
        assert tasks.look_into_delivery(invoice.pk).startswith("not asked")
    fake.invoices = [bitsby.invoice_item(invoice, "paid", payment=bitsby.transfer())]

    assert tasks.look_into_delivery(invoice.pk) == "asked"
    assert BitsbyInvoice.objects.get().status == "paid"


def test_bitsbys_failure_is_a_line_in_the_log(invoice, deliver, queued, fake, clock, caplog):
    """The task ends well: a failing API fills no worker's log with traces, and the note stays."""
    take_slot()
    deliver(invoice)
    fake.on("/invoices/list", bitsby.error("Account blocked"))

    with caplog.at_level(logging.WARNING, "oscar_bitsby"):
        assert "Account blocked" in tasks.look_into_delivery(invoice.pk)

    assert [(one.levelname, one.exc_info) for one in caplog.records] == [("WARNING", None)]
    assert BitsbyInvoice.objects.get().webhook_pending_since is not None


def test_a_task_for_an_invoice_that_is_gone_ends_well(fake):
    """A key without a row is no error."""
    assert tasks.look_into_delivery(0) == "no such invoice"
    assert fake.requests == []


# The periodic task


def test_reconcile_makes_a_pass_and_tells_of_it(order, paid, caplog):
    """The task settles as the command does, and its line is in the log."""
    with caplog.at_level(logging.INFO, "oscar_bitsby"):
        text = tasks.reconcile()

    assert "1 booked" in text
    assert f"run: {text}" in caplog.text
    assert status_of(order) == "Being processed"


def test_a_second_reconcile_stands_back(order, paid, fake):
    """While a pass runs elsewhere, the task says so and asks nothing."""
    GatewayState.ensure_exists()
    GatewayState.objects.update(lease_until=db_now() + LEASE_DURATION, lease_token="another")

    assert tasks.reconcile() == "another run is in progress; this one was skipped"
    assert fake.requests == []


def test_a_pass_that_breaks_off_is_a_line_in_the_log(order, paid, fake, caplog):
    """Bitsby's failure ends the task with words, not with a trace."""
    fake.on("/payments/list", bitsby.error("Account blocked"))

    with caplog.at_level(logging.WARNING, "oscar_bitsby"):
        text = tasks.reconcile()

    assert "Account blocked" in text
    assert [(one.levelname, one.exc_info) for one in caplog.records] == [("WARNING", None)]


def test_the_tasks_have_their_documented_names(app):
    """Schedules name tasks by text, so the names are promises; results are kept nowhere."""
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


def test_without_the_setting_celery_is_never_imported():
    """All modules but the tasks, and the URLs, work where Celery cannot be imported."""
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
