"""The client: each endpoint, which requests are repeated, lists of any length."""

import datetime as dt
import json
import logging
import uuid
from decimal import Decimal

import pytest
import requests

from oscar_bitsby.conf import Secret
from oscar_bitsby.exceptions import (
    ConfigurationError,
    ConnectionFailed,
    GatewayError,
    RateLimited,
    RateLimitTimeout,
    Refused,
    ReplyNotUnderstood,
)
from oscar_bitsby.gateway import client as client_module
from oscar_bitsby.gateway import factory, parsing, schemas
from oscar_bitsby.gateway.buyer_queue import Turn
from oscar_bitsby.gateway.client import BitsbyClient
from oscar_bitsby.simulator.process import running_simulator
from tests.support.bitsby import KEY, PROJECT, error, fields_of, new_id, success
from tests.support.http import assert_hidden

INVOICE = uuid.UUID("f31c61f6-407f-4999-95cf-56477eff06d4")
PAYMENT = uuid.UUID("f986ad8d-2298-473d-982a-efbc817b975d")
MIN_PAUSES = 1.2 + 3.0
MAX_PAUSES = 1.5 * MIN_PAUSES

WRITES = {
    "/invoices/create": lambda client: client.create_invoice(
        project_id=PROJECT, amount=Decimal("10.00"), currency="USD", time_to_pay=Decimal(1)
    ),
    "/invoices/cancel": lambda client: client.cancel_invoice(INVOICE),
    "/invoices/bindPayment": lambda client: client.bind_payment(INVOICE, PAYMENT),
}
READS = {
    "/invoices/list": lambda client: list(client.invoice_pages()),
    "/payments/list": lambda client: list(client.payment_pages()),
    "/billing/balances": lambda client: client.balances(),
    "/billing/tarrifs": lambda client: client.tariffs(),
}
#: How a request can fail, and the error that it raises.
FAILURES = {
    "refused connection": (requests.ConnectionError("refused"), ConnectionFailed),
    "no connection in time": (requests.ConnectTimeout("slow"), ConnectionFailed),
    "no answer in time": (requests.ReadTimeout("slow"), ConnectionFailed),
    "broken connection": (requests.exceptions.ChunkedEncodingError("broken"), ConnectionFailed),
    "proxy": ((502, {}, "<html>"), ConnectionFailed),
    "maintenance": ((503, {}, ""), ConnectionFailed),
    "rate limit": (error("Requests too frequent"), RateLimited),
    "rate limit of a proxy": ((429, {}, ""), RateLimited),
    "refusal": (error("Invoice not found"), Refused),
    "wrong key": ((401, {}, ""), Refused),
    "html": ((200, {}, "<html>"), ReplyNotUnderstood),
    "half an answer": ((200, {}, '{"result": "succ'), ReplyNotUnderstood),
    "crash": ((500, {}, "Traceback"), ReplyNotUnderstood),
    "redirect": ((302, {"Location": "https://elsewhere.example/"}, ""), ReplyNotUnderstood),
}
PASSING = [name for name, (_, kind) in FAILURES.items() if kind in (ConnectionFailed, RateLimited)]


@pytest.fixture
def client():
    return BitsbyClient(KEY)


@pytest.fixture
def serve_list(fake):
    """Return a function that lists items as invoices, in pages of at most ``cap``.

    The items may be of any kind, also unreadable ones.
    """

    def serve(items, cap=50):
        fake.on(
            "/invoices/list", lambda fields: success(fake._page(items, fields | {"limit": cap}))
        )

    return serve


def items_of(pages):
    return [item for page in pages for item in page.items]


def ids(pages):
    """Return the ids of all items of the pages, as numbers."""
    return [item.id.int for item in items_of(pages)]


# Endpoints


def test_create_invoice_sends_the_documented_fields(client, fake, payload):
    """``create_invoice`` sends the six documented fields and returns the answer."""
    fake.on("/invoices/create", payload("invoices_create"))

    created = client.create_invoice(
        project_id=PROJECT,
        amount=Decimal("10.50"),
        currency="USD",
        time_to_pay=Decimal("0.5"),
        description="Order 100001",
        service_data='{"orderId":"100001","userId":null}',
    )

    assert created == parsing.parse_created(payload("invoices_create")["data"])
    assert fake.asked("/invoices/create") == [
        {
            "projectId": PROJECT,
            "amountFiat": "10.50",
            "currencyFiat": "USD",
            "timeToPay": "0.5",
            "description": "Order 100001",
            "serviceData": '{"orderId":"100001","userId":null}',
        }
    ]


