"""What the app remembers: the constraints and sets that money rests on."""

from __future__ import annotations

import datetime as dt
import uuid
from decimal import Decimal

import pytest
from django.db import IntegrityError, transaction
from django.db.models import ProtectedError
from django.utils import timezone

from oscar_bitsby.choices import ReviewReason
from oscar_bitsby.models import EPOCH, BitsbyInvoice, BitsbyPayment, GatewayState, WebhookDelivery
from tests import bitsby

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("first", BitsbyInvoice.LIVE)
@pytest.mark.parametrize("second", BitsbyInvoice.LIVE)
def test_the_database_allows_one_live_invoice_of_an_order(order, invoice_for, first, second):
    """Whatever code does, an order never has two invoices that a buyer could pay."""
    invoice_for(order, first)

    with pytest.raises(IntegrityError), transaction.atomic():
        invoice_for(order, second)


def test_ended_invoices_are_kept_beside_the_live_one(place, order, invoice_for):
    """Any number of ended invoices, and live ones of other orders, are allowed."""
    for status in ("expired", "expired", "canceled", "paid", "paid", "unpaid"):
        invoice_for(order, status)
    invoice_for(place())

    assert BitsbyInvoice.objects.count() == 7
    assert BitsbyInvoice.objects.live().count() == 2


def test_an_invoice_of_bitsbys_is_stored_once(place, invoice_for):
    """Two rows with the same id at Bitsby are refused."""
    first = invoice_for(place())

    with pytest.raises(IntegrityError), transaction.atomic():
        invoice_for(place(), bitsby_id=first.bitsby_id)


def test_a_payment_is_stored_once():
    """Two rows of the same payment are refused by the database itself."""
    key = bitsby.new_id()
    BitsbyPayment.objects.create(bitsby_id=key, amount=1)

    with pytest.raises(IntegrityError), transaction.atomic():
        BitsbyPayment.objects.create(bitsby_id=key, amount=1)


def test_deleting_an_order_takes_no_record_of_money_with_it(order, invoice):
    """Invoice, payment and the order's number outlive the order."""
    number = order.number
    BitsbyPayment.objects.create(bitsby_id=bitsby.new_id(), amount=1, invoice=invoice)
    order.delete()

    invoice.refresh_from_db()
    assert (invoice.order, invoice.order_number) == (None, number)
    assert BitsbyPayment.objects.get().invoice == invoice


def test_an_invoice_with_money_cannot_be_deleted(invoice):
    """What a payment belongs to is not deleted by accident."""
    BitsbyPayment.objects.create(bitsby_id=bitsby.new_id(), amount=1, invoice=invoice)

    with pytest.raises(ProtectedError):
        invoice.delete()


@pytest.mark.parametrize(
    ("status", "ended_days_ago", "is_watched"),
    [
        ("unpaid", None, True),
        ("expired", 1, True),
        ("canceled", 29, True),
        ("expired", 31, False),
        ("canceled", 31, False),
        ("paid", 1, True),
        ("paid", 3, False),
        ("creating", None, False),
    ],
)
def test_what_is_watched(order, invoice_for, status, ended_days_ago, is_watched):
    """Unpaid invoices, and ended and paid ones for a while, are those that money is looked for."""
    now = timezone.now()
    over = now + dt.timedelta(hours=1)
    if ended_days_ago is not None:
        over = now - dt.timedelta(days=ended_days_ago)
    ended = over if status in ("expired", "canceled") else None
    bitsby_id = None if status == "creating" else uuid.uuid4()
    invoice_for(order, status, ended_at=ended, expires_at=over, bitsby_id=bitsby_id)

    assert BitsbyInvoice.objects.watched(now - dt.timedelta(days=30)).exists() is is_watched


def test_an_attempt_without_an_id_is_not_watched(order, invoice_for):
    """What Bitsby never gave an id to cannot receive money."""
    invoice_for(order, "expired", bitsby_id=None, ended_at=timezone.now())

    assert not BitsbyInvoice.objects.watched(EPOCH).exists()


@pytest.mark.parametrize(
    ("amount", "currency", "fits"),
    [("10.00", "USD", True), ("10", "USD", True), ("10.01", "USD", False), ("10.00", "EUR", False)],
)
def test_an_invoice_fits_what_it_asks_for(order, invoice, amount, currency, fits):
    """Amount and currency both have to be those of the order."""
    order.total_incl_tax, order.currency = Decimal(amount), currency

    assert invoice.fits(order) is fits
    assert invoice.asks(Decimal(amount), currency) is fits


def test_time_is_over_at_its_end(invoice):
    """The last moment to pay is the one before ``expires_at``."""
    second = dt.timedelta(seconds=1)
    assert not invoice.is_over(invoice.expires_at - second)
    assert invoice.is_over(invoice.expires_at)
    invoice.expires_at = None
    assert not invoice.is_over(timezone.now())


def test_the_inbox_holds_what_needs_a_person_and_was_not_dealt_with():
    """A reason puts a payment in, a decision takes it out."""
    for review_reason, resolved in (("", None), ("late", None), ("late", timezone.now())):
        BitsbyPayment.objects.create(
            bitsby_id=bitsby.new_id(), amount=1, review_reason=review_reason, resolved_at=resolved
        )

    assert [row.review_reason for row in BitsbyPayment.objects.needs_review()] == ["late"]
    assert BitsbyPayment.objects.needs_review().get().resolved_at is None


def test_every_reason_fits_its_column():
    """Each reason of the table can be stored, and says something to people."""
    field = BitsbyPayment._meta.get_field("review_reason")
    for reason, text in ReviewReason.choices:
        assert len(reason) <= field.max_length
        assert str(text)


@pytest.mark.parametrize("amount", ["0.00000001", "0.5", "12345.67890123", "99999999999.5"])
def test_crypto_amounts_are_kept_as_they_are(amount):
    """What Bitsby writes with eight decimals survives the database."""
    BitsbyPayment.objects.create(bitsby_id=bitsby.new_id(), amount=Decimal(amount))

    assert BitsbyPayment.objects.get().amount == Decimal(amount)


def test_the_shared_row_is_created_once():
    """Creating it again changes nothing, so any process may."""
    GatewayState.ensure_exists()
    GatewayState.objects.update(lease_token="mine")
    GatewayState.ensure_exists()

    assert GatewayState.objects.get().lease_token == "mine"


def test_texts_for_people(order, invoice):
    """Rows name themselves in the admin by what staff search for."""
    payment = BitsbyPayment(amount=Decimal("10.50000000"), cryptocurrency="usdt")
    delivery = WebhookDelivery(invoice=invoice)
    GatewayState.ensure_exists()

    assert str(invoice) == f"{order.number}/{invoice.uid}"
    assert str(payment) == "10.5 usdt"
    assert str(BitsbyPayment(amount=Decimal(100))) == "100"
    assert order.number in str(delivery)
    assert "next request at" in str(GatewayState.objects.get())
