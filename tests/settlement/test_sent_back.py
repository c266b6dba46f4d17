"""Pending orders whose money was sent back: they can be paid or cancelled again."""

from decimal import Decimal

import pytest

from oscar_bitsby import facade
from oscar_bitsby.choices import InvoiceStatus, MailCode, Resolution
from oscar_bitsby.exceptions import NotPayable
from oscar_bitsby.mails import context
from oscar_bitsby.models import BitsbyPayment, BuyerMail
from oscar_bitsby.orders import payment_status
from oscar_bitsby.settlement import cancellation, refunds, short_payments
from oscar_bitsby.staff import review
from tests.support import bitsby
from tests.support.refunds import new_hash, request_refund, sent_refund, with_address
from tests.support.settling import booked, reload, status_of

pytestmark = pytest.mark.django_db


@pytest.fixture
def mismatch(invoice, settle):
    """A payment that is not booked, of an invoice that Bitsby calls paid by it."""
    settle(invoice, payment=(transfer := bitsby.transfer()), amountFiat="99.00")
    return transfer


@pytest.fixture
def asked(order, invoice_for, settle):
    """A payment of 6 of 10 dollars whose buyer was asked for the rest."""
    settle(invoice_for(order, asks_for_rest=True), payment=bitsby.transfer("6.00000000"))
    return BitsbyPayment.objects.get()


def only_payment():
    return BitsbyPayment.objects.get()


def assert_is_cancelled(order, cancel, move_time, product):
    move_time(hours=25)
    stock = product.stockrecords.get().num_allocated
    assert stock > 0
    assert cancel(order, "paid")
    assert status_of(order) == "Cancelled"
    assert product.stockrecords.get().num_allocated < stock


def test_order_whose_unbooked_payment_was_refunded_is_cancelled(
    order, invoice, mismatch, settle, staff_user, cancel, move_time, product
):
    """Its stock is not held for ever, and its note says what became of the payment."""
    sent_refund(staff_user, only_payment(), "10.00")

    invoice = reload(invoice)
    assert (invoice.status, invoice.order_awaits_payment) == (InvoiceStatus.CANCELED, True)
    assert invoice.failure == cancellation.SENT_BACK
    # A second delivery says nothing new.
    settle(invoice, payment=mismatch, amountFiat="99.00")
    assert reload(invoice).status == InvoiceStatus.CANCELED
    assert only_payment().resolution == Resolution.REFUNDED
    assert_is_cancelled(order, cancel, move_time, product)
    assert order.notes.latest("pk").message.startswith("Cancelled: its payment was refunded")


def test_buyer_of_a_refunded_order_is_not_told_that_nothing_came(
    order, mismatch, staff_user, cancel, move_time
):
    """The e-mail about the cancelled order says that the payment is refunded."""
    sent_refund(staff_user, only_payment(), "10.00")
    move_time(hours=25)
    cancel(order, "paid")

    mail = BuyerMail.objects.get(code=MailCode.CANCELLED)
    mail.language = "en"
    body = context.render(mail)["body"]
    assert "is refunded, and no other has arrived" in body
    assert "haven't received" not in body


def test_open_refund_is_no_new_reason(invoice, mismatch, settle, staff_user):
    """A payment that stays bound to the same invoice was not bound anew."""
    request_refund(staff_user, only_payment(), "10.00")

    settle(invoice, payment=mismatch, amountFiat="99.00")

    assert only_payment().review_reasons == ["mismatch"]


