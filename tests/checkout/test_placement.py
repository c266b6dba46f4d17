"""Place an order: one order for one basket, whatever clicks, mail servers and receivers do."""

import threading

import pytest
from django.core import mail
from django.db import connection, connections
from django.test import Client
from django.urls import reverse
from oscar.apps.checkout.signals import post_checkout, post_payment, pre_payment
from oscar.apps.order.signals import order_placed
from oscar.core.loading import get_class, get_model
from oscar.test import factories

from oscar_bitsby.choices import MailCode
from oscar_bitsby.orders import signed_urls
from tests.checkout import mail_backends
from tests.support.shopping import fill_basket, go_to_preview, place_order

Basket = get_model("basket", "Basket")
Order = get_model("order", "Order")
ShippingAddress = get_model("order", "ShippingAddress")
Source = get_model("payment", "Source")
Transaction = get_model("payment", "Transaction")
OrderCreator = get_class("order.utils", "OrderCreator")
OrderNumberGenerator = get_class("order.utils", "OrderNumberGenerator")
PaymentDetailsView = get_class("checkout.views", "PaymentDetailsView")

pytestmark = pytest.mark.django_db

PAYMENT_PAGE = "https://dash.bitsby.app/invoices/pay/"


def assert_mail_is_enqueued_once(order):
    """Assert that no e-mail was sent and one is enqueued."""
    assert mail.outbox == []
    assert [row.code for row in order.bitsby_mails.all()] == [MailCode.PLACED]


@pytest.fixture
def login(country):
    """Return a function that returns the browser of a new registered buyer."""

    def make(**values):
        client = Client()
        client.force_login(
            factories.UserFactory(**values), "django.contrib.auth.backends.ModelBackend"
        )
        return client

    return make


@pytest.fixture(params=["guest", "registered"])
def buyer_client(request, guest, login, product):
    """The browser of a guest and of a registered buyer, who are at the preview."""
    client = guest if request.param == "guest" else login()
    go_to_preview(client, product)
    return client


@pytest.fixture
def receive():
    """Return a function that connects a receiver to a signal, for this test only."""
    connected = []

    def connect(signal, receiver):
        signal.connect(receiver, weak=False)
        connected.append((signal, receiver))

    yield connect
    for signal, receiver in connected:
        signal.disconnect(receiver)


def same_browser(client):
    """Return another tab of the same browser."""
    other = Client()
    other.cookies.load({name: morsel.value for name, morsel in client.cookies.items()})
    return other


def assert_leads_to_payment(response, order):
    assert response.status_code == 302
    assert response["Location"] == signed_urls.pay_url(order)


def assert_opens_payment_page(client, response):
    """Assert that the redirect, followed once, leads to Bitsby's payment page."""
    assert client.get(response["Location"])["Location"].startswith(PAYMENT_PAGE)


def assert_placed(response):
    """Assert that there is one order, with its basket submitted and its buyer redirected to pay."""
    order = Order.objects.get()
    assert_leads_to_payment(response, order)
    assert order.status == "Pending"
    assert Basket.objects.get(pk=order.basket_id).status == "Submitted"
    source = order.sources.get()
    assert source.source_type.code == "bitsby"
    assert (source.amount_allocated, source.amount_debited) == (order.total_incl_tax, 0)
    return order


def assert_not_placed(client, response):
    """Assert that there is no order, but a message and the same open basket."""
    assert response.status_code == 200
    assert "alert-danger" in response.content.decode()
    assert not Order.objects.exists()
    assert Basket.objects.get().status == "Open"
    assert client.get(reverse("basket:summary")).context["basket"].num_items == 1


@pytest.mark.django_db(transaction=True)
def test_placing_sends_no_request_and_debits_nothing(fake, preview_client):
    """The order is placed pending with its total allocated, and no request is sent to Bitsby."""
    response = place_order(preview_client)

    order = assert_placed(response)
    assert fake.requests == []
    assert not Transaction.objects.exists()
    assert not order.bitsby_invoices.exists()
    assert order.sources.get().currency == "USD"
    assert preview_client.session["checkout_order_id"] == order.pk
    assert order.guest_email == "buyer@example.com"
    assert_mail_is_enqueued_once(order)


@pytest.mark.parametrize(("method", "status"), [("bitsby", "Being processed"), ("cod", "Pending")])
def test_only_orders_by_bitsby_get_the_configured_pending_status(
    configure, other_methods, guest, product, method, status
):
    """``ORDER_STATUS_PENDING`` is given to orders paid by Bitsby and to no other."""
    configure(ORDER_STATUS_PENDING="Being processed")
    go_to_preview(guest, product, method=method)
    place_order(guest)

    assert Order.objects.get().status == status


