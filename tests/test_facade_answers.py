"""Test what ``start_payment`` stores of the API's answer."""

import copy
import datetime as dt

import pytest
from django.db import InterfaceError, OperationalError, connection
from django.utils import timezone

from oscar_bitsby import facade
from oscar_bitsby.choices import InvoiceStatus
from oscar_bitsby.facade import start_payment
from tests.support import bitsby
from tests.support.starting import create_requests

pytestmark = pytest.mark.django_db


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
    save, calls = facade._save_created, []

    def lose_confirmation(attempt, *answer):
        calls.append(attempt)
        if len(calls) == 1:
            # The row is saved, but the object in memory is unchanged.
            save(copy.copy(attempt), *answer)
            raise OperationalError("the server closed the connection unexpectedly")
        return save(attempt, *answer)

    monkeypatch.setattr(facade, "_save_created", lose_confirmation)

    invoice = start_payment(order)

    assert len(calls) == 2
    assert order.bitsby_invoices.get() == invoice
    assert (invoice.status, start_payment(order)) == ("unpaid", invoice)
    assert len(create_requests(fake)) == 1


def test_overlong_texts_and_nul_are_cut(order, fake):
    """Overlong texts and NUL characters in the answer are cut, and the invoice is stored."""
    answer = bitsby.created(uid="u" * 300, note="a\u0000b")
    fake.on("/invoices/create", bitsby.success(answer))

    invoice = start_payment(order)

    assert (invoice.status, invoice.uid) == ("unpaid", "u" * 64)


def test_unreadable_wallets_are_ignored(order, fake):
    """An invoice without readable wallets is stored."""
    fake.on("/invoices/create", bitsby.success(bitsby.created(wallets=["?", {"id": 1}, None])))

    assert start_payment(order).status == "unpaid"


def test_wallets_are_stored_with_all_fields(order, fake):
    """Each wallet is stored with its names, address and amount, in plain digits."""
    tiny = bitsby.wallet(amountCrypto="0.00000001")
    unknown = bitsby.wallet(id="other", amountCrypto=None)
    fake.on("/invoices/create", bitsby.success(bitsby.created(wallets=[tiny, unknown])))

    invoice = start_payment(order)

    invoice.refresh_from_db()
    assert invoice.wallets == [
        bitsby.wallet(amount="0.00000001"),
        bitsby.wallet(id="other", amount=""),
    ]


def test_answer_is_stored_without_nul(order, fake):
    """Characters of all scripts and numbers are stored, without NUL, which no database accepts."""
    note = {"note": 'Größe a\u0000b \\ "日本"', "rate": 1.5}
    fake.on("/invoices/create", bitsby.success(bitsby.created(**note)))

    invoice = start_payment(order)

    invoice.refresh_from_db()
    assert invoice.reply["note"] == 'Größe ab \\ "日本"'
    assert invoice.reply["rate"] == "1.5"


def test_lone_surrogate_in_an_answer_is_replaced(order, fake):
    """A lone surrogate, which no database accepts, becomes a question mark."""
    fake.on("/invoices/create", bitsby.success(bitsby.created(note="a\ud800b")))

    invoice = start_payment(order)

    invoice.refresh_from_db()
    assert (invoice.status, invoice.reply["note"]) == ("unpaid", "a?b")


@pytest.mark.parametrize("hours", [0.5, 6])
def test_answer_without_times_starts_now(order, fake, configure, hours):
    """If the answer has no times, the invoice starts now and expires after ``TIME_TO_PAY``."""
    configure(TIME_TO_PAY=hours)
    answer = bitsby.created(createDatetime=None, timeToPayDatetime=None)
    fake.on("/invoices/create", bitsby.success(answer))
    before = timezone.now()

    invoice = start_payment(order)

    invoice.refresh_from_db()
    assert before <= invoice.created_at <= timezone.now()
    assert invoice.expires_at - invoice.created_at == dt.timedelta(hours=hours)


def test_times_of_the_answer_are_stored(order, fake):
    """The times come from the answer, not from our clock."""
    times = {"createDatetime": "2024-02-29 11:59:58", "timeToPayDatetime": "2030-02-28 12:59:58"}
    fake.on("/invoices/create", bitsby.success(bitsby.created(**times)))

    invoice = start_payment(order)

    kept = (bitsby.written(invoice.created_at), bitsby.written(invoice.expires_at))
    assert kept == tuple(times.values())


def test_escaped_nul_as_text_is_stored(order, fake):
    """The six characters of an escaped NUL are stored as text, and NUL itself is removed."""
    fake.on(
        "/invoices/create",
        lambda fields: bitsby.success(bitsby.created(note="a\\u0000b", other="c\x00\x00d\\\x00e")),
    )

    invoice = facade.start_payment(order)

    assert invoice.status == InvoiceStatus.UNPAID
    assert (invoice.reply["note"], invoice.reply["other"]) == ("a\\u0000b", "cd\\e")
