"""Models: the constraints and sets that payments depend on."""

import datetime as dt
import uuid
from decimal import Decimal

import pytest
from django.db import IntegrityError, transaction
from django.db.models import ProtectedError
from django.utils import timezone

from oscar_bitsby.choices import ReviewReason
from oscar_bitsby.models import BitsbyInvoice, BitsbyPayment, GatewayState, WebhookDelivery
from tests.support import bitsby
from tests.support.refunds import book_payment, sent_refund

pytestmark = pytest.mark.django_db


@pytest.fixture
def payment_with_refund(invoice, django_user_model):
    """A booked payment of 10 dollars that was refunded."""
    payment = book_payment(invoice)
    sent_refund(django_user_model.objects.create_user("staff"), payment)
    return payment


@pytest.mark.parametrize("first", BitsbyInvoice.LIVE)
@pytest.mark.parametrize("second", BitsbyInvoice.LIVE)
def test_the_database_allows_one_live_invoice_of_an_order(order, invoice_for, first, second):
    """The database refuses a second invoice that the buyer can pay."""
    invoice_for(order, first)

    with pytest.raises(IntegrityError), transaction.atomic():
        invoice_for(order, second)


def test_order_can_have_any_number_of_other_invoices(place, order, invoice_for):
    """Invoices that are not live, and those of other orders, are not limited."""
    for status in ("expired", "expired", "canceled", "paid", "paid", "unpaid"):
        invoice_for(order, status)
    invoice_for(place())

    assert BitsbyInvoice.objects.count() == 7
    assert BitsbyInvoice.objects.live().count() == 2


def test_ids_of_bitsby_are_unique(place, invoice_for):
    """The database refuses a second row of the same invoice or the same payment."""
    first = invoice_for(place())
    payment = BitsbyPayment.objects.create(bitsby_id=bitsby.new_id(), amount=1)

    with pytest.raises(IntegrityError), transaction.atomic():
        invoice_for(place(), bitsby_id=first.bitsby_id)
    with pytest.raises(IntegrityError), transaction.atomic():
        BitsbyPayment.objects.create(bitsby_id=payment.bitsby_id, amount=1)


def test_deleting_an_order_keeps_its_invoices_and_payments(order, invoice):
    """Invoice, payment and the order's number outlive the order, and the invoice is protected."""
    number = order.number
    BitsbyPayment.objects.create(bitsby_id=bitsby.new_id(), amount=1, invoice=invoice)
    order.delete()

    invoice.refresh_from_db()
    assert (invoice.order, invoice.order_number) == (None, number)
    assert BitsbyPayment.objects.get().invoice == invoice
    with pytest.raises(ProtectedError):
        invoice.delete()


def test_deleting_an_order_or_a_user_keeps_the_refund(order, payment_with_refund):
    """Amounts, hash and the order's number outlive them, and the payment is protected."""
    refund, number = payment_with_refund.refunds.get(), order.number
    refund.requested_by.delete()
    order.delete()

    refund.refresh_from_db()
    assert (refund.order, refund.order_number) == (None, number)
    assert (refund.requested_by, refund.amount) == (None, 10)
    with pytest.raises(ProtectedError):
        payment_with_refund.delete()


@pytest.mark.parametrize(
    ("status", "ended_days_ago", "has_id", "is_watched"),
    [
        ("unpaid", None, True, True),
        ("expired", 1, True, True),
        ("canceled", 29, True, True),
        ("expired", 31, True, False),
        ("canceled", 31, True, False),
        ("paid", 1, True, True),
        ("paid", 3, True, False),
        # Without a Bitsby id it cannot be paid.
        ("creating", None, False, False),
        ("expired", 0, False, False),
    ],
)
def test_unpaid_and_recently_ended_invoices_are_watched(
    order, invoice_for, status, ended_days_ago, has_id, is_watched
):
    """Payments are synced for unpaid invoices, and for others during some days."""
    now = timezone.now()
    over = now + dt.timedelta(hours=1)
    if ended_days_ago is not None:
        over = now - dt.timedelta(days=ended_days_ago)
    ended = over if status in ("expired", "canceled") else None
    bitsby_id = uuid.uuid4() if has_id else None
    invoice_for(order, status, ended_at=ended, expires_at=over, bitsby_id=bitsby_id)

    assert BitsbyInvoice.objects.watched(now - dt.timedelta(days=30)).exists() is is_watched


@pytest.mark.parametrize(
    ("amount", "currency", "fits"),
    [("10.00", "USD", True), ("10", "USD", True), ("10.01", "USD", False), ("10.00", "EUR", False)],
)
def test_invoice_fits_an_order_of_its_amount_and_currency(order, invoice, amount, currency, fits):
    """Amount and currency both have to be those of the order."""
    order.total_incl_tax, order.currency = Decimal(amount), currency

    assert invoice.fits(order) is fits
    assert invoice.asks(Decimal(amount), currency) is fits


def test_invoice_is_over_at_its_expiry_time(invoice):
    """The last moment to pay is before ``expires_at``."""
    second = dt.timedelta(seconds=1)
    assert not invoice.is_over(invoice.expires_at - second)
    assert invoice.is_over(invoice.expires_at)
    invoice.expires_at = None
    assert not invoice.is_over(timezone.now())


def test_payments_to_review_have_a_reason_and_no_decision():
    """A payment needs review while it has a reason and is not resolved."""
    for review_reason, resolved in (("", None), ("late", None), ("late", timezone.now())):
        BitsbyPayment.objects.create(
            bitsby_id=bitsby.new_id(), amount=1, review_reason=review_reason, resolved_at=resolved
        )

    assert [row.review_reason for row in BitsbyPayment.objects.needs_review()] == ["late"]
    assert BitsbyPayment.objects.needs_review().get().resolved_at is None
    rows = BitsbyPayment.objects.all()
    assert [row for row in rows if row.needs_review] == list(rows.needs_review())


def test_every_reason_fits_its_column():
    """Each reason can be stored and has a label."""
    field = BitsbyPayment._meta.get_field("review_reason")
    for reason, text in ReviewReason.choices:
        assert len(reason) <= field.max_length
        assert str(text)


@pytest.mark.parametrize("amount", ["0.00000001", "0.5", "12345.67890123", "99999999999.5"])
def test_crypto_amounts_are_stored_exactly(amount):
    """Amounts with eight decimals are stored without rounding."""
    BitsbyPayment.objects.create(bitsby_id=bitsby.new_id(), amount=Decimal(amount))

    assert BitsbyPayment.objects.get().amount == Decimal(amount)


def test_gateway_state_is_created_once():
    """Creating it again changes nothing."""
    GatewayState.ensure_exists()
    GatewayState.objects.update(lease_token="mine")
    GatewayState.ensure_exists()

    assert GatewayState.objects.get().lease_token == "mine"


def test_rows_are_named_by_what_staff_search_for(order, invoice):
    """In the admin, rows are named by what staff search for."""
    payment = BitsbyPayment(amount=Decimal("10.50000000"), cryptocurrency="usdt")
    delivery = WebhookDelivery(invoice=invoice)
    GatewayState.ensure_exists()

    assert str(invoice) == f"{order.number}/{invoice.uid}"
    assert str(payment) == "10.5 USDT"
    assert str(BitsbyPayment(amount=Decimal(100))) == "100"
    assert order.number in str(delivery)
    assert "next request at" in str(GatewayState.objects.get())
