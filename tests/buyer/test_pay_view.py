"""The pay view: it creates an invoice, or lets the buyer wait, and redirects to Bitsby."""

import datetime as dt
import html
import re
from decimal import Decimal

import pytest
import requests
from django.db import OperationalError, connection, connections
from django.test import Client
from oscar.core.loading import get_model

from oscar_bitsby.choices import InvoiceStatus
from oscar_bitsby.gateway.buyer_queue import Turn
from oscar_bitsby.models import BitsbyInvoice, GatewayState, QueuedBuyer
from oscar_bitsby.orders import signed_urls
from tests.support import bitsby, states
from tests.support.gateway_failures import failing_response
from tests.support.shopping import go_to_preview, place_order
from tests.support.states import state_url

Order = get_model("order", "Order")
Transaction = get_model("payment", "Transaction")

pytestmark = pytest.mark.django_db

CREATE, LIST = "/invoices/create", "/invoices/list"


def refresh_of(response):
    """Return the seconds and the address of the page's own next try, or None."""
    found = re.search(
        r'<meta http-equiv="refresh" content="(\d+);url=([^"]+)">', response.content.decode()
    )
    return found and (int(found[1]), found[2])


def assert_waits(response, order):
    """The order is safe, the page tries again by itself, and there is a button."""
    assert response.status_code == 200
    text = response.content.decode()
    assert "Your order is safe, and nothing has been charged." in text
    assert f'<form method="post" action="{signed_urls.pay_url(order)}">' in text
    assert "Try now" in text
    assert "csrfmiddlewaretoken" in text
    order.refresh_from_db()
    assert order.status == "Pending"
    assert Order.objects.count() == 1
    assert not Transaction.objects.exists()


def follow(client, response, move_time):
    """Do what the waiting page does: return after its delay."""
    seconds, url = refresh_of(response)
    move_time(seconds=seconds + 1)
    return client.get(url)


def payment_page_of(response):
    """Assert that the response leads to the payment page, and return its address."""
    assert response.status_code == 303
    assert response["Location"].startswith("https://dash.bitsby.app/invoices/pay/")
    return response["Location"]


def assert_shows_order(response, order):
    """Assert that the response redirects to the order's page."""
    assert response.status_code == 303
    assert response["Location"] == signed_urls.order_url(order)


def csrf_token_of_button(response, order):
    """Return the CSRF token of the page's pay button."""
    page = response.content.decode()
    form = page[page.index(f'action="{signed_urls.pay_url(order)}"') :]
    return re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', form)[1]


def test_first_get_of_the_buyer_creates_one_invoice(fake, buyer, bought):
    """After placing the order, redirects alone lead the buyer to the payment page."""
    location = payment_page_of(buyer.get(buyer.pay_url))

    invoice = bought.bitsby_invoices.get()
    assert location == invoice.url
    assert invoice.status == InvoiceStatus.UNPAID
    (asked,) = fake.asked(CREATE)
    assert asked["projectId"] == bitsby.PROJECT
    assert (asked["amountFiat"], asked["currencyFiat"]) == ("10.00", "USD")
    assert asked["description"] == f"Order {bought.number}"
    assert fake.requests == [(CREATE, asked)]


def test_reload_creates_no_invoice(fake, buyer, bought, move_time):
    """Opening the pay link again redirects to the live invoice, or to the order after expiry."""
    location = payment_page_of(buyer.get(buyer.pay_url))
    assert payment_page_of(buyer.get(buyer.pay_url)) == location

    move_time(hours=2)
    response = buyer.get(buyer.pay_url)

    assert_shows_order(response, bought)
    assert len(fake.asked(CREATE)) == 1


def test_get_without_the_buyers_session_creates_no_invoice(fake, buyer, bought):
    """A link checker is redirected to the order's page, or to the payment page if there is one."""
    visitor = Client()
    response = visitor.get(buyer.pay_url)

    assert_shows_order(response, bought)
    assert fake.requests == []
    assert not bought.bitsby_invoices.exists()

    location = payment_page_of(buyer.get(buyer.pay_url))
    assert payment_page_of(visitor.get(buyer.pay_url)) == location
    assert len(fake.requests) == 1


def test_head_creates_no_invoice(fake, buyer, bought):
    """HEAD creates no invoice, not even with the buyer's session; a later GET does."""
    response = buyer.head(buyer.pay_url)

    assert_shows_order(response, bought)
    assert fake.requests == []
    payment_page_of(buyer.get(buyer.pay_url))


