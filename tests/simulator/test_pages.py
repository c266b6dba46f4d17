import html
import re

import pytest


def text_of(page: str) -> str:
    """Return what a person reads on a page."""
    page = re.sub(r"<(style|title)>.*?</\1>", "", page, flags=re.DOTALL)
    return html.unescape(" ".join(re.sub(r"<[^>]+>", " ", page).split()))


def press(simulator, invoice, **fields):
    return simulator.http.post(invoice["url"], data=fields, timeout=10)


def test_the_page_tells_what_to_pay(simulator):
    """A buyer sees what it is for, how much, how long, and each wallet's address and amount."""
    invoice = simulator.create(description="Order 100001", amountFiat="11.45")
    answer = simulator.http.get(invoice["url"], timeout=10)
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


def test_the_page_loads_and_runs_nothing(simulator):
    """The page is complete in itself, and what a shop wrote is shown as text."""
    nasty = '<script src="http://example.com/x.js"></script>"\'&amp;'
    invoice = simulator.create(description=nasty, serviceData=nasty)
    for url in (invoice["url"], simulator.url):
        answer = simulator.http.get(url, timeout=10)
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        assert not re.search(r"<(script|img|iframe)|src=\"|href=\"http", answer.text)
        assert nasty in text_of(answer.text)


def test_looks_are_counted(simulator):
    """Each GET of the page is a view; a HEAD is none and has no body."""
    invoice = simulator.create()
    simulator.http.get(invoice["url"], timeout=10)
    simulator.http.get(invoice["url"], timeout=10)
    assert simulator.http.head(invoice["url"], timeout=10).content == b""
    assert simulator.listed(invoice)["views"] == 2


@pytest.mark.parametrize("number", range(5))
def test_paying_exactly(simulator, number):
    """One button on each wallet pays the invoice, and the page says so."""
    invoice = simulator.create()
    wallet = invoice["wallets"][number]
    answer = press(simulator, invoice, action="exact", wallet=wallet["id"])
    assert [step.status_code for step in answer.history] == [303]
    assert "arrived and paid this invoice." in text_of(answer.text)
    assert "Paid with" in text_of(answer.text)
    assert simulator.listed(invoice)["wallet"]["id"] == wallet["id"]


def test_paying_another_amount(simulator):
    """Money of another amount arrives, but the invoice goes on waiting."""
    invoice = simulator.create()
    wallet = invoice["wallets"][0]["id"]
    answer = press(simulator, invoice, action="other", wallet=wallet, amount=" 11.40 ")
    assert answer.history
    assert "11.40000000 usdt arrived but matches no invoice" in text_of(answer.text)
    assert "Waiting for payment" in text_of(answer.text)


def test_paying_what_another_invoice_waits_for(simulator):
    """Money goes to the invoice that waits for this amount, whichever page it was sent from."""
    first, second = simulator.create(), simulator.create()
    wallet = second["wallets"][0]
    fields = {"wallet": wallet["id"], "amount": wallet["amountCrypto"]}
    answer = press(simulator, first, action="other", **fields)
    assert "paid another invoice" in text_of(answer.text)
    assert simulator.listed(second)["status"] == "paid"


@pytest.mark.parametrize("amount", ["", "0", "-1", "1,5", "1e5", "abc<b>", "0.123456789"])
def test_bad_amounts_are_explained(simulator, amount):
    """An amount that cannot be sent gets a message, keeps what was typed, and moves no money."""
    invoice = simulator.create()
    wallet = invoice["wallets"][0]["id"]
    answer = press(simulator, invoice, action="other", wallet=wallet, amount=amount)
    assert answer.status_code == 400
    assert "Enter a positive amount" in text_of(answer.text)
    assert f'value="{html.escape(amount)}" aria-invalid' in answer.text
    assert simulator.control("state")["payments"] == []


def test_unknown_buttons_do_nothing(simulator):
    """A form that the page does not have gets a message and moves no money."""
    invoice = simulator.create()
    for fields in ({}, {"action": "exact"}, {"wallet": invoice["wallets"][0]["id"]}):
        assert press(simulator, invoice, **fields).status_code == 400
    assert simulator.control("state")["payments"] == []


def test_letting_it_expire(simulator):
    """One button ends the time to pay; money sent after that stays unbound."""
    invoice = simulator.create()
    text = text_of(press(simulator, invoice, action="expire").text)
    assert "Expired it could be paid until" in text
    assert "Let it expire now" not in text
    answer = press(simulator, invoice, action="exact", wallet=invoice["wallets"][0]["id"])
    assert "the payment stays unbound" in text_of(answer.text)
    assert simulator.listed(invoice)["status"] == "expired"


def test_a_paid_invoice_cannot_be_let_expire(simulator):
    """Pressing the button on an outdated page explains why nothing happens."""
    invoice = simulator.create()
    simulator.control("pay", {"invoiceId": invoice["id"]})
    answer = press(simulator, invoice, action="expire")
    assert answer.status_code == 409
    assert "This invoice is paid and cannot expire" in text_of(answer.text)


def test_unknown_pages(simulator):
    """What does not exist is a 404 for people."""
    for path in ("/invoices/pay/nothing", "/nowhere"):
        answer = simulator.http.get(simulator.url + path, timeout=10)
        assert answer.status_code == 404
        assert "Not found" in text_of(answer.text)
    answer = simulator.http.post(f"{simulator.url}/invoices/pay/nothing", timeout=10)
    assert answer.status_code == 404
