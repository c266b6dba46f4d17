import re
from datetime import datetime, timedelta, timezone
from functools import partial

import pytest

from tests.simulator.support import OTHER_PROJECT as OTHER
from tests.simulator.support import PROJECT

INVOICE_KEYS = [
    "id", "uid", "projectId", "createDatetime", "timeToPayDatetime", "commissionFiatUSD",
    "amountFiatUSD", "amountFiat", "currencyFiat", "description", "serviceData", "views", "status",
]  # fmt: skip
PAYMENT_KEYS = ["id", "amount", "hash", "transactionDatetime"]
WALLET_KEYS = ["id", "name", "blockchain", "cryptocurrency", "address"]


def refused(text: str) -> dict:
    return {"result": "error", "data": text}


def test_create_answers_in_the_documented_shape(simulator):
    """A new invoice comes with ids, times, the payment page, and an amount for each wallet."""
    data = simulator.create(amountFiat="11.45", timeToPay="6")
    assert list(data) == ["id", "uid", "createDatetime", "timeToPayDatetime", "url", "wallets"]
    assert re.fullmatch(r"[0-9A-Za-z]{12}", data["uid"])
    assert data["url"] == f"{simulator.url}/invoices/pay/{data['uid']}"
    times = [
        datetime.strptime(data[key], "%Y-%m-%d %H:%M:%S").replace(tzinfo=timezone.utc)
        for key in ("createDatetime", "timeToPayDatetime")
    ]
    assert times[1] - times[0] == timedelta(hours=6)
    assert abs(datetime.now(timezone.utc) - times[0]) < timedelta(minutes=1)
    assert [list(wallet) for wallet in data["wallets"]] == [[*WALLET_KEYS, "amountCrypto"]] * 5
    coins = [(one["cryptocurrency"], one["blockchain"]) for one in data["wallets"]]
    assert coins == [
        ("usdt", "bnbSmartChain"),
        ("usdt", "ethereum"),
        ("usdt", "tron"),
        ("eth", "ethereum"),
        ("btc", "bitcoin"),
    ]
    assert data["wallets"][0]["amountCrypto"] == "11.45000000"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("projectId", "1"),
        ("amountFiat", "0"),
        ("amountFiat", "ten"),
        ("currencyFiat", "GBP"),
        ("timeToPay", "2"),
    ],
)
def test_create_checks_its_parameters(simulator, name, value):
    """A wrong or missing parameter is named, and no invoice comes of it."""
    asked = {"projectId": PROJECT, "amountFiat": "1", "currencyFiat": "USD", "timeToPay": "1"}
    invalid = simulator.call("/invoices/create", **asked | {name: value})
    assert invalid == refused(f"Parameter {name} is invalid")
    del asked[name]
    missing = simulator.call("/invoices/create", **asked)
    assert missing == refused(f"Parameter {name} is missing")
    assert simulator.call("/invoices/list")["data"] == []


def test_unpaid_items_lack_payment_and_wallet(simulator):
    """The list shows what was asked for, and of an unpaid invoice neither payment nor wallet."""
    item = simulator.listed(
        simulator.create(
            amountFiat="10", currencyFiat="EUR", description="Book & pen", serviceData='{"a":1}'
        )
    )
    assert list(item) == INVOICE_KEYS
    assert item["projectId"] == PROJECT
    assert (item["amountFiat"], item["currencyFiat"]) == ("10.00", "EUR")
    assert (item["amountFiatUSD"], item["commissionFiatUSD"]) == ("10.80", "0.11")
    assert (item["description"], item["serviceData"]) == ("Book & pen", '{"a":1}')
    assert (item["views"], item["status"]) == (0, "unpaid")
    plain = simulator.listed(simulator.create())
    assert (plain["description"], plain["serviceData"]) == (None, None)


