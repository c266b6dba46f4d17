"""Stock, vouchers and status of an order that is cancelled, reopened or paid."""

import datetime as dt
import logging
from decimal import Decimal

import pytest
from django.contrib.auth.models import AnonymousUser
from django.db.models import F
from django.db.models.signals import post_save, pre_save
from django.utils import timezone
from oscar.apps.order.signals import order_status_changed
from oscar.core.loading import get_class, get_model

from oscar_bitsby import reconciliation
from oscar_bitsby.choices import InvoiceStatus
from oscar_bitsby.orders import transitions
from tests.support import bitsby
from tests.support.ordering import create_plate, create_voucher, place_order

ConditionalOffer = get_model("offer", "ConditionalOffer")
StockRecord = get_model("partner", "StockRecord")
Voucher = get_model("voucher", "Voucher")

pytestmark = pytest.mark.django_db


@pytest.fixture
def cancel(invoice_for, fake):
    """Return a function that lets a run cancel an order whose invoice expired long ago."""

    def run(order):
        ended = timezone.now() - dt.timedelta(hours=3)
        invoice = invoice_for(order, InvoiceStatus.EXPIRED, expires_at=ended, ended_at=ended)
        fake.invoices = [bitsby.invoice_item(invoice, "expired")]
        report = reconciliation.reconcile()
        order.refresh_from_db()
        return report

    return run


@pytest.fixture
def listening():
    """Return a function that connects a receiver during the test."""
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


def test_stock_of_every_line_is_released(cancel, product):
    """Each line's quantity is released, and the stock of other orders stays allocated."""
    plate = create_plate()
    place_order({product: 2, plate: 1})
    order = place_order({product: 3, plate: 4})
    assert (held(product), held(plate)) == (5, 5)

    cancel(order)

    assert order.status == "Cancelled"
    assert (held(product), held(plate)) == (2, 1)
    assert {line.num_allocated for line in order.lines.all()} == {0}
    assert all(line.allocation_cancelled for line in order.lines.all())


def test_deleted_stock_record_does_not_prevent_releasing_the_others(cancel, product, caplog):
    """A line whose stock record was deleted is skipped; the stock of other lines is released."""
    plate, bowl = create_plate(), create_plate("Bowl")
    order = place_order({product: 1, plate: 2, bowl: 3})
    plate.stockrecords.all().delete()

    report = cancel(order)

    assert (order.status, report.cancelled, report.failures) == ("Cancelled", 1, 0)
    assert (held(product), held(bowl)) == (0, 0)
    assert not [one for one in caplog.records if one.levelno >= logging.ERROR]


@pytest.mark.parametrize("signal", [pre_save, post_save])
def test_failing_stock_alert_does_not_prevent_releasing(cancel, product, listening, signal):
    """Stock is released although "back in stock" mails, or other receivers, fail."""
    plate = create_plate()
    place_order({product: 1})
    order = place_order({product: 2, plate: 2})

    def fail(**kwargs):
        raise ConnectionError("the mail server is down")

    listening(signal, StockRecord, fail)
    cancel(order)

    assert order.status == "Cancelled"
    assert (held(product), held(plate)) == (1, 0)
    assert {line.num_allocated for line in order.lines.all()} == {0}


@pytest.mark.parametrize(("shipped", "is_released"), [(2, False), (1, True)])
def test_stock_of_shipped_goods_is_not_released(cancel, product, shipped, is_released):
    """Only stock that shipping has not consumed is released."""
    place_order({product: 4})
    order = place_order({product: 2})
    handler = get_class("order.processing", "EventHandler")()
    handler.consume_stock_allocations(order, order.lines.all(), [shipped])
    order.refresh_from_db()

    cancel(order)

    assert held(product) == 4
    assert allocated(order) == [(0, is_released)]


def test_products_without_stock_tracking_are_skipped(cancel, product):
    """Digital products allocate and release nothing."""
    course = create_plate("Course")
    course.product_class.track_stock = False
    course.product_class.save()
    order = place_order({course: 1})

    report = cancel(order)

    assert (order.status, report.failures) == ("Cancelled", 0)
    assert held(course) == 0


def test_paying_keeps_stock_allocated(invoice_for, fake, product):
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
    return create_voucher()


