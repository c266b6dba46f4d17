"""The ledger: sources, transactions and payment events."""

from decimal import Decimal

import pytest
from django.utils import timezone
from oscar.core.loading import get_model

from oscar_bitsby import reconciliation
from oscar_bitsby.accounting import ledger
from oscar_bitsby.choices import ReviewReason
from oscar_bitsby.models import BitsbyPayment
from tests.support import bitsby
from tests.support.ordering import create_plate, place_order

PaymentEventType = get_model("order", "PaymentEventType")
Source = get_model("payment", "Source")
SourceType = get_model("payment", "SourceType")

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize(
    ("debited", "refunded", "has"), [(0, 0, False), (10, 0, True), (10, 9, True), (10, 10, False)]
)
def test_money_is_what_was_debited_and_not_refunded(order, debited, refunded, has):
    """An order has money while any source has debited more than refunded, allocated or not."""
    assert order.sources.get().amount_allocated == Decimal("10.00")
    card = SourceType.objects.create(name="Card", code="card")
    Source.objects.create(
        order=order, source_type=card, amount_debited=debited, amount_refunded=refunded
    )

    assert ledger.has_money(order) is has


def test_source_type_is_created_once():
    """The source type has its public code and name, and is reused."""
    assert ledger.source_type() == ledger.source_type()
    found = ledger.source_type()
    assert (found.code, found.name) == ("bitsby", "Bitsby")
    assert SourceType.objects.count() == 1


def test_payment_event_covers_every_line(invoice_for, fake, product):
    """The event has all lines with their full quantities."""
    order = place_order({product: 2, create_plate(): 3})
    invoice = invoice_for(order)
    fake.payments = [bitsby.payment_item(invoice=bitsby.invoice_item(invoice, "paid"))]

    reconciliation.reconcile()

    quantities = order.payment_events.get().line_quantities.values_list("quantity", flat=True)
    assert sorted(quantities) == [2, 3]


@pytest.fixture
def payment_of(db):
    """Return a function that stores a payment of an invoice."""

    def make(invoice=None, **values):
        defaults = {"bitsby_id": bitsby.new_id(), "amount": 4, "currency": "EUR"}
        return BitsbyPayment.objects.create(**(defaults | {"invoice": invoice} | values))

    return make


def test_amount_held_is_the_sum_of_all_sources(order):
    """Refunds are subtracted; without a source nothing is held."""
    card = SourceType.objects.create(name="Card", code="card")
    Source.objects.create(order=order, source_type=card, amount_debited=7, amount_refunded=3)
    order.sources.filter(source_type__code="bitsby").update(amount_debited=Decimal("0.50"))

    assert ledger.amount_held(list(order.sources.all())) == Decimal("4.50")
    assert repr(ledger.amount_held([])) == "Decimal('0')"


def test_locked_sources_tell_which_one_is_bitsbys(order, place):
    """All sources of the order are returned, in the order of their keys, and no others."""
    place()
    card = SourceType.objects.create(name="Card", code="card")
    Source.objects.create(order=order, source_type=card)

    found = ledger.lock_sources(order)

    assert [(one.source_type.code, one.is_bitsby) for one in found] == [
        ("bitsby", True),
        ("card", False),
    ]


@pytest.mark.parametrize(
    ("values", "waits"),
    [
        ({"review_reason": ReviewReason.NOT_PAID}, True),
        ({"review_reason": ReviewReason.NOT_PAID, "booked_at": timezone.now()}, False),
        ({"review_reason": ReviewReason.NOT_PAID, "resolved_at": timezone.now()}, False),
        ({}, False),
    ],
)
def test_unbooked_money_is_a_payment_under_review(order, invoice, payment_of, values, waits):
    """A payment that is booked, resolved or not to be reviewed is no unbooked money."""
    payment_of(invoice, **values)

    assert ledger.has_unbooked_money(order) is waits


def test_unbooked_money_of_other_orders_does_not_count(order, invoice_for, place, payment_of):
    """Only payments bound to an invoice of the order are its unbooked money."""
    payment_of(invoice_for(place()), review_reason=ReviewReason.NOT_PAID)
    payment_of(review_reason=ReviewReason.UNMATCHED)

    assert not ledger.has_unbooked_money(order)


def test_payment_is_booked_in_a_transaction_and_an_event(order, payment_of):
    """Source, transaction, event and payment have the fiat value and the payment's id."""
    PaymentEventType.objects.create(name="Refunded", code="refunded")
    payment = payment_of(fiat_value=Decimal("4.20"), review_reason="status")
    payment.review_reason = ""

    ledger.book_payment(order, payment, ledger.lock_sources(order))

    source = order.sources.get()
    transaction = source.transactions.get()
    assert (source.amount_debited, transaction.amount) == (Decimal("4.20"),) * 2
    assert (transaction.txn_type, transaction.status) == ("Debit", "paid")
    assert transaction.reference == str(payment.bitsby_id)
    event = order.payment_events.get()
    assert (event.amount, event.reference) == (Decimal("4.20"), str(payment.bitsby_id))
    assert (event.event_type.code, event.event_type.name) == ("paid", "Paid")
    payment.refresh_from_db()
    assert (payment.review_reason, payment.booked_at is None) == ("", False)


def test_payment_without_a_fiat_value_is_not_booked(order, payment_of):
    """Booking without an amount would debit the whole allocation, so it is refused."""
    payment = payment_of()

    with pytest.raises(ValueError, match=r"^a payment without a fiat value cannot be booked$"):
        ledger.book_payment(order, payment, ledger.lock_sources(order))

    assert not ledger.has_money(order)


def test_order_without_bitsbys_source_gets_one_in_the_payments_currency(order, payment_of):
    """A source of another type is not used; the new one has the payment's currency."""
    card = SourceType.objects.create(name="Card", code="card")
    order.sources.update(source_type=card)

    ledger.book_payment(order, payment_of(fiat_value=4), ledger.lock_sources(order))

    source = order.sources.get(source_type__code="bitsby")
    assert (source.amount_debited, source.currency) == (4, "EUR")
    assert order.sources.get(source_type=card).amount_debited == 0


@pytest.mark.parametrize(
    ("debited", "refunded", "lines"), [(0, 0, 1), (5, 5, 1), (5, 4, 0), (5, 0, 0)]
)
def test_event_covers_lines_unless_another_payment_does(
    order, payment_of, debited, refunded, lines
):
    """The event of a second payment covers no lines, unless the first was refunded."""
    order.sources.update(amount_debited=debited, amount_refunded=refunded)

    ledger.book_payment(order, payment_of(fiat_value=4), ledger.lock_sources(order))

    assert order.payment_events.get().line_quantities.count() == lines


def test_failing_event_handler_is_logged_and_undoes_nothing(order, payment_of, monkeypatch, caplog):
    """The money stays booked when the shop's event handler fails."""

    def fail(*args, **kwargs):
        raise ValueError("the shop's handler is broken")

    monkeypatch.setattr("oscar.apps.order.processing.EventHandler.handle_payment_event", fail)
    ledger.book_payment(order, payment_of(fiat_value=4), ledger.lock_sources(order))

    assert order.sources.get().amount_debited == 4
    assert caplog.messages == [f"payment event not created: order={order.number}"]
    assert "the shop's handler is broken" in caplog.text
