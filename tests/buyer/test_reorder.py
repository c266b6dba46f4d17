"""Ordering again what a cancelled order held."""

import pytest
from django.contrib.messages import get_messages
from django.test import Client
from django.urls import reverse
from oscar.core.loading import get_model
from oscar.test.factories import create_product

from oscar_bitsby.orders import signed_urls
from tests.support.shopping import fill_basket

Line = get_model("basket", "Line")
StockRecord = get_model("partner", "StockRecord")

pytestmark = pytest.mark.django_db


@pytest.fixture
def cancelled(order):
    order.lines.update(quantity=3)
    order.set_status("Cancelled")
    return order


def reorder(client, order):
    return client.post(signed_urls.reorder_url(order))


def in_basket():
    lines = Line.objects.filter(basket__order=None)
    return list(lines.values_list("product__title", "quantity"))


def messages_of(response):
    return " ".join(str(message) for message in get_messages(response.wsgi_request))


def test_reorder_fills_the_basket_with_the_same_lines(cancelled):
    """One click fills and shows the basket of this browser, also for another buyer's order."""
    response = reorder(Client(), cancelled)

    assert response["Location"] == reverse("basket:summary")
    assert in_basket() == [("Mug", 3)]
    assert cancelled.number in messages_of(response)


def test_double_click_does_not_double_the_items(cancelled):
    """Items that are already in the basket count."""
    client = Client()
    reorder(client, cancelled)
    reorder(client, cancelled)

    assert in_basket() == [("Mug", 3)]


def test_items_in_the_basket_are_kept(cancelled, product):
    """A basket that holds more than the order did is not changed."""
    client = Client()
    fill_basket(client, product, 4)

    reorder(client, cancelled)

    assert in_basket() == [("Mug", 4)]


def test_line_out_of_stock_is_skipped_with_a_message(cancelled):
    """A line without enough stock is skipped, and a message gives the reason."""
    StockRecord.objects.update(num_in_stock=2, num_allocated=0)

    response = reorder(Client(), cancelled)

    assert in_basket() == []
    assert "Mug: " in messages_of(response)


@pytest.mark.parametrize("missing", ["product", "stock record"])
def test_line_that_is_no_longer_sold_is_skipped_with_a_message(cancelled, product, missing):
    """A line whose product was deleted, or has no stock record, is named in a message."""
    if missing == "product":
        product.delete()
    else:
        StockRecord.objects.all().delete()

    response = reorder(Client(), cancelled)

    assert in_basket() == []
    assert "“Mug” is no longer available." in messages_of(response)


@pytest.fixture
def poster(product):
    """A product that costs euros."""
    return create_product(title="Poster", price=10, num_in_stock=10)


def test_basket_in_another_currency_is_kept_with_a_message(cancelled, poster):
    """A basket can have one currency only: the message says what to do, and then it works."""
    client = Client()
    StockRecord.objects.filter(product=poster).update(price_currency="EUR")
    fill_basket(client, poster)

    response = reorder(client, cancelled)

    assert response["Location"] == reverse("basket:summary")
    assert in_basket() == [("Poster", 1)]
    page = client.get(response["Location"]).content.decode()
    assert "“Mug” costs USD, and the items in your basket cost EUR." in page
    assert f"Then open the page of order {cancelled.number} again" in page
    assert "are now in your basket" not in page

    Line.objects.filter(product=poster).delete()
    reorder(client, cancelled)
    assert in_basket() == [("Mug", 3)]


def test_order_whose_products_now_have_two_currencies_fills_the_basket_with_the_first(
    cancelled, poster
):
    """Products whose currency has changed since are left out with a message."""
    line = cancelled.lines.get()
    line.pk, line.product, line.title, line.quantity = None, poster, "Poster", 1
    line.save()
    StockRecord.objects.filter(product=poster).update(price_currency="EUR")

    response = reorder(Client(), cancelled)

    assert in_basket() == [("Mug", 3)]
    assert "“Poster” costs EUR, and the items in your basket cost USD." in messages_of(response)


@pytest.mark.parametrize("status", ["Pending", "Being processed"])
def test_order_that_is_not_cancelled_is_not_reordered(order, status):
    """An order that was paid or can still be paid is shown instead, and nothing is added."""
    if status != order.status:
        order.set_status(status)

    response = reorder(Client(), order)

    assert response["Location"] == signed_urls.order_url(order)
    assert in_basket() == []


def test_get_does_not_change_the_basket(cancelled):
    """A link checker that opens the URL changes no basket."""
    assert Client().get(signed_urls.reorder_url(cancelled)).status_code == 405
    assert in_basket() == []


def test_page_of_a_cancelled_order_has_the_reorder_button(cancelled):
    """The button passes the CSRF check."""
    client = Client(enforce_csrf_checks=True)
    page = client.get(signed_urls.order_url(cancelled)).content.decode()
    assert "Order again" in page
    token = page.split('name="csrfmiddlewaretoken" value="')[1].split('"')[0]

    response = client.post(signed_urls.reorder_url(cancelled), {"csrfmiddlewaretoken": token})

    assert response.status_code == 302
    assert in_basket() == [("Mug", 3)]
