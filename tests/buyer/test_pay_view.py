"""The pay view: it creates an invoice, or lets the buyer wait, and redirects to Bitsby."""

from __future__ import annotations

import datetime as dt
import re
from decimal import Decimal

import pytest
import requests
from django.db import OperationalError, connection, connections
from django.test import Client
from oscar.core.loading import get_model

from oscar_bitsby.choices import InvoiceStatus
from oscar_bitsby.models import BitsbyInvoice, GatewayState
from oscar_bitsby.orders import signed_urls
from tests import bitsby
from tests.shopping import go_to_preview, place_order
from tests.support import states
from tests.support.gateway_failures import failing_response
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


def payment_page_of(response):
    """Assert that the response leads to the payment page, and return its address."""
    assert response.status_code == 303
    assert response["Location"].startswith("https://dash.bitsby.app/invoices/pay/")
    return response["Location"]


def test_the_buyers_first_get_creates_one_invoice(fake, buyer, bought):
    """From placing the order the buyer reaches the payment page by redirects alone."""
    location = payment_page_of(buyer.get(buyer.pay_url))

    invoice = bought.bitsby_invoices.get()
    assert location == invoice.url
    assert invoice.status == InvoiceStatus.UNPAID
    (asked,) = fake.asked(CREATE)
    assert asked["projectId"] == bitsby.PROJECT
    assert (asked["amountFiat"], asked["currencyFiat"]) == ("10.00", "USD")
    assert asked["description"] == f"Order {bought.number}"
    assert fake.requests == [(CREATE, asked)]


def test_a_reload_creates_nothing(fake, buyer, bought, move_time):
    """Opening the pay link again follows to the live invoice, and to the order once it is over."""
    location = payment_page_of(buyer.get(buyer.pay_url))
    assert payment_page_of(buyer.get(buyer.pay_url)) == location

    move_time(hours=2)
    response = buyer.get(buyer.pay_url)

    assert response.status_code == 303
    assert response["Location"] == signed_urls.order_url(bought)
    assert len(fake.asked(CREATE)) == 1


def test_a_stranger_with_the_link_creates_nothing_by_a_get(fake, buyer, bought):
    """A link checker is led to the order's page, and to the payment page once there is one."""
    stranger = Client()
    response = stranger.get(buyer.pay_url)

    assert response.status_code == 303
    assert response["Location"] == signed_urls.order_url(bought)
    assert fake.requests == []
    assert not bought.bitsby_invoices.exists()

    location = payment_page_of(buyer.get(buyer.pay_url))
    assert payment_page_of(stranger.get(buyer.pay_url)) == location
    assert len(fake.requests) == 1


def test_a_head_creates_nothing(fake, buyer, bought):
    """HEAD creates no invoice, not even from the buyer's own browser, whose GET still does."""
    response = buyer.head(buyer.pay_url)

    assert response.status_code == 303
    assert response["Location"] == signed_urls.order_url(bought)
    assert fake.requests == []
    payment_page_of(buyer.get(buyer.pay_url))


def test_the_session_of_one_order_pays_no_other(fake, buyer, place):
    """Having just placed one order lets nobody create another order's invoice by a GET."""
    other = place()

    response = buyer.get(signed_urls.pay_url(other))

    assert response["Location"] == signed_urls.order_url(other)
    assert fake.requests == []


def test_a_click_creates_an_invoice(fake, order):
    """POST creates the invoice for whoever has the link: orders are paid on other devices too."""
    payment_page_of(Client().post(signed_urls.pay_url(order)))

    assert order.bitsby_invoices.count() == 1


def test_a_click_needs_the_csrf_token(fake, order):
    """Another site cannot make a browser create an invoice; the button on our page can."""
    client = Client(enforce_csrf_checks=True)
    assert client.post(signed_urls.pay_url(order)).status_code == 403
    assert fake.requests == []

    page = client.get(signed_urls.order_url(order)).content.decode()
    form = page[page.index(f'action="{signed_urls.pay_url(order)}"') :]
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', form)[1]

    payment_page_of(client.post(signed_urls.pay_url(order), {"csrfmiddlewaretoken": token}))


