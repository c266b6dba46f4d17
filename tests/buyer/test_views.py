"""The buyer's pages of an order: pay, where it stands, and its state as JSON."""

from __future__ import annotations

import datetime as dt
import re
from decimal import Decimal

import pytest
import requests
from django.db import OperationalError, connection, connections
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from oscar.core.loading import get_model

from oscar_bitsby.choices import InvoiceStatus, Resolution, ReviewReason
from oscar_bitsby.models import BitsbyInvoice, BitsbyPayment, GatewayState
from oscar_bitsby.orders import signed_urls
from tests import bitsby
from tests.shopping import go_to_preview, place_order

Order = get_model("order", "Order")
Transaction = get_model("payment", "Transaction")

pytestmark = pytest.mark.django_db

CREATE, LIST = "/invoices/create", "/invoices/list"


@pytest.fixture
def configure(settings):
    """Return a function that changes keys of ``OSCAR_BITSBY``."""

    def change(**values):
        settings.OSCAR_BITSBY = {**settings.OSCAR_BITSBY, **values}

    return change


@pytest.fixture
def buyer(guest, product):
    """The browser of a guest who has just placed an order and was not sent to pay it yet."""
    go_to_preview(guest, product)
    guest.pay_url = place_order(guest)["Location"]
    return guest


@pytest.fixture
def bought(buyer):
    """The order of ``buyer``."""
    return Order.objects.get()


def state_url(order):
    return reverse("oscar_bitsby:state", args=[signed_urls.sign_order_number(order.number)])


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


def leave(response):
    """Assert that the response leads to the payment page, and return its address."""
    assert response.status_code == 303
    assert response["Location"].startswith("https://dash.bitsby.app/invoices/pay/")
    return response["Location"]


def test_the_buyers_first_get_creates_one_invoice(fake, buyer, bought):
    """From placing the order the buyer reaches the payment page by redirects alone."""
    location = leave(buyer.get(buyer.pay_url))

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
    location = leave(buyer.get(buyer.pay_url))
    assert leave(buyer.get(buyer.pay_url)) == location

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

    location = leave(buyer.get(buyer.pay_url))
    assert leave(stranger.get(buyer.pay_url)) == location
    assert len(fake.requests) == 1


def test_a_head_creates_nothing(fake, buyer, bought):
    """HEAD creates no invoice, not even from the buyer's own browser, whose GET still does."""
    response = buyer.head(buyer.pay_url)

    assert response.status_code == 303
    assert response["Location"] == signed_urls.order_url(bought)
    assert fake.requests == []
    leave(buyer.get(buyer.pay_url))


def test_the_session_of_one_order_pays_no_other(fake, buyer, place):
    """Having just placed one order lets nobody create another order's invoice by a GET."""
    other = place()

    response = buyer.get(signed_urls.pay_url(other))

    assert response["Location"] == signed_urls.order_url(other)
    assert fake.requests == []


def test_a_click_creates_an_invoice(fake, order):
    """POST creates the invoice for whoever has the link: orders are paid on other devices too."""
    leave(Client().post(signed_urls.pay_url(order)))

    assert order.bitsby_invoices.count() == 1


def test_a_click_needs_the_csrf_token(fake, order):
    """Another site cannot make a browser create an invoice; the button on our page can."""
    client = Client(enforce_csrf_checks=True)
    assert client.post(signed_urls.pay_url(order)).status_code == 403
    assert fake.requests == []

    page = client.get(signed_urls.order_url(order)).content.decode()
    form = page[page.index(f'action="{signed_urls.pay_url(order)}"') :]
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', form)[1]

    leave(client.post(signed_urls.pay_url(order), {"csrfmiddlewaretoken": token}))


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

    leave(client.post(signed_urls.pay_url(order), {"csrfmiddlewaretoken": token}))


def test_the_live_invoice_is_used_again(fake, order):
    """While amount and currency match, every click leads to the same payment page."""
    client = Client()
    first = leave(client.post(signed_urls.pay_url(order)))

    assert leave(client.post(signed_urls.pay_url(order))) == first
    assert leave(Client().post(signed_urls.pay_url(order))) == first
    assert len(fake.requests) == 1


