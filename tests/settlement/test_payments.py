"""Rows of payments: created once, updated when there is news, never when booked."""

import dataclasses
import datetime as dt
import uuid
from decimal import Decimal
from unittest.mock import Mock

import pytest
from django.db import IntegrityError
from django.utils import timezone

from oscar_bitsby.choices import Resolution, ReviewReason
from oscar_bitsby.gateway import parsing, schemas
from oscar_bitsby.models import BitsbyPayment
from oscar_bitsby.settlement.payments import record_payment, retry_on_conflict
from tests.support import bitsby
from tests.support.settling import reload

pytestmark = pytest.mark.django_db

WALLET = schemas.Wallet(
    id=bitsby.TRON, name="usdt-tron", blockchain="tron", cryptocurrency="usdt", address="TKbs"
)
AT = dt.datetime(2026, 5, 4, 3, 2, 1, tzinfo=dt.timezone.utc)


def remote_payment(**values):
    defaults = {"id": uuid.uuid4(), "amount": Decimal("4.00"), "hash": "abc"}
    return schemas.Payment(**(defaults | {"transaction_at": AT, "wallet": WALLET} | values))


def remote_invoice(invoice, **values):
    return parsing.parse_invoice(bitsby.invoice_item(invoice, "paid", **values))


def record(payment, invoice, **options):
    """Record a payment that is bound to an invoice of ours."""
    return record_payment(payment, invoice=invoice, remote=remote_invoice(invoice), **options)


def columns(payment, *names):
    return tuple(getattr(reload(payment), name) for name in names)


def test_new_payment_is_recorded_with_all_that_the_api_reports(invoice):
    """The row has the payment, its wallet, its binding and its fiat value."""
    remote = remote_payment()

    payment = record(remote, invoice)

    names = ("bitsby_id", "amount", "hash", "transaction_at")
    assert columns(payment, *names) == (remote.id, Decimal(4), "abc", AT)
    names = ("wallet_id", "blockchain", "cryptocurrency", "address")
    assert columns(payment, *names) == (bitsby.TRON, "tron", "usdt", "TKbs")
    names = ("invoice", "bound_to", "project_id", "is_foreign")
    assert columns(payment, *names) == (invoice, invoice.bitsby_id, bitsby.PROJECT, False)
    assert columns(payment, "fiat_value", "currency") == (Decimal("4.00"), "USD")
    assert columns(payment, "review_reason", "resolution", "booked_at") == ("", "", None)


def test_unbound_payment_without_a_wallet_is_recorded_with_what_is_known():
    """What the API leaves out is empty; without an invoice there is no fiat value."""
    payment = record_payment(remote_payment(wallet=None))

    names = ("wallet_id", "blockchain", "cryptocurrency", "address", "project_id", "currency")
    assert columns(payment, *names) == ("",) * 6
    names = ("invoice", "bound_to", "fiat_value", "is_foreign")
    assert columns(payment, *names) == (None, None, None, False)


def test_payment_of_another_project_is_marked(invoice):
    """A foreign payment keeps the invoice and project that it is bound to."""
    other = str(bitsby.new_id())
    remote = remote_invoice(invoice, projectId=other)

    payment = record_payment(remote_payment(), remote=remote, is_foreign=True)

    names = ("is_foreign", "bound_to", "project_id", "invoice")
    assert columns(payment, *names) == (True, invoice.bitsby_id, other, None)


def test_texts_are_truncated_to_their_columns(invoice):
    """Texts of any length are stored up to the length of their column."""
    long = "x" * 300
    wallet = schemas.Wallet(id=long, name=long, blockchain=long, cryptocurrency=long, address=long)
    remote = dataclasses.replace(remote_invoice(invoice), project_id="p" * 50)

    payment = record_payment(remote_payment(hash=long, wallet=wallet), remote=remote)

    names = ("hash", "wallet_id", "blockchain", "cryptocurrency", "address", "project_id")
    lengths = [len(text) for text in columns(payment, *names)]
    assert lengths == [200, 64, 64, 64, 200, 36]


def test_dry_run_returns_an_unsaved_row(invoice):
    """With ``save=False`` a new payment has its values, and no row."""
    remote = remote_payment()

    payment = record(remote, invoice, save=False)

    assert not BitsbyPayment.objects.exists()
    assert (payment.bitsby_id, payment.invoice, payment.fiat_value) == (remote.id, invoice, 4)


def test_dry_run_returns_an_existing_row_unchanged(invoice):
    """With ``save=False`` news about a payment is not written."""
    remote = remote_payment()
    known = record_payment(remote)

    payment = record(remote, invoice, save=False)

    assert payment == known
    assert columns(payment, "invoice", "bound_to", "fiat_value") == (None, None, None)