def test_the_wait_pages_button_passes_the_csrf_check(fake, order):
    """The button of the page that says to wait works too."""
    fake.on(CREATE, bitsby.error("Your requests are too frequent. Try in 1 second."))
    client = Client(enforce_csrf_checks=True)
    page = client.get(signed_urls.order_url(order)).content.decode()
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page)[1]
    waiting = client.post(signed_urls.pay_url(order), {"csrfmiddlewaretoken": token})
    assert_waits(waiting, order)
    form = waiting.content.decode()
    form = form[form.index(f'action="{signed_urls.pay_url(order)}"') :]
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', form)[1]
    fake.on(CREATE, fake.invoices_create)

    payment_page_of(client.post(signed_urls.pay_url(order), {"csrfmiddlewaretoken": token}))


def test_the_live_invoice_is_used_again(fake, order):
    """While amount and currency match, every click leads to the same payment page."""
    client = Client()
    first = payment_page_of(client.post(signed_urls.pay_url(order)))

    assert payment_page_of(client.post(signed_urls.pay_url(order))) == first
    assert payment_page_of(Client().post(signed_urls.pay_url(order))) == first
    assert len(fake.requests) == 1


@pytest.mark.parametrize("change", [{"total_incl_tax": Decimal("12.50")}, {"currency": "EUR"}])
def test_a_changed_order_gets_a_new_invoice(fake, order, change):
    """Staff's change of total or currency leads to a new invoice, after a last look at the old."""
    client = Client()
    first = payment_page_of(client.post(signed_urls.pay_url(order)))
    old = order.bitsby_invoices.get()
    fake.invoices = [bitsby.invoice_item(old)]
    Order.objects.filter(pk=order.pk).update(**change)
    order.refresh_from_db()

    # A link that was sent before leads nobody to the old amount.
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


def test_the_last_look_may_find_the_payment(fake, order):
    """A payment that arrived before the order was changed is booked, and no new invoice made."""
    client = Client()
    client.post(signed_urls.pay_url(order))
    fake.invoices = [bitsby.invoice_item(order.bitsby_invoices.get(), "paid", bitsby.transfer())]
    Order.objects.filter(pk=order.pk).update(total_incl_tax=Decimal("12.50"))

    response = client.post(signed_urls.pay_url(order))

    assert response.status_code == 303
    assert response["Location"] == signed_urls.order_url(order)
    assert len(fake.asked(CREATE)) == 1
    assert Transaction.objects.get().amount == 10


def test_a_last_look_that_fails_creates_nothing(fake, order):
    """While Bitsby cannot say what became of the old invoice, the buyer waits."""
    client = Client()
    client.post(signed_urls.pay_url(order))
    Order.objects.filter(pk=order.pk).update(total_incl_tax=Decimal("12.50"))
    fake.on(LIST, requests.Timeout("too slow"))

    assert_waits(client.post(signed_urls.pay_url(order)), order)
    assert len(fake.asked(CREATE)) == 1
    assert order.bitsby_invoices.count() == 1


def test_a_crash_leaves_an_attempt_that_the_next_click_replaces(fake, order, move_time):
    """A process that died while it asked holds the buyer up until TIMEOUT + 5 s have passed."""

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


def test_a_click_while_bitsby_is_being_asked_waits(fake, buyer, bought):
    """A second try during the first one's request gets the wait page, and no second invoice."""
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


@pytest.mark.parametrize("again", ["a click on Place order", "a reload", "a click on Try now"])
def test_whoever_cannot_wait_reaches_bitsby_all_the_same(fake, guest, product, again):
    """A second request while Bitsby answers the first waits, and its own next try leads there."""
    go_to_preview(guest, product)
    second = {}

    def answer(fields):
        tab = Client()
        tab.cookies = guest.cookies
        if again == "a click on Place order":
            guest.pay_url = place_order(tab)["Location"]
        send = tab.post if again == "a click on Try now" else tab.get
        second["page"] = send(guest.pay_url)
        return fake.invoices_create(fields)

    fake.on(CREATE, answer)
    guest.pay_url = place_order(guest)["Location"]
    # The browser has given this one up and shows the second one's answer.
    location = payment_page_of(guest.get(guest.pay_url))

    assert_waits(second["page"], Order.objects.get())
    assert payment_page_of(guest.get(refresh_of(second["page"])[1])) == location


