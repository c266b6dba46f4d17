"""Ordering again what a cancelled order held."""

from __future__ import annotations

import pytest
from django.contrib.messages import get_messages
from django.test import Client
from django.urls import reverse
from oscar.core.loading import get_model

from oscar_bitsby.orders import signed_urls
from tests.shopping import fill_basket

Line = get_model("basket", "Line")
StockRecord = get_model("partner", "StockRecord")

pytestmark = pytest.mark.django_db


@pytest.fixture
def cancelled(order):
    order.lines.update(quantity=3)
    order.set_status("Cancelled")
    return order


def again(client, order):
    return client.post(signed_urls.reorder_url(order))


def in_basket():
    lines = Line.objects.filter(basket__order=None)
    return list(lines.values_list("product__title", "quantity"))


def remote(response):
    return " ".join(str(message) for message in get_messages(response.wsgi_request))


def test_the_basket_holds_the_same_lines(cancelled):
    """One click fills the basket of this browser, whoever placed the order, and shows it."""
    response = again(Client(), cancelled)

    assert response["Location"] == reverse("basket:summary")
    assert in_basket() == [("Mug", 3)]
    assert cancelled.number in remote(response)


def test_a_double_click_does_not_double_it(cancelled):
    """What is in the basket already counts."""
    client = Client()
    again(client, cancelled)
    again(client, cancelled)

    assert in_basket() == [("Mug", 3)]


def test_what_was_in_the_basket_stays(cancelled, product):
    """A basket that holds more than the order did is left alone."""
    client = Client()
    fill_basket(client, product, 4)

    again(client, cancelled)

    assert in_basket() == [("Mug", 4)]


def test_what_is_out_of_stock_is_told(cancelled):
    """A line that cannot be had in that number is left out, and its buyer told why."""
    StockRecord.objects.update(num_in_stock=2, num_allocated=0)

    response = again(Client(), cancelled)

    assert in_basket() == []
    assert "Mug: " in remote(response)


@pytest.mark.parametrize("gone", ["product", "stock record"])
def test_what_the_shop_no_longer_sells_is_told(cancelled, product, gone):
    """A line whose product was deleted, or is sold by nobody, is named."""
    if gone == "product":
        product.delete()
    else:
        StockRecord.objects.all().delete()

    response = again(Client(), cancelled)

    assert in_basket() == []
    assert "“Mug” is no longer available." in remote(response)


@pytest.mark.parametrize("status", ["Pending", "Being processed"])
def test_an_order_that_is_not_cancelled_is_shown_instead(order, status):
    """Whoever might still pay the order, or has, orders nothing a second time by mistake."""
    if status != order.status:
        order.set_status(status)

    response = again(Client(), order)

    assert response["Location"] == signed_urls.order_url(order)
    assert in_basket() == []


def test_a_get_fills_nothing(cancelled):
    """A link checker that follows the address changes nobody's basket."""
    assert Client().get(signed_urls.reorder_url(cancelled)).status_code == 405
    assert in_basket() == []


def test_the_page_of_a_cancelled_order_offers_it(cancelled):
    """The button passes the CSRF check."""
    client = Client(enforce_csrf_checks=True)
    page = client.get(signed_urls.order_url(cancelled)).content.decode()
    assert "Order again" in page
    token = page.split('name="csrfmiddlewaretoken" value="')[1].split('"')[0]

    response = client.post(signed_urls.reorder_url(cancelled), {"csrfmiddlewaretoken": token})

    assert response.status_code == 302
    assert in_basket() == [("Mug", 3)]