@pytest.mark.parametrize(
    ("hours", "sent"),
    [("0.5", "0.5"), ("1", "1"), ("1.0", "1"), ("3", "3"), ("6", "6"), ("12", "12"), ("10", "10")],
)
def test_time_to_pay_is_sent_as_a_plain_number(client, fake, hours, sent):
    """The time to pay has neither exponent nor trailing zeros; missing texts are sent as empty."""
    client.create_invoice(
        project_id=PROJECT, amount=Decimal(1), currency="EUR", time_to_pay=Decimal(hours)
    )
    (fields,) = fake.asked("/invoices/create")
    assert (fields["timeToPay"], fields["description"], fields["serviceData"]) == (sent, "", "")


@pytest.mark.parametrize(
    ("path", "body", "text", "sent"),
    [
        ("/invoices/cancel", "invoices_cancel", "Invoice canceled", {"invoiceId": str(INVOICE)}),
        (
            "/invoices/bindPayment",
            "invoices_bind_payment",
            "Invoice binded to payment",
            {"invoiceId": str(INVOICE), "paymentId": str(PAYMENT)},
        ),
    ],
)
def test_cancel_and_bind_send_the_ids(client, fake, payload, path, body, text, sent):
    """``cancel_invoice`` and ``bind_payment`` send the ids and return Bitsby's text."""
    fake.on(path, payload(body))
    assert WRITES[path](client) == text
    assert fake.asked(path) == [sent]


def test_invoice_pages_sends_the_given_filters(client, fake, payload):
    """``invoice_pages`` sends days as dates and leaves out filters that are not given."""
    fake.on("/invoices/list", payload("invoices_list"))
    found = items_of(
        client.invoice_pages(
            invoice_id=INVOICE,
            project_id=PROJECT,
            start_date=dt.date(2024, 2, 1),
            end_date=dt.date(2024, 2, 29),
            status="paid",
        )
    )
    assert found == [parsing.parse_invoice(item) for item in payload("invoices_list")["data"]]
    assert fake.asked("/invoices/list") == [
        {
            "invoiceId": str(INVOICE),
            "projectId": PROJECT,
            "startDate": "2024-02-01",
            "endDate": "2024-02-29",
            "status": "paid",
            "offset": "0",
            "limit": "50",
        }
    ]
    list(client.invoice_pages())
    assert fake.asked("/invoices/list")[1] == {"offset": "0", "limit": "50"}


def test_payment_pages_sends_the_given_filters(client, fake, payload):
    """``payment_pages`` sends days as dates and returns payments with their invoices."""
    fake.on("/payments/list", payload("payments_list"))
    (payment,) = items_of(
        client.payment_pages(
            invoice_id=INVOICE, start_date=dt.date(2024, 2, 1), end_date=dt.date(2024, 2, 29)
        )
    )
    assert (payment.id, payment.invoice.id) == (PAYMENT, INVOICE)
    assert fake.asked("/payments/list") == [
        {
            "invoiceId": str(INVOICE),
            "startDate": "2024-02-01",
            "endDate": "2024-02-29",
            "offset": "0",
            "limit": "50",
        }
    ]


def test_balances_are_decimals(client, fake, payload):
    """``balances`` returns both balances as Decimals."""
    fake.on("/billing/balances", payload("billing_balances"))
    assert client.balances() == schemas.Balances(Decimal(100), Decimal(0))


def test_tariffs_skip_unreadable_items(client, fake):
    """``tariffs`` uses the endpoint's misspelt name and skips items that are not as documented."""
    item = {"id": PROJECT, "name": "Shop", "payer": "seller", "rate": "1.00"}
    fake.on("/billing/tarrifs", success([item, "strange"]))
    assert client.tariffs() == (schemas.Tariff(PROJECT, "Shop", "seller", Decimal(1)),)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/invoices/create", ""),
        ("/billing/balances", ""),
        ("/invoices/list", "a list was expected"),
    ],
)
@pytest.mark.parametrize("data", [None, "text", 5, {"id": 5}])
def test_data_of_a_wrong_shape_is_an_error(client, fake, path, message, data):
    """Successful answers of a wrong shape raise ``ReplyNotUnderstood`` with the answer's text."""
    fake.on(path, success(data))
    with pytest.raises(ReplyNotUnderstood, match=f"^{path}: {message}") as caught:
        (WRITES | READS)[path](client)
    assert (caught.value.status, caught.value.body) == (200, json.dumps(success(data)))
    assert caught.value.__context__ is None