def test_single_use_voucher_can_be_used_again(cancel, product, voucher):
    """The voucher of a cancelled order is available again, with its counts as before."""
    order = place_order({product: 1}, voucher)
    voucher.refresh_from_db()
    offer = voucher.offers.get()
    assert not voucher.is_available_to_user(AnonymousUser())[0]
    assert (voucher.num_orders, voucher.total_discount) == (1, Decimal("2.00"))
    assert (offer.num_applications, offer.num_orders, offer.total_discount) == (1, 1, 2)

    cancel(order)

    voucher.refresh_from_db()
    offer.refresh_from_db()
    assert voucher.is_available_to_user(AnonymousUser())[0]
    assert (voucher.num_orders, voucher.total_discount) == (0, 0)
    assert (offer.num_applications, offer.num_orders, offer.total_discount) == (0, 0, 0)
    again = place_order({product: 1}, Voucher.objects.get(pk=voucher.pk))
    assert again.total_incl_tax == Decimal("8.00")
    assert not voucher.is_available_to_user(AnonymousUser())[0]


def test_voucher_once_per_customer_can_be_used_again(cancel, product, voucher, django_user_model):
    """A customer whose order was cancelled can use the voucher again."""
    user = django_user_model.objects.create_user("ada", "ada@example.com", "secret")
    Voucher.objects.update(usage=Voucher.ONCE_PER_CUSTOMER)
    voucher.refresh_from_db()
    order = place_order({product: 1}, voucher, user)
    assert not voucher.is_available_to_user(user)[0]

    cancel(order)

    assert voucher.is_available_to_user(user)[0]


def test_other_orders_keep_their_use_of_a_voucher(cancel, product, voucher):
    """Cancelling one of two orders releases one use of the voucher."""
    Voucher.objects.update(usage=Voucher.MULTI_USE)
    place_order({product: 2}, Voucher.objects.get())
    order = place_order({product: 1}, Voucher.objects.get())

    cancel(order)

    voucher.refresh_from_db()
    offer = voucher.offers.get()
    assert (voucher.applications.count(), voucher.num_orders) == (1, 1)
    assert voucher.total_discount == Decimal("4.00")
    assert (offer.num_orders, offer.total_discount) == (1, Decimal("4.00"))


def test_voucher_counts_never_go_below_zero(cancel, product, voucher):
    """Counts that were reset before do not prevent cancelling."""
    order = place_order({product: 1}, voucher)
    Voucher.objects.update(num_orders=0, total_discount=0)
    ConditionalOffer.objects.update(num_applications=0, num_orders=0, total_discount=0)

    report = cancel(order)

    assert (order.status, report.failures) == ("Cancelled", 0)
    voucher.refresh_from_db()
    assert (voucher.num_orders, voucher.total_discount) == (0, 0)


def test_deleted_voucher_does_not_prevent_cancelling(cancel, product, voucher):
    """An order whose voucher and offer were deleted is cancelled."""
    order = place_order({product: 1}, voucher)
    ConditionalOffer.objects.all().delete()
    voucher.delete()

    report = cancel(order)

    assert (order.status, report.failures) == ("Cancelled", 0)
    assert held(product) == 0


def test_paid_order_keeps_its_voucher(invoice_for, fake, product, voucher):
    """Only cancelling releases a voucher."""
    order = place_order({product: 1}, voucher)
    invoice = invoice_for(order)
    fake.payments = [bitsby.payment_item(invoice=bitsby.invoice_item(invoice, "paid"))]

    reconciliation.reconcile()

    voucher.refresh_from_db()
    assert not voucher.is_available_to_user(AnonymousUser())[0]


# Status


def test_status_is_changed_with_history_note_and_signal(order, listening):
    """The order gets its status, an entry in its history and a note from the system."""
    changes = []
    listening(
        order_status_changed,
        None,
        lambda order, old_status, new_status, **rest: changes.append((old_status, new_status)),
    )

    assert transitions.change_order_status(order, "Being processed", "It is paid.")

    assert order.status == "Being processed"
    order.refresh_from_db()
    assert order.status == "Being processed"
    assert [(note.message, note.note_type) for note in order.notes.all()] == [
        ("It is paid.", "System")
    ]
    assert changes == [("Pending", "Being processed")]


