"""Test a buyer's steps from the basket to the paid order, with the simulator."""

from decimal import Decimal

import pytest
from django.core import mail
from django.core.management import call_command
from oscar.core.loading import get_model

from oscar_bitsby import reconciliation
from oscar_bitsby.choices import InvoiceStatus
from oscar_bitsby.models import BitsbyPayment
from oscar_bitsby.orders import signed_urls
from oscar_bitsby.simulator.process import running_simulator
from tests.support.settling import status_of
from tests.support.shopping import buy
from tests.support.simulator import gateway_settings, pay
from tests.support.starting import statuses

Order = get_model("order", "Order")
Transaction = get_model("payment", "Transaction")

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(scope="module")
def simulator():
    with running_simulator(webhooks=False) as simulator:
        simulator.control("ratelimit", {"seconds": 0})
        yield simulator


@pytest.fixture
def shop(configure, simulator):
    configure(**gateway_settings(simulator))
    simulator.control("reset", {})
    simulator.control("ratelimit", {"seconds": 0})
    return simulator


def test_exact_payment_of_a_guest_is_booked_once(shop, guest, product):
    """A guest is redirected to the payment page, and an exact payment is booked once."""
    response = buy(guest, product)

    assert response.status_code == 303
    assert response["Location"].startswith(f"{shop.url}/invoices/pay/")
    order = Order.objects.get()
    assert order.status == "Pending"
    assert mail.outbox == []
    source = order.sources.get()
    assert (source.source_type.code, source.amount_allocated, source.amount_debited) == (
        "bitsby",
        order.total_incl_tax,
        0,
    )
    invoice = order.bitsby_invoices.get()
    remote = shop.control("state")["invoices"][0]
    assert remote["serviceData"] == f'{{"orderId":"{order.number}","userId":null}}'

    payment = pay(shop, invoice)
    call_command("bitsby_reconcile")
    call_command("bitsby_reconcile")

    (message,) = mail.outbox
    assert "received your payment" in message.body
    assert status_of(order) == "Being processed"
    transaction = Transaction.objects.get()
    assert (transaction.txn_type, transaction.reference, transaction.amount) == (
        "Debit",
        payment,
        order.total_incl_tax,
    )
    assert [event.event_type.code for event in order.payment_events.all()] == ["paid"]
    page = guest.get(signed_urls.order_url(order))
    assert b"received your payment" in page.content


def test_unpaid_order_is_cancelled_and_its_stock_released(shop, guest, product, move_time):
    """When ``CANCEL_AFTER`` has passed since the invoice expired, the order is cancelled."""
    stock = product.stockrecords.get()
    before = stock.net_stock_level
    buy(guest, product)
    order = Order.objects.get()
    stock.refresh_from_db()
    assert stock.net_stock_level == before - 1

    shop.control("advance", {"seconds": 3601})
    move_time(seconds=3605)
    reconciliation.reconcile()
    invoice = order.bitsby_invoices.get()
    assert (invoice.status, status_of(order)) == (InvoiceStatus.EXPIRED, "Pending")

    move_time(hours=1)
    reconciliation.reconcile()
    stock.refresh_from_db()
    assert status_of(order) == "Cancelled"
    assert stock.net_stock_level == before
    assert b"This order has been cancelled" in guest.get(signed_urls.order_url(order)).content


def test_delivery_settles_the_order(shop, guest, product, live_server, clock):
    """Bitsby's delivery causes the refresh that settles the order, and is answered 200."""
    shop.control("webhooks", {"enabled": False, "url": f"{live_server.url}/bitsby/webhook/"})
    buy(guest, product)
    order = Order.objects.get()
    invoice = order.bitsby_invoices.get()
    pay(shop, invoice)
    clock.sleep(2)

    answer = shop.control("redeliver", {"invoiceId": str(invoice.bitsby_id)})

    assert answer["status"] == 200
    assert status_of(order) == "Being processed"
    assert invoice.deliveries.get().answered == 200


def test_second_invoice_is_created_only_after_the_first_expired(shop, guest, product, move_time):
    """Pay again leads to the same page while it is valid, and to a new one afterwards."""
    first = buy(guest, product)["Location"]
    order = Order.objects.get()
    assert guest.post(signed_urls.pay_url(order))["Location"] == first

    shop.control("advance", {"seconds": 3700})
    move_time(seconds=3700)
    second = guest.post(signed_urls.pay_url(order))["Location"]

    assert second != first
    assert second.startswith(shop.url)
    assert statuses(order) == ["expired", "unpaid"]


def test_short_payment_and_its_rest_pay_the_order(shop, guest, product, configure):
    """60 % are booked, the rest is asked for by e-mail and paid: two transactions, one order."""
    configure(SHORT_PAYMENTS="ask")
    buy(guest, product)
    order = Order.objects.get()
    first = order.bitsby_invoices.get()
    send_share(shop, first, "0.6")

    call_command("bitsby_reconcile")

    assert status_of(order) == "Pending"
    held = order.sources.get().amount_debited
    assert held == (order.total_incl_tax * Decimal("0.6")).quantize(Decimal("0.01"))
    (message,) = mail.outbox
    missing = order.total_incl_tax - held
    assert f"${missing} is still missing" in message.subject

    response = guest.post(signed_urls.pay_url(order))
    assert response["Location"].startswith(f"{shop.url}/invoices/pay/")
    rest = order.bitsby_invoices.exclude(pk=first.pk).get()
    assert (rest.amount, rest.is_for_rest) == (missing, True)
    pay(shop, rest)
    call_command("bitsby_reconcile")
    call_command("bitsby_reconcile")

    assert status_of(order) == "Being processed"
    amounts = Transaction.objects.order_by("pk").values_list("amount", flat=True)
    assert list(amounts) == [held, missing]
    assert not BitsbyPayment.objects.needs_review().exists()


def test_half_a_percent_less_settles_by_itself(shop, guest, product, configure):
    """With a tolerance of one percent nobody has to decide."""
    configure(TOLERANCE=1)
    buy(guest, product)
    order = Order.objects.get()
    send_share(shop, order.bitsby_invoices.get(), "0.995")

    call_command("bitsby_reconcile")

    assert status_of(order) == "Being processed"
    assert BitsbyPayment.objects.get().resolution == "tolerated"


def send_share(shop, invoice, share):
    """Send a part of what an invoice asks for."""
    coins = Decimal(invoice.wallets[0]["amount"]) * Decimal(share)
    fields = {"invoiceId": str(invoice.bitsby_id), "amount": f"{coins:.8f}"}
    paid = shop.control("pay", fields | {"wallet": invoice.wallets[0]["id"]})
    assert not paid["bound"]