#: The parameters of each endpoint that the documentation names.
DOCUMENTED_FIELDS = {
    "/invoices/create": {
        *("projectId", "amountFiat", "currencyFiat", "description", "serviceData", "timeToPay"),
    },
    "/invoices/cancel": {"invoiceId"},
    "/invoices/bindPayment": {"invoiceId", "paymentId"},
    "/invoices/list": {
        *("invoiceId", "invoiceUid", "projectId", "startDate", "endDate", "status"),
        *("offset", "limit"),
    },
    "/payments/list": {"walletId", "invoiceId", "startDate", "endDate", "offset", "limit"},
    "/billing/balances": set(),
    "/billing/tarrifs": set(),
}


@pytest.mark.parametrize("path", READS | WRITES)
def test_only_documented_fields_are_sent(client, fake, path):
    """No endpoint gets a field that the documentation does not name; some have none at all."""
    fake.on(path, error("Project not found"))
    with pytest.raises(Refused):
        (READS | WRITES)[path](client)
    (fields,) = fake.asked(path)
    assert fields.keys() <= DOCUMENTED_FIELDS[path]


# Tries


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("path", READS | WRITES)
def test_only_a_read_that_failed_in_passing_is_sent_again(client, fake, clock, path, failure):
    """A read without an answer or refused by the rate limit is sent three times, with pauses.

    A write is never repeated, and neither is a read that is refused or answered strangely.
    """
    answer, kind = FAILURES[failure]
    is_repeated = path in READS and failure in PASSING
    fake.on(path, answer)
    with pytest.raises(GatewayError) as caught:
        (READS | WRITES)[path](client)
    assert type(caught.value) is kind
    assert (
        len(fake.asked(path)) == len(fake.requests) == client.requests == (3 if is_repeated else 1)
    )
    if is_repeated:
        assert MIN_PAUSES <= clock.slept <= MAX_PAUSES
    else:
        assert clock.slept == 0


@pytest.mark.parametrize("failure", PASSING)
@pytest.mark.parametrize("failures", [1, 2])
def test_read_succeeds_after_failures(client, fake, payload, failure, failures):
    """A read returns the answer of its second or third try."""
    answers = [*[FAILURES[failure][0]] * failures, payload("billing_balances")]
    fake.on("/billing/balances", lambda fields: answers.pop(0))
    assert client.balances().internal == 100
    assert len(fake.asked("/billing/balances")) == failures + 1


@pytest.mark.parametrize("tries", [1, 2, 5])
def test_tries_limits_the_number_of_requests(fake, clock, tries):
    """``tries`` is the largest number of requests for one read."""
    fake.on("/billing/balances", FAILURES["proxy"][0])
    with pytest.raises(ConnectionFailed):
        BitsbyClient(KEY, tries=tries).balances()
    assert len(fake.asked("/billing/balances")) == tries
    assert (clock.slept == 0) is (tries == 1)


def test_each_page_has_its_own_tries(client, fake):
    """Failures on several pages do not add up: a list is read to its end."""
    turns = []

    def answer(fields):
        turns.append(fields)
        if len(turns) % 3:
            return requests.ConnectionError("broken")
        return success(fake._page(items(120), fields))

    fake.on("/invoices/list", answer)
    assert len(ids(client.invoice_pages())) == 120
    assert len(turns) == 12


def test_each_retry_is_logged_after_a_longer_pause(client, fake, clock, caplog):
    """The pauses grow, and the log says which request is repeated and how it failed."""
    moments = []
    fake.on(
        "/billing/balances",
        lambda fields: moments.append(clock.slept) or error("Requests too frequent"),
    )
    with caplog.at_level(logging.INFO, "oscar_bitsby"), pytest.raises(RateLimited) as caught:
        client.balances()

    first, second = moments[1] - moments[0], moments[2] - moments[1]
    assert 1.2 <= first <= 1.8
    assert 3.0 <= second <= 4.5
    assert caplog.messages == [f"/billing/balances: {caught.value}; trying again"] * 2


# The rate limit


def test_slot_is_acquired_before_each_request(fake):
    """Each try of a read acquires a slot of its own."""
    order = []
    fake.on("/billing/balances", lambda fields: order.append("sent") or FAILURES["proxy"][0])
    client = BitsbyClient(KEY, acquire_slot=lambda: order.append("slot"))
    with pytest.raises(ConnectionFailed):
        client.balances()
    assert order == ["slot", "sent"] * 3


