"""Stock, vouchers and status of an order that is cancelled, reopened or paid."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import pytest
from django.contrib.auth.models import AnonymousUser
from django.db.models.signals import post_save, pre_save
from django.utils import timezone
from oscar.core.loading import get_class, get_model
from oscar.test import factories

from oscar_bitsby import reconciliation
from oscar_bitsby.choices import InvoiceStatus
from tests import bitsby
from tests.support.ordering import create_plate, place_order

ConditionalOffer = get_model("offer", "ConditionalOffer")
StockRecord = get_model("partner", "StockRecord")
Voucher = get_model("voucher", "Voucher")

pytestmark = pytest.mark.django_db


@pytest.fixture
def give_up(invoice_for, fake):
    """Return a function that lets a pass cancel an order whose invoice ended long ago."""

    def cancel(order):
        ended = timezone.now() - dt.timedelta(hours=3)
        invoice = invoice_for(order, InvoiceStatus.EXPIRED, expires_at=ended, ended_at=ended)
        fake.invoices = [bitsby.invoice_item(invoice, "expired")]
        report = reconciliation.reconcile()
        order.refresh_from_db()
        return report

    return cancel


@pytest.fixture
def listening():
    """Return a function that connects a receiver for the time of the test."""
    connected = []

    def connect(signal, sender, receiver):
        signal.connect(receiver, sender=sender)
        connected.append((signal, sender, receiver))

    yield connect
    for signal, sender, receiver in connected:
        signal.disconnect(receiver, sender=sender)


def held(product):
    return product.stockrecords.get().num_allocated or 0


# Stock


def test_stock_of_every_line_goes_back(give_up, product):
    """Each line's quantity is released, and what other orders hold is left to them."""
    plate = create_plate()
    place_order({product: 2, plate: 1})
    order = place_order({product: 3, plate: 4})
    assert (held(product), held(plate)) == (5, 5)

    give_up(order)

    assert order.status == "Cancelled"
    assert (held(product), held(plate)) == (2, 1)
    assert {line.num_allocated for line in order.lines.all()} == {0}
    assert all(line.allocation_cancelled for line in order.lines.all())


def test_a_deleted_stock_record_does_not_keep_the_others(give_up, product):
    """A line whose stock record is gone is passed over; the other lines' stock is released."""
    plate, bowl = create_plate(), create_plate("Bowl")
    order = place_order({product: 1, plate: 2, bowl: 3})
    plate.stockrecords.all().delete()

    report = give_up(order)

    assert (order.status, report.cancelled, report.failures) == ("Cancelled", 1, 0)
    assert (held(product), held(bowl)) == (0, 0)


@pytest.mark.parametrize("signal", [pre_save, post_save])
def test_a_raising_stock_alert_does_not_keep_the_stock(give_up, product, listening, signal):
    """Stock is released although "back in stock" mails, or other receivers, fail."""
    plate = create_plate()
    place_order({product: 1})
    order = place_order({product: 2, plate: 2})

    def fail(**kwargs):
        raise ConnectionError("the mail server is down")

    listening(signal, StockRecord, fail)
    give_up(order)

    assert order.status == "Cancelled"
    assert (held(product), held(plate)) == (1, 0)
    assert {line.num_allocated for line in order.lines.all()} == {0}


def test_shipped_lines_give_nothing_back(give_up, product):
    """What shipping has consumed is not released a second time."""
    place_order({product: 4})
    order = place_order({product: 2})
    handler = get_class("order.processing", "EventHandler")()
    handler.consume_stock_allocations(order)
    order.refresh_from_db()
    assert held(product) == 4

    give_up(order)

    assert held(product) == 4


def test_goods_without_stock_tracking_are_no_trouble(give_up, product):
    """Digital goods hold nothing and give nothing back."""
    course = create_plate("Course")
    course.product_class.track_stock = False
    course.product_class.save()
    order = place_order({course: 1})

    report = give_up(order)

    assert (order.status, report.failures) == ("Cancelled", 0)
    assert held(course) == 0


