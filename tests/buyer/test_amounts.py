"""What the order's page says when a payment was not exactly right."""

import datetime as dt
import re
from decimal import Decimal
from html import unescape

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from oscar_bitsby.choices import InvoiceStatus
from oscar_bitsby.models import BitsbyPayment, BitsbyRefund
from oscar_bitsby.orders import signed_urls
from tests.support.amounts import ask_for_rest, book, book_and_pay
from tests.support.mails import plain_text
from tests.support.unbound import receive, wallets

pytestmark = pytest.mark.django_db

FEE = "Exchanges deduct their fee"
NOTHING_TO_DO = "You don't need to do anything else."


@pytest.fixture
def shown(fake):
    """Return a function that opens an order's page and returns its text, and the pay button's."""

    def open_page(order):
        page = Client().get(signed_urls.order_url(order)).content.decode()
        form = page.partition(f'action="{signed_urls.pay_url(order)}"')[2].partition("</form>")[0]
        button = re.search(r"<button[^>]*>([^<]+)</button>", form)
        return unescape(plain_text(page)), unescape(button.group(1)) if button else None

    return open_page


def test_short_payment_that_staff_have_to_decide_about(order, invoice, shown):
    """The buyer learns what was asked and received, why, and that the shop decides."""
    book_and_pay(invoice, "8.00", "short")

    text, button = shown(order)

    assert "We've received $8.00 for this order of $10.00. That is $2.00 less" in text
    assert FEE in text
    assert "You don't need to pay again. We'll decide about the difference and email you." in text
    assert NOTHING_TO_DO not in text
    assert button is None


@pytest.mark.parametrize(
    ("amount", "reason", "surplus"),
    [("505.50", "over", "$495.50"), ("20.00", "second", "$10.00")],
)
def test_surplus_that_staff_have_to_decide_about(order, invoice, shown, amount, reason, surplus):
    """The buyer learns how much was too much, and that the shop decides."""
    book_and_pay(invoice, amount, reason)

    text, button = shown(order)

    assert f"We've received ${amount} for this order of $10.00. That is {surplus} too much" in text
    assert FEE not in text
    assert "We'll decide about the difference and email you." in text
    assert NOTHING_TO_DO not in text
    assert button is None


def test_surplus_that_is_refunded_is_no_longer_to_be_decided(order, invoice, shown):
    """Staff have decided: the page's part about refunds says what is next."""
    payment = book_and_pay(invoice, "12.00", "over")
    BitsbyRefund.objects.create(
        order=order, payment=payment, cryptocurrency="usdt", blockchain="tron", coin_amount=2
    )

    text, _ = shown(order)

    assert "That is $2.00 too much" in text
    assert "We'll decide about the difference" not in text
    assert NOTHING_TO_DO not in text


def test_accepted_difference_leaves_nothing_to_do(order, invoice, shown):
    """After staff have accepted it, the page says that nothing is left to do."""
    payment = book_and_pay(invoice, "8.00", "short")
    BitsbyPayment.objects.filter(pk=payment.pk).update(resolved_at=timezone.now())

    text, _ = shown(order)

    assert NOTHING_TO_DO in text
    assert "Received $8.00" in text


@pytest.mark.parametrize(
    ("rest", "words"),
    [
        (None, "Please pay only the missing amount."),
        ({}, "Please pay the missing $5.60 by"),
        ({"status": InvoiceStatus.EXPIRED}, "please pay only what is missing"),
    ],
    ids=["new", "waiting", "expired"],
)
def test_button_names_the_missing_amount(order, invoice, invoice_for, shown, rest, words):
    """Of an order of 10 dollars 4.40 have arrived: the page asks for 5.60, never for 10."""
    ask_for_rest(invoice, "4.40")
    if rest is not None:
        missing = {"amount": Decimal("5.60"), "is_for_rest": True}
        invoice_for(order, last_refreshed_at=timezone.now(), **(missing | rest))

    text, button = shown(order)

    assert button == "Pay the missing $5.60"
    assert "We've received $4.40 of $10.00. $5.60 is still missing." in text
    assert "Received $4.40 Still to pay $5.60" in text
    assert FEE in text
    assert words in text
    assert "pay $10.00" not in text


