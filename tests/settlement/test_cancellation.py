"""Cancelling orders that are not paid."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import pytest
from django.utils import timezone
from oscar.apps.order.signals import order_status_changed
from oscar.core.loading import get_model

from oscar_bitsby.choices import InvoiceStatus
from oscar_bitsby.gateway import parsing
from oscar_bitsby.models import BitsbyInvoice, BitsbyPayment
from oscar_bitsby.settlement import cancellation
from oscar_bitsby.staff import review
from tests import bitsby
from tests.support.settling import status_of

Source = get_model("payment", "Source")
SourceType = get_model("payment", "SourceType")

pytestmark = pytest.mark.django_db


def test_an_unpaid_order_is_cancelled_and_its_stock_released(order, ended, cancel, product):
    """Status, history, note and stock all show that the order is given up."""
    stock = product.stockrecords.get()
    assert stock.num_allocated == 1

    assert cancel(order)

    stock.refresh_from_db()
    assert (status_of(order), stock.num_allocated) == ("Cancelled", 0)
    assert order.status_changes.get().new_status == "Cancelled"
    assert "Cancelled" in order.notes.get().message
    assert not BitsbyInvoice.objects.filter(order_awaits_payment=True).exists()


def test_cancelling_twice_gives_back_once(order, ended, cancel, place, product):
    """A second cancelling finds the order cancelled and releases nothing of other orders."""
    place()
    assert cancel(order)
    assert not cancel(order)

    assert product.stockrecords.get().num_allocated == 1


@pytest.mark.parametrize("word", ["unpaid", "paid", "confirming", ""])
def test_an_order_whose_invoice_may_be_open_is_not_cancelled(order, ended, cancel, word):
    """Only ``expired`` and ``canceled`` say that no money can come for an invoice."""
    assert not cancel(order, word)
    assert status_of(order) == "Pending"


def test_an_order_whose_invoice_bitsby_does_not_know_is_not_cancelled(order, ended):
    """No word about an invoice is no proof that it was not paid."""
    assert not cancellation.cancel_unpaid_order(order.pk, {})
    assert status_of(order) == "Pending"


def test_each_of_an_orders_invoices_must_be_known_to_be_over(order, ended, invoice_for, cancel):
    """One invoice without Bitsby's word keeps the order, whatever is said of the others."""
    other = invoice_for(order, InvoiceStatus.CANCELED, ended_at=ended.ended_at)
    remote = {ended.bitsby_id: parsing.parse_invoice(bitsby.invoice_item(ended, "expired"))}
    assert not cancellation.cancel_unpaid_order(order.pk, remote)

    remote[other.bitsby_id] = parsing.parse_invoice(bitsby.invoice_item(other, "canceled"))
    assert cancellation.cancel_unpaid_order(order.pk, remote)


@pytest.mark.parametrize("status", [InvoiceStatus.UNPAID, InvoiceStatus.CREATING])
def test_an_order_with_another_live_invoice_is_not_cancelled(
    order, ended, invoice_for, cancel, status
):
    """A live invoice keeps its order, even when Bitsby calls it expired already."""
    invoice_for(order, status)

    assert not cancel(order)


def test_an_order_with_a_paid_invoice_is_not_cancelled(order, ended, invoice_for, cancel):
    """An invoice that our own records call paid keeps its order."""
    invoice_for(order, InvoiceStatus.PAID)

    assert not cancel(order)


@pytest.mark.parametrize("status", ["Being processed", "Complete", "Cancelled"])
def test_an_order_in_another_status_is_left_alone(place, invoice_for, cancel, product, status):
    """Staff's word is not overruled, and nothing of that order is given back."""
    order = place(status=status)
    long_ago = timezone.now() - dt.timedelta(days=1)
    invoice_for(order, InvoiceStatus.EXPIRED, ended_at=long_ago)

    assert not cancel(order)
    assert status_of(order) == status
    assert product.stockrecords.get().num_allocated == 1