def test_thank_you_page_shows_the_order(preview_client):
    """Oscar's thank-you page opens for the placed order and does not call it free."""
    place_order(preview_client)

    page = preview_client.get(reverse("checkout:thank-you"))

    assert page.status_code == 200
    assert Order.objects.get().number in page.content.decode()
    assert "No payment was required" not in page.content.decode()


def test_buyer_reaches_the_payment_page(fake, buyer_client):
    """The invoice asks for the order's total, and names the order and a registered buyer."""
    response = buyer_client.get(place_order(buyer_client)["Location"])

    assert response.status_code == 303
    assert response["Location"].startswith(PAYMENT_PAGE)
    order = Order.objects.get()
    user_key = buyer_client.session.get("_auth_user_id")
    assert order.user_id == (user_key and int(user_key))
    (asked,) = fake.asked("/invoices/create")
    assert asked["serviceData"] == f'{{"orderId":"{order.number}","userId":{user_key or "null"}}}'
    assert (asked["amountFiat"], asked["currencyFiat"]) == ("10.00", "USD")


@pytest.mark.parametrize("number", [4711, "4711", "2024/07-Ä 1"], ids=repr)
def test_any_order_number_leads_to_the_payment_page(fake, monkeypatch, guest, product, number):
    """Order numbers may be integers or any text; both can be paid."""
    monkeypatch.setattr(OrderNumberGenerator, "order_number", lambda self, basket: number)
    go_to_preview(guest, product)

    response = place_order(guest)
    order = assert_placed(response)
    paying = guest.get(response["Location"])

    assert order.number == str(number)
    assert paying["Location"].startswith(PAYMENT_PAGE)
    assert guest.get(signed_urls.order_url(order)).status_code == 200


@pytest.mark.django_db(transaction=True)
def test_second_click_leads_to_the_order_of_the_first(fake, buyer_client):
    """Clicking twice, one after the other, places one order, and both clicks lead to paying it."""
    first = place_order(buyer_client)
    second = place_order(buyer_client)

    order = assert_placed(first)
    assert_leads_to_payment(second, order)
    assert_opens_payment_page(buyer_client, second)
    assert_mail_is_enqueued_once(order)


def test_back_button_leads_to_the_order(fake, preview_client):
    """Opening the preview again leads to the order's page, and not to the payment page."""
    order = assert_placed(place_order(preview_client))
    paying = preview_client.get(signed_urls.pay_url(order))

    response = preview_client.get(reverse("checkout:preview"))

    assert response.status_code == 302
    assert response["Location"] == signed_urls.order_url(order)
    assert "Open the payment page" in preview_client.get(response["Location"]).content.decode()
    assert preview_client.post(signed_urls.pay_url(order))["Location"] == paying["Location"]
    assert len(fake.asked("/invoices/create")) == 1


def test_next_basket_is_a_new_order(fake, guest, product):
    """A buyer who continues shopping after an order sees the preview of the new basket."""
    go_to_preview(guest, product)
    first = place_order(guest)
    go_to_preview(guest, product)

    assert guest.get(reverse("checkout:preview")).status_code == 200
    second = place_order(guest)

    assert Order.objects.count() == 2
    assert_leads_to_payment(second, Order.objects.latest("pk"))
    assert first["Location"] != second["Location"]


def test_earlier_order_of_another_method_changes_nothing(configure, fake, guest, product):
    """After an order by another method, Oscar handles an empty basket as usual."""
    configure(OTHER_METHODS=[("cod", "Pay on delivery")])
    go_to_preview(guest, product, method="cod")
    place_order(guest)

    assert guest.get(reverse("checkout:preview"))["Location"] == reverse("basket:summary")