def test_rest_whose_time_is_over_is_not_asked_for(order, invoice, shown, move_time):
    """The page tells what has arrived, and asks for nothing."""
    ask_for_rest(invoice, "4.40")
    move_time(days=2)

    text, button = shown(order)

    assert "We've received $4.40 for this order of $10.00." in text
    assert "Please don't pay again" in text
    assert "Order again" not in text
    assert button is None


def test_only_the_best_match_asks_whether_the_buyer_has_paid(offer, shown):
    """A stranger's payment alarms one buyer, with its amount and what was asked."""
    live = {"status": InvoiceStatus.UNPAID, "last_refreshed_at": timezone.now()}
    live["expires_at"] = timezone.now() + dt.timedelta(hours=1)
    near, far = offer("14.00", **live), offer("19.00", **live)
    receive("12.50")

    text, _ = shown(near.order)
    assert "Have you already paid?" in text
    assert "We've seen a payment of 12.5 USDT, worth about $12.50. We asked for $14.00." in text
    assert FEE in text
    assert "Waiting for your payment" in shown(far.order)[0]


def test_second_payment_of_a_paid_order_is_told(order, invoice, shown):
    """The buyer who has paid twice learns that the shop checks it."""
    book_and_pay(invoice, "10.00")
    receive("10.00")

    text, button = shown(order)

    assert "We've also seen another payment, of 10 USDT." in text
    assert "we'll check it and contact you" in text
    assert NOTHING_TO_DO not in text
    assert button is None


def test_payment_under_review_is_named(order, invoice, shown):
    """The buyer recognises the own payment by its amount."""
    payment = book(invoice, "0.01")
    order.sources.update(amount_debited=0)
    BitsbyPayment.objects.filter(pk=payment.pk).update(
        booked_at=None, review_reason="mismatch", amount=8, fiat_value=8
    )

    text, button = shown(order)

    assert "We've seen a payment of 8 USDT, worth about $8.00. We asked for $10.00." in text
    assert button is None


def test_cancelled_order_with_a_likely_payment_says_so(order, invoice_for, shown):
    """The buyer is asked to contact the shop, not told that nothing arrived."""
    invoice_for(order, InvoiceStatus.EXPIRED, wallets=wallets("10.00"))
    receive("8.00")
    order.set_status("Cancelled")

    text, _ = shown(order)

    assert "We've seen a payment of 8 USDT, worth about $8.00." in text
    assert "Please don't pay again: contact us" in text
    assert "Order again" not in text


def test_late_money_of_a_cancelled_order_is_told(order, invoice, shown):
    """The page does not offer to order again while the shop holds the money."""
    order.set_status("Cancelled")
    book(invoice, "10.00", "late")

    text, _ = shown(order)

    assert "We've received $10.00 for this order of $10.00." in text
    assert "Your money isn't lost" in text
    assert "Order again" not in text


def test_oscars_page_of_the_order_names_the_missing_amount(order, invoice):
    """The notice on Oscar's own page leads to the payment of the rest."""
    ask_for_rest(invoice, "4.40")
    url = reverse("customer:anon-order", args=[order.number, order.verification_hash()])
    client = Client()
    session = client.session
    session["anon_order_email"] = order.guest_email
    session.save()

    text = unescape(plain_text(client.get(url).content.decode()))

    assert "Part of your payment is missing" in text
    assert "Pay the missing $5.60" in text


def test_waiting_page_does_not_deny_what_was_paid(fake, order, invoice):
    """A buyer who pays the rest while Bitsby is down has been charged before."""
    ask_for_rest(invoice, "4.40")
    fake.on("/invoices/create", (503, {}, "down"))

    text = Client().post(signed_urls.pay_url(order)).content.decode()

    assert "what you have paid is credited to it" in text
    assert "nothing has been charged" not in text