@pytest.mark.parametrize("refunded", [0, 4])
def test_an_order_that_another_source_paid_is_not_cancelled(order, ended, cancel, refunded):
    """A card's money keeps the order pending or not, as long as some of it is there."""
    card = SourceType.objects.create(name="Card", code="card")
    Source.objects.create(
        order=order,
        source_type=card,
        currency="USD",
        amount_debited=10,
        amount_refunded=refunded,
    )

    assert not cancel(order)
    assert status_of(order) == "Pending"


def test_an_order_partly_paid_is_not_cancelled(order, ended, cancel):
    """Any money in the books keeps the order from being cancelled."""
    order.sources.update(amount_debited=Decimal("0.01"))

    assert not cancel(order)


def test_an_order_is_not_cancelled_before_its_time(order, invoice_for, cancel, move_time):
    """``CANCEL_AFTER`` counts from the end of the last invoice."""
    now = timezone.now()
    invoice_for(order, InvoiceStatus.EXPIRED, ended_at=now - dt.timedelta(hours=9))
    invoice_for(order, InvoiceStatus.EXPIRED, ended_at=now - dt.timedelta(minutes=50))

    assert not cancel(order)
    move_time(minutes=11)
    assert cancel(order)


def test_cancel_after_zero_waits_for_nothing(order, invoice_for, cancel, settings):
    """``timedelta(0)`` cancels as soon as the last invoice has ended."""
    settings.OSCAR_BITSBY = {**settings.OSCAR_BITSBY, "CANCEL_AFTER": dt.timedelta(0)}
    invoice_for(order, InvoiceStatus.EXPIRED, ended_at=timezone.now())

    assert cancel(order)


def test_cancel_after_none_never_cancels(order, ended, cancel, settings, move_time):
    """``None`` leaves every order to staff."""
    settings.OSCAR_BITSBY = {**settings.OSCAR_BITSBY, "CANCEL_AFTER": None}
    move_time(days=300)

    assert not cancel(order)
    assert status_of(order) == "Pending"


def test_an_attempt_without_an_answer_does_not_keep_its_order(order, invoice_for, cancel):
    """An attempt that never got an invoice was shown to nobody, so no money can come for it."""
    invoice_for(
        order,
        InvoiceStatus.EXPIRED,
        bitsby_id=None,
        uid="",
        ended_at=timezone.now() - dt.timedelta(hours=2),
    )

    assert cancel(order)


def test_a_pipeline_that_forbids_cancelling_keeps_order_and_stock(
    order, ended, cancel, settings, product
):
    """What the shop does not allow is not done by halves."""
    settings.OSCAR_BITSBY = {**settings.OSCAR_BITSBY, "ORDER_STATUS_CANCELLED": "Complete"}

    assert not cancel(order)
    assert status_of(order) == "Pending"
    assert product.stockrecords.get().num_allocated == 1


def test_a_raising_receiver_does_not_stop_the_cancelling(order, ended, cancel, raising, product):
    """The order is cancelled and its stock released although ``order_status_changed`` raises."""
    raising(order_status_changed)

    assert cancel(order)
    assert status_of(order) == "Cancelled"
    assert product.stockrecords.get().num_allocated == 0


def test_a_dry_run_cancels_nothing(order, ended, cancel, product):
    """``dry_run`` says that the order would be cancelled, and leaves it."""
    assert cancel(order, dry_run=True)

    assert status_of(order) == "Pending"
    assert product.stockrecords.get().num_allocated == 1
    ended.refresh_from_db()
    assert ended.order_awaits_payment


def test_a_deleted_order_is_no_error(order, ended):
    """An order that vanished between question and lock is simply not cancelled."""
    pk = order.pk
    order.delete()

    assert cancellation.cancel_unpaid_order(pk, {}) is False


def test_dismissed_money_no_longer_keeps_the_order(order, ended, settle, cancel, django_user_model):
    """Once staff have dealt with the money, the order can be cancelled for want of payment."""
    staff = django_user_model.objects.create_user("staff", "staff@example.com", "secret")
    settle(ended, "expired", payment=bitsby.transfer())
    assert not cancel(order)

    assert review.dismiss(BitsbyPayment.objects.get().pk, staff, "refunded by hand").done

    assert cancel(order)
    assert status_of(order) == "Cancelled"