def test_paid_items_have_payment_and_wallet(simulator):
    """Once paid, an invoice shows its payment and the wallet where that came in."""
    invoice = simulator.create()
    wallet = invoice["wallets"][2]
    simulator.control("pay", {"invoiceId": invoice["id"], "wallet": wallet["id"], "hash": "cafe"})
    item = simulator.listed(invoice)
    assert list(item) == [*INVOICE_KEYS, "payment", "wallet"]
    assert item["status"] == "paid"
    assert list(item["payment"]) == PAYMENT_KEYS
    assert (item["payment"]["amount"], item["payment"]["hash"]) == ("11.45000000", "cafe")
    assert item["wallet"] == {key: wallet[key] for key in WALLET_KEYS}


def test_invoices_can_be_filtered(simulator):
    """Every documented filter narrows the list, and filters add up."""
    first, second = simulator.create(), simulator.create(projectId=OTHER)
    simulator.pay(second)
    ids = partial(simulator.ids, "/invoices/list")

    assert ids() == [second["id"], first["id"]]
    assert ids(invoiceId=first["id"].upper()) == [first["id"]]
    assert ids(invoiceUid=first["uid"]) == [first["id"]]
    assert ids(projectId=OTHER) == [second["id"]]
    assert ids(status="paid") == [second["id"]]
    assert ids(status="paid", projectId=PROJECT) == []
    assert ids(invoiceId=OTHER) == []


@pytest.mark.parametrize("path", ["/invoices/list", "/payments/list"])
def test_date_filters_include_their_ends(simulator, path):
    """Lists take the days from startDate to endDate, both included."""
    now = datetime.strptime(simulator.state("now"), "%Y-%m-%d %H:%M:%S")
    # Away from midnight, so that the day does not change under the test.
    noon = now.replace(hour=12, minute=0, second=0) + timedelta(days=1)
    simulator.control("advance", {"seconds": (noon - now).total_seconds()})
    simulator.pay(simulator.create())
    day = noon.date()
    before, after = day - timedelta(days=1), day + timedelta(days=1)

    def count(**days):
        return len(simulator.ids(path, **{name: f"{day}" for name, day in days.items()}))

    assert count(startDate=day, endDate=day) == 1
    assert count(startDate=before) == 1
    assert count(endDate=after) == 1
    assert count(startDate=after) == 0
    assert count(endDate=before) == 0


def test_lists_come_in_pages(start_simulator):
    """Ten items by default, as many as asked for else, and never more than the page size."""
    simulator = start_simulator(page_size=12)
    ids = simulator.control("seed", {"invoices": 15})["ids"][::-1]
    page = partial(simulator.ids, "/invoices/list")

    assert page() == ids[:10]
    assert page(limit="3", offset="2") == ids[2:5]
    assert page(limit="50") == ids[:12]
    assert page(limit="50", offset="12") == ids[12:]
    assert page(offset="15") == []


@pytest.mark.parametrize(
    ("path", "name", "value"),
    [
        ("/invoices/list", "invoiceId", "x"),
        ("/invoices/list", "projectId", "x"),
        ("/invoices/list", "status", "open"),
        ("/invoices/list", "startDate", "yesterday"),
        ("/invoices/list", "offset", "-1"),
        ("/invoices/list", "limit", "0"),
        ("/payments/list", "walletId", "x"),
        ("/payments/list", "invoiceId", "x"),
        ("/payments/list", "endDate", "2024-13-01"),
        ("/billing/history", "limit", "many"),
        ("/statistics/invoices", "startDate", ""),
        ("/invoices/cancel", "invoiceId", "x"),
        ("/invoices/bindPayment", "invoiceId", "x"),
    ],
)
def test_parameters_are_checked(simulator, path, name, value):
    """A parameter of the wrong form is an error that names it."""
    assert simulator.call(path, **{name: value}) == refused(f"Parameter {name} is invalid")