def test_status_that_the_pipeline_forbids_is_refused_and_logged(order, caplog):
    """Nothing changes, and the log names the order, both statuses and the setting."""
    assert transitions.change_order_status(order, "Complete", "It is complete.") is False

    assert order.status == "Pending"
    assert (order.status_changes.count(), order.notes.count()) == (0, 0)
    assert caplog.messages == [
        f"order {order.number} cannot move from 'Pending' to 'Complete':"
        " OSCAR_ORDER_STATUS_PIPELINE does not allow it"
    ]


@pytest.mark.parametrize("status", ["Being processed", "Cancelled"])
def test_failing_receiver_is_logged_and_the_status_changes(order, listening, caplog, status):
    """Status, history and note are written although a receiver of the shop fails."""

    def fail(**kwargs):
        raise RuntimeError("the shop's receiver is broken")

    listening(order_status_changed, None, fail)

    assert transitions.change_order_status(order, status, "Why.")

    order.refresh_from_db()
    assert order.status == status
    change = order.status_changes.get()
    assert (change.old_status, change.new_status) == ("Pending", status)
    assert [(note.message, note.note_type) for note in order.notes.all()] == [("Why.", "System")]
    assert caplog.messages == [
        f"a receiver or handler failed: order={order.number} status={status}"
    ]
    assert "the shop's receiver is broken" in caplog.text


def test_failing_handler_does_not_bypass_the_pipeline(order, monkeypatch):
    """When a handler of the shop fails, a status that is not allowed is still refused."""

    def fail(*args, **kwargs):
        raise RuntimeError("the shop's handler is broken")

    name = "oscar.apps.order.processing.EventHandler.handle_order_status_change"
    monkeypatch.setattr(name, fail)

    assert transitions.change_order_status(order, "Complete", "Why.") is False
    assert order.status == "Pending"
    order.refresh_from_db()
    assert (order.status, order.notes.count()) == ("Pending", 0)


# Reopening


@pytest.fixture
def cancelled(product, settings, monkeypatch):
    """Return a cancelled order of three mugs and a plate, which the pipeline lets be paid."""
    order = place_order({product: 3, create_plate(): 1})
    assert transitions.change_order_status(order, "Cancelled", "Not paid.")
    transitions.release_order(order)
    pipeline = {**settings.OSCAR_ORDER_STATUS_PIPELINE, "Cancelled": ("Being processed",)}
    monkeypatch.setattr(type(order), "pipeline", pipeline)
    return order


def allocated(order):
    return [(line.num_allocated, line.allocation_cancelled) for line in order.lines.order_by("pk")]


def test_reopened_order_has_its_stock_again(cancelled, product):
    """Status, note and stock of every line are as those of a paid order."""
    assert (held(product), allocated(cancelled)) == (0, [(0, True), (0, True)])

    assert transitions.reopen_order(cancelled, "Being processed", "Paid late.")

    cancelled.refresh_from_db()
    assert cancelled.status == "Being processed"
    assert cancelled.notes.filter(message="Paid late.").exists()
    assert (held(product), allocated(cancelled)) == (3, [(3, False), (1, False)])


@pytest.mark.parametrize(
    ("mugs", "plates", "reopens"), [(3, 1, True), (2, 1, False), (3, None, False), (3, 0, False)]
)
def test_order_is_reopened_only_with_enough_stock(cancelled, product, mugs, plates, reopens):
    """With less stock than ordered, neither status nor any line's stock changes."""
    StockRecord.objects.update(num_in_stock=plates, num_allocated=0)
    product.stockrecords.update(num_in_stock=mugs)

    assert transitions.reopen_order(cancelled, "Being processed", "Paid late.") is reopens

    assert cancelled.status == ("Being processed" if reopens else "Cancelled")
    expected = [(3, False), (1, False)] if reopens else [(0, True), (0, True)]
    assert allocated(cancelled) == expected


def test_order_is_not_reopened_if_one_stock_record_was_deleted(cancelled, product):
    """Without a stock record the stock of a line cannot be allocated."""
    cancelled.lines.order_by("-pk").first().stockrecord.delete()

    assert not transitions.reopen_order(cancelled, "Being processed", "Paid late.")

    assert (cancelled.status, held(product)) == ("Cancelled", 0)