@pytest.mark.parametrize("change", [{"total_incl_tax": Decimal("12.50")}, {"currency": "EUR"}])
def test_a_changed_order_gets_a_new_invoice(fake, order, change):
    """Staff's change of total or currency leads to a new invoice, after a last look at the old."""
    client = Client()
    first = leave(client.post(signed_urls.pay_url(order)))
    old = order.bitsby_invoices.get()
    fake.invoices = [bitsby.invoice_item(old)]
    Order.objects.filter(pk=order.pk).update(**change)
    order.refresh_from_db()

    # A link that was sent before leads nobody to the old amount.
    assert Client().get(signed_urls.pay_url(order))["Location"] == signed_urls.order_url(order)
    second = leave(client.post(signed_urls.pay_url(order)))

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
    leave(client.post(signed_urls.pay_url(order)))

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

    leave(buyer.get(buyer.pay_url))

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
    location = leave(guest.get(guest.pay_url))

    assert_waits(second["page"], Order.objects.get())
    assert leave(guest.get(refresh_of(second["page"])[1])) == location


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

    location = leave(Client().post(signed_urls.pay_url(order)))

    invoice = order.bitsby_invoices.get()
    assert (invoice.status, invoice.url) == (InvoiceStatus.UNPAID, location)


def trouble(kind):
    return {
        "refused connection": requests.ConnectionError("refused"),
        "no answer": requests.ReadTimeout("too slow"),
        "no connection in time": requests.ConnectTimeout("too slow"),
        "too frequent": bitsby.error("Your requests are too frequent. Try in 1 second."),
        "said no": bitsby.error("Unknown project"),
        "wrong key": (401, {}, "{}"),
        "rate limit of a proxy": (429, {}, "slow down"),
        "server error": (500, {}, "<h1>Server Error</h1>"),
        "bad gateway": (502, {}, "<html>Bad Gateway</html>"),
        "blocked page": (200, {}, "<!DOCTYPE html><title>Blocked</title>"),
        "empty": (200, {}, ""),
        "broken JSON": (200, {}, '{"result": "succ'),
        "a list": (200, {}, "[]"),
        "no data": bitsby.success(None),
        "no page": bitsby.success({**bitsby.created(), "url": ""}),
        "no id": bitsby.success({**bitsby.created(), "id": "?"}),
        "redirect": (302, {"Location": "https://evil.example/"}, ""),
    }[kind]


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
    fake.on(CREATE, trouble(kind))

    response = buyer.get(buyer.pay_url)

    assert_waits(response, bought)
    seconds, url = refresh_of(response)
    assert seconds > 0
    assert not bought.bitsby_invoices.live().exists()
    # A second failing try is as harmless.
    again = buyer.get(url)
    assert_waits(again, bought)

    fake.on(CREATE, fake.invoices_create)
    leave(buyer.get(refresh_of(again)[1]))
    assert bought.bitsby_invoices.live().get().status == InvoiceStatus.UNPAID
    assert bitsby.KEY not in response.content.decode()


def test_waiting_goes_on_for_whoever_clicked(fake, order):
    """After a click that failed, the page's own tries may create the invoice too."""
    client = Client()
    fake.on(CREATE, requests.ReadTimeout("too slow"))
    waiting = client.post(signed_urls.pay_url(order))
    fake.on(CREATE, fake.invoices_create)

    leave(client.get(refresh_of(waiting)[1]))


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
    leave(buyer.get(refresh_of(response)[1]))


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
    leave(buyer.post(buyer.pay_url))


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


def remember(invoice, **values):
    return BitsbyPayment.objects.create(
        invoice=invoice, bitsby_id=bitsby.new_id(), amount=Decimal(1), **values
    )


def be_waiting(order, invoice_for):
    invoice_for(order, last_refreshed_at=timezone.now())


def be_checking_paid(order, invoice_for):
    invoice_for(order, status=InvoiceStatus.PAID)


def be_checking_flagged(order, invoice_for):
    remember(invoice_for(order, status=InvoiceStatus.EXPIRED), review_reason=ReviewReason.NOT_PAID)


