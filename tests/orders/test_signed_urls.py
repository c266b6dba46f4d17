"""Signed links: whoever has one may see and pay that order, and no other."""

from __future__ import annotations

import pytest
from django.core import signing
from django.test import Client
from django.urls import resolve, reverse
from oscar.core.loading import get_model

from oscar_bitsby.orders import signed_urls

Order = get_model("order", "Order")

PAGES = ("order", "pay", "state")


def open_all(client, token):
    """Return the statuses of every page of an order, and of a click on its pay button."""
    urls = {name: reverse(f"oscar_bitsby:{name}", args=[token]) for name in PAGES}
    return [
        *(client.get(url).status_code for url in urls.values()),
        client.post(urls["pay"]).status_code,
    ]


@pytest.mark.django_db
@pytest.mark.parametrize("number", ["100001", "A/7 ä?#%&", "a:b:c", "..", "0", "9" * 128])
def test_a_link_leads_to_its_order_whatever_the_number(order, number):
    """Every number that an order may have fits into a path and is found again."""
    Order.objects.filter(pk=order.pk).update(number=number)
    order.refresh_from_db()

    for url in (signed_urls.order_url(order), signed_urls.pay_url(order)):
        token = resolve(url).kwargs["token"]
        assert token == signed_urls.sign_order_number(number)
        assert signed_urls.order_from_token(token) == order
    assert Client().get(signed_urls.order_url(order)).status_code == 200


@pytest.mark.django_db
def test_a_link_leads_to_no_other_order(place):
    """Two orders have two links, and each page shows its own."""
    one, two = place(), place()

    assert signed_urls.order_from_token(signed_urls.sign_order_number(one.number)) == one
    assert signed_urls.order_from_token(signed_urls.sign_order_number(two.number)) == two
    assert two.number not in Client().get(signed_urls.order_url(one)).content.decode()


@pytest.mark.django_db
def test_a_link_does_not_expire(order, move_time):
    """A mail that is read years later still leads to the order."""
    url = signed_urls.order_url(order)
    move_time(days=3000)

    assert Client().get(url).status_code == 200


def spoiled(order):
    token = signed_urls.sign_order_number(order.number)
    packed, signature = token.rsplit(":", 1)
    other = signing.Signer(salt="oscar_bitsby.order").sign_object("100000000")
    swapped = signature[::-1]
    return {
        "longer": f"{token}x",
        "shorter": token[:-1],
        "signature of another": f"{packed}:{other.rsplit(':', 1)[1]}",
        "signature reversed": f"{packed}:{swapped}",
        "no signature": packed,
        "the number itself": order.number,
        "another purpose": signing.Signer(salt="something.else").sign_object(order.number),
        "another shop": signing.Signer(key="not ours", salt="oscar_bitsby.order").sign_object(
            order.number
        ),
        "signed but not packed": signing.Signer(salt="oscar_bitsby.order").sign(order.number),
        "of no order": other,
        "not a number": signing.Signer(salt="oscar_bitsby.order").sign_object({"a": [1]}),
        "not text": "ä\x00%",
    }


@pytest.mark.django_db
@pytest.mark.parametrize(
    "kind",
    [
        "longer",
        "shorter",
        "signature of another",
        "signature reversed",
        "no signature",
        "the number itself",
        "another purpose",
        "another shop",
        "signed but not packed",
        "of no order",
        "not a number",
        "not text",
    ],
)
def test_a_link_that_is_not_ours_leads_nowhere(fake, order, kind):
    """A tampered or foreign token is answered with 404 on every page, and asks Bitsby nothing."""
    assert open_all(Client(), spoiled(order)[kind]) == [404] * 4
    assert fake.requests == []
    assert not order.bitsby_invoices.exists()


@pytest.mark.django_db
def test_a_deleted_order_leads_nowhere(fake, order):
    """The link of an order that is gone is answered with 404."""
    token = signed_urls.sign_order_number(order.number)
    order.delete()

    assert open_all(Client(), token) == [404] * 4
    assert fake.requests == []


@pytest.mark.django_db
def test_links_survive_a_new_secret_key(settings, order):
    """A shop that rotates its SECRET_KEY with a fallback keeps the links that it has sent."""
    url = signed_urls.order_url(order)
    settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY]
    settings.SECRET_KEY = "the next one"
    assert Client().get(url).status_code == 200

    settings.SECRET_KEY_FALLBACKS = []
    assert Client().get(url).status_code == 404