def test_order_is_not_reopened_against_the_pipeline(cancelled, product):
    """A status that the pipeline does not allow takes no stock."""
    assert transitions.reopen_order(cancelled, "Complete", "Paid late.") is False

    assert (cancelled.status, held(product)) == ("Cancelled", 0)


def test_stock_that_is_still_allocated_is_not_allocated_again(cancelled, product):
    """A line whose allocation was not cancelled keeps it."""
    cancelled.lines.filter(product=product).update(num_allocated=3, allocation_cancelled=False)
    product.stockrecords.update(num_allocated=3)

    assert transitions.reopen_order(cancelled, "Being processed", "Paid late.")

    assert held(product) == 3


def test_products_without_stock_tracking_are_reopened_without_stock(cancelled, product):
    """A product whose stock is no longer tracked needs no stock."""
    product.stockrecords.update(num_in_stock=0, num_allocated=0)
    product.product_class.track_stock = False
    product.product_class.save()

    assert transitions.reopen_order(cancelled, "Being processed", "Paid late.")

    assert held(product) == 0


# Releasing


def test_every_count_of_voucher_and_offer_is_released_as_it_was_used(cancel, product, voucher):
    """An offer that was applied several times is released as many times."""
    order = place_order({product: 1}, voucher)
    offer = voucher.offers.get()
    order.discounts.update(frequency=3)
    ConditionalOffer.objects.update(num_applications=5, num_orders=5, total_discount=9)
    Voucher.objects.update(num_orders=5, total_discount=9)

    cancel(order)

    offer.refresh_from_db()
    voucher.refresh_from_db()
    assert (offer.num_applications, offer.num_orders, offer.total_discount) == (2, 4, 7)
    assert (voucher.num_orders, voucher.total_discount) == (4, 7)


def test_discount_without_a_frequency_releases_no_application(cancel, product, voucher):
    """A missing frequency counts as zero."""
    order = place_order({product: 1}, voucher)
    order.discounts.update(frequency=None)
    before = voucher.offers.get().num_applications

    cancel(order)

    assert voucher.offers.get().num_applications == before


def test_failing_stock_signal_is_logged(product, listening, caplog):
    """The log names the order whose stock was released without signals."""
    order = place_order({product: 2})

    def fail(**kwargs):
        raise ConnectionError("the mail server is down")

    listening(pre_save, StockRecord, fail)
    with caplog.at_level(logging.ERROR):
        transitions.release_order(order)

    assert caplog.messages == [f"stock released without signals: order={order.number}"]
    assert "the mail server is down" in caplog.text
    assert held(product) == 0
    assert allocated(order) == [(0, True)]


def test_stock_never_goes_below_zero_without_signals(product, listening):
    """Stock that was corrected by hand meanwhile does not become negative."""
    order = place_order({product: 2})
    StockRecord.objects.update(num_allocated=F("num_allocated") - 1)

    def fail(**kwargs):
        raise ConnectionError("the mail server is down")

    listening(pre_save, StockRecord, fail)
    transitions.release_order(order)

    assert held(product) == 0


def test_stock_records_are_changed_in_oscars_order(product, listening):
    """Releasing and reopening lock stock records in the order of their keys, to avoid deadlocks."""
    order, changed = place_order({create_plate("Bowl"): 1, product: 1}), []
    listening(pre_save, StockRecord, lambda instance, **rest: changed.append(instance.pk))

    transitions.release_order(order)
    assert transitions.reopen_order(order, "Cancelled", "Test.")

    assert changed == sorted(set(changed)) * 2


def test_shops_handler_gets_the_order_whose_stock_is_released(order, monkeypatch):
    """A handler of the shop can use the order, as in Oscar's own calls."""
    calls = []
    monkeypatch.setattr(
        "oscar.apps.order.processing.EventHandler.cancel_stock_allocations",
        lambda handler, *args: calls.append(args),
    )

    transitions.release_order(order)

    assert calls == [(order, [order.lines.get()], [1])]


def test_reopening_keeps_what_others_change_on_a_line(cancelled, listening):
    """Only the allocation of a line is written."""
    listening(pre_save, StockRecord, lambda **rest: cancelled.lines.update(status="Packed"))

    assert transitions.reopen_order(cancelled, "Being processed", "Paid late.")

    assert {line.status for line in cancelled.lines.all()} == {"Packed"}
