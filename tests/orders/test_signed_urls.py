"""Signed URLs: anyone who has one can see and pay that order only."""

import pytest
from django.core import signing
from django.test import Client
from django.urls import resolve, reverse
from oscar.core.loading import get_model

from oscar_bitsby.orders import signed_urls

Order = get_model("order", "Order")

pytestmark = pytest.mark.django_db

PAGES = ("order", "pay", "state")


def open_all(client, token):
    """Return the response statuses of all pages of an order, and of its pay button."""
    urls = {name: reverse(f"oscar_bitsby:{name}", args=[token]) for name in PAGES}
    return [
        *(client.get(url).status_code for url in urls.values()),
        client.post(urls["pay"]).status_code,
    ]


@pytest.mark.parametrize("number", ["100001", "A/7 ä?#%&", "a:b:c", "..", "0", "9" * 128])
def test_url_leads_to_its_order_for_any_number(order, number):
    """Any order number can be signed, put in a path and read again."""
    Order.objects.filter(pk=order.pk).update(number=number)
    order.refresh_from_db()

    for url in (signed_urls.order_url(order), signed_urls.pay_url(order)):
        token = resolve(url).kwargs["token"]
        assert token == signed_urls.sign_order_number(number)
        assert signed_urls.order_from_token(token) == order
    assert Client().get(signed_urls.order_url(order)).status_code == 200


def test_url_does_not_expire(order, move_time):
    """A URL in an e-mail that is read years later still works."""
    url = signed_urls.order_url(order)
    move_time(days=3000)

    assert Client().get(url).status_code == 200


def invalid_tokens(number="100001"):
    """Return tokens that lead to no order, by what is wrong with them."""
    token = signed_urls.sign_order_number(number)
    packed, signature = token.rsplit(":", 1)
    signer = signing.Signer(salt="oscar_bitsby.order")
    other = signer.sign_object("100000000")
    foreign = signing.Signer(key="not ours", salt="oscar_bitsby.order")
    return {
        "longer": f"{token}x",
        "shorter": token[:-1],
        "signature of another": f"{packed}:{other.rsplit(':', 1)[1]}",
        "signature reversed": f"{packed}:{signature[::-1]}",
        "no signature": packed,
        "the number itself": number,
        "another purpose": signing.Signer(salt="something.else").sign_object(number),
        "another shop": foreign.sign_object(number),
        "signed but not packed": signer.sign(number),
        "of no order": other,
        "not a number": signer.sign_object({"a": [1]}),
        "not text": "ä\x00%",
    }


@pytest.mark.parametrize("kind", invalid_tokens())
def test_invalid_token_is_not_found(fake, order, kind):
    """A tampered or foreign token gets 404 on every page, and sends no API request."""
    assert open_all(Client(), invalid_tokens(order.number)[kind]) == [404] * 4
    assert fake.requests == []
    assert not order.bitsby_invoices.exists()


def test_deleted_order_is_not_found(fake, order):
    """The URL of a deleted order gets 404."""
    token = signed_urls.sign_order_number(order.number)
    order.delete()

    assert open_all(Client(), token) == [404] * 4
    assert fake.requests == []


def test_urls_work_after_a_new_secret_key(settings, order):
    """After SECRET_KEY is rotated with a fallback, earlier URLs still work."""
    url = signed_urls.order_url(order)
    settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY]
    settings.SECRET_KEY = "the next one"
    assert Client().get(url).status_code == 200

    settings.SECRET_KEY_FALLBACKS = []
    assert Client().get(url).status_code == 404
