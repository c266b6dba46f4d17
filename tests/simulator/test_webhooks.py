import socket
import threading
from decimal import Decimal

import pytest

from oscar_bitsby.simulator.account import Account, Options
from oscar_bitsby.simulator.wallets import WALLETS
from oscar_bitsby.simulator.webhooks import REDELIVERY_MINUTES, parse_webhook_url, post_json
from tests.simulator.support import PROJECT, eventually

USED_UP = len(REDELIVERY_MINUTES) + 1


@pytest.fixture
def simulator(simulator, shop):
    """A simulator that delivers to the shop."""
    simulator.control("webhooks", {"url": shop.url})
    return simulator


@pytest.fixture
def account(shop):
    """An account in this process that delivers to the shop."""
    account = Account(Options(webhook_url=shop.url))
    yield account
    account.webhooks.reset()


def create_paid_invoice(simulator):
    invoice = simulator.create(description="Book", serviceData="7")
    simulator.pay(invoice)
    return invoice


def pay_new_invoice(account):
    invoice = account.state.create(PROJECT, Decimal(10), "USD", Decimal(1))
    account.state.transfer(WALLETS[0], invoice.reserved[WALLETS[0].id])


def advance(account, seconds):
    account.clock.advance(seconds)
    account.webhooks.wake()


def no_retry_waits() -> bool:
    return not any(thread.name.startswith("webhook") for thread in threading.enumerate())


def statuses(account) -> list:
    return [one["status"] for one in account.webhooks.deliveries()]


def test_paid_invoice_is_delivered_in_the_documented_shape(simulator, shop):
    """The shop gets JSON of wallet, project, invoice and payment as soon as an invoice is paid."""
    invoice = create_paid_invoice(simulator)
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
        "id", "uid", "createDatetime", "timeToPayDatetime", "commissionFiatUSD", "amountFiatUSD",
        "amountFiat", "calcAmountFiat", "currencyFiat", "description", "serviceData", "status",
    ]  # fmt: skip
    listed = simulator.listed(invoice)
    assert body["payment"] == listed["payment"]
    assert body["wallet"] == listed["wallet"]
    assert body["invoice"]["status"] == "paid"
    assert (body["invoice"]["description"], body["invoice"]["serviceData"]) == ("Book", "7")
    eventually(lambda: simulator.state("deliveries"))
    (attempt,) = simulator.state("deliveries")
    del attempt["at"]
    assert attempt == {"invoiceId": invoice["id"], "status": 200, "attempt": 1}


def test_bound_payment_is_delivered_with_its_own_worth(simulator, shop):
    """Binding by hand is delivered too, with the worth of the payment."""
    invoice = simulator.create(amountFiat="10", currencyFiat="EUR")
    order = {"invoiceId": invoice["id"], "amount": "5.4"}
    payment = simulator.control("pay", order)["paymentId"]
    simulator.call("/invoices/bindPayment", invoiceId=invoice["id"], paymentId=payment)
    delivered = shop.next()["body"]["invoice"]
    assert (delivered["amountFiat"], delivered["calcAmountFiat"]) == ("10.00", "5.00")


@pytest.mark.parametrize("status", [201, 204, 302, 400, 500])
def test_only_200_counts_as_delivered(account, shop, status):
    """Any other answer, a redirect included, brings the same delivery again after five minutes."""
    shop.statuses = [status]
    pay_new_invoice(account)
    first = shop.next()
    eventually(lambda: statuses(account) == [status])
    advance(account, 290)
    assert shop.received.empty()
    advance(account, 10)
    assert shop.next() == first
    eventually(lambda: statuses(account) == [status, 200])
    eventually(no_retry_waits)


def test_redelivery_ends_after_the_last_wait(account, shop):
    """A shop that always fails is tried nine times, with the documented waits, and no more."""
    shop.statuses = [503] * 20
    pay_new_invoice(account)
    for number, minutes in enumerate((*REDELIVERY_MINUTES, 10**6), start=1):
        eventually(lambda number=number: len(statuses(account)) == number)
        advance(account, minutes * 60)
    attempts = [one["attempt"] for one in account.webhooks.deliveries()]
    assert attempts == list(range(1, USED_UP + 1))
    eventually(no_retry_waits)


def test_speed_shortens_the_waits(start_simulator, shop):
    """A simulator that runs faster delivers again sooner, by itself."""
    simulator = start_simulator(webhook_url=shop.url, speed=30_000.0)
    shop.statuses = [500]
    create_paid_invoice(simulator)
    assert shop.next() == shop.next()


def test_unreachable_shop_is_logged_without_status(account):
    """A shop that cannot be reached blocks nothing and is logged without a status."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        # Bound but not listening: connections are refused, and nobody else gets the port.
        account.webhooks.url = f"http://127.0.0.1:{taken.getsockname()[1]}/"
        pay_new_invoice(account)
        eventually(lambda: statuses(account) == [None])


def test_webhooks_that_are_off_get_lost(simulator, shop):
    """While webhooks are off nothing is sent, then or later, except on demand."""
    simulator.control("webhooks", {"enabled": False})
    invoice = create_paid_invoice(simulator)
    simulator.control("webhooks", {"enabled": True})
    simulator.control("advance", {"seconds": 10**6})
    assert simulator.state("deliveries") == []
    answer = simulator.control("redeliver", {"invoiceId": invoice["id"]})
    assert answer == {"status": 200}
    assert shop.next()["body"]["invoice"]["id"] == invoice["id"]


def test_turning_webhooks_off_ends_the_redelivery(account, shop):
    """A delivery that becomes due while webhooks are off is lost, too."""
    shop.statuses = [500]
    pay_new_invoice(account)
    eventually(lambda: statuses(account) == [500])
    account.webhooks.enabled = False
    advance(account, 300)
    eventually(no_retry_waits)
    assert statuses(account) == [500]


def test_delivery_is_sent_again_on_demand(simulator, shop):
    """A test can have a delivery sent again as often as it likes and sees each answer."""
    invoice = create_paid_invoice(simulator)
    eventually(lambda: simulator.state("deliveries"))
    shop.statuses = [500]
    order = {"uid": invoice["uid"]}
    assert simulator.control("redeliver", order) == {"status": 500}
    assert simulator.control("redeliver", order) == {"status": 200}
    assert [one["attempt"] for one in simulator.state("deliveries")] == [1, 2, 3]


def test_attempts_from_before_a_reset_are_not_logged(account, shop):
    """An attempt that was under way before a reset leaves no trace after it."""
    account.webhooks._attempt("old", -1, shop.url, b"{}")
    assert account.webhooks.deliveries() == []


@pytest.mark.parametrize("url", ["ftp://shop/", "shop", "http://", "http://shop:x/", "http://a:0/"])
def test_webhook_urls_are_checked(url):
    """An address that nothing can be posted to is refused."""
    with pytest.raises(ValueError, match=r"URL|[Pp]ort"):
        parse_webhook_url(url)


def test_tls_failures_have_no_status(shop):
    """A shop that does not speak TLS where it should counts as one that does not answer."""
    assert post_json(shop.url.replace("http:", "https:"), b"{}") is None
