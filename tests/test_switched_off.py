"""Test that the shop works while Bitsby is switched off, and that no payment is lost."""

import pytest
from django.contrib.auth import get_user_model
from django.core import mail
from django.core.management import CommandError, call_command
from django.urls import reverse
from oscar.core.loading import get_model

from oscar_bitsby.models import BitsbyInvoice
from oscar_bitsby.orders import signed_urls
from tests.support import bitsby
from tests.support.shopping import fill_basket, go_to_preview, place_order

Order = get_model("order", "Order")
Transaction = get_model("payment", "Transaction")

pytestmark = pytest.mark.django_db

OTHER = {"OTHER_METHODS": [("transfer", "Bank transfer")]}
#: Ways in which Bitsby becomes unavailable. With the last three, the app's own pages still work.
WAYS = {
    "without settings": None,
    "without a key": {"API_KEY": "", **OTHER},
    "for no amount": {"MAX_AMOUNT": 0, **OTHER},
    "for no currency": {"CURRENCIES": [], **OTHER},
    "gateway unreachable": {"API_URL": "http://127.0.0.1:9", **OTHER},
}
NEEDS_NO_SETTINGS = ("for no amount", "for no currency", "gateway unreachable")


@pytest.fixture(params=WAYS)
def switch_off(request, settings, configure):
    """Return a function that makes Bitsby unavailable in one of the ways, and returns the way."""

    def switch():
        if WAYS[request.param] is None:
            del settings.OSCAR_BITSBY
        else:
            configure(**WAYS[request.param])
        return request.param

    return switch


@pytest.fixture
def buyer():
    """A registered buyer."""
    return get_user_model().objects.create_user("ada", "ada@example.com", "secret")


@pytest.fixture
def unpaid_order(place, invoice_for, buyer):
    """An order of the buyer with an unpaid invoice."""
    order = place(user=buyer)
    invoice_for(order)
    return order


def test_basket_works(switch_off, guest, product):
    """A basket can be filled and shown."""
    switch_off()
    fill_basket(guest, product)
    page = guest.get(reverse("basket:summary"))
    assert page.status_code == 200
    assert product.title in page.content.decode()


def test_order_is_placed_with_another_payment_method(switch_off, guest, product):
    """The checkout completes, Oscar's own e-mail is sent once, and no invoice is created."""
    switch_off()
    go_to_preview(guest, product, method="transfer")
    page = guest.get(place_order(guest)["Location"])

    assert page.status_code == 200
    order = Order.objects.get()
    assert order.number in page.content.decode()
    [sent] = mail.outbox
    assert order.number in sent.body
    assert not BitsbyInvoice.objects.exists()


def test_earlier_orders_are_in_the_buyers_account(switch_off, unpaid_order, buyer, client):
    """The order history lists earlier orders, and each one opens."""
    switch_off()
    client.force_login(buyer)
    history = client.get(reverse("customer:order-list"))
    assert unpaid_order.number in history.content.decode()
    page = client.get(reverse("customer:order", kwargs={"order_number": unpaid_order.number}))
    assert page.status_code == 200
    assert unpaid_order.number in page.content.decode()


def test_link_of_an_earlier_order_explains_what_to_do(switch_off, unpaid_order, guest):
    """The payment page opens, or says that the order is safe and what to do."""
    way = switch_off()
    page = guest.get(signed_urls.order_url(unpaid_order))
    if way in NEEDS_NO_SETTINGS:
        assert page.status_code == 200
        assert "Waiting for your payment" in page.content.decode()
    else:
        assert page.status_code == 503
        assert "Your order is safe" in page.content.decode()


def test_staff_can_open_earlier_orders(switch_off, unpaid_order, admin_client):
    """Oscar's dashboard and the Django admin list and show earlier orders."""
    switch_off()
    for address in (
        reverse("dashboard:order-list"),
        reverse("dashboard:order-detail", kwargs={"number": unpaid_order.number}),
        reverse("admin:order_order_changelist"),
        reverse("admin:order_order_change", args=[unpaid_order.pk]),
    ):
        page = admin_client.get(address)
        assert page.status_code == 200, address
        assert unpaid_order.number in page.content.decode(), address


def test_payment_while_switched_off_is_settled_afterwards(switch_off, unpaid_order, settings, fake):
    """A run while the app is off changes nothing, and the first run afterwards books it."""
    before = settings.OSCAR_BITSBY
    way = switch_off()
    if way in ("for no amount", "for no currency"):
        # Only new invoices are switched off, so reconciliation continues.
        call_command("bitsby_reconcile")
    else:
        with pytest.raises(CommandError):
            call_command("bitsby_reconcile")
    unpaid_order.refresh_from_db()
    assert unpaid_order.status == "Pending"

    settings.OSCAR_BITSBY = before
    invoice = unpaid_order.bitsby_invoices.get()
    payment = bitsby.transfer()
    fake.invoices = [bitsby.invoice_item(invoice, "paid", payment)]
    fake.payments = [bitsby.payment_item(payment, fake.invoices[0])]
    call_command("bitsby_reconcile")

    unpaid_order.refresh_from_db()
    assert unpaid_order.status == "Being processed"
    assert Transaction.objects.get().reference == payment["id"]