def test_new_binding_replaces_the_values_and_clears_the_review(invoice, staff_user):
    """A payment that is bound elsewhere is a new case: reason and decision are cleared."""
    remote = remote_payment()
    payment = record_payment(remote, is_foreign=True)
    BitsbyPayment.objects.update(
        review_reason=ReviewReason.UNMATCHED,
        resolution=Resolution.DISMISSED,
        resolution_note="not ours",
        resolved_at=timezone.now(),
        resolved_by=staff_user,
    )

    record(remote, invoice)

    names = ("invoice", "bound_to", "project_id", "is_foreign", "fiat_value", "currency")
    expected = (invoice, invoice.bitsby_id, bitsby.PROJECT, False, Decimal(4), "USD")
    assert columns(payment, *names) == expected
    names = ("review_reason", "resolution", "resolution_note", "resolved_at", "resolved_by")
    assert columns(payment, *names) == ("", "", "", None, None)


def test_payment_with_the_same_binding_changes_nothing(invoice):
    """A payment with the same binding keeps its values, its reason and its decision."""
    remote = remote_payment()
    record(remote, invoice)
    BitsbyPayment.objects.update(review_reason=ReviewReason.SHORT, resolution=Resolution.ACCEPTED)

    payment = record(remote_payment(id=remote.id, hash="other"), invoice)

    names = ("hash", "review_reason", "resolution")
    assert columns(payment, *names) == ("abc", "short", "accepted")


def test_unbound_payment_that_stays_unbound_changes_nothing():
    """An unbound payment that is synced again keeps its reason."""
    remote = remote_payment()
    record_payment(remote)
    BitsbyPayment.objects.update(review_reason=ReviewReason.UNMATCHED)

    assert columns(record_payment(remote), "review_reason") == ("unmatched",)


def test_invoice_that_becomes_known_is_recorded(invoice):
    """A payment that was bound to an unknown invoice gets our invoice once it exists."""
    remote = remote_payment(wallet=None)
    payment = record_payment(remote, remote=remote_invoice(invoice))
    BitsbyPayment.objects.update(review_reason=ReviewReason.UNKNOWN_INVOICE)
    assert columns(payment, "invoice") == (None,)

    record(remote, invoice)

    assert columns(payment, "invoice", "review_reason") == (invoice, "")


def test_fiat_value_that_becomes_known_is_recorded(invoice):
    """A payment that was first reported without its wallet gets its fiat value later."""
    remote = remote_payment()
    without_wallet = remote_payment(id=remote.id, wallet=None)
    payment = record(without_wallet, invoice)
    BitsbyPayment.objects.update(review_reason=ReviewReason.UNKNOWN_VALUE)

    record(remote, invoice)

    names = ("fiat_value", "wallet_id", "review_reason")
    assert columns(payment, *names) == (Decimal(4), bitsby.TRON, "")


def test_fiat_value_that_stays_unknown_is_no_news(invoice):
    """A payment without a known rate keeps its reason, however often it is reported."""
    remote = remote_payment(wallet=None)
    record(remote, invoice)
    BitsbyPayment.objects.update(review_reason=ReviewReason.UNKNOWN_VALUE)

    payment = record(remote, invoice)

    assert columns(payment, "review_reason") == ("unknown_value",)


def test_booked_payment_only_follows_its_binding(invoice, invoice_for, place):
    """Of a booked payment only the remote invoice changes: invoice, value and reason stay."""
    other = invoice_for(place())
    remote = remote_payment()
    payment = record(remote, invoice)
    BitsbyPayment.objects.update(booked_at=timezone.now(), review_reason=ReviewReason.SHORT)

    record(remote, other)

    names = ("invoice", "bound_to", "fiat_value", "review_reason")
    assert columns(payment, *names) == (invoice, other.bitsby_id, Decimal(4), "short")

    record_payment(remote)
    assert columns(payment, "invoice", "bound_to") == (invoice, None)


def test_booked_payment_with_the_same_binding_is_not_written(invoice, django_assert_num_queries):
    """Reading is all that a known and booked payment costs."""
    remote = remote_payment()
    record(remote, invoice)
    BitsbyPayment.objects.update(booked_at=timezone.now())

    with django_assert_num_queries(1):
        record(remote, invoice)


def test_conflict_is_retried_once():
    """A transaction that fails with a conflict is repeated, and only once."""
    assert retry_on_conflict(Mock(side_effect=[IntegrityError, "done"])) == "done"

    failing = Mock(side_effect=IntegrityError)
    with pytest.raises(IntegrityError):
        retry_on_conflict(failing)
    assert failing.call_count == 2