@pytest.mark.django_db(transaction=True)
def test_a_connection_lost_while_bitsby_answers_does_not_lose_the_answer(fake, order):
    """The database server ends the connection, and the buyer still reaches the payment page."""
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
def test_trouble_with_bitsby_makes_the_buyer_wait(fake, buyer, bought, kind):
    """Whatever Bitsby answers, the order is safe, the page tries again, and then it works."""
    fake.on(CREATE, failing_response(kind))

    response = buyer.get(buyer.pay_url)

    assert_waits(response, bought)
    seconds, url = refresh_of(response)
    assert seconds > 0
    assert not bought.bitsby_invoices.live().exists()
    # A second failing try is as harmless.
    again = buyer.get(url)
    assert_waits(again, bought)

    fake.on(CREATE, fake.invoices_create)
    payment_page_of(buyer.get(refresh_of(again)[1]))
    assert bought.bitsby_invoices.live().get().status == InvoiceStatus.UNPAID
    assert bitsby.KEY not in response.content.decode()


def test_waiting_goes_on_for_whoever_clicked(fake, order):
    """After a click that failed, the page's own tries may create the invoice too."""
    client = Client()
    fake.on(CREATE, requests.ReadTimeout("too slow"))
    waiting = client.post(signed_urls.pay_url(order))
    fake.on(CREATE, fake.invoices_create)

    payment_page_of(client.get(refresh_of(waiting)[1]))


def test_a_busy_account_makes_the_buyer_wait(fake, buyer, bought, clock):
    """Without a free slot nothing is sent and nothing is left behind, and the next try succeeds."""
    GatewayState.ensure_exists()
    GatewayState.objects.update(next_request_at=clock.now() + dt.timedelta(seconds=8))

    response = buyer.get(buyer.pay_url)

    assert_waits(response, bought)
    assert "We're preparing your payment page." in response.content.decode()
    assert fake.requests == []
    assert not bought.bitsby_invoices.exists()

    clock.sleep(8)
    payment_page_of(buyer.get(refresh_of(response)[1]))


def test_the_page_tries_less_and_less_often_and_then_stops(fake, buyer, bought):
    """Each try comes no sooner than the one before it, and after some only the button is left."""
    fake.on(CREATE, requests.ConnectionError("refused"))
    url, delays = buyer.pay_url, []
    for _ in range(60):
        response = buyer.get(url)
        assert_waits(response, bought)
        found = refresh_of(response)
        if found is None:
            break
        seconds, url = found
        delays.append(seconds)

    assert found is None
    assert "Please try again later or contact us." in response.content.decode()
    assert delays == sorted(delays)
    assert delays[0] <= 5
    assert delays[-1] >= 30
    assert len(fake.asked(CREATE)) == len(delays) + 1
    fake.on(CREATE, fake.invoices_create)
    payment_page_of(buyer.post(buyer.pay_url))


@pytest.mark.parametrize("tries", ["", "x", "-3", "1e9", "99999999999999999999", "²", "\x00"])
def test_a_strange_retry_counter_is_harmless(fake, buyer, bought, tries):
    """Whatever somebody writes into the address, the page waits as usual."""
    fake.on(CREATE, requests.ConnectionError("refused"))

    assert_waits(buyer.get(buyer.pay_url, {"try": tries}), bought)


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
def test_a_payment_page_elsewhere_is_refused(fake, buyer, bought, url):
    """Nobody is sent to a page that is not on an allowed host, and retrying makes no invoices."""
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
def test_a_payment_page_on_an_allowed_host_is_followed(configure, fake, order, hosts, url):
    """``PAYMENT_HOSTS`` names the hosts, in any case, and may name a port."""
    configure(PAYMENT_HOSTS=hosts)
    fake.on(CREATE, lambda fields: bitsby.success(bitsby.created(url=url)))

    response = Client().post(signed_urls.pay_url(order))

    assert (response.status_code, response["Location"]) == (303, url)


