"""The payment's state on Oscar's own pages of an order."""

import re
from unittest.mock import Mock

import pytest
from django.apps import apps
from django.contrib.auth import get_user_model
from django.test import Client
from django.urls import reverse

from oscar_bitsby.buyer import order_notice
from oscar_bitsby.orders import signed_urls
from tests.paths import PACKAGE
from tests.support.shopping import buy

TEMPLATES = sorted((PACKAGE / "templates" / "oscar_bitsby").rglob("*.html"))

pytestmark = pytest.mark.django_db


@pytest.fixture
def user():
    """A registered buyer."""
    return get_user_model().objects.create_user("ada", "ada@example.com", "x")


@pytest.fixture
def account_page(client, user, place):
    """Return a function that opens Oscar's page of an order in the buyer's account."""
    client.force_login(user)

    def open_page(order):
        return client.get(reverse("customer:order", args=[order.number]))

    return open_page


def has_notice(response):
    """Tell whether a page of Oscar's contains our notice."""
    return "oscar_bitsby/buyer/order.html" in [template.name for template in response.templates]


def test_account_page_shows_payment_status_and_link(account_page, user, place):
    """A registered buyer finds the payment from the order history."""
    order = place(user=user)

    page = account_page(order).content.decode()

    assert "This order hasn't been paid yet" in page
    assert f'href="{signed_urls.order_url(order)}"' in page
    assert "Mug" in page


def test_guest_order_page_shows_payment_status_and_link(guest, product, fake):
    """A guest whose session knows the order finds the payment on Oscar's own page."""
    buy(guest, product)
    order = apps.get_model("order", "Order").objects.get()
    session = guest.session
    session["anon_order_email"] = order.guest_email
    session.save()
    path = reverse("customer:anon-order", args=[order.number, order.verification_hash()])
    form = reverse("customer:anon-order-form", args=[order.number, order.verification_hash()])
    response = guest.get(path)
    if response.status_code == 302:
        response = guest.post(form, {"email": order.guest_email, "password": ""}, follow=True)

    assert f'href="{signed_urls.order_url(order)}"' in response.content.decode()


def test_thank_you_page_shows_payment_status_and_link(guest, product, fake):
    """Oscar's thank-you page links to the payment."""
    buy(guest, product)
    order = apps.get_model("order", "Order").objects.get()

    page = guest.get(reverse("checkout:thank-you")).content.decode()

    assert "Waiting for your payment" in page
    assert f'href="{signed_urls.order_url(order)}"' in page


def test_orders_of_other_methods_have_no_notice(account_page, user, place):
    """The page of an order that is not paid by Bitsby does not change."""
    order = place(user=user)
    order.sources.all().delete()

    response = account_page(order)

    assert not has_notice(response)
    assert signed_urls.order_url(order) not in response.content.decode()


def test_without_settings_pages_have_no_notice(account_page, user, place, settings):
    """Without ``OSCAR_BITSBY`` Oscar's order pages do not change."""
    order = place(user=user)
    del settings.OSCAR_BITSBY

    response = account_page(order)

    assert response.status_code == 200
    assert not has_notice(response)


def test_error_of_the_notice_does_not_break_the_page(
    account_page, user, place, monkeypatch, caplog
):
    """An error while reading the payment status is logged, and the shop's page is shown."""
    fail = Mock(side_effect=RuntimeError("broken"))
    monkeypatch.setattr(order_notice, "get_payment_status", fail)

    assert account_page(place(user=user)).status_code == 200
    assert "payment notice could not be shown" in caplog.text


def test_extending_twice_changes_nothing():
    """The mixin is put in front of a view once."""

    def views():
        return [getattr(apps.get_app_config(label), name) for label, name in order_notice.VIEWS]

    before = views()
    order_notice.extend_buyer_pages()
    assert views() == before


def test_page_of_a_paid_order_links_to_the_order_details(client, user, place):
    """The page of a paid order has one next step: the order's details."""
    order = place(user=user)
    order.sources.get().debit(order.total_incl_tax, reference="x")
    order.set_status("Being processed")

    client.force_login(user)
    page = client.get(signed_urls.order_url(order)).content.decode()

    assert f'href="{reverse("customer:order", args=[order.number])}"' in page


def test_page_of_a_guests_paid_order_leads_to_the_shop_on_any_device(place):
    """A guest gets a button that works at once: Oscar's page would ask for the e-mail address."""
    order = place()
    order.sources.get().debit(order.total_incl_tax, reference="x")
    order.set_status("Being processed")

    page = Client().get(signed_urls.order_url(order)).content.decode()

    assert f'class="btn btn-primary" href="{reverse("catalogue:index")}"' in page
    assert "View order details" not in page


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_templates_have_nothing_that_strict_csp_refuses(path):
    """No template has inline scripts, styles or handlers, or loads anything from other sites."""
    text = path.read_text()

    assert [tag for tag in re.findall(r"<script[^>]*>", text) if "src=" not in tag] == []
    assert re.findall(r"<style|\sstyle=|\son[a-z]+=|javascript:|(?:src|href)=.https?:", text) == []
