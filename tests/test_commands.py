"""Test ``bitsby_reconcile``: one run or a loop, on a terminal and for cron."""

import io
import signal
import threading
from datetime import timedelta
from types import SimpleNamespace

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone
from oscar.core.loading import get_model

from oscar_bitsby.models import BitsbyInvoice, GatewayState
from tests.support import bitsby
from tests.support.settling import status_of

Transaction = get_model("payment", "Transaction")

pytestmark = pytest.mark.django_db

COMMAND = "oscar_bitsby.management.commands.bitsby_reconcile"


class Terminal(io.StringIO):
    """A stream that is a terminal."""

    def isatty(self):
        return True


def run(*args, stream=io.StringIO):
    out, err = stream(), io.StringIO()
    call_command("bitsby_reconcile", *args, stdout=out, stderr=err, no_color=True)
    return out.getvalue(), err.getvalue()


@pytest.fixture
def loop_runs(monkeypatch):
    """Return a function that lets ``--loop`` run a number of times without waiting.

    The function returns the pauses. The signal handlers are restored afterwards.
    """
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    pauses = []

    def allow(count, then=lambda number: None):
        class Stopped:
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
            Event=Stopped,
            current_thread=threading.current_thread,
            main_thread=threading.main_thread,
        )
        monkeypatch.setattr(f"{COMMAND}.threading", stand_in)
        return pauses

    yield allow
    for number, handler in before.items():
        signal.signal(number, handler)


def test_one_run_settles_and_prints_the_report(order, paid_invoice):
    """Without options it runs once and prints one line, without progress to a file."""
    out, err = run()

    assert out == (
        "1 request, 1 payment seen: 1 booked, 0 to review, 0 invoices expired or cancelled,"
        " 0 orders cancelled, 0 failures, 1 e-mail sent\n"
    )
    assert err == ""
    assert status_of(order) == "Being processed"


def test_dry_run_prints_a_report_and_changes_nothing(order, paid_invoice):
    """``--dry-run`` reports what a run would do."""
    out, _ = run("--dry-run")

    assert out.startswith("would do: ")
    assert "1 booked" in out
    assert not Transaction.objects.exists()
    assert status_of(order) == "Pending"


def test_dry_run_names_what_would_be_done_to_which_order(
    place, invoice_for, fake, configure, move_time
):
    """Each order and each unbound payment once, with what a run would do."""
    configure(CANCEL_AFTER=timedelta(minutes=30))
    paid, overdue, unpaid = place(), place(), place()
    fake.add_paid(invoice_for(paid))
    invoices = [invoice_for(overdue), invoice_for(unpaid)]
    ended = timezone.now() - timedelta(hours=1)
    BitsbyInvoice.objects.filter(order=overdue).update(expires_at=timezone.now())
    BitsbyInvoice.objects.filter(order=unpaid).update(
        status="expired", ended_at=ended, order_awaits_payment=True
    )
    fake.invoices += [bitsby.invoice_item(row, "expired") for row in invoices]
    unbound = bitsby.payment_item(bitsby.transfer("3.00000000"))
    fake.payments.append(unbound)

    out, _ = run("--dry-run")

    assert set(out.splitlines()[1:]) == {
        f"  order {paid.number}: mark the invoice paid, book the money,"
        " move the order to the paid status",
        f"  order {overdue.number}: mark the invoice expired",
        f"  order {unpaid.number}: cancel the order",
        f"  payment {unbound['id']}: add it to the payments to review (unmatched)",
    }
    assert len(out.splitlines()) == 5


def test_dry_run_names_a_bounded_number_of_orders(paid_invoice, fake, monkeypatch):
    """A long list ends with a line that says so; the numbers count all."""
    monkeypatch.setattr("oscar_bitsby.reconciliation.report.MAX_PLANNED", 2)
    fake.payments += [bitsby.payment_item() for _ in range(3)]

    out, _ = run("--dry-run")

    assert len(out.splitlines()) == 4
    assert out.endswith("\n  and more\n")
    assert "4 payments seen: 1 booked, 3 to review" in out


