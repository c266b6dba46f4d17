"""Signed URLs: anyone who has one can see and pay that order, or give that refund's address."""

import pytest
from django.core import signing
from django.test import Client
from django.urls import resolve, reverse
from oscar.core.loading import get_model

from oscar_bitsby.models import BitsbyRefund
from oscar_bitsby.orders import signed_urls
from tests.support.buyer_refunds import ADDRESS, create_refund, move_signing_clock

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


# Refunds


@pytest.fixture
def refund(order):
    """A refund whose address is missing."""
    return create_refund(order)


def refund_token(refund):
    """Return the token of a refund's present URL."""
    return resolve(signed_urls.refund_url(refund)).kwargs["token"]


def open_token(token):
    """Return the responses of the refund's page for a token: to a GET, and to an address."""
    url = reverse("oscar_bitsby:refund", args=[token])
    return [Client().get(url), Client().post(url, {"address": ADDRESS})]


def assert_friendly(refund, responses, status):
    """Assert that the responses say what to do, show nothing of the refund, and change nothing."""
    for response in responses:
        assert response.status_code == status
        text = response.content.decode()
        assert "This link is no longer valid" in text
        assert "ask the shop for a new link" in text
        for secret in (refund.order_number, "2.5 USDT", "/bitsby/orders/"):
            assert secret not in text
        assert "no-store" in response["Cache-Control"]
        assert response["Referrer-Policy"] == "same-origin"
    refund.refresh_from_db()
    assert refund.address == ""


def test_url_of_a_refund_leads_to_it(refund, place):
    """The URL contains the refund and the number of its link, and opens no other refund."""
    other = create_refund(place())

    assert signed_urls.refund_from_token(refund_token(refund)) == refund
    assert signed_urls.refund_from_token(refund_token(other)) == other
    mixed = ":".join([*refund_token(refund).split(":")[:2], refund_token(other).split(":")[2]])
    assert_friendly(refund, open_token(mixed), 404)


def test_url_of_a_refund_expires(refund, monkeypatch):
    """The URL is valid for thirty days; then its page says to ask for a new one."""
    token = refund_token(refund)
    move_signing_clock(monkeypatch, days=30, minutes=-1)
    assert Client().get(reverse("oscar_bitsby:refund", args=[token])).status_code == 200

    move_signing_clock(monkeypatch, days=30, minutes=1)
    assert_friendly(refund, open_token(token), 410)
    with pytest.raises(signed_urls.LinkExpired):
        signed_urls.refund_from_token(token)


def test_url_of_a_refund_is_replaced_by_a_newer_one(refund):
    """After the link was renewed, only the newest one opens the page."""
    token = refund_token(refund)
    BitsbyRefund.objects.update(link_version=2)
    refund.refresh_from_db()

    assert_friendly(refund, open_token(token), 410)
    assert Client().get(signed_urls.refund_url(refund)).status_code == 200


def invalid_refund_tokens():
    """Return tokens that lead to no refund, by what is wrong with them; the refund's pk is 1."""
    signer = signing.TimestampSigner(salt="oscar_bitsby.refund")
    token = signer.sign_object([1, 1])
    foreign = signing.TimestampSigner(key="not ours", salt="oscar_bitsby.refund")
    return {
        "longer": f"{token}x",
        "shorter": token[:-1],
        "no signature": token.rsplit(":", 1)[0],
        "no time": token.split(":")[0] + ":" + token.split(":")[2],
        "another purpose": signing.TimestampSigner(salt="something.else").sign_object([1, 1]),
        "purpose of orders": signing.TimestampSigner(salt="oscar_bitsby.order").sign_object([1, 1]),
        "another shop": foreign.sign_object([1, 1]),
        "signed without a time": signing.Signer(salt="oscar_bitsby.refund").sign_object([1, 1]),
        "signed but not packed": signer.sign("1:1"),
        "of no refund": signer.sign_object([987654321, 1]),
        "no version": signer.sign_object([1]),
        "no list": signer.sign_object(1),
        "not numbers": signer.sign_object(["x", {}]),
        "not text": "ä\x00%",
    }


@pytest.mark.parametrize("kind", invalid_refund_tokens())
def test_invalid_token_of_a_refund_is_not_found(refund, kind):
    """A tampered or foreign token gets 404, and a page that says what to do."""
    BitsbyRefund.objects.all().delete()
    refund = create_refund(refund.order, pk=1)

    assert_friendly(refund, open_token(invalid_refund_tokens()[kind]), 404)


def test_token_of_a_refund_and_of_an_order_are_not_exchangeable(fake, order, refund):
    """The token of an order opens no refund, and the token of a refund opens no order."""
    assert_friendly(refund, open_token(signed_urls.sign_order_number(order.number)), 404)
    assert open_all(Client(), refund_token(refund)) == [404] * 4
    assert fake.requests == []