def test_a_strangers_get_never_creates_even_after_a_refused_page(fake, order, invoice_for):
    """A link checker that met a refused payment page may not create the next invoice by a GET."""
    invoice = invoice_for(order, url="https://evil.example/a")
    stranger = Client()
    stranger.get(signed_urls.pay_url(order))
    BitsbyInvoice.objects.filter(pk=invoice.pk).update(status=InvoiceStatus.EXPIRED)

    stranger.get(signed_urls.pay_url(order))

    assert fake.requests == []
    assert order.bitsby_invoices.count() == 1


@pytest.mark.parametrize("status", ["Being processed", "Cancelled", "Complete"])
def test_an_order_that_does_not_wait_is_not_payable(fake, buyer, bought, status):
    """Neither the buyer's GET nor a click creates an invoice for an order that is not pending."""
    Order.objects.filter(pk=bought.pk).update(status=status)

    for response in (
        buyer.get(buyer.pay_url),
        buyer.post(buyer.pay_url),
        Client().post(buyer.pay_url),
    ):
        assert response.status_code == 303
        assert response["Location"] == signed_urls.order_url(bought)
    assert fake.requests == []
    assert not bought.bitsby_invoices.exists()


def test_a_paid_order_is_not_payable_whatever_its_status(fake, order):
    """Booked money ends paying even while the order's status still says pending."""
    order.sources.get().debit(order.total_incl_tax, reference="x")

    response = Client().post(signed_urls.pay_url(order))

    assert response["Location"] == signed_urls.order_url(order)
    assert fake.requests == []


def test_an_order_whose_payment_is_looked_at_is_not_payable(fake, order, invoice_for):
    """While staff look at a payment on the order's invoice, the buyer is not asked to pay again."""
    invoice_for(order, status=InvoiceStatus.PAID)

    response = Client().post(signed_urls.pay_url(order))

    assert response["Location"] == signed_urls.order_url(order)
    assert fake.requests == []


def test_whoever_may_have_paid_already_is_not_sent_on_by_a_link(fake, order, invoice_for):
    """A link to the payment page leads to the order's page, which asks first; a click pays."""
    states.create_possible_mismatch(order, invoice_for)

    assert Client().get(signed_urls.pay_url(order))["Location"] == signed_urls.order_url(order)
    paying = Client().post(signed_urls.pay_url(order))["Location"]
    assert paying.startswith("https://dash.bitsby.app/")


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("atomic", [False, True], ids=["autocommit", "ATOMIC_REQUESTS"])
def test_bitsby_is_never_asked_inside_a_transaction(
    monkeypatch, fake, buyer, bought, clock, atomic
):
    """Paying and looking work under ATOMIC_REQUESTS, with no transaction while Bitsby answers."""
    monkeypatch.setitem(connections.settings["default"], "ATOMIC_REQUESTS", atomic)
    inside = []

    def create(fields):
        inside.append(connection.in_atomic_block)
        return fake.invoices_create(fields)

    def listed(fields):
        inside.append(connection.in_atomic_block)
        return fake.invoices_list(fields)

    fake.on(CREATE, create)
    fake.on(LIST, listed)

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
def test_trouble_under_atomic_requests_makes_the_buyer_wait(monkeypatch, fake, buyer, bought):
    """Under ATOMIC_REQUESTS too, the attempt that failed is kept and the next try succeeds."""
    monkeypatch.setitem(connections.settings["default"], "ATOMIC_REQUESTS", True)
    fake.on(CREATE, requests.ReadTimeout("too slow"))
    waiting = buyer.get(buyer.pay_url)
    assert_waits(waiting, bought)
    assert bought.bitsby_invoices.get().status == InvoiceStatus.EXPIRED
    fake.on(CREATE, fake.invoices_create)

    payment_page_of(buyer.get(refresh_of(waiting)[1]))


def test_a_database_that_fails_under_the_pay_click_is_no_error_page(order, monkeypatch):
    """A lock or a broken connection while paying starts leaves a page that tries again."""

    def fail(order):
        raise OperationalError("database is locked")

    monkeypatch.setattr("oscar_bitsby.buyer.views.start_payment", fail)

    response = Client().post(signed_urls.pay_url(order))

    assert response.status_code == 200
    assert b"Your order is safe" in response.content
