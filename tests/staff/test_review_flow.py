"""Staff review and bind payments against the simulator in its own process."""

import pytest
import requests
from django.core.management import call_command
from django.urls import reverse
from oscar.core.loading import get_model

from oscar_bitsby.gateway import factory
from oscar_bitsby.models import BitsbyInvoice, BitsbyPayment
from oscar_bitsby.simulator.process import running_simulator
from tests.support.shopping import buy
from tests.support.staff import (
    INBOX,
    Page,
    act_url,
    admin_log_of,
    bind_url,
    bookings_of,
    fetch_payments,
    invoice_url,
    message_after,
    order_tab,
    order_url,
    payment_cards,
    perform,
    status_of,
)

Order = get_model("order", "Order")
Transaction = get_model("payment", "Transaction")

pytestmark = pytest.mark.django_db(transaction=True)

TRON = "47aa71e2-07a0-482e-9172-7114d7376ba0"


@pytest.fixture(scope="module")
def simulator():
    with running_simulator(webhooks=False) as simulator:
        yield simulator


@pytest.fixture
def shop(configure, simulator):
    configure(API_URL=simulator.url, PAYMENT_HOSTS=["127.0.0.1"])
    simulator.control("reset", {})
    simulator.control("ratelimit", {"seconds": 0})
    simulator.control("faults", {"faults": []})
    return simulator


@pytest.fixture
def invoice(shop, guest, product):
    """A guest has bought and was sent to the payment page."""
    buy(guest, product)
    return BitsbyInvoice.objects.get()


def pay(shop, invoice, amount, wallet=TRON):
    order = {"invoiceId": str(invoice.bitsby_id), "amount": amount, "wallet": wallet}
    return shop.control("pay", order)["paymentId"]


def let_the_order_be_cancelled(shop, order, move_time):
    """Let the invoice expire and the time to pay end, so that runs cancel the order."""
    shop.control("advance", {"seconds": 3700})
    move_time(seconds=3700)
    call_command("bitsby_reconcile")
    move_time(hours=2)
    shop.control("advance", {"seconds": 7200})
    call_command("bitsby_reconcile")
    assert status_of(order) == "Cancelled"
    # Bitsby's times have whole seconds: what is paid from now on is later than that.
    shop.control("advance", {"seconds": 2})


def bind_from(client, url, **choice):
    """Choose from the list as rendered, read what will happen, confirm; return both texts."""
    fields, radios = Page(fetch_payments(client, url)).form_with("payment_id")
    if "payment" in choice:
        assert choice["payment"] in radios["payment"]
    asked = Page(client.post(url, fields | choice))
    fields, _ = asked.form_with("confirm")
    return asked.text, message_after(client, client.post(url, fields))


def test_short_payment_is_listed_bound_and_booked_at_its_value(shop, invoice, staff, interface):
    """A run lists the payment; once bound, its order is paid at its value."""
    order = invoice.order
    payment_id = pay(shop, invoice, "8.50000000")

    call_command("bitsby_reconcile")

    inbox = Page(staff.get(reverse(INBOX)))
    assert "8.5 USDT" in inbox.text
    assert f"order {order.number}" in inbox.text
    assert "Bitsby (1)" in inbox.text
    assert status_of(order) == "Pending"
    url = bind_url(interface, order)
    if interface == "dashboard":
        assert f"{url}?payment={payment_id}" in inbox.links

    asked, done = bind_from(staff, url, payment=payment_id, note="his mail")

    assert "What will happen" in asked
    assert "Bound and booked" in done
    payment = BitsbyPayment.objects.get()
    ((reference, amount),) = bookings_of(order)
    assert (reference, amount) == (payment_id, str(payment.fiat_value))
    assert 8 < payment.fiat_value < order.total_incl_tax
    assert f"${payment.fiat_value}" in asked
    assert status_of(order) == "Being processed"
    assert shop.control("state")["invoices"][0]["status"] == "paid"
    assert "The difference still waits in Payments to review" in done
    (card,) = payment_cards(staff.get(reverse(INBOX)))
    assert "less than the order's total" in card.text
    assert "Accepted" in perform(staff, payment, "accept", note="close enough")
    assert len(admin_log_of(staff.user)) == 2

    call_command("bitsby_reconcile")
    assert Transaction.objects.count() == 1
    assert "All payments are matched" in Page(staff.get(reverse(INBOX))).text
    tab = order_tab(staff, order).text
    missing = order.total_incl_tax - payment.fiat_value
    assert f"Asked Received Missing $10.00 ${payment.fiat_value} ${missing}" in tab


