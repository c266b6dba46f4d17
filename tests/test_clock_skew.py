"""Machines whose clocks differ share one PostgreSQL server, whose clock counts.

Each machine is a process of its own, whose clock is moved before Django is loaded.
"""

import datetime as dt
import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
from django.db import connection
from django.utils import timezone
from oscar.core.loading import get_model

from oscar_bitsby import reconciliation
from oscar_bitsby.choices import MailCode
from oscar_bitsby.exceptions import PaymentInProgress
from oscar_bitsby.facade import start_payment
from oscar_bitsby.mails import outbox, sender
from oscar_bitsby.models import BitsbyInvoice, BuyerMail, GatewayState, WebhookDelivery
from oscar_bitsby.reconciliation.report import RunReport
from oscar_bitsby.simulator.process import running_simulator
from oscar_bitsby.staff import binding, review
from oscar_bitsby.utils import clock as db_clock
from oscar_bitsby.utils.clock import db_now
from tests.support import bitsby
from tests.support.simulator import accepted_at, assert_spaced, gateway_settings, pay
from tests.support.staff import MAY_BIND, log_in, receive_payment

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
#: The most seconds that a process may take; far more than it needs.
MAX_WAIT = 90

#: What a run says that was skipped.
SKIPPED = str(RunReport(skipped=True))

#: The program of one machine: it obeys a command on each line that it is sent.
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

def on_progress(text):
    say("running")
    sys.stdin.readline()

connection.ensure_connection()
say("ready")
for command in sys.stdin:
    if command == "ask\\n":
        client = factory.for_background()
        client.balances()
        say(client.requests)
    elif command == "refresh\\n":
        reconciliation.refresh(BitsbyInvoice.objects.get())
        say("refreshed")
    elif command == "hold\\n":
        say(reconciliation.reconcile(progress=on_progress))
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

    def send(self, command):
        self.process.stdin.write(f"{command}\n")
        self.process.stdin.flush()

    def read_line(self):
        return self.process.stdout.readline().rstrip("\n")


@contextmanager
def machines(url, *minutes):
    """Start machines with these clocks, and kill them at the end."""
    started = [Machine(url, one) for one in minutes]
    try:
        assert [one.read_line() for one in started] == ["ready"] * len(started)
        yield started
    finally:
        for one in started:
            one.process.kill()
            one.process.communicate(timeout=MAX_WAIT)


@pytest.fixture
def simulator(configure, real_time):
    with running_simulator(webhooks=False, token=bitsby.KEY) as simulator:
        configure(**gateway_settings(simulator))
        yield simulator


@pytest.fixture
def paid_invoice(order, simulator):
    """An invoice that was paid at the simulator."""
    invoice = start_payment(order)
    pay(simulator, invoice)
    return invoice


def test_machines_with_different_clocks_keep_the_limit_together(simulator):
    """Requests arrive a second apart, and none is refused or delayed by a wrong clock."""
    with machines(simulator.url, -9, 0, 4, 9) as found:
        for _ in range(2):
            for one in found:
                one.send("ask")
            assert [one.read_line() for one in found] == ["1"] * 4

    times = accepted_at(simulator)
    assert len(times) == 8
    assert_spaced(simulator)
    assert times[-1] - times[0] < MAX_WAIT / 2


@pytest.mark.parametrize("clocks", [(9, -9), (-9, 9)], ids=["first-ahead", "first-behind"])
def test_second_run_is_skipped_whatever_its_clock(paid_invoice, simulator, clocks):
    """While one machine reconciles, another one skips its run; afterwards it reconciles."""
    with machines(simulator.url, *clocks) as (first, second):
        first.send("hold")
        assert first.read_line() == "running"
        second.send("run")
        assert second.read_line() == SKIPPED

        lines = []
        while not lines or lines[-1] == "running":
            first.send("go on")
            lines.append(first.read_line())
        assert "1 booked" in lines[-1]
        second.send("run")
        assert " request" in second.read_line()
    assert Transaction.objects.count() == 1