def test_unpaid_invoice_can_be_canceled_once(simulator):
    """An unpaid invoice whose page nobody opened can be canceled, once."""
    invoice, viewed = simulator.create(), simulator.create()
    reply = simulator.call("/invoices/cancel", invoiceId=invoice["id"])
    assert reply == {"result": "success", "data": "Invoice canceled"}
    assert simulator.listed(invoice)["status"] == "canceled"
    simulator.get(viewed["url"])
    for invoice_id, text in (
        (invoice["id"], "Only an unpaid invoice can be canceled"),
        (viewed["id"], "The payment page of this invoice has been viewed"),
        (OTHER, "Invoice not found"),
    ):
        assert simulator.call("/invoices/cancel", invoiceId=invoice_id) == refused(text)


def test_payment_can_be_bound_by_hand(simulator):
    """A payment of a wrong amount can be bound by hand, and the invoice is paid."""
    invoice = simulator.create()
    payment = simulator.control("pay", {"invoiceId": invoice["id"], "amount": "3"})["paymentId"]
    (item,) = simulator.call("/payments/list")["data"]
    assert list(item) == [*PAYMENT_KEYS, "wallet"]
    reply = simulator.call("/invoices/bindPayment", invoiceId=invoice["id"], paymentId=payment)
    assert reply == {"result": "success", "data": "Invoice binded to payment"}
    (item,) = simulator.call("/payments/list")["data"]
    assert list(item) == [*PAYMENT_KEYS, "invoice", "wallet"]
    assert list(item["invoice"]) == INVOICE_KEYS
    assert item["invoice"]["status"] == "paid"


def test_payments_can_be_filtered(simulator):
    """Payments are found by wallet and by the invoice they are bound to."""
    invoice = simulator.create()
    wallets = invoice["wallets"]
    bound = simulator.pay(invoice)["paymentId"]
    unbound = simulator.control("pay", {"uid": invoice["uid"], "wallet": wallets[4]["id"]})
    ids = partial(simulator.ids, "/payments/list")

    assert ids() == [unbound["paymentId"], bound]
    assert ids(walletId=wallets[0]["id"]) == [bound]
    assert ids(invoiceId=invoice["id"]) == [bound]
    assert ids(invoiceId=OTHER) == []
    assert ids(limit="1", offset="1") == [bound]


def test_billing_and_statistics_count_what_is_stored(simulator):
    """The account's figures have the documented shapes and count what is stored."""
    paid = simulator.create(amountFiat="10")
    simulator.create(amountFiat="10", currencyFiat="EUR")
    simulator.pay(paid)
    balances = simulator.call("/billing/balances")["data"]
    assert balances == {"internal": "100.00", "partner": "0.00"}
    (tariff,) = simulator.call("/billing/tarrifs")["data"]
    assert list(tariff) == ["id", "name", "30dPayments", "payer", "rate"]
    assert (tariff["id"], tariff["30dPayments"], tariff["rate"]) == (PROJECT, "10.00", "1.00")
    (event,) = simulator.call("/billing/history")["data"]
    assert list(event) == ["datetime", "event", "target", "amount", "comment"]
    figures = simulator.call("/statistics/invoices")["data"]
    assert (figures["invoicesTotalNum"], figures["invoicesPaidNum"]) == (2, 1)
    assert figures["invoicesTotalUSD"] == "20.80"
    assert figures["currencies"] == {"USD": "10.00", "EUR": "10.80"}
    assert figures["projects"] == {PROJECT: "20.80"}
    empty = simulator.call("/statistics/invoices", endDate="2020-01-01")["data"]
    assert (empty["invoicesTotalNum"], empty["invoicesTotalUSD"]) == (0, "0.00")


def test_only_the_given_project_exists(start_simulator):
    """Where a project is given, any other is unknown."""
    simulator = start_simulator(project_id=PROJECT)
    simulator.create()
    unknown = refused("Project not found")
    fields = {"amountFiat": "1", "currencyFiat": "USD", "timeToPay": "1"}
    assert simulator.call("/invoices/create", projectId=OTHER, **fields) == unknown
    assert simulator.call("/invoices/list", projectId=OTHER) == unknown
    (tariff,) = simulator.call("/billing/tarrifs")["data"]
    assert tariff["id"] == PROJECT