def be_paid(order, invoice_for):
    invoice_for(order, status=InvoiceStatus.PAID)
    order.sources.get().debit(order.total_incl_tax, reference="x")
    order.set_status("Being processed")


def be_expired(order, invoice_for):
    invoice_for(order, status=InvoiceStatus.EXPIRED)


def be_overdue(order, invoice_for):
    past = timezone.now() - dt.timedelta(minutes=1)
    invoice_for(order, expires_at=past, last_refreshed_at=timezone.now())


def send_another_amount(amount="8"):
    """Let Bitsby have seen a payment that it bound to nothing."""
    BitsbyPayment.objects.create(
        bitsby_id=bitsby.new_id(),
        amount=Decimal(amount),
        wallet_id=bitsby.TRON,
        cryptocurrency="usdt",
        transaction_at=timezone.now(),
        seen_at=timezone.now(),
        review_reason=ReviewReason.UNMATCHED,
    )


def be_unsure(order, invoice_for):
    invoice_for(order, last_refreshed_at=timezone.now())
    send_another_amount()


def be_unsure_and_over(order, invoice_for):
    invoice_for(order, status=InvoiceStatus.EXPIRED)
    send_another_amount("12.5")


def be_cancelled(order, invoice_for):
    invoice_for(order, status=InvoiceStatus.EXPIRED)
    order.set_status("Cancelled")


def be_taken_over(order, invoice_for):
    order.set_status("Being processed")


def be_attempted(order, invoice_for):
    invoice_for(order, status=InvoiceStatus.CREATING, bitsby_id=None, url="")


STATES = [
    # how the order came there, state, what the page says, the button, whether it is final
    (lambda order, invoice_for: None, "new", "This order hasn't been paid yet", "Pay now", False),
    (be_attempted, "new", "This order hasn't been paid yet", "Pay now", False),
    (be_waiting, "waiting", "Waiting for your payment", "Open the payment page", False),
    (be_checking_paid, "under_review", "We're reviewing your payment", None, False),
    (be_checking_flagged, "under_review", "We're reviewing your payment", None, False),
    (be_paid, "paid", "Thank you, we've received your payment", None, True),
    (be_unsure, "possible_mismatch", "Have you already paid?", "Not paid yet? Pay now", False),
    (
        be_unsure_and_over,
        "possible_mismatch",
        "Have you already paid?",
        "Not paid yet? Pay now",
        False,
    ),
    (be_expired, "expired", "The payment window has closed", "Request a new quote", False),
    (be_overdue, "expired", "The payment window has closed", "Request a new quote", False),
    (be_cancelled, "cancelled", "This order has been cancelled", None, True),
    (be_taken_over, "other", "The order status is: Being processed", None, True),
]


@pytest.mark.parametrize(("arrange", "state", "text", "button", "is_final"), STATES)
def test_the_order_page_says_what_to_do_next(
    fake, order, invoice_for, arrange, state, text, button, is_final
):
    """In each state the page shows it, and the one next step; it renews itself until the end."""
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
def test_the_state_is_told_as_json(
    fake, order, invoice_for, arrange, state, text, button, is_final
):
    """A script learns the state, whether it can change, and how many seconds are left to pay."""
    arrange(order, invoice_for)

    response = Client().get(state_url(order))

    assert response["Content-Type"] == "application/json"
    remote = response.json()
    left = remote.pop("secondsLeft")
    assert remote.pop("version").startswith(state)
    assert remote == {"state": state, "final": is_final}
    assert 3500 < left <= 3600 if arrange in (be_waiting, be_unsure) else left is None


@pytest.mark.parametrize("amount", ["1", "4.99", "20.01", "500"])
def test_a_payment_of_a_wholly_other_amount_unsettles_nobody(fake, order, invoice_for, amount):
    """Less than half or more than double was hardly meant for this order."""
    be_waiting(order, invoice_for)
    send_another_amount(amount)

    assert Client().get(state_url(order)).json()["state"] == "waiting"


