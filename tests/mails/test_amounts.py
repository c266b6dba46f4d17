"""What the e-mails say when a payment was not exactly right, or may be the buyer's."""

import datetime as dt
from decimal import Decimal

import pytest
from django.core import mail
from django.utils import timezone

from oscar_bitsby import reconciliation
from oscar_bitsby.choices import InvoiceStatus, MailCode
from oscar_bitsby.mails import outbox, sender
from tests.support import bitsby
from tests.support.amounts import ask_for_rest, book, book_and_pay
from tests.support.mails import assert_one_mail, html_of, local_time, plain_text, sent_codes
from tests.support.unbound import receive, wallets

pytestmark = pytest.mark.django_db

NOTHING_TO_DO = "You don't need to do anything else"


def send(code, order, **about):
    """Enqueue an e-mail and send it."""
    outbox.enqueue(code, order, **about)
    sender.send_pending()


def texts_of(message):
    return [plain_text(text) for text in (message.body, html_of(message))]


def assert_without(message, *words):
    for text in texts_of(message):
        for word in words:
            assert word not in text, (word, text)


@pytest.mark.parametrize(
    ("amount", "reason", "words"),
    [
        (
            "8.00",
            "short",
            ["Asked: $10.00. Received in total: $8.00. Missing: $2.00.", "Exchanges deduct"],
        ),
        ("505.50", "over", ["Asked: $10.00. Received in total: $505.50. Too much: $495.50."]),
        (
            "10.00",
            "second",
            ["Too much: $10.00.", "this is a duplicate payment", "a wallet address"],
        ),
    ],
)
def test_other_amount_tells_asked_received_difference_and_what_is_next(
    order, invoice, amount, reason, words
):
    """A buyer in a hurry finds the three amounts in one place."""
    if reason == "second":
        book(invoice, "10.00")
    payment = book_and_pay(invoice, amount, reason)

    send(MailCode.OTHER_AMOUNT, order, payment=payment)

    assert_one_mail(order, *words, "don't pay again", "email you about the next steps")


def test_late_and_short_payment_tells_both(place, invoice_for):
    """That it was late does not hide what is missing."""
    order = place(status="Cancelled")
    payment = book(invoice_for(order), "8.00", "late", further_reasons="short")

    send(MailCode.OTHER_AMOUNT, order, payment=payment)

    assert_one_mail(order, "had already been cancelled", "Missing: $2.00", "refund your payment")


def test_payment_in_time_for_a_cancelled_order_is_not_called_late(place, invoice_for):
    """The chain's time counts, and the buyer is told so."""
    order = place(status="Cancelled")
    payment = book(invoice_for(order), "10.00", "cancelled")

    send(MailCode.OTHER_AMOUNT, order, payment=payment)

    message = assert_one_mail(order, "Your payment was in time")
    assert_without(message, "when your payment arrived")


def test_short_payment_of_a_rest_counts_together_with_the_earlier_one(order, invoice, invoice_for):
    """It is not compared with the order's total alone."""
    ask_for_rest(invoice, "6.00")
    rest = invoice_for(order, amount=Decimal(4), is_for_rest=True)
    payment = book(rest, "3.00", "short")

    send(MailCode.OTHER_AMOUNT, order, payment=payment)

    assert_one_mail(
        order, "Together with what arrived before", "Received in total: $9.00. Missing: $1.00."
    )


@pytest.mark.parametrize(
    ("amount", "reason", "words"),
    [
        ("8.00", "short", "$2.00 is missing"),
        ("12.50", "over", "you've paid $2.50 too much"),
    ],
)
def test_received_mail_does_not_hide_an_open_difference(order, invoice, amount, reason, words):
    """With a difference that staff decide about, the matter is not closed."""
    book_and_pay(invoice, amount, reason)

    send(MailCode.PAID, order)

    message = assert_one_mail(order, words, "We'll decide about the difference and email you")
    assert_without(message, NOTHING_TO_DO)


