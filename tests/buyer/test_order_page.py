"""The order's page and its payment status as JSON."""

import datetime as dt
import re

import pytest
import requests
from django.db import OperationalError
from django.test import Client
from django.utils import timezone
from oscar.core.loading import get_model

from oscar_bitsby.choices import Resolution
from oscar_bitsby.models import BitsbyPayment, GatewayState
from oscar_bitsby.orders import signed_urls
from tests.support import bitsby, states
from tests.support.gateway_failures import failing_response
from tests.support.states import STATES, state_url

Order = get_model("order", "Order")
Transaction = get_model("payment", "Transaction")

pytestmark = pytest.mark.django_db

CREATE, LIST = "/invoices/create", "/invoices/list"


@pytest.mark.parametrize(("arrange", "state", "text", "button", "is_final"), STATES)
def test_order_page_shows_status_and_next_step(
    fake, order, invoice_for, arrange, state, text, button, is_final
):
    """Each payment status has its text and its one next step; only final ones stop reloading."""
    arrange(order, invoice_for)

    page = Client().get(signed_urls.order_url(order))

    assert page.status_code == 200
    shown = page.content.decode()
    assert text in shown
    others = {other[2] for other in STATES if other[1] != state}
    assert not [other for other in others if other in shown]
    form = f'<form method="post" action="{signed_urls.pay_url(order)}">'
    assert shown.count(form) == (0 if button is None else 1)
    assert button is None or button in shown
    assert ('http-equiv="refresh"' in shown) is not is_final
    assert "$10.00" in shown
    assert "Mug" in shown
    assert fake.requests == []


@pytest.mark.parametrize(("arrange", "state", "text", "button", "is_final"), STATES)
def test_payment_status_as_json(fake, order, invoice_for, arrange, state, text, button, is_final):
    """The JSON has the status, whether it is final, and the seconds that are left to pay."""
    arrange(order, invoice_for)

    response = Client().get(state_url(order))

    assert response["Content-Type"] == "application/json"
    remote = response.json()
    left = remote.pop("secondsLeft")
    assert remote.pop("version").startswith(state)
    assert remote == {"state": state, "final": is_final}
    assert (
        3500 < left <= 3600
        if arrange in (states.create_waiting_invoice, states.create_possible_mismatch)
        else left is None
    )


@pytest.mark.parametrize(("status", "german"), [("Complete", "Fertig"), ("Unheard of", None)])
def test_order_status_is_translated_where_a_catalogue_has_it(fake, order, status, german):
    """The page shows the translation of the shop's status, or the status itself."""
    Order.objects.update(status=status)
    client = Client(headers={"accept-language": "de"})

    shown = client.get(signed_urls.order_url(order)).content.decode()

    assert (german or status) in shown
    assert german is None or status not in shown


@pytest.mark.parametrize(
    ("amount", "age", "state"),
    [
        # Half as much or half as much again at most: anything else is hardly meant for this order.
        *((amount, dt.timedelta(), "waiting") for amount in ("1", "4.99", "15.01", "500")),
        # A payment before the invoice existed is not meant for it, except for the clock skew.
        ("8", dt.timedelta(days=3), "waiting"),
        ("8", dt.timedelta(minutes=6), "waiting"),
        ("8", dt.timedelta(minutes=4), "possible_mismatch"),
        ("8", None, "possible_mismatch"),
    ],
)
def test_possible_mismatch_depends_on_amount_and_time(fake, order, invoice_for, amount, age, state):
    """An unmatched payment of about that amount, and not before the invoice, may be the buyer's."""
    states.create_waiting_invoice(order, invoice_for)
    states.create_unmatched_payment(amount)
    BitsbyPayment.objects.update(transaction_at=None if age is None else timezone.now() - age)

    assert Client().get(state_url(order)).json()["state"] == state


def test_payment_long_after_the_expiry_is_no_possible_mismatch(fake, order, invoice_for):
    """A payment weeks after the invoice expired is not meant for it."""
    created_at = timezone.now() - dt.timedelta(days=25)
    invoice_for(order, created_at=created_at, expires_at=created_at + dt.timedelta(hours=1))
    states.create_unmatched_payment()

    assert Client().get(state_url(order)).json()["state"] == "expired"


def test_resolved_payment_is_no_possible_mismatch(fake, order, invoice_for):
    """After staff have resolved the payment, the order waits as before."""
    states.create_possible_mismatch(order, invoice_for)
    BitsbyPayment.objects.update(resolved_at=timezone.now(), resolution=Resolution.DISMISSED)

    assert Client().get(state_url(order)).json()["state"] == "waiting"


@pytest.mark.parametrize(
    ("arrange", "text"),
    [
        (states.pay_order, "You don't need to do anything else."),
        (states.create_paid_invoice_without_payment, "Please don't pay again"),
        (states.cancel_order, "Please don't send payment for it."),
    ],
)
def test_page_without_pay_button_asks_not_to_pay_again(fake, order, invoice_for, arrange, text):
    """Where another payment would be wrong, the page says so and has no pay button."""
    arrange(order, invoice_for)

    shown = Client().get(signed_urls.order_url(order)).content.decode()

    assert text in shown
    assert signed_urls.pay_url(order) not in shown


@pytest.mark.parametrize("page", ["order", "state"])
def test_opening_the_page_settles_the_payment(fake, order, invoice, page):
    """Opening the page refreshes the invoice, settles it, and shows the new status at once."""
    fake.invoices = [bitsby.invoice_item(invoice, "paid", bitsby.transfer())]

    if page == "order":
        shown = Client().get(signed_urls.order_url(order)).content.decode()
        assert "Thank you, we've received your payment" in shown
    else:
        assert Client().get(state_url(order)).json()["state"] == "paid"

    order.refresh_from_db()
    assert order.status == "Being processed"
    assert Transaction.objects.get().amount == order.total_incl_tax