def test_session_of_one_order_creates_no_invoice_of_another(fake, buyer, place):
    """The session after placing an order creates no invoice of another order by GET."""
    other = place()

    response = buyer.get(signed_urls.pay_url(other))

    assert response["Location"] == signed_urls.order_url(other)
    assert fake.requests == []


def test_post_needs_the_csrf_token(fake, order):
    """Another site cannot make a browser create an invoice; the buttons on our pages can."""
    client, url = Client(enforce_csrf_checks=True), signed_urls.pay_url(order)
    assert client.post(url).status_code == 403
    assert fake.requests == []

    fake.on(CREATE, bitsby.error("Your requests are too frequent. Try in 1 second."))
    token = csrf_token_of_button(client.get(signed_urls.order_url(order)), order)
    waiting = client.post(url, {"csrfmiddlewaretoken": token})
    assert_waits(waiting, order)
    fake.on(CREATE, fake.invoices_create)
    token = csrf_token_of_button(waiting, order)

    payment_page_of(client.post(url, {"csrfmiddlewaretoken": token}))


def test_post_creates_an_invoice_and_reuses_it(fake, order):
    """Without a session, too, every click leads to the same page while the invoice matches."""
    client, url = Client(), signed_urls.pay_url(order)
    first = payment_page_of(client.post(url))

    assert payment_page_of(client.post(url)) == first
    assert payment_page_of(Client().post(url)) == first
    assert len(fake.requests) == 1
    assert order.bitsby_invoices.count() == 1


@pytest.mark.parametrize("change", [{"total_incl_tax": Decimal("12.50")}, {"currency": "EUR"}])
def test_changed_order_gets_a_new_invoice(fake, order, change):
    """After a change of total or currency there is a new invoice, once the old one was checked."""
    client = Client()
    first = payment_page_of(client.post(signed_urls.pay_url(order)))
    old = order.bitsby_invoices.get()
    fake.invoices = [bitsby.invoice_item(old)]
    Order.objects.filter(pk=order.pk).update(**change)
    order.refresh_from_db()

    # A link sent earlier does not lead to the old amount.
    assert Client().get(signed_urls.pay_url(order))["Location"] == signed_urls.order_url(order)
    second = payment_page_of(client.post(signed_urls.pay_url(order)))

    assert second != first
    assert [path for path, fields in fake.requests] == [CREATE, LIST, CREATE]
    asked = fake.asked(CREATE)[1]
    assert asked["amountFiat"] == str(order.total_incl_tax)
    assert asked["currencyFiat"] == order.currency
    old.refresh_from_db()
    assert old.status == InvoiceStatus.CANCELED
    assert order.bitsby_invoices.live().get().url == second


def test_final_check_finds_the_payment_of_the_old_invoice(fake, order):
    """A payment that arrived before the change is booked, and no new invoice is created."""
    client = Client()
    client.post(signed_urls.pay_url(order))
    fake.invoices = [bitsby.invoice_item(order.bitsby_invoices.get(), "paid", bitsby.transfer())]
    Order.objects.filter(pk=order.pk).update(total_incl_tax=Decimal("12.50"))

    response = client.post(signed_urls.pay_url(order))

    assert_shows_order(response, order)
    assert len(fake.asked(CREATE)) == 1
    assert Transaction.objects.get().amount == 10


def test_failed_final_check_creates_no_invoice(fake, order):
    """While Bitsby cannot confirm the state of the old invoice, the buyer waits."""
    client = Client()
    client.post(signed_urls.pay_url(order))
    Order.objects.filter(pk=order.pk).update(total_incl_tax=Decimal("12.50"))
    fake.on(LIST, requests.Timeout("too slow"))

    assert_waits(client.post(signed_urls.pay_url(order)), order)
    assert len(fake.asked(CREATE)) == 1
    assert order.bitsby_invoices.count() == 1


def test_attempt_of_a_crashed_process_is_replaced_after_the_timeout(fake, order, move_time):
    """After a crash during the request, the buyer waits until TIMEOUT + 5 s have passed."""

    def die(fields):
        raise SystemExit("killed")

    fake.on(CREATE, die)
    client = Client()
    with pytest.raises(SystemExit):
        client.post(signed_urls.pay_url(order))
    crashed = order.bitsby_invoices.get()
    assert crashed.status == InvoiceStatus.CREATING
    fake.on(CREATE, fake.invoices_create)

    assert_waits(client.post(signed_urls.pay_url(order)), order)
    move_time(seconds=13)
    assert_waits(client.post(signed_urls.pay_url(order)), order)
    assert len(fake.asked(CREATE)) == 1

    move_time(seconds=3)
    payment_page_of(client.post(signed_urls.pay_url(order)))

    crashed.refresh_from_db()
    assert crashed.status == InvoiceStatus.EXPIRED
    assert order.bitsby_invoices.live().get().status == InvoiceStatus.UNPAID