def test_order_whose_booked_money_was_refunded_is_cancelled(
    order, asked, settle, staff_user, cancel, move_time, product
):
    """A pending order that was paid in part and refunded waits for nothing."""
    sent_refund(staff_user, asked, "6.00")

    assert reload(asked).resolution == Resolution.REFUNDED
    invoice = reload(asked.invoice)
    assert (invoice.status, invoice.order_awaits_payment) == (InvoiceStatus.CANCELED, True)
    move_time(hours=25)
    assert not short_payments.flag_missing_rest(order.pk, only_if_due=True)
    # A run fetches it before it cancels the order.
    known = {
        "id": str(asked.bitsby_id),
        "amount": "6.00000000",
        "hash": asked.hash,
        "transactionDatetime": "2026-01-01 00:00:00",
    }
    settle(invoice, payment=known)
    assert reload(invoice).status == InvoiceStatus.CANCELED
    move_time(hours=-25)
    assert_is_cancelled(order, cancel, move_time, product)
    assert [amount for _, amount in booked(order)] == [6, 6]


def test_order_is_kept_as_long_as_it_holds_money(order, asked, staff_user, cancel, move_time):
    """A part of the money that was sent back changes nothing."""
    sent_refund(staff_user, asked, "2.00")

    assert reload(asked.invoice).status == InvoiceStatus.PAID
    assert reload(asked).resolution == Resolution.ASKED
    move_time(hours=50)
    assert not cancel(order, "paid")


def test_buyer_can_pay_a_refunded_order_again(fake, order, asked, staff_user):
    """Until its hold is over, the whole total is due again."""
    sent_refund(staff_user, asked, "6.00")

    assert payment_status.get_payment_status(order).can_pay
    assert facade.start_payment(order).amount == order.total_incl_tax


def test_rest_is_not_asked_for_while_its_payment_is_to_be_refunded(fake, order, asked, staff_user):
    """The buyer would pay the rest of money that goes back."""
    refund = request_refund(staff_user, asked, "6.00")

    status = payment_status.get_payment_status(order)
    assert (status.state, status.missing, status.is_refund_open) == ("under_review", 0, True)
    with pytest.raises(NotPayable):
        facade.start_payment(order)
    mail = BuyerMail.objects.get(code=MailCode.REST)
    assert context.skip_reason(mail) == "the rest is no longer asked for"

    refunds.cancel(refund.pk, staff_user, "mistake")
    assert facade.start_payment(order).amount == 4


def test_payment_of_an_order_without_money_cannot_be_accepted(order, asked, staff_user):
    """The order would become paid although everything was refunded; dismissing it is possible."""
    short_payments.flag_missing_rest(order.pk)
    refund = refunds.request_refund(
        user=staff_user,
        note="",
        order=order,
        amount=Decimal(6),
        coin_amount=Decimal(6),
        cryptocurrency="usdt",
        blockchain="tron",
    )
    refunds.mark_sent(with_address(refund).pk, new_hash(), staff_user)

    result = review.accept(asked.pk, staff_user, "")
    assert (result.done, status_of(order)) == (False, "Pending")
    assert "holds no money any more" in result.message
    assert review.dismiss(asked.pk, staff_user, "refunded").done
    assert reload(asked.invoice).status == InvoiceStatus.CANCELED


def test_refunded_payment_that_was_rebound_cannot_be_accepted(
    order, invoice, settle, place, invoice_for, staff_user
):
    """Its money is gone, whatever Bitsby says it is bound to."""
    transfer = bitsby.transfer()
    settle(invoice, payment=transfer)
    sent_refund(staff_user, only_payment())
    settle(invoice_for(place()), payment=transfer)
    assert only_payment().review_reasons == ["rebound"]

    result = review.accept(only_payment().pk, staff_user, "")

    assert (result.done, only_payment().resolution) == (False, "")
    assert "was refunded" in result.message


def test_order_that_waits_with_money_is_not_forgotten(order, asked, staff_user):
    """Once dismissed, nobody would see the payment of an order that is never cancelled."""
    short_payments.flag_missing_rest(order.pk)

    result = review.dismiss(asked.pk, staff_user, "no idea")

    assert (result.done, reload(asked).resolution) == (False, "")
    assert "Accept the payment or refund it" in result.message


def test_decision_of_the_app_is_not_by_a_former_user(asked, staff_user):
    """Nobody was asked."""
    result = review.accept(asked.pk, staff_user, "")

    assert result.message.endswith("by the app.")
