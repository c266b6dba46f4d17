"""Several machines on one PostgreSQL, whose clocks differ: the clock that counts is the database's.

Each machine is a process of its own whose clocks are put forward or back before Django is loaded.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import subprocess
import sys
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import pytest
from django.db import connection
from django.urls import reverse
from django.utils import timezone
from oscar.core.loading import get_model

from oscar_bitsby import reconciliation
from oscar_bitsby.exceptions import PaymentInProgress
from oscar_bitsby.facade import start_payment
from oscar_bitsby.models import BitsbyInvoice, GatewayState, WebhookDelivery
from oscar_bitsby.reconciliation import invoice_refresh
from oscar_bitsby.simulator.process import running_simulator
from oscar_bitsby.utils import clock as db_clock
from oscar_bitsby.utils.clock import db_now
from tests import bitsby

Order = get_model("order", "Order")
Transaction = get_model("payment", "Transaction")

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(
        "connection.vendor != 'postgresql'", reason="machines share a database server"
    ),
]

ROOT = Path(__file__).resolve().parent.parent
#: The real clock of the server, which other tests move together with Django's.
SERVER_TIME = db_clock._server_time
#: Seconds that a process may take; far more than is needed.
PATIENCE = 90

#: What one machine does at each word that it is sent.
MACHINE = """
import datetime as dt, sys, time
name, url, minutes = sys.argv[1:]

shift = float(minutes) * 60
real = time.time
time.time = lambda: real() + shift
from django.utils import timezone
timezone.now = lambda: dt.datetime.fromtimestamp(time.time(), dt.timezone.utc)

import django
from django.conf import settings
settings.DATABASES["default"]["NAME"] = name
settings.OSCAR_BITSBY = {**settings.OSCAR_BITSBY, "API_URL": url}
django.setup()

from django.db import connection
from django.urls import reverse
from django.utils import timezone
from oscar_bitsby import reconciliation
from oscar_bitsby.gateway import factory
from oscar_bitsby.models import BitsbyInvoice

def say(text):
    print(text, flush=True)

def held(text):
    say("running")
    sys.stdin.readline()

connection.ensure_connection()
say("ready")
for word in sys.stdin:
    if word == "ask\\n":
        client = factory.for_background()
        client.balances()
        say(client.requests)
    elif word == "refresh\\n":
        reconciliation.refresh(BitsbyInvoice.objects.get())
        say("refreshed")
    elif word == "hold\\n":
        say(reconciliation.reconcile(progress=held))
    else:
        say(reconciliation.reconcile())