def click_at_once(monkeypatch, clients):
    """Place the order in all browsers at once, after all have passed the checks."""
    barrier = threading.Barrier(len(clients))
    submit = PaymentDetailsView.handle_place_order_submission

    def wait_for_the_others(view, request):
        # All requests have passed the preconditions with an open basket.
        barrier.wait(timeout=30)
        return submit(view, request)

    monkeypatch.setattr(PaymentDetailsView, "handle_place_order_submission", wait_for_the_others)
    responses = []

    def click(client):
        try:
            responses.append(place_order(client))
        finally:
            connections.close_all()

    threads = [threading.Thread(target=click, args=[client]) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return responses


@pytest.mark.django_db(transaction=True)
def test_simultaneous_clicks_place_one_order(
    monkeypatch, requests_atomic, fake, buyer_client, product
):
    """Of two overlapping clicks one places the order, and both lead to its payment."""
    if requests_atomic and connection.vendor == "sqlite":
        pytest.skip("SQLite lets only one such request in, so they cannot overlap")

    responses = click_at_once(monkeypatch, [buyer_client, same_browser(buyer_client)])

    assert len(responses) == 2
    order = Order.objects.get()
    for response in responses:
        assert_placed(response)
    assert_mail_is_enqueued_once(order)
    assert product.stockrecords.get().num_allocated == 1
    assert_opens_payment_page(buyer_client, responses[0])


@pytest.mark.django_db(transaction=True)
def test_click_during_oscars_mail_leads_to_the_order(settings, configure, fake, buyer_client):
    """While a slow server delays Oscar's own e-mail, a second click finds the order."""
    configure(MAILS=False)
    other = same_browser(buyer_client)
    seconds = []
    settings.EMAIL_BACKEND = "tests.checkout.mail_backends.Slow"
    mail_backends.Slow.meanwhile = lambda: seconds.append(place_order(other))

    first = place_order(buyer_client)

    order = assert_placed(first)
    (second,) = seconds
    assert_leads_to_payment(second, order)
    assert_opens_payment_page(other, second)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("mails", [True, False], ids=["ours", "Oscar's"])
def test_failing_mail_server_does_not_stop_the_buyer(
    settings, configure, requests_atomic, fake, guest, product, mails
):
    """When the e-mail cannot be sent, the order stands and its buyer can pay."""
    configure(MAILS=mails)
    settings.EMAIL_BACKEND = "tests.checkout.mail_backends.Refusing"
    go_to_preview(guest, product)

    response = place_order(guest)

    order = assert_placed(response)
    assert guest.session["checkout_order_id"] == order.pk
    assert_opens_payment_page(guest, response)
    assert_leads_to_payment(place_order(guest), order)


def fail(sender, **kwargs):
    raise RuntimeError("a receiver failed")


def fail_in_the_database(sender, **kwargs):
    with connection.cursor() as cursor:
        cursor.execute("SELECT nothing FROM nowhere")


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("signal", "receiver"),
    [
        (order_placed, fail),
        (post_checkout, fail),
        (pre_payment, fail),
        (post_payment, fail),
        # After placing, not even a failed statement rolls the order back.
        (post_checkout, fail_in_the_database),
    ],
    ids=["order_placed", "post_checkout", "pre_payment", "post_payment", "failed statement"],
)
def test_raising_receiver_does_not_stop_the_buyer(
    requests_atomic, receive, fake, preview_client, signal, receiver
):
    """When a receiver raises, the order stands with its source, and its buyer can pay."""
    receive(signal, receiver)

    response = place_order(preview_client)

    order = assert_placed(response)
    assert preview_client.session["checkout_order_id"] == order.pk
    assert_mail_is_enqueued_once(order)
    assert_opens_payment_page(preview_client, response)
    assert_leads_to_payment(place_order(preview_client), order)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("backend", ["Refusing", None])
def test_receivers_are_called_once_after_the_commit(
    settings, configure, receive, preview_client, backend
):
    """``post_checkout`` has the pay URL and a committed order, even if Oscar's e-mail failed."""
    if backend:
        configure(MAILS=False)
        settings.EMAIL_BACKEND = f"tests.checkout.mail_backends.{backend}"
    calls = []

    def receiver(sender, order, response, **kwargs):
        calls.append((order, response["Location"], connection.in_atomic_block))

    receive(post_checkout, receiver)

    order = assert_placed(place_order(preview_client))

    assert calls == [(order, signed_urls.pay_url(order), False)]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    "signal",
    [order_placed, pre_payment, post_payment],
    ids=["order_placed", "pre_payment", "post_payment"],
)
def test_receiver_that_breaks_the_transaction_leaves_all_or_nothing(
    requests_atomic, receive, preview_client, product, signal
):
    """When a receiver's failed statement breaks the transaction, there is no half order."""
    receive(signal, fail_in_the_database)

    response = place_order(preview_client)

    if Order.objects.exists():
        assert_placed(response)
    else:
        assert_not_placed(preview_client, response)
        assert product.stockrecords.get().num_allocated in (None, 0)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("owner", "method", "message"),
    [
        # Before anything is written, the message is the app's, and then it is Oscar's.
        (OrderNumberGenerator, "order_number", "could not be placed, and nothing was charged"),
        (OrderCreator, "place_order", "A problem occurred while placing this order"),
        (OrderCreator, "create_line_models", "A problem occurred while placing this order"),
        (OrderCreator, "update_stock_records", "A problem occurred while placing this order"),
        (Source, "save", "A problem occurred while placing this order"),
        (Basket, "submit", "A problem occurred while placing this order"),
    ],
)
def test_failure_while_placing_leaves_no_trace(
    monkeypatch, requests_atomic, fake, preview_client, product, owner, method, message
):
    """A failed order leaves an open basket and a message, and the next try works."""
    with monkeypatch.context() as broken:
        broken.setattr(owner, method, fail)
        response = place_order(preview_client)
        assert_not_placed(preview_client, response)
    assert message in response.content.decode()
    assert not ShippingAddress.objects.exists()
    assert mail.outbox == []
    assert fake.requests == []
    assert product.stockrecords.get().num_allocated in (None, 0)

    assert_placed(place_order(preview_client))