def test_machines_that_settle_at_once_book_once(paid_invoice, order, simulator):
    """Two runs and two refreshes of one invoice at the same moment make one transaction."""
    with machines(simulator.url, -9, 9, -4, 4) as found:
        for one, command in zip(found, ["run", "refresh", "run", "refresh"], strict=True):
            one.send(command)
        lines = [one.read_line() for one in found]

    assert sum(text == SKIPPED for text in lines) <= 1
    assert Transaction.objects.count() == 1
    assert Order.objects.get().status == "Being processed"
    assert order.payment_events.count() == 1
    assert_spaced(simulator)


# What one machine stored and another compares


@pytest.fixture
def move_own_clock(monkeypatch):
    """Return a function that moves this machine's clock and not the database's."""
    now = timezone.now
    monkeypatch.setattr(db_clock, "_server_time", SERVER_TIME)

    def move(minutes):
        ahead = dt.timedelta(minutes=minutes)
        monkeypatch.setattr("django.utils.timezone.now", lambda: now() + ahead)

    return move


def ago(**delta):
    return db_now() - dt.timedelta(**delta)


CLOCKS = pytest.mark.parametrize("minutes", [-9, 0, 9])


@CLOCKS
def test_shared_clock_is_the_clock_of_the_database(move_own_clock, minutes):
    """A machine with a wrong clock stores the database's time."""
    real_now = timezone.now()
    move_own_clock(minutes)
    assert abs(db_now() - real_now) < dt.timedelta(seconds=5)


@CLOCKS
@pytest.mark.parametrize(("seconds", "number"), [(2, 0), (30, 1)])
def test_flood_over_machines_causes_one_request_and_one_row(
    invoice, fake, deliver, move_own_clock, minutes, seconds, number
):
    """Ten seconds pass between two refreshes or stored deliveries, whatever the clocks."""
    moment = ago(seconds=seconds)
    BitsbyInvoice.objects.update(last_refreshed_at=moment, last_delivery_stored_at=moment)
    move_own_clock(minutes)
    deliver(invoice)

    assert len(fake.requests) == number
    assert WebhookDelivery.objects.count() == number


@CLOCKS
@pytest.mark.parametrize(("seconds", "is_expired"), [(2, False), (60, True)])
def test_attempt_of_another_machine_expires_in_its_time(
    order, invoice_for, fake, move_own_clock, minutes, seconds, is_expired
):
    """Neither a run nor a second click expires an attempt that another machine has just begun."""
    attempt = invoice_for(order, "creating", bitsby_id=None, created_at=ago(seconds=seconds))
    move_own_clock(minutes)

    reconciliation.reconcile()
    attempt.refresh_from_db()
    assert (attempt.status == "expired") is is_expired
    if not is_expired:
        with pytest.raises(PaymentInProgress):
            start_payment(order)


@CLOCKS
def test_attempt_has_the_time_of_the_database(order, fake, move_own_clock, minutes):
    """The attempt that is committed before the request has the database's time."""
    move_own_clock(minutes)
    differences = []

    def answer(fields):
        differences.append(abs(BitsbyInvoice.objects.get().created_at - db_now()))
        return fake.invoices_create(fields)

    fake.on("/invoices/create", answer)
    start_payment(order)

    assert differences[0] < dt.timedelta(seconds=5)


@CLOCKS
@pytest.mark.parametrize(("passed", "status"), [(58, "Pending"), (62, "Cancelled")])
def test_order_is_cancelled_in_its_time(
    order, invoice_for, fake, move_own_clock, minutes, passed, status
):
    """A machine with a wrong clock cancels an order neither early nor late."""
    expired = ago(minutes=passed)
    invoice = invoice_for(order, "expired", expires_at=expired, ended_at=expired)
    fake.invoices = [bitsby.invoice_item(invoice, "expired")]
    move_own_clock(minutes)

    reconciliation.reconcile()
    assert Order.objects.get().status == status