@pytest.mark.parametrize("path", READS | WRITES)
def test_without_a_slot_no_request_is_sent(fake, clock, path):
    """``RateLimitTimeout`` is raised at once and not retried, since the wait was long enough."""
    asked = []

    def no_slot():
        asked.append(path)
        raise RateLimitTimeout("none")

    client = BitsbyClient(KEY, acquire_slot=no_slot)
    with pytest.raises(RateLimitTimeout):
        (READS | WRITES)[path](client)
    assert (asked, fake.requests, client.requests, clock.slept) == ([path], [], 0, 0)


def test_timeout_applies_to_each_request(responses):
    """The timeout is 10 seconds by default, and the given one otherwise."""
    responses.post("https://api.bitsby.app/invoices/cancel", json=success("Invoice canceled"))
    for client in (BitsbyClient(KEY), BitsbyClient(KEY, timeout=2.5)):
        client.cancel_invoice(uuid.UUID(int=1))

    assert [call.request.req_kwargs["timeout"] for call in responses.calls] == [10, 2.5]


# Pages


def items(number, payments=False):
    """Return ``number`` items of a list with the ids 1, 2, 3 …"""
    id_of = (str(uuid.UUID(int=n + 1)) for n in range(number))
    if payments:
        return [{"id": one, "amount": "1.00000000", "hash": "f0"} for one in id_of]
    return [{"id": one, "amountFiat": "1.00", "status": "unpaid"} for one in id_of]


@pytest.mark.parametrize("cap", [10, 20, 50, 1000])
@pytest.mark.parametrize("number", [0, 1, 9, 10, 11, 49, 50, 51, 100, 137])
def test_list_is_complete_for_any_page_size_of_the_server(client, fake, serve_list, cap, number):
    """A server with smaller pages than requested, down to the documented ten, hides nothing."""
    serve_list(items(number), min(cap, 50))
    assert ids(client.invoice_pages()) == list(range(1, number + 1))
    assert len(fake.requests) <= number // min(cap, 50) + 2


def test_list_of_payments_is_complete(client, fake):
    """``payment_pages`` reads all pages."""
    fake.payments = items(75, payments=True)
    assert ids(client.payment_pages()) == list(range(1, 76))


@pytest.mark.parametrize("cap", [10, 20, 50])
def test_server_that_ignores_the_offset_gets_two_requests(client, fake, cap):
    """A repeated page ends the list, and its items are listed once."""
    fake.on("/invoices/list", success(items(cap)))
    assert ids(client.invoice_pages()) == list(range(1, cap + 1))
    assert len(fake.requests) == 2


def test_list_ends_at_a_page_without_new_items(client, serve_list):
    """A server that starts again from the beginning does not cause an endless list."""
    serve_list(items(30) * 10, 10)
    assert ids(client.invoice_pages()) == list(range(1, 31))


def test_new_items_during_a_read_hide_no_older_ones(client, fake):
    """Items that move to the next page because of new items are listed."""
    everything = items(100)

    def answer(fields):
        page = fake._page(list(everything), fields)
        everything.insert(0, items(1)[0] | {"id": str(new_id())})
        return success(page)

    fake.on("/invoices/list", answer)
    assert set(range(1, 101)) <= set(ids(client.invoice_pages()))


def test_endless_list_is_left_after_max_pages(client, fake, monkeypatch, caplog):
    """After ``MAX_PAGES`` pages reading stops with a warning, and the items so far are listed."""
    monkeypatch.setattr(client_module, "MAX_PAGES", 4)
    fake.on(
        "/payments/list",
        lambda fields: success(items(int(fields["offset"]) + 50, payments=True)[-50:]),
    )
    assert ids(client.payment_pages()) == list(range(1, 201))
    assert len(fake.requests) == 4
    assert caplog.messages == [
        "stopped reading /payments/list after 4 pages: the list does not end"
    ]