def test_payment_that_no_run_has_seen_is_bound_from_the_live_list(shop, invoice, staff, interface):
    """Staff fetch Bitsby's list on the page, without waiting for a run."""
    payment_id = pay(shop, invoice, "20.00000000")

    _, done = bind_from(staff, bind_url(interface, invoice.order), payment=payment_id)

    assert "Bound and booked" in done
    assert [reference for reference, _ in bookings_of(invoice.order)] == [payment_id]
    assert status_of(invoice.order) == "Being processed"


def test_binding_an_unknown_payment_shows_bitsbys_refusal(shop, invoice, staff, interface):
    """Bitsby refuses an unknown id; its reason is shown and nothing is booked."""
    _, done = bind_from(
        staff, bind_url(interface, invoice.order), payment_id="f986ad8d-2298-473d-982a-efbc817b975d"
    )

    assert "Payment not found" in done
    assert "Nothing was booked." in done
    assert bookings_of(invoice.order) == []
    assert status_of(invoice.order) == "Pending"


@pytest.mark.parametrize("reopens", [True, False], ids=["pipeline allows", "pipeline forbids"])
def test_late_payment_of_a_cancelled_order_is_bound_and_reinstates_it(
    shop, invoice, staff, product, move_time, monkeypatch, reopens
):
    """The order was given up; the transfer came after: it is bound, and staff settle the order."""
    if not reopens:
        monkeypatch.setattr(Order, "pipeline", {**Order.pipeline, "Cancelled": ()})
    order = invoice.order
    let_the_order_be_cancelled(shop, order, move_time)
    free = product.stockrecords.get().net_stock_level
    total = shop.control("state")["invoices"][0]["wallets"]
    amount = next(wallet["amountCrypto"] for wallet in total if wallet["id"] == TRON)

    payment_id = pay(shop, invoice, amount)
    call_command("bitsby_reconcile")
    payment = BitsbyPayment.objects.get()
    assert payment.review_reason == "unmatched"
    bind_from(staff, bind_url("dashboard", order), payment=payment_id, note="late exchange")

    assert [reference for reference, _ in bookings_of(order)] == [payment_id]
    assert status_of(order) == "Cancelled"
    inbox = Page(staff.get(reverse(INBOX)))
    assert "arrived after the order was cancelled" in inbox.text
    assert (act_url(payment, "settle") in inbox.links) is reopens
    url = act_url(payment, "settle")
    text = message_after(staff, staff.post(url, {"note": "goods are here"}))

    left = product.stockrecords.get().net_stock_level
    inbox = Page(staff.get(reverse(INBOX)))
    if reopens:
        assert f"Order {order.number} is reinstated" in text
        assert (status_of(order), left) == ("Being processed", free - 1)
        assert "All payments are matched" in inbox.text
    else:
        assert "The order cannot be reinstated" in text
        assert (status_of(order), left) == ("Cancelled", free)
        assert act_url(payment, "dismiss") in inbox.links
    assert Transaction.objects.count() == 1


def test_late_payment_bound_at_bitsby_reinstates_its_order(
    shop, invoice, staff, move_time, monkeypatch
):
    """A late transfer bound in Bitsby's own pages is shown as late; one click settles the order."""
    order = invoice.order
    let_the_order_be_cancelled(shop, order, move_time)

    payment_id = pay(shop, invoice, "9.75000000")
    factory.for_background().bind_payment(invoice.bitsby_id, payment_id)
    call_command("bitsby_reconcile")

    payment = BitsbyPayment.objects.get()
    assert payment.review_reason == "late"
    assert "is reinstated" in perform(staff, payment, "settle", note="goods are here")
    assert status_of(order) == "Being processed"
    assert bookings_of(order) == [(payment_id, str(payment.fiat_value))]


def test_unopened_invoice_is_cancelled(shop, invoice, staff):
    """Bitsby cancels what no buyer has opened, and the button is gone after it."""
    url = invoice_url(invoice, "cancel")
    tab = order_url(invoice.order_number)
    staff.post(invoice_url(invoice, "refresh"))
    assert url in [form["action"] for form in Page(staff.get(tab)).forms]

    assert "The invoice is cancelled." in message_after(staff, staff.post(url))

    assert shop.control("state")["invoices"][0]["status"] == "canceled"
    assert url not in [form["action"] for form in Page(staff.get(tab)).forms]


def test_opened_invoice_is_not_cancelled(shop, invoice, staff):
    """The buyer has seen the page: Bitsby refuses, its reason is shown, the button is gone."""
    assert requests.get(invoice.url, timeout=10).status_code == 200
    url = invoice_url(invoice, "cancel")
    tab = order_url(invoice.order_number)

    assert "has been viewed" in message_after(staff, staff.post(url))

    invoice.refresh_from_db()
    assert (invoice.status, invoice.page_views) == ("unpaid", 1)
    assert url not in [form["action"] for form in Page(staff.get(tab)).forms]
