import pytest

from oscar_bitsby.simulator.process import ControlError
from tests.simulator.support import OTHER_PROJECT as OTHER
from tests.simulator.support import PROJECT


def test_state_shows_everything_but_the_token(start_simulator):
    """A test sees invoices with their wallets, payments, requests and deliveries."""
    simulator = start_simulator(
        token="secret-token", webhook_url="http://127.0.0.1:9/", webhooks=False
    )
    invoice = simulator.create(token="secret-token", amountFiat="5")
    payment = simulator.pay(invoice)
    state = simulator.control("state")
    assert state["webhooks"] == {"enabled": False, "url": "http://127.0.0.1:9/"}
    (item,) = state["invoices"]
    assert (item["id"], item["status"]) == (invoice["id"], "paid")
    assert item["wallets"] == invoice["wallets"]
    (seen,) = state["payments"]
    assert (seen["id"], payment["bound"]) == (payment["paymentId"], True)
    (request,) = state["requests"]
    assert (request["path"], request["accepted"]) == ("/invoices/create", True)
    assert request["fields"]["amountFiat"] == "5"
    assert state["deliveries"] == []
    assert "secret-token" not in str(state)


@pytest.mark.parametrize("command", ["expire", "advance"])
def test_paying_late_stays_unbound(simulator, command):
    """A payment for an expired invoice arrives and is not bound; an hour takes no time."""
    invoice = simulator.create(timeToPay="1")
    if command == "expire":
        assert simulator.control("expire", {"invoiceId": invoice["id"]}) == {"status": "expired"}
    else:
        simulator.control("advance", {"seconds": 3600})
    assert simulator.listed(invoice)["status"] == "expired"
    answer = simulator.control("pay", {"uid": invoice["uid"], "hash": "beef"})
    assert answer["bound"] is False
    (payment,) = simulator.state("payments")
    assert payment["hash"] == "beef"
    assert "invoice" not in payment


def test_seeded_invoices_have_different_amounts(simulator):
    """Many unpaid invoices of different amounts are there at once."""
    assert len(simulator.control("seed", {"invoices": 3})["ids"]) == 3
    simulator.control("seed", {"invoices": 1, "projectId": OTHER})
    invoices = simulator.control("state")["invoices"]
    assert [item["amountFiat"] for item in invoices] == ["10.00", "10.02", "10.01", "10.00"]
    assert [item["projectId"] for item in invoices] == [OTHER, PROJECT, PROJECT, PROJECT]
    assert {item["status"] for item in invoices} == {"unpaid"}


def test_reset_goes_back_to_the_start(start_simulator):
    """After a reset nothing is left of what a test did or set."""
    simulator = start_simulator(webhook_url="http://127.0.0.1:9/", webhooks=False)
    simulator.create()
    simulator.control("advance", {"seconds": 10**7})
    simulator.control("webhooks", {"enabled": True, "url": "http://127.0.0.1:10/"})
    simulator.fail({"kind": "drop", "times": 9})
    before = simulator.control("state")["now"]
    assert simulator.control("reset", {}) == {}
    state = simulator.control("state")
    assert state["now"] < before
    del state["now"]
    assert state == {
        "webhooks": {"enabled": False, "url": "http://127.0.0.1:9/"},
        "invoices": [],
        "payments": [],
        "requests": [],
        "deliveries": [],
    }
    assert simulator.call("/invoices/list")["result"] == "success"
    assert simulator.call("/invoices/list")["data"] == "Requests too frequent"


def test_webhook_address_and_switch_are_set_separately(simulator):
    """A test can set the address alone and the switch alone."""
    url = "https://shop.example/bitsby/webhook/"
    assert simulator.control("webhooks", {"url": url}) == {"enabled": True, "url": url}
    assert simulator.control("webhooks", {"enabled": False}) == {"enabled": False, "url": url}


@pytest.mark.parametrize(
    ("command", "data", "problem"),
    [
        ("pay", {}, "invoiceId or uid is missing"),
        ("pay", {"uid": "nothing"}, "Invoice not found"),
        ("pay", {"invoiceId": 5}, "invoiceId is a string"),
        ("pay", {"invoiceId": OTHER, "wallet": "purse"}, "Unknown wallet"),
        ("expire", {"invoiceId": OTHER}, "Invoice not found"),
        ("advance", {"seconds": "1"}, "seconds is a number"),
        ("advance", {"seconds": True}, "seconds is a number"),
        ("advance", {"seconds": float("nan")}, "seconds is a number"),
        ("advance", {"seconds": 10**400}, "too large"),
        ("advance", {"seconds": 1e15}, "cannot be moved that far"),
        ("webhooks", {"enabled": 1}, "enabled is true or false"),
        ("webhooks", {"url": "shop"}, "webhook URL"),
        ("seed", {"invoices": -1}, "invoices is a number"),
        ("seed", {"invoices": 1, "projectId": "x"}, "projectId is invalid"),
        ("faults", {}, "faults is a list"),
        ("faults", {"faults": [{"kind": "explode"}]}, "kind is one of"),
        ("ratelimit", {"seconds": -1}, "zero or more"),
        ("dance", {}, "Unknown command"),
        # Without data it is a GET, as a link that a browser follows.
        ("reset", None, "Unknown command"),
    ],
)
def test_invalid_commands_are_refused(simulator, command, data, problem):
    """A command that cannot run is refused with the reason; GET reads nothing but the state."""
    with pytest.raises(ControlError, match=problem):
        simulator.control(command, data)


def test_amount_that_no_wallet_can_receive_is_refused(simulator):
    """An amount that no wallet can receive is refused."""
    invoice = simulator.create()
    for amount in ("0", "much", ""):
        with pytest.raises(ControlError, match="amount is invalid"):
            simulator.control("pay", {"invoiceId": invoice["id"], "amount": amount})


def test_redelivery_needs_a_delivery_and_an_address(simulator):
    """There is nothing to send again for an unpaid invoice, and nowhere to send it without URL."""
    order = {"invoiceId": simulator.create()["id"]}
    with pytest.raises(ControlError, match="No webhook URL"):
        simulator.control("redeliver", order)
    simulator.control("webhooks", {"url": "http://127.0.0.1:9/"})
    with pytest.raises(ControlError, match="has no delivery"):
        simulator.control("redeliver", order)


@pytest.mark.parametrize("body", [b"[]", b"{", b"\xff"])
def test_commands_take_json_objects(simulator, body):
    """Anything but a JSON object is refused."""
    answer = simulator.http.post(f"{simulator.url}/_control/advance", data=body, timeout=10)
    assert answer.status_code == 400
    assert answer.json()["error"]