@pytest.mark.parametrize(
    ("at", "created"),
    [
        (dt.timedelta(days=-3), dt.timedelta()),
        (dt.timedelta(minutes=-6), dt.timedelta()),
        (dt.timedelta(), dt.timedelta(days=-25)),
    ],
)
def test_a_payment_of_another_time_unsettles_nobody(fake, order, invoice_for, at, created):
    """Who paid before there was an invoice, or long after its time, has not paid this one."""
    now = timezone.now()
    invoice_for(
        order,
        last_refreshed_at=now,
        created_at=now + created,
        expires_at=now + created + dt.timedelta(hours=1),
    )
    send_another_amount()
    BitsbyPayment.objects.update(transaction_at=now + at)

    assert Client().get(state_url(order)).json()["state"] in ("waiting", "expired")


@pytest.mark.parametrize("at", [None, dt.timedelta(minutes=-4)])
def test_a_payment_whose_time_is_not_exact_may_be_meant(fake, order, invoice_for, at):
    """Where Bitsby tells no time, or clocks differ a little, the buyer is asked."""
    be_unsure(order, invoice_for)
    BitsbyPayment.objects.update(transaction_at=None if at is None else timezone.now() + at)

    assert Client().get(state_url(order)).json()["state"] == "possible_mismatch"


def test_a_payment_that_staff_have_dealt_with_unsettles_nobody(fake, order, invoice_for):
    """Once it is known to be another's, the order waits as before."""
    be_unsure(order, invoice_for)
    BitsbyPayment.objects.update(resolved_at=timezone.now(), resolution=Resolution.DISMISSED)

    assert Client().get(state_url(order)).json()["state"] == "waiting"


def test_whoever_may_have_paid_already_is_not_sent_on_by_a_link(fake, order, invoice_for):
    """A link to the payment page leads to the order's page, which asks first; a click pays."""
    be_unsure(order, invoice_for)

    assert Client().get(signed_urls.pay_url(order))["Location"] == signed_urls.order_url(order)
    paying = Client().post(signed_urls.pay_url(order))["Location"]
    assert paying.startswith("https://dash.bitsby.app/")


@pytest.mark.parametrize("state", ["paid", "under_review", "cancelled"])
def test_the_buyer_is_told_not_to_pay_again(fake, order, invoice_for, state):
    """Where paying again would be wrong, the page offers no way to do it and says so."""
    arrange = {"paid": be_paid, "under_review": be_checking_paid, "cancelled": be_cancelled}[state]
    arrange(order, invoice_for)

    shown = Client().get(signed_urls.order_url(order)).content.decode()

    texts = {
        "paid": "You don't need to do anything else.",
        "under_review": "Please don't pay again",
        "cancelled": "Please don't send payment for it.",
    }
    assert texts[state] in shown
    assert signed_urls.pay_url(order) not in shown


@pytest.mark.parametrize("page", ["order", "state"])
def test_the_buyers_look_finds_the_payment(fake, order, invoice, page):
    """Opening the page asks Bitsby, settles what it says, and shows the new state at once."""
    fake.invoices = [bitsby.invoice_item(invoice, "paid", bitsby.transfer())]

    if page == "order":
        shown = Client().get(signed_urls.order_url(order)).content.decode()
        assert "Thank you, we've received your payment" in shown
    else:
        assert Client().get(state_url(order)).json()["state"] == "paid"

    order.refresh_from_db()
    assert order.status == "Being processed"
    assert Transaction.objects.get().amount == order.total_incl_tax


def test_the_buyers_look_asks_at_most_once_in_ten_seconds(fake, order, invoice, clock, move_time):
    """However often the page and its script ask, Bitsby is asked once in ten seconds."""
    fake.invoices = [bitsby.invoice_item(invoice)]
    client = Client()

    def look():
        for _ in range(3):
            clock.sleep(1.2)  # a slot is always free
            assert client.get(signed_urls.order_url(order)).status_code == 200
            assert client.get(state_url(order)).json()["state"] == "waiting"

    look()
    assert len(fake.requests) == 1
    move_time(seconds=9)
    look()
    assert len(fake.requests) == 1
    move_time(seconds=2)
    look()
    assert len(fake.requests) == 2


