"""Test ``bitsby_export``: what it writes, where, and what is left after an error."""

import datetime as dt
import io
import os
import signal
import subprocess
import sys
from contextlib import contextmanager

import pytest
from django.core.management import CommandError, call_command

from oscar_bitsby.accounting import export_formats
from oscar_bitsby.management.commands import bitsby_export
from oscar_bitsby.utils.files import atomic_file
from tests.paths import ROOT
from tests.support.files import FullDisk
from tests.support.refunds import unbound_payment

pytestmark = pytest.mark.django_db

DAYS = ("--from", "2026-12-01", "--to", "2027-01-01")


class Terminal(io.StringIO):
    """A stream that is a terminal."""

    def isatty(self):
        return True


def run(*args, days=DAYS, terminal=False):
    out, err = (Terminal() if terminal else io.StringIO() for _ in range(2))
    call_command("bitsby_export", *days, *args, stdout=out, stderr=err, no_color=True)
    return out.getvalue(), err.getvalue()


def fail(order_numbers):
    raise LookupError("the books are closed")


@pytest.fixture
def payment():
    return unbound_payment(transaction_at=dt.datetime(2026, 12, 31, 23, tzinfo=dt.timezone.utc))


def test_file_has_the_same_export_as_standard_output(payment, tmp_path):
    """``-o`` writes what is printed without it, and leaves no other file behind."""
    path = tmp_path / "december.csv"

    assert run("-o", str(path)) == ("", "")
    printed, err = run()
    assert path.read_bytes().decode() == printed
    assert printed.splitlines()[1].startswith("2026-12-31T23:00:00Z,")
    assert err == ""
    assert os.listdir(tmp_path) == ["december.csv"]


def test_failed_export_leaves_the_old_file(configure, invoice, tmp_path):
    """After an error an earlier file is as it was, nothing is printed, and no piece is left."""
    configure(INVOICE_NUMBERS=f"{__name__}.fail")
    path = tmp_path / "invoices.csv"
    path.write_text("old")
    days = ("--from", "2000-01-01", "--to", "2200-01-01")

    for format_ in export_formats.FORMATS:
        with pytest.raises(CommandError, match="the books are closed"):
            run("--kind", "invoices", "--format", format_, "-o", str(path), days=days)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["invoices.csv"]
    out = io.StringIO()
    with pytest.raises(CommandError, match="the books are closed"):
        call_command("bitsby_export", *days, "--kind", "invoices", stdout=out)
    assert out.getvalue() == ""


@pytest.mark.parametrize("format_", export_formats.FORMATS)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_full_disk_is_an_error_and_leaves_the_old_file(payment, tmp_path, monkeypatch, format_):
    """The error says what is wrong; no piece of the new file is left."""
    path = tmp_path / "old"
    path.write_text("old")

    @contextmanager
    def full(name):
        with atomic_file(name) as file:
            yield FullDisk(file)

    monkeypatch.setattr(bitsby_export, "atomic_file", full)
    with pytest.raises(CommandError, match=r"cannot be written: .*No space left on device"):
        run("--format", format_, "-o", str(path))
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["old"]


def test_kill_while_a_file_is_written_leaves_the_old_one(tmp_path):
    """No process can catch SIGKILL: the file is replaced by its last step only."""
    path = tmp_path / "old"
    path.write_text("old")
    script = (
        "import os, signal, sys; from oscar_bitsby.utils.files import atomic_file\n"
        "with atomic_file(sys.argv[1]) as file:\n"
        "    file.write(b'new'); file.flush(); os.kill(os.getpid(), signal.SIGKILL)"
    )
    process = subprocess.run([sys.executable, "-c", script, str(path)], cwd=ROOT, check=False)
    assert process.returncode == -signal.SIGKILL
    assert path.read_text() == "old"


@pytest.mark.parametrize(
    ("days", "why"),
    [
        (("--from", "2026-12-01", "--to", "2026-13-01"), "'2026-13-01' is not a day"),
        (("--from", "2026-12-02", "--to", "2026-12-01"), "must be later than the start"),
        (("--from", "0001-01-01", "--to", "9999-12-31"), "from 2000-01-01 to 2200-01-01"),
        (("--from", "2026-12-01"), "--to"),
    ],
)
def test_bad_days_are_refused(days, why):
    """The error says what is wrong with the days."""
    with pytest.raises(CommandError, match=why):
        run(days=days)


def test_place_that_cannot_be_written_is_refused(tmp_path):
    """A directory, a device and a missing folder are errors, and a device is not replaced."""
    for path in (tmp_path, "/dev/null", tmp_path / "missing" / "x.csv"):
        with pytest.raises(CommandError, match="cannot be written"):
            run("-o", str(path))
    assert not os.path.isfile("/dev/null")


def test_xlsx_is_not_shown_on_a_terminal_and_needs_its_library(tmp_path, monkeypatch):
    """Both errors say what to do."""
    with pytest.raises(CommandError, match="add -o FILE"):
        run("--format", "xlsx", terminal=True)
    monkeypatch.setattr(export_formats, "has_xlsxwriter", lambda: False)
    with pytest.raises(CommandError, match=r"pip install 'django-oscar-bitsby\[export\]'"):
        run("--format", "xlsx", "-o", str(tmp_path / "x.xlsx"))
    assert os.listdir(tmp_path) == []


def test_terminal_shows_progress(payment, tmp_path):
    """A terminal shows a bar with the number of rows."""
    _, err = run("-o", str(tmp_path / "x.csv"), terminal=True)

    assert "1/1 [" in err
