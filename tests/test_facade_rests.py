"""Paying the rest of an order: what a click on "Pay" leads to after a short payment."""

import datetime as dt
from decimal import Decimal

import pytest
from django.utils import timezone

from oscar_bitsby import reconciliation
from oscar_bitsby.choices import MailCode, Resolution, ReviewReason
from oscar_bitsby.exceptions import ConnectionFailed, HoldEnded, NotPayable
from oscar_bitsby.facade import start_payment
from oscar_bitsby.mails import sender
from oscar_bitsby.models import BitsbyPayment
from oscar_bitsby.orders import signed_urls
from tests.support import bitsby
from tests.support.settling import reload, status_of
from tests.support.starting import create_requests, start_listed

pytestmark = pytest.mark.django_db


@pytest.fixture
def asked(order, invoice_for, fake):
    """A payment of 6 of 10 dollars, which a run has booked; its buyer was asked for the rest."""
    invoice = invoice_for(order, asks_for_rest=True)
    payment = bitsby.transfer("6.00000000")
    remote = bitsby.invoice_item(invoice, "paid", payment=payment)
    fake.payments = [bitsby.payment_item(payment, remote)]
    reconciliation.reconcile()
    fake.requests.clear()
    return BitsbyPayment.objects.get(resolution=Resolution.ASKED)


def in_review():
    return [row.review_reasons for row in BitsbyPayment.objects.needs_review()]


def test_next_invoice_asks_for_the_rest_only(order, asked, fake):
    """The order owes 4 of 10 dollars, and a second click leads to the same invoice."""
    invoice = start_payment(order)

    assert (invoice.amount, invoice.is_for_rest) == (Decimal(4), True)
    assert [fields["amountFiat"] for fields in create_requests(fake)] == ["4.00"]
    assert start_payment(order) == invoice
    assert len(create_requests(fake)) == 1


def test_first_invoice_is_not_for_a_rest(order, fake):
    """It asks for the total."""
    assert not start_payment(order).is_for_rest


def test_live_invoice_of_the_whole_total_is_replaced(order, asked, invoice_for, fake):
    """The buyer never pays in full what is paid in part."""
    full = invoice_for(order)
    fake.invoices = [bitsby.invoice_item(full)]

    invoice = start_payment(order)

    assert (invoice.amount, reload(full).status) == (Decimal(4), "canceled")


@pytest.mark.parametrize("is_booked", [True, False])
def test_nothing_is_asked_for_while_another_payment_waits_for_staff(order, asked, fake, is_booked):
    """Staff decide about it first, whether it is booked or not."""
    BitsbyPayment.objects.create(
        bitsby_id=bitsby.new_id(),
        invoice=asked.invoice,
        amount=1,
        review_reason=ReviewReason.SECOND,
        booked_at=timezone.now() if is_booked else None,
    )

    with pytest.raises(NotPayable):
        start_payment(order)

    assert fake.requests == []


def test_nothing_is_asked_for_while_an_invoice_is_paid_by_unknown_money(
    order, asked, invoice_for, fake
):
    """A paid invoice whose payment is not booked may have paid the rest."""
    invoice_for(order, "paid")

    with pytest.raises(NotPayable):
        start_payment(order)


def test_order_with_money_that_was_not_asked_about_is_not_payable(order, asked):
    """A short payment that staff have not decided about leads to no further invoice."""
    BitsbyPayment.objects.update(resolution="", resolved_at=None)

    with pytest.raises(NotPayable):
        start_payment(order)


def test_rest_is_gone_when_another_source_has_paid_it(order, asked):
    """The order owes nothing."""
    order.sources.update(amount_debited=10)

    with pytest.raises(NotPayable):
        start_payment(order)

    assert in_review() == []


def test_fourth_invoice_for_a_rest_is_refused_and_staff_see_it(order, asked, fake, move_time):
    """After three invoices the payment is in review, and Bitsby is asked for nothing."""
    for _ in range(3):
        start_listed(order, fake, "expired")
        move_time(minutes=62)

    with pytest.raises(NotPayable):
        start_payment(order)

    assert len(create_requests(fake)) == 3
    assert in_review() == [["rest_missing"]]
    assert status_of(order) == "Pending"


def test_failed_attempts_do_not_use_up_the_invoices_for_the_rest(order, asked, fake, move_time):
    """Only invoices that the buyer could pay count."""
    for _ in range(3):
        fake.on("/invoices/create", ConnectionError("down"))
        with pytest.raises(ConnectionFailed):
            start_payment(order)
        move_time(minutes=11)
    fake.on("/invoices/create", fake.invoices_create)

    assert start_payment(order).amount == Decimal(4)
    assert in_review() == []


def test_rest_that_bitsby_refuses_is_for_staff(order, asked, fake, guest):
    """It may be too small: the buyer is sent to the order's page, and staff see the payment."""
    fake.on("/invoices/create", bitsby.error("Amount is too small"))

    response = guest.post(signed_urls.pay_url(order))

    assert response["Location"] == signed_urls.order_url(order)
    assert in_review() == [["rest_missing"]]
    with pytest.raises(NotPayable):
        start_payment(order)