def test_click_during_another_request_waits(fake, buyer, bought):
    """A second click during the first one's API request gets the waiting page and no invoice."""
    meanwhile = []

    def answer(fields):
        if not meanwhile:
            meanwhile.append(Client().post(buyer.pay_url))
        return fake.invoices_create(fields)

    fake.on(CREATE, answer)

    payment_page_of(buyer.get(buyer.pay_url))

    assert_waits(meanwhile[0], bought)
    assert "We're preparing your payment page." in meanwhile[0].content.decode()
    assert bought.bitsby_invoices.count() == 1


@pytest.mark.parametrize(
    "second_request", ["a click on Place order", "a reload", "a click on Try now"]
)
def test_second_request_reaches_bitsby_by_its_own_retry(fake, guest, product, second_request):
    """A second request during the first one waits, and its own retry leads to the payment page."""
    go_to_preview(guest, product)
    second = {}

    def answer(fields):
        tab = Client()
        tab.cookies = guest.cookies
        if second_request == "a click on Place order":
            guest.pay_url = place_order(tab)["Location"]
        send = tab.post if second_request == "a click on Try now" else tab.get
        second["page"] = send(guest.pay_url)
        return fake.invoices_create(fields)

    fake.on(CREATE, answer)
    guest.pay_url = place_order(guest)["Location"]
    # The browser has given this one up and shows the second one's answer.
    location = payment_page_of(guest.get(guest.pay_url))

    assert_waits(second["page"], Order.objects.get())
    assert payment_page_of(guest.get(refresh_of(second["page"])[1])) == location


@pytest.mark.django_db(transaction=True)
def test_lost_database_connection_does_not_lose_the_invoice(fake, order):
    """The buyer reaches the payment page although the database closed the connection meanwhile."""
    if connection.vendor != "postgresql":
        pytest.skip("without a server there is no connection to lose")

    def answer(fields):
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_backend_pid()")
            (ours,) = cursor.fetchone()
        killer = connection.copy()
        with killer.cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(%s)", [ours])
        killer.close()
        return fake.invoices_create(fields)

    fake.on(CREATE, answer)

    location = payment_page_of(Client().post(signed_urls.pay_url(order)))

    invoice = order.bitsby_invoices.get()
    assert (invoice.status, invoice.url) == (InvoiceStatus.UNPAID, location)


@pytest.mark.parametrize(
    "kind",
    [
        "refused connection",
        "no answer",
        "no connection in time",
        "too frequent",
        "said no",
        "wrong key",
        "rate limit of a proxy",
        "server error",
        "bad gateway",
        "blocked page",
        "empty",
        "broken JSON",
        "a list",
        "no data",
        "no page",
        "no id",
        "redirect",
    ],
)
def test_failing_gateway_makes_the_buyer_wait(fake, buyer, bought, kind, move_time):
    """After any failing response the order is safe, the page retries, and then it works."""
    fake.on(CREATE, failing_response(kind))

    response = buyer.get(buyer.pay_url)

    assert_waits(response, bought)
    assert not bought.bitsby_invoices.live().exists()
    # A second failing try is as harmless.
    again = follow(buyer, response, move_time)
    assert_waits(again, bought)

    fake.on(CREATE, fake.invoices_create)
    payment_page_of(follow(buyer, again, move_time))
    assert bought.bitsby_invoices.live().get().status == InvoiceStatus.UNPAID
    assert bitsby.KEY not in response.content.decode()


def test_waiting_page_may_create_the_invoice_after_a_failed_click(fake, order, move_time):
    """After a failed click, the page's own retries may create the invoice, too."""
    client = Client()
    fake.on(CREATE, requests.ReadTimeout("too slow"))
    waiting = client.post(signed_urls.pay_url(order))
    fake.on(CREATE, fake.invoices_create)

    payment_page_of(follow(client, waiting, move_time))


def test_missing_slot_makes_the_buyer_wait(fake, buyer, bought, clock):
    """Without a free slot nothing is sent and no row is left; the next try succeeds."""
    GatewayState.ensure_exists()
    GatewayState.objects.update(next_request_at=clock.now() + dt.timedelta(seconds=8))

    response = buyer.get(buyer.pay_url)

    assert_waits(response, bought)
    text = response.content.decode()
    assert "You're next." in text
    assert "It's your turn in about 8 seconds." in text
    assert fake.requests == []
    assert not bought.bitsby_invoices.exists()

    clock.sleep(8)
    payment_page_of(buyer.get(refresh_of(response)[1]))


