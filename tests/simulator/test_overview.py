from .test_pages import text_of


def front_page(simulator) -> str:
    return simulator.http.get(simulator.url, timeout=10).text


def test_an_empty_account(simulator):
    """The front page says that there is nothing yet, and how to get deliveries."""
    text = text_of(front_page(simulator))
    assert "Invoices (0) None yet." in text
    assert "Payments (0) None yet." in text
    assert "start with --webhook-url" in text


def test_invoices_and_payments_are_listed_with_links(simulator):
    """The front page leads to each payment page and tells bound from unbound payments."""
    invoice = simulator.create(description="Order 100001", serviceData='{"orderId":"100001"}')
    simulator.control("pay", {"invoiceId": invoice["id"]})
    simulator.control("pay", {"invoiceId": invoice["id"]})
    page = front_page(simulator)
    assert page.count(f'href="/invoices/pay/{invoice["uid"]}"') == 2
    text = text_of(page)
    assert 'paid 11.45 USD Order 100001 {"orderId":"100001"}' in text
    assert "11.45000000 usdt usdt-bnb unbound" in text


def test_only_the_newest_are_shown(simulator):
    """The front page stays short when there are many invoices."""
    simulator.control("seed", {"invoices": 101})
    page = front_page(simulator)
    assert "Invoices (101)" in page
    assert page.count('href="/invoices/pay/') == 100
    assert "The newest 100 are shown." in page


def test_webhooks_can_be_switched(start):
    """The button turns webhooks off and on and always says which."""
    simulator = start(webhook_url="http://127.0.0.1:9/hook?a=<b>")
    assert "Webhooks are on . Deliveries go to http://127.0.0.1:9/hook?a=<b>" in text_of(
        front_page(simulator)
    )
    for value, state in (("0", "off"), ("1", "on")):
        answer = simulator.http.post(
            f"{simulator.url}/webhooks", data={"enabled": value}, timeout=10
        )
        assert [step.status_code for step in answer.history] == [303]
        assert f"Webhooks are {state} ." in text_of(answer.text)
        assert simulator.control("state")["webhooks"]["enabled"] is (value == "1")