def test_refused_invoice_of_the_total_flags_nothing(order, fake, guest):
    """Without money there is nothing to review."""
    fake.on("/invoices/create", bitsby.error("Amount is too small"))

    assert guest.post(signed_urls.pay_url(order)).status_code == 200
    assert not BitsbyPayment.objects.exists()


def test_rest_below_the_smallest_amount_is_for_staff(order, asked, fake, configure):
    """``MIN_AMOUNT`` was raised after the buyer had been asked."""
    configure(MIN_AMOUNT=5)

    with pytest.raises(NotPayable):
        start_payment(order)

    assert (create_requests(fake), in_review()) == ([], [["rest_missing"]])


# Times


def test_hold_counts_from_when_the_rest_was_asked_for(order, asked, fake, move_time):
    """An order that was placed a month ago can be paid for a day, and no longer."""
    type(order).objects.update(date_placed=timezone.now() - dt.timedelta(days=30))
    move_time(hours=23, minutes=50)
    start_listed(order, fake, "expired")
    move_time(minutes=70)

    with pytest.raises(HoldEnded):
        start_payment(order)


def test_order_whose_rest_is_missing_is_flagged_and_not_cancelled(
    order, asked, fake, move_time, product
):
    """When its time is over, staff see the payment once, and the order keeps its stock."""
    move_time(hours=23, minutes=50)
    assert (reconciliation.reconcile().flagged, in_review()) == (0, [])
    move_time(minutes=20)
    assert reconciliation.reconcile(dry_run=True).flagged == 1
    assert in_review() == []

    assert [reconciliation.reconcile().flagged for _ in range(2)] == [1, 0]

    assert in_review() == [["rest_missing"]]
    assert status_of(order) == "Pending"
    assert product.stockrecords.get().num_allocated == 1


def test_live_invoice_for_the_rest_can_be_paid_after_the_hold(order, asked, fake, move_time):
    """The payment is flagged once the last invoice has ended."""
    move_time(hours=23, minutes=50)
    start_listed(order, fake)
    move_time(minutes=20)
    reconciliation.reconcile()
    assert in_review() == []

    move_time(minutes=50)
    fake.invoices[0]["status"] = "expired"
    reconciliation.reconcile()

    assert in_review() == [["rest_missing"]]


def test_without_a_hold_the_rest_is_missing_after_its_last_invoice(
    order, asked, fake, move_time, configure
):
    """``CANCEL_AFTER`` then counts; before the first invoice for the rest there is no end."""
    configure(HOLD_ORDER_FOR=None)
    move_time(days=5)
    reconciliation.reconcile()
    assert in_review() == []

    start_listed(order, fake, "expired")
    move_time(minutes=61)
    reconciliation.reconcile()
    assert in_review() == []
    move_time(minutes=61)
    reconciliation.reconcile()

    assert in_review() == [["rest_missing"]]
    assert status_of(order) == "Pending"


# The e-mail


def test_mail_names_what_arrived_what_is_missing_and_until_when(order, asked, mailoutbox):
    """The run that books sends it, with a link to the order's page and a hint about fees."""
    del mailoutbox[:]
    order.bitsby_mails.filter(code=MailCode.REST).update(status="waiting")
    sender.send_pending()

    (message,) = mailoutbox
    assert message.subject == f"Order {order.number}: $4.00 is still missing"
    for words in (
        f"We've received 6 USDT for order {order.number}, worth $6.00.",
        "$4.00 of the order total of $10.00 is still missing.",
        "Please pay the missing $4.00 by",
        signed_urls.order_url(order).split("/orders/")[0],
        "deduct their fee",
    ):
        assert words in message.body
    ((html, _),) = message.alternatives
    assert "Pay the missing $4.00" in html


def test_mail_is_not_sent_when_the_rest_is_no_longer_asked_for(order, asked, mailoutbox):
    """Staff decided otherwise before it was sent."""
    del mailoutbox[:]
    order.bitsby_mails.filter(code=MailCode.REST).update(status="waiting")
    BitsbyPayment.objects.update(resolution=Resolution.ACCEPTED)

    sender.send_pending()

    assert mailoutbox == []
    assert order.bitsby_mails.get(code=MailCode.REST).status == "dropped"


def test_rest_that_no_longer_covers_the_total_does_not_pay_the_order(order, asked, fake):
    """Staff raised the total, or sent the first payment back: the buyer owes the difference."""
    invoice = start_payment(order)
    type(order).objects.filter(pk=order.pk).update(total_incl_tax=Decimal(20))
    remote = bitsby.invoice_item(invoice, "paid", payment=bitsby.transfer(invoice_coins(invoice)))
    fake.invoices, fake.payments = [remote], [bitsby.payment_item(remote["payment"], remote)]

    reconciliation.reconcile()

    assert status_of(order) == "Pending"
    assert BitsbyPayment.objects.filter(resolution=Resolution.ASKED).count() == 2
    assert start_payment(order).amount == 10


def invoice_coins(invoice):
    """Return what an invoice reserved in USDT on Tron."""
    wallets = {wallet["id"]: wallet["amount"] for wallet in invoice.wallets}
    return wallets[bitsby.TRON]
