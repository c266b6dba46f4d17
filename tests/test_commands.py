"""``bitsby_reconcile``: one pass or many, with words for people and for cron."""

from __future__ import annotations

import io
import signal
import threading
from types import SimpleNamespace

import pytest
from django.core.management import CommandError, call_command
from oscar.core.loading import get_model

from oscar_bitsby.models import BitsbyInvoice, GatewayState
from oscar_bitsby.reconciliation.lease import LEASE_DURATION
from oscar_bitsby.utils.clock import db_now
from tests import bitsby

Order = get_model("order", "Order")
Transaction = get_model("payment", "Transaction")

pytestmark = pytest.mark.django_db

COMMAND = "oscar_bitsby.management.commands.bitsby_reconcile"


class Terminal(io.StringIO):
    """A stream that somebody watches."""

    def isatty(self):
        return True


def run(*args, stream=io.StringIO):
    out, err = stream(), io.StringIO()
    call_command("bitsby_reconcile", *args, stdout=out, stderr=err, no_color=True)
    return out.getvalue(), err.getvalue()


@pytest.fixture
def paid(invoice, fake):
    """An invoice that Bitsby calls paid."""
    fake.payments = [bitsby.payment_item(invoice=bitsby.invoice_item(invoice, "paid"))]
    return invoice


@pytest.fixture
def passes(monkeypatch):
    """Let ``--loop`` make a number of passes without waiting; returns the pauses it made.

    The handlers of signals are those of the tests again afterwards.
    """
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    pauses = []

    def allow(count, then=lambda number: None):
        class Ended:
            is_over = False

            def is_set(self):
                return self.is_over

            def set(self):
                self.is_over = True

            def wait(self, seconds):
                pauses.append(seconds)
                then(len(pauses))
                if len(pauses) >= count:
                    self.set()

        stand_in = SimpleNamespace(
            Event=Ended,
            current_thread=threading.current_thread,
            main_thread=threading.main_thread,
        )
        monkeypatch.setattr(f"{COMMAND}.threading", stand_in)
        return pauses

    yield allow
    for number, handler in before.items():
        signal.signal(number, handler)


def test_one_pass_settles_and_reports(order, paid):
    """Without options it makes one pass and says in one line what came of it."""
    out, err = run()

    assert out == (
        "1 requests, 1 payments seen: 1 booked, 0 to review, 0 invoices expired or cancelled,"
        " 0 orders cancelled, 0 failures, 1 e-mails sent\n"
    )
    assert err == ""
    order.refresh_from_db()
    assert order.status == "Being processed"


def test_a_dry_run_says_so_and_changes_nothing(order, paid):
    """``--dry-run`` reports what it would do."""
    out, _ = run("--dry-run")

    assert out.startswith("would do: ")
    assert "1 booked" in out
    assert not Transaction.objects.exists()
    order.refresh_from_db()
    assert order.status == "Pending"


def test_an_error_ends_with_a_message_and_no_traceback(order, paid, fake):
    """Cron gets a ``CommandError`` that says what failed, and that nothing is lost."""
    fake.on("/payments/list", bitsby.error("Account blocked"))

    with pytest.raises(CommandError, match=r"Account blocked\. Nothing is lost: run it again\."):
        run()


@pytest.mark.parametrize("value", [None, {"API_KEY": bitsby.KEY}])
def test_wrong_settings_are_named(settings, value):
    """A shop that is not configured is told what is missing, without the key."""
    settings.OSCAR_BITSBY = value

    with pytest.raises(CommandError, match="OSCAR_BITSBY") as raised:
        run()
    assert bitsby.KEY not in str(raised.value)


def test_the_key_is_in_no_message(paid, fake):
    """An answer that repeats the key does not bring it into cron's mail."""
    fake.on("/payments/list", bitsby.error(f"Unknown key {bitsby.KEY}"))

    with pytest.raises(CommandError) as raised:
        run()
    assert bitsby.KEY not in str(raised.value)


def test_standing_back_is_no_error(paid):
    """Beside another pass it ends well and says why it did nothing."""
    GatewayState.ensure_exists()
    GatewayState.objects.update(lease_until=db_now() + LEASE_DURATION, lease_token="another")

    out, _ = run()

    assert out == "another run is in progress; this one was skipped\n"


def test_progress_is_shown_where_somebody_watches(paid):
    """On a terminal one line says what is being done; it is gone when the pass is over."""
    out, _ = run(stream=Terminal)

    assert "full sync of payments" in out
    assert "1 payments on 1 pages" in out
    cleared, _, report = out.rpartition("\r\033[K")
    assert cleared
    assert "1 booked" in report


def test_a_log_file_gets_no_progress(paid):
    """What nobody watches gets plain lines."""
    out, _ = run()

    assert "\r" not in out
    assert "far look" not in out


@pytest.mark.django_db(transaction=True)
def test_the_loop_makes_pass_after_pass(order, paid, passes):
    """``--loop`` goes on, with its pause between passes."""
    pauses = passes(3)

    out, err = run("--loop", "7.5")

    assert len(out.splitlines()) == 3
    assert (err, pauses) == ("", [7.5, 7.5, 7.5])
    assert Transaction.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_the_loop_outlives_bitsbys_errors(order, paid, fake, passes):
    """A pass that Bitsby fails is told on stderr; the next one settles."""
    fake.on("/payments/list", bitsby.error("Account blocked"))
    passes(2, lambda number: fake.on("/payments/list", fake.payments_list))

    out, err = run("--loop", "1")

    assert "Account blocked. The next run tries again." in err
    assert "1 booked" in out
    assert Order.objects.get().status == "Being processed"


@pytest.mark.django_db(transaction=True)
def test_the_loop_outlives_our_own_errors(order, paid, passes, monkeypatch, caplog):
    """A bug, or a database that restarts, is logged; the loop goes on."""
    failures = iter([RuntimeError("the database restarts")])
    create = GatewayState.ensure_exists

    def fail_once():
        for failure in failures:
            raise failure
        create()

    monkeypatch.setattr(GatewayState, "ensure_exists", fail_once)
    passes(2)

    out, _ = run("--loop", "1")

    assert "the database restarts" in caplog.text
    assert "1 booked" in out


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_loop_ends_by_a_signal(paid, passes, number):
    """SIGTERM and Ctrl-C end the loop after its pass, without a traceback."""
    pauses = passes(50, lambda count: signal.raise_signal(number) if count == 2 else None)

    out, err = run("--loop", "1")

    assert len(pauses) == 2
    assert len(out.splitlines()) == 2
    assert err == ""


@pytest.mark.django_db(transaction=True)
def test_the_loop_runs_beside_other_threads(paid, passes):
    """Outside of the main thread, where signals cannot be caught, the loop works as well."""
    passes(1)
    before = signal.getsignal(signal.SIGTERM)
    stand_in = __import__(COMMAND, fromlist=["threading"]).threading
    stand_in.main_thread = lambda: None

    out, _ = run("--loop", "1")

    assert "1 booked" in out
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize("pause", ["0", "-5"])
def test_a_loop_without_a_pause_is_refused(paid, fake, pause):
    """A loop that would ask without end is an error."""
    with pytest.raises(CommandError, match="above zero"):
        run(f"--loop={pause}")
    assert fake.requests == []


def test_a_shop_without_invoices_asks_nothing(fake, db):
    """A fresh shop's cron job costs no request."""
    out, _ = run()

    assert out.startswith("0 requests")
    assert not BitsbyInvoice.objects.exists()