def test_waiting_page_says_when_it_tries_again(fake, buyer, bought, move_time):
    """After each failure the page waits twice as long, up to ten minutes, and says so."""
    fake.on(CREATE, requests.ConnectionError("refused"))
    response, delays = buyer.get(buyer.pay_url), []
    for _ in range(8):
        assert_waits(response, bought)
        delays.append(refresh_of(response)[0])
        response = follow(buyer, response, move_time)

    assert [round(delay, -1) for delay in delays] == [10, 20, 40, 80, 160, 320, 600, 600]
    assert "try again in 10 minutes. You don't need to do anything." in html.unescape(
        response.content.decode()
    )
    assert len(fake.asked(CREATE)) == 9
    fake.on(CREATE, fake.invoices_create)
    payment_page_of(follow(buyer, response, move_time))


def test_clicks_during_the_pause_send_nothing(fake, buyer, bought):
    """A buyer who clicks again and again sees how long the page waits, and Bitsby sees nothing."""
    fake.on(CREATE, bitsby.error("You have a debt"))
    for _ in range(5):
        assert_waits(buyer.post(buyer.pay_url), bought)
    assert len(fake.asked(CREATE)) == 1


def test_waiting_page_says_how_many_come_before(fake, buyer, bought, clock):
    """In a rush the page says how many people pay before, and about how long it takes."""
    Turn("1").take()
    for number in range(2, 8):
        returns_at = clock.now() + dt.timedelta(seconds=5)
        QueuedBuyer.objects.create(key=str(number), returns_at=returns_at)

    text = buyer.get(buyer.pay_url).content.decode()

    assert "6 people are paying before you." in text
    assert "It's your turn in about 8 seconds." in text
    assert "This page continues by itself. Please keep it open." in text
    assert not fake.requests


REFUSED_PAGES = [
    "https://evil.example/invoices/pay/a",
    "https://dash.bitsby.app.evil.example/a",
    "https://evil.example/dash.bitsby.app",
    "http://dash.bitsby.app/a",
    "//evil.example/a",
    "//dash.bitsby.app/a",
    "/invoices/pay/a",
    "javascript:alert(1)",
    "javascript://dash.bitsby.app/%0Aalert(1)",
    "data:text/html,dash.bitsby.app",
    "https:dash.bitsby.app",
    "https:///evil.example/",
    "https://dash.bitsby.app@evil.example/",
    "https://evil.example@dash.bitsby.app/",
    "https://user:password@dash.bitsby.app/",
    "https://evil.example\\@dash.bitsby.app/",
    "https://evil.example\\.dash.bitsby.app/",
    "https://dash.bitsby.app\\.evil.example/",
    "https:\\\\evil.example/",
    "https://dash.bitsby.app\t.evil.example/",
    "https://dash.bitsby.app/a\r\nSet-Cookie: a=b",
    "https://dash.bitsby.app /",
    "https://[dash.bitsby.app/",
    "https://[::1/",
    "https://dash\u3002bitsby.app.evil.example/",
    "https://dash.bitsby.app\u2100.evil.example/",
]


@pytest.mark.parametrize("url", REFUSED_PAGES, ids=ascii)
def test_payment_page_on_another_host_is_refused(fake, buyer, bought, url):
    """Buyers are redirected to allowed hosts only, and retries create no invoices."""
    fake.on(CREATE, lambda fields: bitsby.success(bitsby.created(url=url)))

    response = buyer.get(buyer.pay_url)

    assert_waits(response, bought)
    assert "Location" not in response
    assert "evil.example" not in response.content.decode()
    again = buyer.get(refresh_of(response)[1])
    assert_waits(again, bought)
    assert_waits(buyer.post(buyer.pay_url), bought)
    assert len(fake.asked(CREATE)) == 1
    assert bought.bitsby_invoices.count() == 1


@pytest.mark.parametrize(
    ("hosts", "url"),
    [
        (["dash.bitsby.app"], "https://dash.bitsby.app/invoices/pay/a?b=c#d"),
        (["dash.bitsby.app"], "https://DASH.bitsby.app/a"),
        (["Pay.Example"], "https://pay.example/a"),
        (["pay.example:8443"], "https://pay.example:8443/a"),
    ],
)
def test_payment_page_on_an_allowed_host_is_followed(configure, fake, order, hosts, url):
    """``PAYMENT_HOSTS`` names the hosts, in any case, and may name a port."""
    configure(PAYMENT_HOSTS=hosts)
    fake.on(CREATE, lambda fields: bitsby.success(bitsby.created(url=url)))

    response = Client().post(signed_urls.pay_url(order))

    assert (response.status_code, response["Location"]) == (303, url)