def test_api_error_is_a_command_error(paid_invoice, fake):
    """The error says what failed and that nothing is lost, without a key in the answer."""
    fake.on("/payments/list", bitsby.error(f"{bitsby.KEY} blocked"))

    with pytest.raises(CommandError, match=r" blocked\. Nothing is lost: run it again\.") as raised:
        run()
    assert bitsby.KEY not in str(raised.value)


@pytest.mark.parametrize("value", [None, {"API_KEY": bitsby.KEY}])
def test_error_names_the_missing_settings(settings, value):
    """The error for missing settings names ``OSCAR_BITSBY`` and does not contain the key."""
    settings.OSCAR_BITSBY = value

    with pytest.raises(CommandError, match="OSCAR_BITSBY") as raised:
        run()
    assert bitsby.KEY not in str(raised.value)


def test_skipped_run_is_no_error(paid_invoice, other_run):
    """While another run is in progress, the command says that it was skipped."""
    out, _ = run()

    assert out == "another run is in progress; this one was skipped\n"


def test_terminal_shows_progress(paid_invoice):
    """On a terminal one line shows the current step, and it is cleared after the run."""
    out, _ = run(stream=Terminal)

    assert "full sync of payments" in out
    assert "1 payment on 1 page" in out
    cleared, _, report = out.rpartition("\r\033[K")
    assert cleared
    assert "1 booked" in report


@pytest.mark.django_db(transaction=True)
def test_loop_runs_with_a_pause_between_runs(order, paid_invoice, loop_runs):
    """``--loop`` runs again and again, with its pause between runs."""
    pauses = loop_runs(3)

    out, err = run("--loop", "7.5")

    assert len(out.splitlines()) == 3
    assert (err, pauses) == ("", [7.5, 7.5, 7.5])
    assert Transaction.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_loop_continues_after_an_api_error(order, paid_invoice, fake, loop_runs):
    """An API error is written to stderr, and the next run settles."""
    fake.on("/payments/list", bitsby.error("Account blocked"))
    loop_runs(2, lambda number: fake.on("/payments/list", fake.payments_list))

    out, err = run("--loop", "1")

    assert "Account blocked. The next run tries again." in err
    assert "1 booked" in out
    assert status_of(order) == "Being processed"


@pytest.mark.django_db(transaction=True)
def test_loop_continues_after_an_unexpected_error(
    order, paid_invoice, loop_runs, monkeypatch, caplog
):
    """A bug, or a restart of the database, is logged, and the loop continues."""
    failures = iter([RuntimeError("the database restarts")])
    create = GatewayState.ensure_exists

    def fail_once():
        for failure in failures:
            raise failure
        create()

    monkeypatch.setattr(GatewayState, "ensure_exists", fail_once)
    loop_runs(2)

    out, _ = run("--loop", "1")

    assert "the database restarts" in caplog.text
    assert "1 booked" in out


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_loop_stops_on_sigterm_and_sigint(paid_invoice, loop_runs, number):
    """SIGTERM and Ctrl-C stop the loop after the current run, without a traceback."""
    pauses = loop_runs(50, lambda count: signal.raise_signal(number) if count == 2 else None)

    out, err = run("--loop", "1")

    assert len(pauses) == 2
    assert len(out.splitlines()) == 2
    assert err == ""


@pytest.mark.django_db(transaction=True)
def test_loop_works_outside_the_main_thread(paid_invoice, loop_runs):
    """Outside the main thread, where signals cannot be handled, the loop works too."""
    loop_runs(1)
    before = signal.getsignal(signal.SIGTERM)
    stand_in = __import__(COMMAND, fromlist=["threading"]).threading
    stand_in.main_thread = lambda: None

    out, _ = run("--loop", "1")

    assert "1 booked" in out
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize("pause", ["0", "-5"])
def test_loop_without_a_positive_pause_is_refused(paid_invoice, fake, pause):
    """A pause of zero or less is an error."""
    with pytest.raises(CommandError, match="above zero"):
        run(f"--loop={pause}")
    assert fake.requests == []


def test_shop_without_invoices_sends_no_request(fake, db):
    """A run in a new shop sends no request."""
    out, _ = run()

    assert out.startswith("0 requests")
    assert not BitsbyInvoice.objects.exists()
