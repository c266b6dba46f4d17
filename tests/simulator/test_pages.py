"""The pages for people: the overview, and the payment page where they play the buyer."""

import html
import re

import pytest

from tests.simulator.support import text_of


def press(simulator, invoice, **fields):
    """Press a button on the payment page of an invoice."""
    return simulator.post(f"/invoices/pay/{invoice['uid']}", data=fields)


def press_in_wallet(simulator, invoice, **fields):
    """Press a button on the page that counts no view."""
    return simulator.post(f"/invoices/pay/{invoice['uid']}?wallet", data=fields)


def test_payment_page_shows_what_to_pay(simulator):
    """A buyer sees what it is for, how much, how long, and each wallet's address and amount."""
    invoice = simulator.create(description="Order 100001", amountFiat="11.45")
    answer = simulator.get(invoice["url"])
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    text = text_of(answer.text)
    for part in (
        "Bitsby simulator.",
        "Simulated project",
        "Order 100001",
        "11.45 USD",
        "Waiting for payment",
        "Time left: 0:59:5",
        "USDT on BNB Smart Chain",
        "BTC on Bitcoin",
    ):
        assert part in text
    for wallet in invoice["wallets"]:
        assert f"{wallet['amountCrypto']} {wallet['cryptocurrency']}" in text
        assert wallet["address"] in text


def test_pages_load_and_run_nothing(simulator):
    """Pages load nothing, and what a shop wrote is shown as text."""
    markup = '<script src="http://example.com/x.js"></script>"\'&amp;'
    invoice = simulator.create(description=markup, serviceData=markup)
    for url in (invoice["url"], simulator.url):
        answer = simulator.get(url)
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        assert not re.search(r"<(script|img|iframe)|src=\"|href=\"http", answer.text)
        assert markup in text_of(answer.text)


def test_views_are_counted(simulator):
    """Each GET of the page is a view; a HEAD is none and has no body."""
    invoice = simulator.create()
    simulator.get(invoice["url"])
    simulator.get(invoice["url"])
    assert simulator.http.head(invoice["url"], timeout=10).content == b""
    assert simulator.listed(invoice)["views"] == 2


@pytest.mark.parametrize("number", range(5))
def test_exact_amount_pays_the_invoice(simulator, number):
    """One button on each wallet pays the invoice, and the page confirms it."""
    invoice = simulator.create()
    wallet = invoice["wallets"][number]
    answer = press(simulator, invoice, action="exact", wallet=wallet["id"])
    assert [step.status_code for step in answer.history] == [303]
    assert "arrived and paid this invoice." in text_of(answer.text)
    assert "Paid with" in text_of(answer.text)
    assert simulator.listed(invoice)["wallet"]["id"] == wallet["id"]


def test_invoice_is_paid_from_a_wallet_without_a_view(simulator):
    """The overview leads to a page that counts no view, as for a buyer on the shop's page."""
    invoice = simulator.create()
    path = f"/invoices/pay/{invoice['uid']}?wallet"
    assert f'href="{path}"' in overview(simulator)
    assert "no view is counted" in simulator.get(simulator.url + path).text
    wallet = invoice["wallets"][1]["id"]

    answer = press_in_wallet(simulator, invoice, action="exact", wallet=wallet)

    assert "and paid this invoice" in text_of(answer.text)
    assert f'href="{path}"' not in overview(simulator)
    listed = simulator.listed(invoice)
    assert (listed["status"], listed["views"], listed["wallet"]["id"]) == ("paid", 0, wallet)


def test_form_of_an_expired_invoice_says_that_the_payment_is_unbound(simulator):
    """Money that is sent from a wallet after the expiry stays unbound, and the page says so."""
    invoice = simulator.create()
    simulator.control("expire", {"invoiceId": invoice["id"]})
    wallet = invoice["wallets"][0]["id"]

    answer = press_in_wallet(simulator, invoice, action="exact", wallet=wallet)

    assert "the payment stays unbound" in text_of(answer.text)
    assert simulator.listed(invoice)["views"] == 0


def test_other_amount_stays_unbound(simulator):
    """A payment of another amount arrives, but the invoice stays unpaid."""
    invoice = simulator.create()
    wallet = invoice["wallets"][0]["id"]
    answer = press(simulator, invoice, action="other", wallet=wallet, amount=" 11.40 ")
    assert answer.history
    assert "11.40000000 usdt arrived but matches no unpaid invoice" in text_of(answer.text)
    assert "Waiting for payment" in text_of(answer.text)


