"""What staff read before they bind a payment, and the two ways to bind a short one."""

import datetime as dt

import pytest
import requests
from django.utils import timezone
from oscar.core.loading import get_model

from oscar_bitsby import reconciliation
from oscar_bitsby.choices import MailCode
from oscar_bitsby.models import BitsbyInvoice, BitsbyPayment
from tests.support import bitsby
from tests.support.staff import (
    BIND,
    Page,
    accept_bindings,
    bind_url,
    bookings_of,
    cancel_unpaid_order,
    create_payments,
    fetch_payments,
    message_after,
    payment_card,
    reasons_to_review,
    receive_payment,
    status_of,
)

Order = get_model("order", "Order")

pytestmark = pytest.mark.django_db


@pytest.fixture
def url(interface, invoice):
    """The page that binds a payment to the order of ``invoice``."""
    return bind_url(interface, invoice.order)


@pytest.fixture
def old_enough(invoice):
    """Let the invoice and its order be older than the payments of a test."""
    ago = timezone.now() - dt.timedelta(minutes=10)
    BitsbyInvoice.objects.filter(pk=invoice.pk).update(created_at=ago)
    Order.objects.filter(pk=invoice.order.pk).update(date_placed=ago)


def checked_of(page):
    """Return the value of the radio button that is checked, and of all in their order."""
    values = page.form_with("payment_id")[1]["payment"]
    checked = [value for value in values if f'value="{value}" checked' in page.html]
    return checked, values


def summary_of(client, url, payment):
    """Choose a payment and return the page that asks to confirm."""
    return Page(client.post(url, {"payment": str(payment.bitsby_id)}))


def warnings_on(page):
    return [part.split("</div>")[0] for part in page.html.split('errornote" role="alert">')[1:]]


def press(client, url, payment, button):
    """Choose a payment, press one button of the confirmation, and return what is then said."""
    fields, _ = summary_of(client, url, payment).form_with("confirm")
    chosen = {name: text for name, text in fields.items() if name not in ("confirm", "ask")}
    return message_after(client, client.post(url, chosen | {button: "1"}))


# The chosen payment


@pytest.mark.usefixtures("old_enough")
def test_payment_that_the_inbox_named_is_chosen_and_on_top(fake, invoice, staff):
    """Another payment fits the order better, but the link was about this one."""
    chosen = receive_payment(fake, amount="8.00000000")
    better = receive_payment(fake, amount="9.99000000")
    (link,) = [url for url in payment_card(staff, chosen).links if "/bind/" in str(url)]

    page = Page(staff.get(link))

    ids = [str(chosen.bitsby_id), str(better.bitsby_id)]
    assert checked_of(page) == (ids[:1], ids)


@pytest.mark.parametrize("wrong", ["", "rubbish", "f986ad8d-2298-473d-982a-efbc817b975d"])
def test_unknown_payment_in_the_link_is_ignored(fake, invoice, staff, url, wrong):
    """The list is shown as without it."""
    payment = receive_payment(fake, amount="8.00000000")

    page = Page(staff.get(url, {"payment": wrong}))

    assert checked_of(page) == ([], [str(payment.bitsby_id)])


def test_chosen_payment_is_listed_even_if_it_is_very_small(invoice, staff, url):
    """What the list leaves out for the others can be chosen by a link."""
    (dust,) = create_payments(1, is_dust=True)

    page = Page(staff.get(url, {"payment": str(dust.bitsby_id)}))

    assert checked_of(page) == ([str(dust.bitsby_id)], [str(dust.bitsby_id)])


def test_fetching_keeps_the_chosen_payment(fake, invoice, staff, url):
    """The button returns to the page with the payment in its address."""
    payment = receive_payment(fake, amount="8.00000000")
    link = f"{url}?payment={payment.bitsby_id}"

    page = Page(fetch_payments(staff, link))

    assert checked_of(page)[0] == [str(payment.bitsby_id)]


# The summary