def test_paying_leaves_the_allocations_alone(invoice_for, fake, product):
    """Stock stays allocated for a paid order: consuming it belongs to shipping."""
    order = place_order({product: 2})
    invoice = invoice_for(order)
    fake.payments = [bitsby.payment_item(invoice=bitsby.invoice_item(invoice, "paid"))]
    before = order.total_incl_tax

    reconciliation.reconcile()

    order.refresh_from_db()
    assert (order.status, order.total_incl_tax) == ("Being processed", before)
    assert held(product) == 2


# Vouchers and offers


@pytest.fixture
def voucher():
    """A single-use voucher of 20 percent."""
    return factories.create_voucher(
        code="ONCE",
        usage=Voucher.SINGLE_USE,
        start_datetime=timezone.now() - dt.timedelta(days=1),
    )


def test_a_single_use_voucher_can_be_used_again(give_up, product, voucher):
    """The voucher of a cancelled order is as good as new, and its counts are as before."""
    order = place_order({product: 1}, voucher)
    voucher.refresh_from_db()
    offer = voucher.offers.get()
    assert not voucher.is_available_to_user(AnonymousUser())[0]
    assert (voucher.num_orders, voucher.total_discount) == (1, Decimal("2.00"))
    assert (offer.num_applications, offer.num_orders, offer.total_discount) == (1, 1, 2)

    give_up(order)

    voucher.refresh_from_db()
    offer.refresh_from_db()
    assert voucher.is_available_to_user(AnonymousUser())[0]
    assert (voucher.num_orders, voucher.total_discount) == (0, 0)
    assert (offer.num_applications, offer.num_orders, offer.total_discount) == (0, 0, 0)
    again = place_order({product: 1}, Voucher.objects.get(pk=voucher.pk))
    assert again.total_incl_tax == Decimal("8.00")
    assert not voucher.is_available_to_user(AnonymousUser())[0]


def test_a_voucher_once_per_customer_can_be_used_again(
    give_up, product, voucher, django_user_model
):
    """A customer whose order was cancelled may use their voucher once more."""
    user = django_user_model.objects.create_user("ada", "ada@example.com", "secret")
    Voucher.objects.update(usage=Voucher.ONCE_PER_CUSTOMER)
    voucher.refresh_from_db()
    order = place_order({product: 1}, voucher, user)
    assert not voucher.is_available_to_user(user)[0]

    give_up(order)

    assert voucher.is_available_to_user(user)[0]


def test_other_orders_keep_their_use_of_a_voucher(give_up, product, voucher):
    """Cancelling one of two orders takes back one use of the voucher, not both."""
    Voucher.objects.update(usage=Voucher.MULTI_USE)
    place_order({product: 2}, Voucher.objects.get())
    order = place_order({product: 1}, Voucher.objects.get())

    give_up(order)

    voucher.refresh_from_db()
    offer = voucher.offers.get()
    assert (voucher.applications.count(), voucher.num_orders) == (1, 1)
    assert voucher.total_discount == Decimal("4.00")
    assert (offer.num_orders, offer.total_discount) == (1, Decimal("4.00"))


def test_counts_never_go_below_zero(give_up, product, voucher):
    """Counts that somebody has reset do not fail the cancelling."""
    order = place_order({product: 1}, voucher)
    Voucher.objects.update(num_orders=0, total_discount=0)
    ConditionalOffer.objects.update(num_applications=0, num_orders=0, total_discount=0)

    report = give_up(order)

    assert (order.status, report.failures) == ("Cancelled", 0)
    voucher.refresh_from_db()
    assert (voucher.num_orders, voucher.total_discount) == (0, 0)


def test_a_deleted_voucher_is_no_trouble(give_up, product, voucher):
    """An order whose voucher and offer were deleted is cancelled all the same."""
    order = place_order({product: 1}, voucher)
    ConditionalOffer.objects.all().delete()
    voucher.delete()

    report = give_up(order)

    assert (order.status, report.failures) == ("Cancelled", 0)
    assert held(product) == 0


def test_a_paid_order_keeps_its_voucher(invoice_for, fake, product, voucher):
    """Only cancelling gives a voucher back."""
    order = place_order({product: 1}, voucher)
    invoice = invoice_for(order)
    fake.payments = [bitsby.payment_item(invoice=bitsby.invoice_item(invoice, "paid"))]

    reconciliation.reconcile()

    voucher.refresh_from_db()
    assert not voucher.is_available_to_user(AnonymousUser())[0]
