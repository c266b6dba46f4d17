import socket

import pytest

from oscar_bitsby.simulator.webhooks import REDELIVERY_MINUTES, parse_webhook_url, post_json

from .conftest import PROJECT, eventually

USED_UP = len(REDELIVERY_MINUTES) + 1


def statuses(simulator) -> list:
    return [one["status"] for one in simulator.control("state")["deliveries"]]


def paid_invoice(simulator, **order):
    invoice = simulator.create(description="Book", serviceData="7")
    simulator.control("pay", {"invoiceId": invoice["id"], **order})
    return invoice


def test_a_paid_invoice_is_delivered_in_the_documented_shape(start, shop):
    """The shop gets JSON of wallet, project, invoice and payment as soon as an invoice is paid."""
    simulator = start(webhook_url=shop.url)
    invoice = paid_invoice(simulator)
    delivery = shop.next()
    assert delivery["type"] == "application/json"
    assert delivery["path"] == "/bitsby/webhook/?from=simulator"
    body = delivery["body"]
    assert list(body) == ["wallet", "project", "invoice", "payment"]
    assert list(body["wallet"]) == ["id", "name", "blockchain", "cryptocurrency", "address"]
    assert body["project"] == {
        "id": PROJECT,
        "name": "Simulated project",
        "commissionPayer": "seller",
        "commissionRate": "1",
    }
    assert list(body["invoice"]) == [
        "id",
        "uid",
        "createDatetime",
        "timeToPayDatetime",
        "commissionFiatUSD",
        "amountFiatUSD",
        "amountFiat",
        "calcAmountFiat",
        "currencyFiat",
        "description",
        "serviceData",
        "status",
    ]
    listed = simulator.listed(invoice)
    assert body["payment"] == listed["payment"]
    assert body["wallet"] == listed["wallet"]
    assert body["invoice"]["status"] == "paid"
    assert (body["invoice"]["description"], body["invoice"]["serviceData"]) == ("Book", "7")
    eventually(lambda: statuses(simulator) == [200])
    (attempt,) = simulator.control("state")["deliveries"]
    assert (attempt["invoiceId"], attempt["attempt"]) == (invoice["id"], 1)


def test_a_bound_payment_is_delivered_with_its_own_worth(start, shop):
    """Binding by hand is delivered too, and tells what the payment was worth."""
    simulator = start(webhook_url=shop.url)
    invoice = simulator.create(amountFiat="10", currencyFiat="EUR")
    order = {"invoiceId": invoice["id"], "amount": "5.4"}
    payment = simulator.control("pay", order)["paymentId"]
    simulator.call("/invoices/bindPayment", invoiceId=invoice["id"], paymentId=payment)
    told = shop.next()["body"]["invoice"]
    assert (told["amountFiat"], told["calcAmountFiat"]) == ("10.00", "5.00")


@pytest.mark.parametrize("status", [201, 204, 302, 400, 500])
def test_only_200_counts_as_delivered(start, shop, status):
    """Any other answer, a redirect included, brings the same delivery again five minutes later."""
    simulator = start(webhook_url=shop.url)
    shop.statuses = [status]
    paid_invoice(simulator)
    first = shop.next()
    eventually(lambda: statuses(simulator) == [status])
    simulator.control("advance", {"seconds": 290})
    assert shop.received.empty()
    simulator.control("advance", {"seconds": 10})
    assert shop.next() == first
    eventually(lambda: statuses(simulator) == [status, 200])
    assert simulator.account.webhooks._queue == []


def test_redelivery_ends_after_the_last_wait(start, shop):
    """A shop that always fails is tried nine times, a documented wait apart, then left alone."""
    simulator = start(webhook_url=shop.url)
    shop.statuses = [503] * 20
    paid_invoice(simulator)
    for number, minutes in enumerate((*REDELIVERY_MINUTES, 10**6), start=1):
        eventually(lambda number=number: len(statuses(simulator)) == number)
        simulator.control("advance", {"seconds": minutes * 60})
    attempts = [one["attempt"] for one in simulator.control("state")["deliveries"]]
    assert attempts == list(range(1, USED_UP + 1))
    assert simulator.account.webhooks._queue == []


def test_speed_shortens_the_waits(start, shop):
    """A sped up simulator comes again by itself within the blink of an eye."""
    simulator = start(webhook_url=shop.url, speed=30_000.0)
    shop.statuses = [500]
    paid_invoice(simulator)
    assert shop.next() == shop.next()


def test_nobody_there(start):
    """A shop that cannot be reached holds up nothing and is noted as no status."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        # Bound but not listening: connections are refused, and nobody else gets the port.
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/"
        simulator = start(webhook_url=url)
        paid_invoice(simulator)
        eventually(lambda: statuses(simulator) == [None])


def test_webhooks_that_are_off_get_lost(start, shop):
    """While webhooks are off nothing is sent, then or later, except on demand."""
    simulator = start(webhook_url=shop.url, webhooks=False)
    invoice = paid_invoice(simulator)
    simulator.control("webhooks", {"enabled": True})
    simulator.control("advance", {"seconds": 10**6})
    assert statuses(simulator) == []
    answer = simulator.control("redeliver", {"invoiceId": invoice["id"]})
    assert answer == {"status": 200}
    assert shop.next()["body"]["invoice"]["id"] == invoice["id"]


def test_turning_webhooks_off_ends_the_redelivery(start, shop):
    """A delivery that comes due while webhooks are off is lost as well."""
    simulator = start(webhook_url=shop.url)
    shop.statuses = [500]
    paid_invoice(simulator)
    eventually(lambda: statuses(simulator) == [500])
    simulator.control("webhooks", {"enabled": False})
    simulator.control("advance", {"seconds": 300})
    eventually(lambda: simulator.account.webhooks._queue == [])
    assert statuses(simulator) == [500]


def test_redelivery_on_demand(start, shop):
    """A test can have a delivery sent again as often as it likes and sees each answer."""
    simulator = start(webhook_url=shop.url)
    invoice = paid_invoice(simulator)
    eventually(lambda: statuses(simulator) == [200])
    shop.statuses = [500]
    order = {"uid": invoice["uid"]}
    assert simulator.control("redeliver", order) == {"status": 500}
    assert simulator.control("redeliver", order) == {"status": 200}
    assert [one["attempt"] for one in simulator.control("state")["deliveries"]] == [1, 2, 3]


def test_attempts_of_a_forgotten_time_are_not_noted(start, shop):
    """What was under way before a reset leaves no trace after it."""
    webhooks = start(webhook_url=shop.url).account.webhooks
    webhooks._attempt(shop.url, b"{}", era=0, invoice_id="old", tries=0)
    assert webhooks.deliveries() == []


@pytest.mark.parametrize("url", ["ftp://shop/", "shop", "http://", "http://shop:x/", "http://a:0/"])
def test_webhook_urls_are_checked(url):
    """An address that nothing can be posted to is refused."""
    with pytest.raises(ValueError, match=r"URL|[Pp]ort"):
        parse_webhook_url(url)


def test_https_failures_are_no_status(shop):
    """A shop that does not speak TLS where it should is one that does not answer."""
    assert post_json(shop.url.replace("http:", "https:"), b"{}") is None
