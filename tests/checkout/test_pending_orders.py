"""``MAX_PENDING_ORDERS``: how many unpaid orders a buyer may have, and what others learn of it."""

import html
import re

import pytest
from django.test import Client
from django.urls import reverse
from oscar.core.loading import get_model
from oscar.test import factories

from oscar_bitsby.models import BitsbyInvoice
from oscar_bitsby.orders import signed_urls
from tests.support.shopping import ADDRESS, fill_basket, go_to_payment, go_to_preview, place_order

Order = get_model("order", "Order")

pytestmark = pytest.mark.django_db

STEP = "checkout:payment-method"


@pytest.fixture(autouse=True)
def plenty(product, country):
    """Enough goods for all orders."""
    product.stockrecords.update(num_in_stock=100)


@pytest.fixture
def login(db):
    """Return a function that returns a new browser of a user."""

    def make(user):
        client = Client()
        client.force_login(user, "django.contrib.auth.backends.ModelBackend")
        return client

    return make


@pytest.fixture
def five_orders(guest, product):
    """Five unpaid orders that ``guest`` has placed with buyer@example.com."""
    return place_several(guest, product, 5)


def place_several(client, product, number):
    for _ in range(number):
        go_to_preview(client, product)
        assert "/pay/" in place_order(client)["Location"]
    return list(Order.objects.order_by("-pk")[:number])


def offer(client):
    """Return the payment step's codes and its text about unpaid orders."""
    page = client.get(reverse(STEP))
    if page.status_code == 302:
        return ["bitsby"] if page["Location"] == reverse("checkout:preview") else ["other"], ""
    text = html.unescape(page.content.decode())
    codes = re.findall(r'type="radio"[^>]*value="([^"]+)"', text)
    alert = re.search(r'<div class="alert alert-warning" role="alert">(.*?)</div>', text, re.S)
    return codes, alert[1] if alert else ""


def go_to_payment_as(client, product, email):
    fill_basket(client, product)
    client.post(reverse("checkout:index"), {"username": email, "options": "anonymous"})
    client.post(reverse("checkout:shipping-address"), ADDRESS)
    client.get(reverse("checkout:shipping-method"))


def assert_links(text, orders):
    assert re.findall(r'href="([^"]+)"', text) == [signed_urls.order_url(one) for one in orders]


def test_session_with_five_unpaid_orders_is_offered_no_sixth(guest, product, five_orders):
    """Whatever e-mail is typed, the step says why and links to the orders of this browser."""
    for email in ("buyer@example.com", "another@example.com"):
        go_to_payment_as(guest, product, email)
        codes, text = offer(guest)
        assert codes == []
        assert "You have too many unpaid orders" in text
        assert_links(text, five_orders)

    assert guest.get(signed_urls.order_url(five_orders[0])).status_code == 200
    answer = guest.post(reverse(STEP), {"method": "bitsby"})
    assert "You have too many unpaid orders" in html.unescape(answer.content.decode())
    assert place_order(guest)["Location"] == reverse(STEP)
    assert Order.objects.count() == 5


def test_typed_email_reveals_neither_links_nor_number(guest, product, five_orders):
    """Another browser that types the address is not offered Bitsby, and learns of no order."""
    stranger = Client()
    go_to_payment_as(stranger, product, "BUYER@example.com")

    codes, text = offer(stranger)

    assert codes == []
    assert "isn't available for this order at the moment" in text
    assert "You have" not in text
    assert "href" not in text
    assert re.findall(r"\d", text) == []
    page = stranger.get(reverse(STEP)).content.decode()
    assert not any(order.number in page for order in five_orders)


def test_strangers_own_orders_say_nothing_about_a_typed_email(guest, product):
    """The orders of a session and those of a typed address are not added up."""
    place_several(guest, product, 4)
    stranger = Client()
    for _ in range(4):
        go_to_payment_as(stranger, product, "stranger@example.com")
        stranger.get(reverse(STEP))
        place_order(stranger)
    assert Order.objects.count() == 8

    go_to_payment_as(stranger, product, "buyer@example.com")

    assert offer(stranger) == (["bitsby"], "")


def test_account_with_five_unpaid_orders_is_offered_no_sixth(login, product):
    """An account's orders count in every browser, and those of other accounts do not."""
    ada, bob = factories.UserFactory(), factories.UserFactory()
    orders = place_several(login(ada), product, 5)
    other_browser, other_buyer = login(ada), login(bob)
    for client in (other_browser, other_buyer):
        go_to_payment(client, product)

    codes, text = offer(other_browser)

    assert codes == []
    assert "You have too many unpaid orders" in text
    assert_links(text, orders)
    assert offer(other_buyer) == (["bitsby"], "")


@pytest.mark.parametrize("methods", [[("cod", "Cash")], [("cod", "Cash"), ("bill", "Bill")]])
def test_other_methods_stay_and_the_reason_is_shown(
    configure, guest, product, five_orders, methods
):
    """The step is not skipped when one method is left, so that the buyer sees the reason."""
    configure(OTHER_METHODS=methods)
    go_to_payment(guest, product)

    codes, text = offer(guest)

    assert codes == [code for code, _ in methods]
    assert "You have too many unpaid orders" in text
    guest.post(reverse(STEP), {"method": "cod"})
    assert place_order(guest)["Location"] == reverse("checkout:thank-you")


@pytest.mark.parametrize("change", ["paid", "cancelled", "other status", "partly paid", "off"])
def test_only_unpaid_pending_orders_count(configure, guest, product, five_orders, change):
    """An order that is paid or no longer pending makes room; ``None`` counts nothing."""
    order = five_orders[2]
    if change == "off":
        configure(MAX_PENDING_ORDERS=None)
    elif change in ("paid", "partly paid"):
        order.sources.get().debit(order.total_incl_tax if change == "paid" else 1, reference="x")
    else:
        order.set_status("Cancelled" if change == "cancelled" else "Being processed")
    go_to_payment(guest, product)

    assert offer(guest) == (["bitsby"], "")


def test_orders_of_other_methods_do_not_count(configure, guest, product, place):
    """Pending orders that are not paid by Bitsby are left out."""
    configure(MAX_PENDING_ORDERS=1)
    place().sources.all().delete()
    go_to_payment(guest, product)

    assert offer(guest) == (["bitsby"], "")


@pytest.mark.parametrize("is_guest", [True, False])
def test_limit_is_checked_again_when_the_order_is_placed(
    configure, requests_atomic, login, product, is_guest
):
    """Of several browsers at the preview only as many place an order as the limit allows."""
    configure(MAX_PENDING_ORDERS=2)
    user = factories.UserFactory()
    browsers = []
    for _ in range(3 if is_guest else 1):
        client = Client() if is_guest else login(user)
        go_to_preview(client, product)
        browsers.append(client)
    if not is_guest:
        # The account's basket is one: two more orders are placed by another browser meanwhile.
        place_several(login(user), product, 2)
        fill_basket(browsers[0], product)

    answers = [place_order(client)["Location"] for client in browsers]

    assert answers[-1] == reverse(STEP)
    assert all("/pay/" in location for location in answers[:-1])
    assert Order.objects.count() == 2
    basket = browsers[-1].get(reverse("basket:summary")).context["basket"]
    assert (basket.status, basket.num_items) == ("Open", 1)
    assert BitsbyInvoice.objects.count() == 0
    assert offer(browsers[-1])[0] == []