def test_received_mail_of_an_exact_payment_closes_the_matter(order, invoice):
    """Nothing is left to do."""
    book_and_pay(invoice, "10.00")

    send(MailCode.PAID, order)

    assert_one_mail(order, NOTHING_TO_DO)


def test_expired_mail_on_a_possible_mismatch_asks_to_wait(order, overdue_invoice, fake):
    """One message: it tells what was seen, asks to wait, and has no button to pay."""
    seen_at = timezone.now() - dt.timedelta(minutes=30)
    payment = bitsby.transfer("8.00000000", transactionDatetime=bitsby.written(seen_at))
    fake.payments = [bitsby.payment_item(payment)]

    reconciliation.reconcile()

    message = assert_one_mail(
        order,
        "We've seen a payment of 8 USDT, worth about $8.00.",
        "We asked for $10.00",
        "Please wait for that, and don't pay again",
    )
    assert_without(message, "new quote", "To pay", "you still can")
    assert "View your order" in texts_of(message)[1]


def test_expired_mail_on_a_possible_mismatch_is_sent_without_time_to_pay_again(
    configure, overdue_invoice, fake
):
    """It asks for nothing that would need time."""
    configure(CANCEL_AFTER=dt.timedelta())
    seen_at = timezone.now() - dt.timedelta(minutes=30)
    payment = bitsby.transfer("8.00000000", transactionDatetime=bitsby.written(seen_at))
    fake.payments = [bitsby.payment_item(payment)]

    reconciliation.reconcile()

    assert sent_codes() == [MailCode.EXPIRED]
    overdue_invoice.order.refresh_from_db()
    assert overdue_invoice.order.status == "Pending"


def test_expired_mail_for_the_rest_asks_for_the_rest_only(order, invoice, invoice_for):
    """It names what has arrived, what is missing, and until when it can be paid."""
    asked = ask_for_rest(invoice, "6.00")
    rest = invoice_for(order, InvoiceStatus.EXPIRED, amount=Decimal(4), is_for_rest=True)

    send(MailCode.EXPIRED, order, invoice=rest)

    until = local_time(asked.resolved_at + dt.timedelta(hours=24))
    message = assert_one_mail(
        order, "We've received $6.00 of $10.00", "The missing $4.00", "To pay $4.00", until
    )
    assert_without(message, "To pay $10.00", "haven't received a payment")


def test_reminder_for_the_rest_names_the_rest(order, invoice, invoice_for):
    """It does not ask for the whole total."""
    ask_for_rest(invoice, "6.00")
    rest = invoice_for(order, amount=Decimal(4), is_for_rest=True)

    send(MailCode.REMINDER, order, invoice=rest)

    assert_one_mail(order, "still waiting for your payment of $4.00")


def test_cancelled_mail_tells_of_a_payment_that_may_be_for_the_order(order, invoice_for):
    """The buyer is asked to contact the shop; the mail does not claim that nothing arrived."""
    invoice_for(order, InvoiceStatus.EXPIRED, wallets=wallets("10.00"))
    receive("8.00")
    order.set_status("Cancelled")

    send(MailCode.CANCELLED, order)

    message = assert_one_mail(
        order,
        "We've seen a payment of 8 USDT, worth about $8.00.",
        "Please don't pay again",
        "contact us and give your order number",
        "Please keep this email",
    )
    assert_without(message, "haven't received", "Order again", "order them again", "owe us nothing")
    assert len(mail.outbox) == 1


def test_second_payment_of_a_paid_order_is_told_by_mail(order, invoice, fake, receive_payment):
    """Bitsby leaves it unbound; the buyer learns that the shop checks it."""
    receive_payment(invoice)
    mail.outbox.clear()
    fake.payments.insert(0, bitsby.payment_item(bitsby.transfer()))

    reconciliation.reconcile()
    reconciliation.reconcile()

    assert_one_mail(
        order, "10 USDT, exactly what we asked", "may be a duplicate payment", "don't pay again"
    )
    assert order.bitsby_mails.filter(code=MailCode.OTHER_AMOUNT, status="sent").count() == 1