"""


class Machine:
    """A process whose clock is ``minutes`` ahead of the database's, or behind it."""

    def __init__(self, url, minutes):
        name = connection.settings_dict["NAME"]
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        self.process = subprocess.Popen(
            [*(sys.executable, "-c", MACHINE), *(str(one) for one in (name, url, minutes))],
            env=os.environ | {"PYTHONPATH": path, "DJANGO_SETTINGS_MODULE": "tests.settings"},
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def send(self, word):
        self.process.stdin.write(f"{word}\n")
        self.process.stdin.flush()

    def says(self):
        return self.process.stdout.readline().rstrip("\n")


@contextmanager
def machines(url, *minutes):
    """Start machines with these clocks; they are ended by their own ids."""
    found = [Machine(url, one) for one in minutes]
    try:
        assert [one.says() for one in found] == ["ready"] * len(found)
        yield found
    finally:
        for one in found:
            one.process.kill()
            one.process.communicate(timeout=PATIENCE)


@pytest.fixture
def simulator(settings, real_time):
    with running_simulator(webhooks=False, token=bitsby.KEY) as simulator:
        settings.OSCAR_BITSBY = {
            **settings.OSCAR_BITSBY,
            "API_URL": simulator.url,
            "PAYMENT_HOSTS": ["127.0.0.1"],
        }
        yield simulator


@pytest.fixture
def paid(order, simulator):
    """An invoice that was paid at the simulator."""
    invoice = start_payment(order)
    simulator.control("pay", {"invoiceId": str(invoice.bitsby_id)})
    return invoice


def moments(simulator):
    requests = simulator.control("state")["requests"]
    assert all(request["accepted"] for request in requests)
    return [request["at"] for request in requests]


def assert_spaced(simulator):
    assert all(b - a >= 1.0 for a, b in pairwise(moments(simulator)))


def test_machines_with_different_clocks_keep_the_limit_together(simulator):
    """Requests arrive a second apart and none is refused or held up, whatever the clocks say."""
    with machines(simulator.url, -9, 0, 4, 9) as found:
        for _ in range(2):
            for one in found:
                one.send("ask")
            assert [one.says() for one in found] == ["1"] * 4

    at = moments(simulator)
    assert len(at) == 8
    assert_spaced(simulator)
    assert at[-1] - at[0] < PATIENCE / 2


@pytest.mark.parametrize("clocks", [(9, -9), (-9, 9)], ids=["first-ahead", "first-behind"])
def test_a_second_pass_stands_back_whatever_its_clock_says(paid, simulator, clocks):
    """While a pass runs on one machine, one on another says that it stands back; then it may."""
    with machines(simulator.url, *clocks) as (first, second):
        first.send("hold")
        assert first.says() == "running"
        second.send("pass")
        assert second.says() == "another run is in progress; this one was skipped"

        lines = []
        while not lines or lines[-1] == "running":
            first.send("go on")
            lines.append(first.says())
        assert "1 booked" in lines[-1]
        second.send("pass")
        assert "requests" in second.says()
    assert Transaction.objects.count() == 1


def test_machines_that_settle_at_once_book_once(paid, order, simulator):
    """Two passes and two looks at the same invoice in the same moment make one transaction."""
    with machines(simulator.url, -9, 9, -4, 4) as found:
        for one, word in zip(found, ["pass", "refresh", "pass", "refresh"], strict=True):
            one.send(word)
        said = [one.says() for one in found]

    assert sum("skipped" in text for text in said) <= 1
    assert Transaction.objects.count() == 1
    assert Order.objects.get().status == "Being processed"
    assert order.payment_events.count() == 1
    assert_spaced(simulator)


# What one machine stored and another compares


@pytest.fixture
def own_clock(monkeypatch):
    """Return a function that puts this machine's clock, and not the database's, ahead or back."""
    now = timezone.now
    monkeypatch.setattr(db_clock, "_server_time", SERVER_TIME)

    def put(minutes):
        ahead = dt.timedelta(minutes=minutes)
        monkeypatch.setattr("django.utils.timezone.now", lambda: now() + ahead)

    return put


def ago(**delta):
    return db_now() - dt.timedelta(**delta)


CLOCKS = pytest.mark.parametrize("minutes", [-9, 0, 9])


@CLOCKS
def test_db_now_is_the_time_of_the_database(own_clock, minutes):
    """However far this machine's clock is off, what it stores is the database's time."""
    real_now = timezone.now()
    own_clock(minutes)
    assert abs(db_now() - real_now) < dt.timedelta(seconds=5)


@CLOCKS
@pytest.mark.parametrize(("seconds", "asks"), [(2, False), (30, True)])
def test_what_another_machine_asked_about_is_asked_again_in_its_time(
    invoice, fake, own_clock, minutes, seconds, asks
):
    """The ten seconds between two looks for deliveries are ten for a machine that is off, too."""
    BitsbyInvoice.objects.update(last_refreshed_at=ago(seconds=seconds))
    own_clock(minutes)

    assert invoice_refresh.refresh_for_delivery(invoice) is asks
    assert bool(fake.requests) is asks


@CLOCKS
@pytest.mark.parametrize(("seconds", "kept"), [(2, 0), (30, 1)])
def test_of_a_flood_over_machines_one_row_is_kept(
    invoice, fake, client, own_clock, minutes, seconds, kept
):
    """Whether a delivery is stored does not depend on the machine that it comes to."""
    BitsbyInvoice.objects.update(last_delivery_stored_at=ago(seconds=seconds))
    own_clock(minutes)
    body = json.dumps({"invoice": {"id": str(invoice.bitsby_id)}})
    client.post(reverse("oscar_bitsby:webhook"), body, content_type="application/json")

    assert WebhookDelivery.objects.count() == kept


@CLOCKS
@pytest.mark.parametrize(("seconds", "given_up"), [(2, False), (60, True)])
def test_an_attempt_on_another_machine_is_given_up_in_its_time(
    order, invoice_for, fake, own_clock, minutes, seconds, given_up
):
    """Neither a pass nor a second click ends an invoice that is just being created elsewhere."""
    attempt = invoice_for(order, "creating", bitsby_id=None, created_at=ago(seconds=seconds))
    own_clock(minutes)

    reconciliation.reconcile()
    attempt.refresh_from_db()
    assert (attempt.status == "expired") is given_up
    if not given_up:
        with pytest.raises(PaymentInProgress):
            start_payment(order)


@CLOCKS
def test_an_attempt_is_dated_so_that_others_can_judge_it(order, fake, own_clock, minutes):
    """While Bitsby is asked, the committed attempt bears the database's time."""
    own_clock(minutes)
    off = []

    def answer(fields):
        off.append(abs(BitsbyInvoice.objects.get().created_at - db_now()))
        return fake.invoices_create(fields)

    fake.on("/invoices/create", answer)
    start_payment(order)

    assert off[0] < dt.timedelta(seconds=5)


@CLOCKS
@pytest.mark.parametrize(("passed", "status"), [(58, "Pending"), (62, "Cancelled")])
def test_an_order_is_cancelled_in_its_time(
    order, invoice_for, fake, own_clock, minutes, passed, status
):
    """With an hour's patience, a machine that is off gives up no order early, and none late."""
    ended = ago(minutes=passed)
    invoice = invoice_for(order, "expired", expires_at=ended, ended_at=ended)
    fake.invoices = [bitsby.invoice_item(invoice, "expired")]
    own_clock(minutes)

    reconciliation.reconcile()
    assert Order.objects.get().status == status


@CLOCKS
def test_one_far_look_a_day_is_enough_for_all(invoice, fake, own_clock, minutes):
    """A machine that is behind does not take the far look of another one for a future one."""
    GatewayState.ensure_exists()
    GatewayState.objects.update(last_full_sync_at=ago(minutes=1))
    BitsbyInvoice.objects.update(created_at=ago(days=20), expires_at=ago(days=-1))
    own_clock(minutes)

    reconciliation.reconcile()
    (asked,) = fake.asked("/payments/list")
    assert asked["startDate"] > str(ago(days=5).date())