@pytest.mark.usefixtures("old_enough")
def test_summary_shows_payment_order_and_difference(fake, invoice, staff, url):
    """Coin, chain, hash with its explorer, order, customer, and what is missing in percent."""
    payment = receive_payment(fake, amount="9.00000000")

    page = summary_of(staff, url, payment)

    for text in (
        "9 USDT, Tron (TRC-20)",
        payment.hash,
        f"{invoice.order_number} (Pending)",
        invoice.order.email,
        "Asked $10.00 Value $9.00 Difference -$1.00 (-10.0 %)",
    ):
        assert text in page.text
    assert f"https://tronscan.org/#/transaction/{payment.hash}" in page.links
    assert warnings_on(page) == []


@pytest.mark.parametrize("amount", ["4.00000000", "500.00000000"])
@pytest.mark.usefixtures("old_enough")
def test_warning_of_a_large_difference(fake, invoice, staff, url, amount):
    """A payment that differs by more than half is probably not for this order."""
    payment = receive_payment(fake, amount=amount)

    page = summary_of(staff, url, payment)

    warning = "The payment differs by more than 50 % from what was asked."
    assert warning in warnings_on(page)


def test_warning_of_a_payment_that_is_older_than_the_invoice(invoice, staff, url):
    """Nobody pays an invoice that does not exist yet."""
    ago = timezone.now() - dt.timedelta(minutes=30)
    (payment,) = create_payments(1, transaction_at=ago, wallet_id=bitsby.TRON)

    (warning,) = warnings_on(summary_of(staff, url, payment))

    assert warning.startswith("The payment is older than the invoice, which was created ")


def test_warning_of_a_cancelled_order(fake, order, invoice_for, staff, interface):
    """Binding books the money of an order that will not be shipped; the page says what follows."""
    cancel_unpaid_order(fake, order, invoice_for)
    (payment,) = create_payments(1, amount=10, wallet_id=bitsby.TRON)

    page = summary_of(staff, bind_url(interface, order), payment)

    assert "The order is cancelled." in warnings_on(page)
    assert "The order stays cancelled, and the payment waits in Payments to review" in page.text


@pytest.mark.usefixtures("old_enough")
def test_warning_of_a_second_payment_for_another_order(
    fake, place, invoice_for, invoice, staff, url
):
    """It repeats what a paid order asked for: it is not for this order."""
    ago = timezone.now() - dt.timedelta(minutes=10)
    paid = invoice_for(place("8.00"), created_at=ago)
    receive_payment(fake, paid, "10.00000000")
    second = receive_payment(fake, amount="10.00000000")

    warnings = warnings_on(summary_of(staff, url, second))

    text = f"It looks like a second payment for order {paid.order_number}. Refund it instead."
    assert text in warnings


@pytest.mark.usefixtures("old_enough")
def test_warning_of_an_order_that_fits_better(fake, place, invoice_for, invoice, staff, url):
    """Another open order asked for just this amount."""
    ago = timezone.now() - dt.timedelta(minutes=10)
    wallets = [{**wallet, "amount": "7.00000000"} for wallet in invoice.wallets]
    other = invoice_for(place("7.00"), created_at=ago, wallets=wallets)
    payment = receive_payment(fake, amount="7.00000000")

    (warning,) = warnings_on(summary_of(staff, url, payment))

    assert warning == (
        f"The payment fits order {other.order_number} better, which asked for 7.00 USD."
    )


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (
            "10.00000000",
            "$10.00 will be booked, and the order becomes paid if it is still pending.",
        ),
        ("12.00000000", "because it is $2.00 more than the order needs"),
        ("8.00000000", "although $2.00 is missing"),
    ],
)
def test_summary_says_what_will_happen(fake, invoice, staff, url, amount, text):
    """What is booked, what becomes of the order, and what is left to decide."""
    payment = receive_payment(fake, amount=amount)

    assert text in summary_of(staff, url, payment).text


def test_summary_of_an_order_that_is_paid_already(fake, order, invoice, invoice_for, staff, url):
    """Another payment for a paid order is booked, and waits for its refund."""
    ago = timezone.now() - dt.timedelta(minutes=10)
    invoice_for(order, "expired", expires_at=ago, ended_at=ago)
    receive_payment(fake, invoice, "10.00000000")
    (payment,) = create_payments(1, amount=10, wallet_id=bitsby.TRON)

    assert "The order is paid already" in summary_of(staff, url, payment).text


# Binding a short payment