def test_the_buyers_look_waits_for_no_slot(fake, order, invoice, clock):
    """Without a free slot the page shows what is known, at once, and asks nothing."""
    fake.invoices = [bitsby.invoice_item(invoice, "paid", bitsby.transfer())]
    GatewayState.ensure_exists()
    GatewayState.objects.update(next_request_at=clock.now() + dt.timedelta(seconds=1))

    assert Client().get(state_url(order)).json()["state"] == "waiting"

    assert fake.requests == []
    assert clock.slept == 0
    # A slot that was not free does not count as having asked.
    clock.sleep(1.1)
    assert Client().get(state_url(order)).json()["state"] == "paid"


@pytest.mark.parametrize("kind", ["refused connection", "too frequent", "server error", "a list"])
def test_trouble_with_bitsby_does_not_reach_the_order_page(fake, order, invoice, kind):
    """When Bitsby cannot be asked, the page shows what is known."""
    fake.on(LIST, trouble(kind))

    page = Client().get(signed_urls.order_url(order))

    assert page.status_code == 200
    assert "Waiting for your payment" in page.content.decode()
    assert len(fake.requests) == 1


@pytest.mark.parametrize("arrange", [be_paid, be_cancelled, be_taken_over, be_expired])
def test_nothing_is_asked_where_nothing_is_open(fake, order, invoice_for, arrange):
    """Pages of orders without a live invoice cost no request."""
    arrange(order, invoice_for)

    Client().get(signed_urls.order_url(order))
    Client().get(state_url(order))

    assert fake.requests == []


def responses_of_all_pages(order, client):
    return {
        "order": client.get(signed_urls.order_url(order)),
        "state": client.get(state_url(order)),
        "pay by a stranger": client.get(signed_urls.pay_url(order)),
        "wait": client.post(signed_urls.pay_url(order)),
    }


def test_pages_keep_their_address_to_themselves(fake, order):
    """No page of an order is stored, indexed, or named to another site by the browser."""
    fake.on(CREATE, requests.ConnectionError("refused"))
    responses = responses_of_all_pages(order, Client())
    fake.on(CREATE, fake.invoices_create)
    responses["pay"] = Client().post(signed_urls.pay_url(order))
    responses["pay again"] = Client().get(signed_urls.pay_url(order))
    leave(responses["pay"])

    for name, response in responses.items():
        assert response["Referrer-Policy"] in ("same-origin", "no-referrer"), name
        assert "no-store" in response["Cache-Control"], name
        assert "private" in response["Cache-Control"], name
        assert response["X-Robots-Tag"] == "noindex", name


@pytest.mark.parametrize("value", [None, {"API_KEY": ""}, {"TIMEOUT": "soon"}], ids=str)
def test_settings_that_cannot_be_used_show_no_error_page(settings, fake, order, invoice, value):
    """With settings gone or wrong, pages say that the order is safe, with a status of their own."""
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
def test_the_pages_that_only_show_take_no_post(order, path):
    """Only the pay page takes a POST."""
    url = signed_urls.order_url(order) if path == "order" else state_url(order)

    assert Client().post(url).status_code == 405


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

    leave(buyer.get(buyer.pay_url))
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

    leave(buyer.get(refresh_of(waiting)[1]))


def test_a_database_that_fails_under_the_pay_click_is_no_error_page(order, monkeypatch):
    """A lock or a broken connection while paying starts leaves a page that tries again."""

    def fail(order):
        raise OperationalError("database is locked")

    monkeypatch.setattr("oscar_bitsby.buyer.views.start_payment", fail)

    response = Client().post(signed_urls.pay_url(order))

    assert response.status_code == 200
    assert b"Your order is safe" in response.content


def test_a_database_that_fails_under_a_look_is_no_error_page(order, invoice, fake, monkeypatch):
    """The order's page shows what is known when looking at Bitsby's word breaks on our side."""
    fake.invoices = [bitsby.invoice_item(invoice)]

    def fail(*args, **kwargs):
        raise OperationalError("database is locked")

    monkeypatch.setattr("oscar_bitsby.settlement.service.settle", fail)

    response = Client().get(signed_urls.order_url(order))

    assert response.status_code == 200
    assert len(fake.asked("/invoices/list")) == 1