def test_amount_of_another_invoice_pays_that_one(simulator):
    """A payment goes to the invoice that reserved its amount, whichever page it was sent from."""
    first, second = simulator.create(), simulator.create()
    wallet = second["wallets"][0]
    fields = {"wallet": wallet["id"], "amount": wallet["amountCrypto"]}
    answer = press(simulator, first, action="other", **fields)
    assert "paid another invoice" in text_of(answer.text)
    (payment,) = simulator.call("/payments/list")["data"]
    assert payment["invoice"]["id"] == second["id"]
    assert [simulator.listed(one)["status"] for one in (first, second)] == ["unpaid", "paid"]


@pytest.mark.parametrize("amount", ["", "0", "-1", "1,5", "1e5", "abc<b>", "0.123456789"])
def test_bad_amounts_are_explained(simulator, amount):
    """An impossible amount gets a message, stays in the field, and nothing is sent."""
    invoice = simulator.create()
    wallet = invoice["wallets"][0]["id"]
    answer = press(simulator, invoice, action="other", wallet=wallet, amount=amount)
    assert answer.status_code == 400
    assert "Enter a positive amount" in text_of(answer.text)
    assert f'value="{html.escape(amount)}" aria-invalid' in answer.text
    assert simulator.state("payments") == []


def test_unknown_buttons_do_nothing(simulator):
    """A form that the page does not have gets a message and sends nothing."""
    invoice = simulator.create()
    for fields in ({}, {"action": "exact"}, {"wallet": invoice["wallets"][0]["id"]}):
        assert press(simulator, invoice, **fields).status_code == 400
    assert simulator.state("payments") == []


def test_invoice_can_be_expired(simulator):
    """One button ends the time to pay; what is sent after that stays unbound."""
    invoice = simulator.create()
    text = text_of(press(simulator, invoice, action="expire").text)
    assert "Expired it could be paid until" in text
    assert "Expire it now" not in text
    answer = press(simulator, invoice, action="exact", wallet=invoice["wallets"][0]["id"])
    assert "the payment stays unbound" in text_of(answer.text)
    assert simulator.listed(invoice)["status"] == "expired"


def test_paid_invoice_cannot_expire(simulator):
    """Pressing the button on an outdated page explains why nothing happens."""
    invoice = simulator.create()
    simulator.pay(invoice)
    answer = press(simulator, invoice, action="expire")
    assert answer.status_code == 409
    assert "This invoice is paid and cannot expire" in text_of(answer.text)


def test_unknown_pages_are_not_found(simulator):
    """A page that does not exist is a 404 that a person can read."""
    for path in ("/invoices/pay/nothing", "/nowhere"):
        answer = simulator.get(simulator.url + path)
        assert answer.status_code == 404
        assert "Not found" in text_of(answer.text)
    assert press(simulator, {"uid": "nothing"}).status_code == 404


def overview(simulator) -> str:
    return simulator.get(simulator.url).text


def test_empty_overview_explains_how_to_get_deliveries(simulator):
    """The overview says that there is nothing yet, and how to get deliveries."""
    text = text_of(overview(simulator))
    assert "Invoices (0) None yet." in text
    assert "Payments (0) None yet." in text
    assert "start with --webhook-url" in text


def test_overview_links_to_payment_pages(simulator):
    """The overview links to each payment page and distinguishes bound from unbound payments."""
    invoice = simulator.create(description="Order 100001", serviceData='{"orderId":"100001"}')
    simulator.pay(invoice)
    simulator.pay(invoice)
    page = overview(simulator)
    assert page.count(f'href="/invoices/pay/{invoice["uid"]}"') == 2
    text = text_of(page)
    assert 'paid 11.45 USD Order 100001 {"orderId":"100001"}' in text
    assert "11.45000000 usdt usdt-bnb unbound" in text


def test_overview_shows_only_the_newest(simulator):
    """The overview stays short when there are many invoices."""
    simulator.control("seed", {"invoices": 101})
    page = overview(simulator)
    assert "Invoices (101)" in page
    assert page.count('<td><a class="mono" href="/invoices/pay/') == 100
    assert "The newest 100 are shown." in page


def test_webhooks_can_be_switched(simulator):
    """The button turns webhooks off and on, and the page shows the state."""
    simulator.control("webhooks", {"url": "http://127.0.0.1:9/hook?a=<b>"})
    text = text_of(overview(simulator))
    assert "Webhooks are on . Deliveries go to http://127.0.0.1:9/hook?a=<b>" in text
    for value, state in (("0", "off"), ("1", "on")):
        answer = simulator.post("/webhooks", data={"enabled": value})
        assert [step.status_code for step in answer.history] == [303]
        assert f"Webhooks are {state} ." in text_of(answer.text)
        assert simulator.state("webhooks")["enabled"] is (value == "1")