def test_unreadable_items_are_skipped_and_counted(client, fake, serve_list, caplog):
    """Strange items hide neither their page nor the pages after it, and the log has the reason."""
    everything = items(60)
    everything[3] = everything[3] | {"amountFiat": "much"}
    everything[7] = "strange"
    everything[9] = {"id": "no UUID", "amountFiat": "1.00"}
    everything[55] = None
    serve_list(everything)

    pages = list(client.invoice_pages())

    assert [(len(page.items), page.unreadable, page.size) for page in pages] == [
        (47, 3, 50),
        (9, 1, 10),
        (0, 0, 0),
    ]
    assert [fields["offset"] for fields in fake.asked("/invoices/list")] == ["0", "50", "60"]
    assert len(caplog.messages) == 4
    start = "skipped an item that is not as documented: "
    assert all(line.startswith(start) for line in caplog.messages)
    assert "UUID" in caplog.messages[2]


def test_unreadable_pages_between_others_do_not_end_the_list(client, serve_list):
    """All readable items are listed, however many single pages between them are unreadable."""
    unreadable = ["strange"] * 50
    serve_list(unreadable + items(50) + unreadable + items(170)[50:] + unreadable)

    assert ids(client.invoice_pages()) == list(range(1, 171))


def test_two_unreadable_pages_end_the_list(client, fake):
    """A server that always sends the same unreadable page gets two requests."""
    fake.on("/invoices/list", success(["strange"] * 50))

    assert ids(client.invoice_pages()) == []
    assert len(fake.requests) == 2


def test_pages_are_fetched_one_by_one(client, fake):
    """Pages that the caller does not read are not fetched."""
    fake.invoices = items(200)
    pages = client.invoice_pages()
    assert fake.requests == []
    next(pages)
    assert len(fake.requests) == 1


# The key


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("path", ["/invoices/create", "/invoices/list"])
def test_errors_and_logs_do_not_show_the_key(fake, caplog, path, failure):
    """The key is neither in an error's texts, frames and causes nor in log records."""
    caplog.set_level(logging.DEBUG)
    fake.on(path, FAILURES[failure][0])
    with pytest.raises(GatewayError) as caught:
        (READS | WRITES)[path](BitsbyClient(KEY))
    assert_hidden(caught.value)
    assert not [record for record in caplog.records if KEY in repr(vars(record))]


def test_client_does_not_show_the_key():
    """The key is neither in the ``repr`` nor in the attributes of a client."""
    for client in (BitsbyClient(KEY), BitsbyClient(Secret(KEY))):
        assert KEY not in repr(client)
        assert KEY not in repr(vars(client))


def test_key_is_sent_in_the_authorization_header_only(client, responses):
    """The key is not in a request's address, form or other headers."""
    responses.post("https://api.bitsby.app/billing/balances", json=error("no"))
    with pytest.raises(Refused):
        client.balances()
    request = responses.calls[0].request
    headers = dict(request.headers)
    assert headers.pop("Authorization") == f"Token {KEY}"
    assert KEY not in f"{request.url} {headers} {fields_of(request)}"


def test_answer_that_repeats_the_key_is_not_in_the_frames(client, fake):
    """A key in data of a wrong shape is not in the variables of the error's frames."""
    fake.on("/billing/balances", success([KEY]))
    with pytest.raises(ReplyNotUnderstood) as caught:
        client.balances()
    assert_hidden(caught.value)


def test_id_that_repeats_the_key_is_not_shown(fake, payload):
    """A key in the place of an id is not in the error's message."""
    key = "k" * 32
    fake.on("/invoices/create", success(payload("invoices_create")["data"] | {"id": key}))
    with pytest.raises(ReplyNotUnderstood) as caught:
        WRITES["/invoices/create"](BitsbyClient(key))
    assert key not in str(caught.value)


# With the simulator, over HTTP


@pytest.fixture(scope="module")
def simulator():
    with running_simulator(webhooks=False, token=KEY, page_size=10) as simulator:
        yield simulator


@pytest.fixture
def remote(simulator):
    simulator.control("reset", {})
    simulator.control("ratelimit", {"seconds": 0})
    return simulator


def accepted(remote, path):
    return [one for one in remote.control("state")["requests"] if one["path"] == path]


@pytest.mark.parametrize(("kind", "created"), [("drop", 0), ("drop_after", 1)])
def test_lost_answer_does_not_create_a_second_invoice(remote, kind, created):
    """A creation whose connection breaks is not sent again, whether Bitsby processed it or not."""
    remote.control("faults", {"faults": [{"kind": kind, "path": "/invoices/create"}]})
    with pytest.raises(ConnectionFailed) as caught:
        WRITES["/invoices/create"](BitsbyClient(KEY, api_url=remote.url))
    assert_hidden(caught.value)
    assert len(accepted(remote, "/invoices/create")) == 1
    assert len(remote.control("state")["invoices"]) == created


