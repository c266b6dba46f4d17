"""Test ``bitsby_audit`` and the task ``audit``: output, exit status, record and alert."""

import datetime as dt
import io
import json

import pytest
import requests
from django.core.management import CommandError, call_command

from oscar_bitsby import tasks
from oscar_bitsby.choices import AlertCode, AuditState
from oscar_bitsby.models import AuditRun, BitsbyPayment, MerchantAlert
from oscar_bitsby.reconciliation.audit import audit
from oscar_bitsby.reconciliation.audit_lists import AuditTakenOver
from tests.support import bitsby
from tests.support.refunds import book_payment

pytestmark = pytest.mark.django_db


@pytest.fixture
def books(invoice, fake):
    """A booked payment that Bitsby lists."""
    payment = book_payment(invoice)
    transfer = bitsby.transfer(
        id=str(payment.bitsby_id),
        hash=payment.hash,
        transactionDatetime=bitsby.written(payment.transaction_at),
    )
    remote = bitsby.invoice_item(invoice, "paid", payment=transfer)
    fake.invoices, fake.payments = [remote], [bitsby.payment_item(transfer, remote)]
    return payment


@pytest.fixture
def different_books(books):
    """The same with another hash in the shop's row."""
    BitsbyPayment.objects.update(hash="0" * 64)
    return books


def run(*args):
    """Return the exit status, standard output and the error."""
    out, status, error = io.StringIO(), 0, ""
    try:
        call_command("bitsby_audit", *args, stdout=out, stderr=io.StringIO(), no_color=True)
    except CommandError as raised:
        status, error = raised.returncode, str(raised)
    return status, out.getvalue(), error


def test_proved_audit_exits_with_0_and_is_recorded(books):
    """The output has the sums of each wallet; the record says when and that nothing differs."""
    status, out, _ = run()

    assert status == 0
    assert f"Wallet {bitsby.TRON} (usdt): 10 listed, 10 booked, 0 waiting" in out
    assert out.endswith("No differences: 1 payments and 1 invoices read with 2 requests.\n")
    record = AuditRun.objects.get()
    assert (record.state, record.differences, record.progress) == (AuditState.PROVED, {}, {})
    assert record.finished_at >= record.started_at


def test_differences_exit_with_1_and_say_what_to_do(different_books, configure):
    """Each has its ids and a remedy; the alert belongs to the record of the result."""
    configure(ALERTS={"MAIL": ["owner@example.com"]})

    status, out, error = run()

    assert (status, error) == (1, "1 difference: 1 payments and 1 invoices read with 2 requests.")
    number = different_books.invoice.order_number
    assert f"Different transaction hash: order number {number}, payment " in out
    assert "    → Look both up on the blockchain" in out
    assert AuditRun.objects.get().differences == {"hash": 1}
    assert MerchantAlert.objects.get().code == AlertCode.AUDIT_FAILED


def test_result_and_its_alert_are_recorded_together(different_books, configure, monkeypatch):
    """A process that dies while it writes the alert leaves an audit that can be continued."""
    configure(ALERTS={"MAIL": ["owner@example.com"]})

    def die(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as dying:
        dying.setattr("oscar_bitsby.mails.merchant_alerts.enqueue", die)
        with pytest.raises(KeyboardInterrupt):
            audit()
    assert AuditRun.objects.get().state == AuditState.RUNNING

    audit()

    assert AuditRun.objects.get().state == AuditState.DIFFERENT
    assert MerchantAlert.objects.get().code == AlertCode.AUDIT_FAILED


def test_process_that_lost_its_audit_while_comparing_records_nothing(different_books):
    """The other process records the result; this one says that it was taken over."""

    def take_over(difference):
        AuditRun.objects.update(token="of another process")

    with pytest.raises(AuditTakenOver):
        audit(report=take_over)

    assert AuditRun.objects.get().state == AuditState.RUNNING


def test_lost_answer_of_a_page_does_not_abort_an_audit(books, fake):
    """The page is fetched again."""
    answer, failures = fake.payments_list, [requests.ConnectionError()]
    fake.on("/payments/list", lambda fields: failures.pop() if failures else answer(fields))

    assert audit().state == AuditState.PROVED


def test_json_is_one_object_on_standard_output(different_books):
    """It has the differences with their ids, the sums and the counts."""
    _, out, _ = run("--json", "--from", "2026-01-01", "--to", "2199-01-01")

    found = json.loads(out)
    (difference,) = found["differences"]
    assert difference["payment"] == str(different_books.bitsby_id)
    assert difference["kind"] == "hash"
    assert (found["state"], found["counts"]) == ("different", {"hash": 1})
    assert (found["from"], found["to"]) == ("2026-01-01", "2199-01-01")
    assert found["wallets"][0]["booked"] == "10"


def test_json_without_differences_is_an_object(books):
    """The list of differences is empty."""
    found = json.loads(run("--json")[1])

    assert (found["state"], found["differences"]) == ("proved", [])


def test_refused_key_exits_with_2(books, fake):
    """The error says what failed, and JSON stays one object; the next call goes on."""
    fake.on("/invoices/list", bitsby.error("Invalid token"))

    status, out, error = run("--json")

    assert status == 2
    assert "Invalid token" in error
    assert error.endswith("Run it again: it continues where it stopped.")
    assert json.loads(out)["state"] == "running"
    assert AuditRun.objects.get().state == AuditState.RUNNING


def test_missing_settings_and_bad_days_exit_with_2(books, settings):
    """Nothing is sent or recorded."""
    assert run("--from", "2026-12-02", "--to", "2026-12-01")[0] == 2
    assert run("--from", "2026-12-01", "--to", "2026-12-01")[0] == 2
    assert run("--from", "0001-01-01")[0] == 2
    settings.OSCAR_BITSBY = None
    status, _, error = run()
    assert status == 2
    assert "OSCAR_BITSBY" in error
    assert not AuditRun.objects.exists()


def test_unproved_audit_exits_with_2(books, fake):
    """It says why it is no proof."""
    fake.payments.append({"id": "?"})

    status, out, error = run()

    assert status == 2
    assert "1 payments at Bitsby are not as documented" in error
    assert "Note: 1 payments at Bitsby are not as documented." in out
    assert AuditRun.objects.get().state == AuditState.UNPROVED


def test_the_books_are_not_changed(different_books):
    """An audit writes nothing but its record."""
    before = list(BitsbyPayment.objects.values())

    run()

    assert list(BitsbyPayment.objects.values()) == before


def test_task_audits_the_last_days(different_books):
    """It returns the result, and records the days."""
    assert tasks.audit(days=30).startswith("1 difference: ")

    record = AuditRun.objects.get()
    today = record.started_at.astimezone(dt.timezone.utc).date()
    assert (record.date_from, record.date_to) == (today - dt.timedelta(days=30), None)