@CLOCKS
@pytest.mark.parametrize(("minutes_ago", "is_given_up"), [(13, False), (17, True)])
def test_mail_that_another_machine_is_sending_is_given_up_in_its_time(
    order, move_own_clock, minutes, minutes_ago, is_given_up
):
    """A mail counts as interrupted after a quarter of an hour, whatever the machine's clock."""
    outbox.enqueue(MailCode.PLACED, order)
    BuyerMail.objects.update(status="sending", sending_since=ago(minutes=minutes_ago))
    move_own_clock(minutes)

    sender.send_pending()

    assert (BuyerMail.objects.get().status == "failed") is is_given_up


@CLOCKS
def test_new_mail_is_sent_by_any_machine_at_once(order, move_own_clock, minutes):
    """A mail that one machine enqueues is due on another one, whatever its clock."""
    move_own_clock(minutes)
    outbox.enqueue(MailCode.PLACED, order)
    move_own_clock(-minutes)

    assert sender.send_pending() == 1


@CLOCKS
def test_mail_has_the_database_time_of_its_tries(order, settings, move_own_clock, minutes):
    """When sending began, and when it is tried again, is stored in the database's time."""
    settings.EMAIL_BACKEND = "tests.checkout.mail_backends.Refusing"
    outbox.enqueue(MailCode.PLACED, order)
    BuyerMail.objects.update(tries=1)
    move_own_clock(minutes)

    sender.send_pending()

    mail = BuyerMail.objects.get()
    assert (mail.status, mail.tries) == ("waiting", 2)
    assert abs(mail.sending_since - db_now()) < dt.timedelta(seconds=5)
    in_ten_minutes = db_now() + dt.timedelta(minutes=10)
    assert abs(mail.try_after - in_ten_minutes) < dt.timedelta(seconds=5)


@CLOCKS
def test_decision_has_the_time_of_the_database(invoice, fake, move_own_clock, minutes):
    """A dismissal, and the end of the invoice that it frees, are in the database's time."""
    payment = receive_payment(fake, invoice, amountFiat="8.00")
    staff = log_in("staff", *MAY_BIND)
    move_own_clock(minutes)

    review.dismiss(payment.pk, staff.user, "refunded")

    payment.refresh_from_db()
    invoice.refresh_from_db()
    assert invoice.status == "canceled"
    for moment in (payment.resolved_at, invoice.ended_at):
        assert abs(moment - db_now()) < dt.timedelta(seconds=5)


@CLOCKS
def test_binding_has_the_time_of_the_database(invoice, fake, move_own_clock, minutes):
    """The mark that lets the next run fetch the invoice is in the database's time."""
    staff = log_in("staff", *MAY_BIND)
    fake.on("/invoices/bindPayment", bitsby.error("Blocked"))
    fake.on("/invoices/list", bitsby.error("Blocked"))
    move_own_clock(minutes)

    binding.bind(invoice, bitsby.new_id(), staff.user)
    binding.refresh_payments(invoice.order)

    invoice.refresh_from_db()
    assert abs(invoice.webhook_pending_since - db_now()) < dt.timedelta(seconds=5)
    fetched_at = GatewayState.objects.get().payments_fetched_at
    assert abs(fetched_at - db_now()) < dt.timedelta(seconds=5)


@CLOCKS
def test_machines_share_one_full_sync_a_day(invoice, fake, move_own_clock, minutes):
    """A machine whose clock is behind accepts the full sync of another one."""
    GatewayState.ensure_exists()
    GatewayState.objects.update(last_full_sync_at=ago(minutes=1))
    BitsbyInvoice.objects.update(created_at=ago(days=20), expires_at=ago(days=-1))
    move_own_clock(minutes)

    reconciliation.reconcile()
    (asked,) = fake.asked("/payments/list")
    assert asked["startDate"] > str(ago(days=5).date())
