"""Test what ``start_payment`` stores of the API's answer."""

import copy
import datetime as dt

import pytest
from django.db import InterfaceError, OperationalError, connection
from django.utils import timezone

from oscar_bitsby.choices import InvoiceStatus
from oscar_bitsby.facade import start_payment
from oscar_bitsby.settlement import attempts
from tests.support import bitsby
from tests.support.starting import create_requests

pytestmark = pytest.mark.django_db


@pytest.fixture
def start_with(order, fake):
    """Return a function that starts a payment with changed values in the answer."""

    def start(**values):
        fake.on("/invoices/create", bitsby.success(bitsby.created(**values)))
        invoice = start_payment(order)
        invoice.refresh_from_db()
        return invoice

    return start


@pytest.mark.parametrize("error", [OperationalError, InterfaceError])
def test_storing_the_answer_is_retried_after_a_database_error(order, fake, error):
    """If the database fails once while the answer is stored, the answer is stored again."""
    failed = []

    def fail_once(execute, sql, *rest):
        if "UPDATE" in sql and "oscar_bitsby_bitsbyinvoice" in sql and not failed:
            failed.append(sql)
            raise error("the server closed the connection unexpectedly")
        return execute(sql, *rest)

    with connection.execute_wrapper(fail_once):
        invoice = start_payment(order)

    assert failed
    stored = order.bitsby_invoices.get()
    assert (stored.status, stored.url) == ("unpaid", invoice.url)
    assert stored.expires_at == invoice.expires_at
    assert len(create_requests(fake)) == 1


def test_second_store_keeps_an_answer_that_was_committed(order, fake, monkeypatch):
    """If only the confirmation of a commit was lost, the second try keeps the stored invoice."""
    save, calls = attempts.save_created, []

    def lose_confirmation(attempt, *answer):
        calls.append(attempt)
        if len(calls) == 1:
            # The row is saved, but the object in memory is unchanged.
            save(copy.copy(attempt), *answer)
            raise OperationalError("the server closed the connection unexpectedly")
        return save(attempt, *answer)

    monkeypatch.setattr(attempts, "save_created", lose_confirmation)

    invoice = start_payment(order)

    assert len(calls) == 2
    assert order.bitsby_invoices.get() == invoice
    assert (invoice.status, start_payment(order)) == ("unpaid", invoice)
    assert len(create_requests(fake)) == 1


def test_overlong_uid_is_cut(start_with):
    """An overlong text in the answer is cut to its column, and the invoice is stored."""
    invoice = start_with(uid="u" * 300)

    assert (invoice.status, invoice.uid) == ("unpaid", "u" * 64)


def test_unreadable_wallets_are_ignored(start_with):
    """An invoice without readable wallets is stored."""
    assert start_with(wallets=["?", {"id": 1}, None]).status == "unpaid"


def test_wallets_are_stored_with_all_fields(start_with):
    """Each wallet is stored with its names, address and amount, in plain digits."""
    tiny = bitsby.wallet(amountCrypto="0.00000001")
    unknown = bitsby.wallet(id="other", amountCrypto=None)

    assert start_with(wallets=[tiny, unknown]).wallets == [
        bitsby.wallet(amount="0.00000001"),
        bitsby.wallet(id="other", amount=""),
    ]


@pytest.mark.parametrize(
    ("remote", "stored"),
    [
        # All scripts are stored, without NUL, which no database accepts.
        ('Größe a\u0000b \\ "日本"', 'Größe ab \\ "日本"'),
        ("c\x00\x00d\\\x00e", "cd\\e"),
        # The six characters of an escaped NUL are a text.
        ("a\\u0000b", "a\\u0000b"),
        # A lone surrogate, which no database accepts, becomes a question mark.
        ("a\ud800b", "a?b"),
        (1.5, "1.5"),
    ],
    ids=ascii,
)
def test_answer_is_stored_in_characters_that_databases_accept(start_with, remote, stored):
    """Texts and numbers of the answer are stored, without what no database accepts."""
    invoice = start_with(note=remote)

    assert (invoice.status, invoice.reply["note"]) == (InvoiceStatus.UNPAID, stored)


@pytest.mark.parametrize("hours", [0.5, 6])
def test_answer_without_times_starts_now(start_with, configure, hours):
    """If the answer has no times, the invoice starts now and expires after ``TIME_TO_PAY``."""
    configure(TIME_TO_PAY=hours)
    before = timezone.now()

    invoice = start_with(createDatetime=None, timeToPayDatetime=None)

    assert before <= invoice.created_at <= timezone.now()
    assert invoice.expires_at - invoice.created_at == dt.timedelta(hours=hours)


def test_times_of_the_answer_are_stored(start_with):
    """The times come from the answer, not from our clock."""
    times = {"createDatetime": "2024-02-29 11:59:58", "timeToPayDatetime": "2030-02-28 12:59:58"}

    invoice = start_with(**times)

    stored = (bitsby.written(invoice.created_at), bitsby.written(invoice.expires_at))
    assert stored == tuple(times.values())