def test_get_without_session_creates_no_invoice_after_a_refused_page(fake, order, invoice_for):
    """A link checker that met a refused payment page creates no invoice by a later GET."""
    invoice = invoice_for(order, url="https://evil.example/a")
    visitor = Client()
    visitor.get(signed_urls.pay_url(order))
    BitsbyInvoice.objects.filter(pk=invoice.pk).update(status=InvoiceStatus.EXPIRED)

    visitor.get(signed_urls.pay_url(order))

    assert fake.requests == []
    assert order.bitsby_invoices.count() == 1


@pytest.mark.parametrize("status", ["Being processed", "Cancelled", "Complete"])
def test_order_that_is_not_pending_is_not_payable(fake, buyer, bought, status):
    """Neither GET nor POST creates an invoice for an order that is not pending."""
    Order.objects.filter(pk=bought.pk).update(status=status)

    for send in (buyer.get, buyer.post, Client().post):
        assert_shows_order(send(buyer.pay_url), bought)
    assert fake.requests == []
    assert not bought.bitsby_invoices.exists()


@pytest.mark.parametrize(
    "arrange", [states.book_payment, states.create_paid_invoice_without_payment]
)
def test_pending_order_with_a_payment_is_not_payable(fake, order, invoice_for, arrange):
    """Booked money, or a payment under review, stops payments of a pending order."""
    arrange(order, invoice_for)

    assert_shows_order(Client().post(signed_urls.pay_url(order)), order)
    assert fake.requests == []


def test_link_does_not_redirect_to_payment_on_a_possible_mismatch(fake, order, invoice_for):
    """The pay link leads to the order's page, which asks first; a click starts the payment."""
    states.create_possible_mismatch(order, invoice_for)

    assert Client().get(signed_urls.pay_url(order))["Location"] == signed_urls.order_url(order)
    paying = Client().post(signed_urls.pay_url(order))["Location"]
    assert paying.startswith("https://dash.bitsby.app/")


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("atomic", [False, True], ids=["autocommit", "ATOMIC_REQUESTS"])
def test_no_api_request_is_sent_inside_a_transaction(
    monkeypatch, fake, buyer, bought, clock, atomic
):
    """Also under ATOMIC_REQUESTS, no transaction is open during an API request."""
    monkeypatch.setitem(connections.settings["default"], "ATOMIC_REQUESTS", atomic)
    inside = []

    def watch(answer):
        return lambda fields: inside.append(connection.in_atomic_block) or answer(fields)

    fake.on(CREATE, watch(fake.invoices_create))
    fake.on(LIST, watch(fake.invoices_list))

    payment_page_of(buyer.get(buyer.pay_url))
    invoice = bought.bitsby_invoices.get()
    clock.sleep(2)
    assert buyer.get(state_url(bought)).json()["state"] == "waiting"
    fake.invoices = [bitsby.invoice_item(invoice, "paid", bitsby.transfer())]
    BitsbyInvoice.objects.update(last_refreshed_at=invoice.created_at - dt.timedelta(minutes=1))
    clock.sleep(2)
    page = buyer.get(signed_urls.order_url(bought))

    assert "Thank you, we've received your payment" in page.content.decode()
    assert inside == [False] * 3
    assert Transaction.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_failed_attempt_is_kept_under_atomic_requests(monkeypatch, fake, buyer, bought, move_time):
    """Under ATOMIC_REQUESTS the failed attempt is stored, and the next try succeeds."""
    monkeypatch.setitem(connections.settings["default"], "ATOMIC_REQUESTS", True)
    fake.on(CREATE, requests.ReadTimeout("too slow"))
    waiting = buyer.get(buyer.pay_url)
    assert_waits(waiting, bought)
    assert bought.bitsby_invoices.get().status == InvoiceStatus.EXPIRED
    fake.on(CREATE, fake.invoices_create)

    payment_page_of(follow(buyer, waiting, move_time))


def test_database_error_in_pay_view_shows_the_waiting_page(order, monkeypatch):
    """A database error while a payment starts leads to the waiting page."""

    def fail(order):
        raise OperationalError("database is locked")

    monkeypatch.setattr("oscar_bitsby.buyer.views.start_payment", fail)

    response = Client().post(signed_urls.pay_url(order))

    assert response.status_code == 200
    assert b"Your order is safe" in response.content