def test_bind_and_ask_for_the_rest_books_it_and_keeps_the_order_pending(fake, invoice, staff, url):
    """The payment is booked, the order waits, and its buyer gets an e-mail about the rest."""
    payment = receive_payment(fake, amount="8.00000000")
    accept_bindings(fake, invoice)
    order = invoice.order
    asked = summary_of(staff, url, payment).text
    assert "its buyer is asked for the rest of $2.00 by e-mail" in asked

    text = press(staff, url, payment, "ask")

    assert "Bound and booked: 8.00 USD" in text
    assert f"The buyer of order {order.number} is asked for the rest: 2.00 USD." in text
    assert bookings_of(order) == [(str(payment.bitsby_id), "8.00")]
    assert status_of(order) == "Pending"
    assert reasons_to_review() == []
    assert order.bitsby_mails.filter(code=MailCode.REST).exists()


def test_plain_binding_of_a_short_payment_leaves_the_difference_to_review(
    fake, invoice, staff, url
):
    """The order is paid, and the message says that the difference still waits for a decision."""
    payment = receive_payment(fake, amount="8.00000000")
    accept_bindings(fake, invoice)

    text = press(staff, url, payment, "confirm")

    assert "The difference still waits in Payments to review (less than the order" in text
    assert status_of(invoice.order) == "Being processed"
    assert reasons_to_review() == ["short"]
    assert not invoice.order.bitsby_mails.filter(code=MailCode.PAID).exists()


def test_much_too_large_payment_does_not_vanish_when_it_is_bound(fake, invoice, staff, url):
    """500 dollars for an order of 10 stay to review, and the buyer is not told that all is done."""
    payment = receive_payment(fake, amount="500.00000000")
    accept_bindings(fake, invoice)

    press(staff, url, payment, "confirm")

    assert reasons_to_review() == ["over"]
    assert not invoice.order.bitsby_mails.filter(code=MailCode.PAID).exists()


def test_rest_below_the_smallest_amount_is_not_asked_for(fake, invoice, staff, url, configure):
    """The page says why there is no such button."""
    configure(MIN_AMOUNT=5)
    payment = receive_payment(fake, amount="8.00000000")

    page = summary_of(staff, url, payment)

    assert "ask" not in page.form_with("confirm")[0]
    assert "The buyer cannot be asked for the rest: " in page.text
    assert "see MIN_AMOUNT" in page.text


def test_run_asks_for_the_rest_when_the_answer_was_lost(fake, invoice, staff, url):
    """The choice was stored before the request, so that the next run does as staff chose."""
    payment = receive_payment(fake, amount="8.00000000")
    accept_bindings(fake, invoice, answer=(500, {}, ""))
    fields, _ = summary_of(staff, url, payment).form_with("confirm")
    fields.pop("confirm")
    fake.on("/invoices/list", lambda fields: requests.ConnectionError("cut off"))
    staff.post(url, fields)
    assert bookings_of(invoice.order) == []

    fake.on("/invoices/list", fake.invoices_list)
    reconciliation.reconcile()

    assert bookings_of(invoice.order) == [(str(payment.bitsby_id), "8.00")]
    assert status_of(invoice.order) == "Pending"
    assert BitsbyPayment.objects.get().resolution == "asked"


def test_choice_is_forgotten_when_bitsby_refuses_the_binding(fake, invoice, staff, url):
    """A later payment of this invoice is not asked for the rest without a decision."""
    payment = receive_payment(fake, amount="8.00000000")
    fake.invoices.append(bitsby.invoice_item(invoice))
    fake.on(BIND, bitsby.error("This payment is too old"))

    press(staff, url, payment, "ask")

    invoice.refresh_from_db()
    assert invoice.asks_for_rest is False


@pytest.mark.parametrize("state", ["requested", "sent"])
def test_refunded_payment_is_neither_listed_nor_bound(fake, invoice, staff, url, state):
    """What goes back to its sender pays for no order."""
    payment = receive_payment(fake, amount="8.00000000")
    payment.refunds.create(state=state, cryptocurrency="usdt", blockchain="tron", coin_amount=8)
    accept_bindings(fake, invoice)

    assert "payment" not in Page(staff.get(url)).form_with("payment_id")[1]
    text = press(staff, url, payment, "confirm")

    assert "An open refund can be cancelled." in text
    assert fake.asked(BIND) == []