@pytest.mark.django_db(transaction=True)
def test_crash_while_placing_leaves_an_open_basket(monkeypatch, guest, product):
    """A crash leaves neither an order nor a frozen basket."""

    def die(*args, **kwargs):
        raise SystemExit("killed")

    go_to_preview(guest, product)
    with monkeypatch.context() as broken:
        broken.setattr(OrderCreator, "place_order", die)
        with pytest.raises(SystemExit):
            place_order(guest)

    assert not Order.objects.exists()
    assert Basket.objects.get().status == "Open"
    assert_placed(place_order(guest))


@pytest.mark.django_db(transaction=True)
def test_duplicate_order_number_harms_neither_order(monkeypatch, guest, login, product):
    """When the generator repeats a number, the second buyer keeps the basket and gets a message."""
    monkeypatch.setattr(OrderNumberGenerator, "order_number", lambda self, basket: 4711)
    go_to_preview(guest, product)
    place_order(guest)
    first = Order.objects.get()
    client = login()
    go_to_preview(client, product)

    response = place_order(client)

    assert response.status_code == 200
    assert Order.objects.get() == first
    assert first.sources.count() == 1
    assert client.get(reverse("basket:summary")).context["basket"].num_items == 1
    # The second buyer gets no link to the first one's order.
    assert signed_urls.pay_url(first) not in response.content.decode()
    assert client.session.get("checkout_order_id") is None


def test_basket_frozen_by_another_request_is_left_alone(preview_client):
    """A basket that another request has frozen, without an order yet, is left to that request."""
    submit = PaymentDetailsView.handle_place_order_submission

    def frozen_just_now(view, request):
        Basket.objects.filter(pk=request.basket.pk).update(status="Frozen")
        return submit(view, request)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PaymentDetailsView, "handle_place_order_submission", frozen_just_now)
        response = place_order(preview_client)

    assert response["Location"] == reverse("basket:summary")
    assert "already being placed" in preview_client.get(response["Location"]).content.decode()
    assert not Order.objects.exists()
    assert Basket.objects.filter(status="Frozen").count() == 1


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("is_configured", [True, False])
@pytest.mark.parametrize("problem", ["mail", "signal"])
def test_orders_of_other_methods_fail_as_without_the_app(
    settings, configure, receive, country, product, problem, is_configured
):
    """Failures of the shop's own orders are handled by Oscar as before."""
    configure(OTHER_METHODS=[("cod", "Pay on delivery")])
    if not is_configured:
        del settings.OSCAR_BITSBY
    if problem == "mail":
        settings.EMAIL_BACKEND = "tests.checkout.mail_backends.Refusing"
    else:
        receive(post_checkout, fail)

    def walk():
        client = Client()
        go_to_preview(client, product, method="cod")
        response = place_order(client)
        order = Order.objects.latest("pk")
        return (
            response.status_code,
            "A problem occurred while placing this order" in response.content.decode(),
            order.sources.count(),
            Basket.objects.get(pk=order.basket_id).status,
            place_order(client).status_code,
        )

    ours = walk()
    settings.ROOT_URLCONF = "tests.checkout.stock_urls"
    stock = walk()

    assert stock[:3] == (200, True, 0)
    assert ours == stock


@pytest.mark.django_db(transaction=True)
def test_items_added_after_placing_start_a_new_basket(fake, preview_client, product):
    """Items that are added after the order was placed start a new basket."""
    order = assert_placed(place_order(preview_client))

    fill_basket(preview_client, product, quantity=2)

    assert order.lines.get().quantity == 1
    assert preview_client.get(reverse("basket:summary")).context["basket"].num_items == 2
    assert Basket.objects.get(pk=order.basket_id).status == "Submitted"


@pytest.mark.parametrize("engine", ["db", "cache", "cached_db", "file", "signed_cookies"])
def test_session_knows_the_order_with_every_session_engine(
    guest, product, fake, settings, engine, tmp_path
):
    """With every session engine, this browser is redirected to its order afterwards."""
    settings.SESSION_ENGINE = f"django.contrib.sessions.backends.{engine}"
    settings.SESSION_FILE_PATH = str(tmp_path)
    go_to_preview(guest, product)
    place_order(guest)

    order = Order.objects.get()
    assert guest.get(reverse("checkout:preview"))["Location"] == signed_urls.order_url(order)