def test_page_refreshes_the_invoice_at_most_once_in_ten_seconds(
    fake, order, invoice, clock, move_time
):
    """However often the page is loaded or polls, the API is called once in ten seconds."""
    fake.invoices = [bitsby.invoice_item(invoice)]
    client = Client()

    def load_and_poll():
        for _ in range(3):
            clock.sleep(1.2)  # so that a slot is free
            assert client.get(signed_urls.order_url(order)).status_code == 200
            assert client.get(state_url(order)).json()["state"] == "waiting"

    load_and_poll()
    assert len(fake.requests) == 1
    move_time(seconds=9)
    load_and_poll()
    assert len(fake.requests) == 1
    move_time(seconds=2)
    load_and_poll()
    assert len(fake.requests) == 2


def test_page_does_not_wait_for_a_slot(fake, order, invoice, clock):
    """Without a free slot the page shows the stored status at once and sends no request."""
    fake.invoices = [bitsby.invoice_item(invoice, "paid", bitsby.transfer())]
    GatewayState.ensure_exists()
    GatewayState.objects.update(next_request_at=clock.now() + dt.timedelta(seconds=1))

    assert Client().get(state_url(order)).json()["state"] == "waiting"

    assert fake.requests == []
    assert clock.slept == 0
    # A refused slot does not count as a refresh.
    clock.sleep(1.1)
    assert Client().get(state_url(order)).json()["state"] == "paid"


@pytest.mark.parametrize("kind", ["refused connection", "too frequent", "server error", "a list"])
def test_failing_gateway_does_not_break_the_order_page(fake, order, invoice, kind):
    """When the API fails, the page shows the stored status."""
    fake.on(LIST, failing_response(kind))

    page = Client().get(signed_urls.order_url(order))

    assert page.status_code == 200
    assert "Waiting for your payment" in page.content.decode()
    assert len(fake.requests) == 1


@pytest.mark.parametrize(
    "arrange",
    [states.pay_order, states.cancel_order, states.process_order, states.create_expired_invoice],
)
def test_page_without_live_invoice_sends_no_request(fake, order, invoice_for, arrange):
    """Pages of orders without a live invoice cost no request."""
    arrange(order, invoice_for)

    Client().get(signed_urls.order_url(order))
    Client().get(state_url(order))

    assert fake.requests == []


def test_pages_are_not_cached_indexed_or_sent_as_referrer(fake, order, move_time):
    """No page of an order is stored, indexed, or sent to another site as referrer."""
    client = Client()
    fake.on(CREATE, requests.ConnectionError("refused"))
    responses = {
        "order": client.get(signed_urls.order_url(order)),
        "state": client.get(state_url(order)),
        "pay without session": client.get(signed_urls.pay_url(order)),
        "wait": client.post(signed_urls.pay_url(order)),
    }
    fake.on(CREATE, fake.invoices_create)
    move_time(seconds=10)
    responses["pay"] = Client().post(signed_urls.pay_url(order))
    responses["pay again"] = Client().get(signed_urls.pay_url(order))
    assert responses["pay"]["Location"].startswith("https://dash.bitsby.app/invoices/pay/")

    for name, response in responses.items():
        assert response["Referrer-Policy"] in ("same-origin", "no-referrer"), name
        assert "no-store" in response["Cache-Control"], name
        assert "private" in response["Cache-Control"], name
        assert response["X-Robots-Tag"] == "noindex", name


@pytest.mark.parametrize("value", [None, {"API_KEY": ""}, {"TIMEOUT": "soon"}], ids=str)
def test_unusable_settings_show_no_error_page(settings, fake, order, invoice, value):
    """With missing or invalid settings, pages say that the order is safe, with status 503."""
    if value is None:
        del settings.OSCAR_BITSBY
    else:
        settings.OSCAR_BITSBY = {**settings.OSCAR_BITSBY, **value}
    client = Client()

    page = client.get(signed_urls.order_url(order))

    assert page.status_code == 503
    assert "Your order is safe" in page.content.decode()
    assert "no-store" in page["Cache-Control"]
    assert client.get(state_url(order)).status_code == 503
    assert client.post(signed_urls.pay_url(order)).status_code == 200
    assert client.get(signed_urls.pay_url(order)).status_code == 200
    assert fake.requests == []


@pytest.mark.parametrize("path", ["order", "state"])
def test_order_page_and_json_accept_no_post(order, path):
    """Only the pay view accepts POST."""
    url = signed_urls.order_url(order) if path == "order" else state_url(order)

    assert Client().post(url).status_code == 405


def test_database_error_during_refresh_shows_the_stored_status(order, invoice, fake, monkeypatch):
    """When settling fails, the order's page still shows the stored status."""
    fake.invoices = [bitsby.invoice_item(invoice)]

    def fail(*args, **kwargs):
        raise OperationalError("database is locked")

    monkeypatch.setattr("oscar_bitsby.settlement.service.settle", fail)

    response = Client().get(signed_urls.order_url(order))

    assert response.status_code == 200
    assert len(fake.asked("/invoices/list")) == 1


@pytest.mark.parametrize(("minutes", "is_shown"), [(4, True), (10, False)])
def test_last_five_minutes_are_urgent_without_javascript(fake, order, invoice, minutes, is_shown):
    """Only shortly before the end does the page say so in words."""
    invoice.expires_at = timezone.now() + dt.timedelta(minutes=minutes)
    invoice.save()

    page = Client().get(signed_urls.order_url(order)).content.decode()

    (tag,) = re.findall(r"<p[^>]*data-bitsby-urgent[^>]*>", page)
    assert ("hidden" not in tag) is is_shown