def test_read_survives_broken_connections(remote):
    """After two broken connections the third try of a read succeeds."""
    remote.control("faults", {"faults": [{"kind": "drop", "times": 2}]})
    client = BitsbyClient(KEY, api_url=remote.url)
    assert client.balances().internal == 100
    assert client.requests == 3


def test_invoice_from_creation_to_payment(remote):
    """An invoice is created, gets a wrong amount bound to it and is listed as paid."""
    client = BitsbyClient(KEY, api_url=remote.url)
    seeded = remote.control("seed", {"invoices": 23})["ids"]
    created = WRITES["/invoices/create"](client)
    transfer = {"invoiceId": str(created.id), "amount": "9.00000000"}
    payment_id = uuid.UUID(remote.control("pay", transfer)["paymentId"])

    (payment,) = items_of(client.payment_pages())
    assert (payment.id, payment.amount, payment.invoice) == (payment_id, Decimal(9), None)
    client.bind_payment(created.id, payment_id)
    (paid,) = items_of(client.invoice_pages(invoice_id=created.id))
    assert (paid.status, paid.payment.id) == (schemas.PAID, payment_id)
    everything = [str(item.id) for item in items_of(client.invoice_pages())]
    assert sorted(everything) == sorted([*seeded, str(created.id)])
    client.cancel_invoice(uuid.UUID(seeded[0]))
    assert len(ids(client.invoice_pages(status="canceled"))) == 1


def test_wrong_key_is_refused(remote):
    """A wrong key raises ``Refused``, which does not show that key."""
    key = "a-wrong-key"
    with pytest.raises(Refused, match="token") as caught:
        BitsbyClient(key, api_url=remote.url).balances()
    assert_hidden(caught.value, key)


# The factory


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("make", "tries"),
    [
        (lambda: factory.for_buyer(Turn("100001")), 1),
        (factory.for_background, 3),
        (lambda: factory.for_staff(8), 1),
        (factory.without_waiting, 1),
    ],
)
def test_factory_sets_the_number_of_tries(fake, make, tries):
    """Background reads are sent three times at most, all others once."""
    fake.on("/billing/balances", FAILURES["proxy"][0])
    with pytest.raises(ConnectionFailed):
        make().balances()
    assert len(fake.requests) == tries


@pytest.mark.django_db
def test_clients_of_a_shop_share_the_rate_limit(fake, clock, payload):
    """Requests of different clients of a shop are 1.1 seconds apart."""
    fake.on("/billing/balances", payload("billing_balances"))
    factory.for_buyer(Turn("100001")).balances()
    factory.for_background().balances()
    factory.for_buyer(Turn("100001")).balances()
    assert 2.1 < clock.slept <= 2.2


@pytest.mark.django_db
def test_without_waiting_needs_a_slot_for_each_request(fake, clock, payload):
    """Without a free slot ``without_waiting`` raises, and so does a later request of its client."""
    fake.on("/billing/balances", payload("billing_balances"))
    client = factory.without_waiting()
    with pytest.raises(RateLimitTimeout):
        factory.without_waiting()
    client.balances()
    with pytest.raises(RateLimitTimeout):
        client.balances()
    clock.sleep(1.2)
    client.balances()
    assert len(fake.requests) == 2
    assert clock.slept == 1.2


@pytest.mark.django_db
def test_for_staff_waits_for_max_wait_only(fake, payload):
    """Without a slot within ``max_wait``, ``RateLimitTimeout`` is raised and nothing is sent."""
    fake.on("/billing/balances", payload("billing_balances"))
    factory.without_waiting()
    with pytest.raises(RateLimitTimeout):
        factory.for_staff(max_wait=0.5).balances()
    assert fake.requests == []


@pytest.mark.django_db
def test_factory_needs_settings(settings):
    """Without settings the factory raises ``ConfigurationError``."""
    settings.OSCAR_BITSBY = {}
    with pytest.raises(ConfigurationError):
        factory.for_background()


@pytest.mark.django_db
def test_factory_uses_the_shops_settings(configure, responses):
    """Address and key of the settings are used for requests."""
    configure(API_URL="https://other.example/api/", API_KEY="other-key")
    responses.post("https://other.example/api/billing/balances", json=error("no"))
    with pytest.raises(Refused) as caught:
        factory.for_background().balances()
    assert responses.calls[0].request.headers["Authorization"] == "Token other-key"
    assert_hidden(caught.value, "other-key")
