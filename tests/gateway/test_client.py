"""The client: each endpoint, what is tried again and what never is, lists of any length."""

from __future__ import annotations

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
from oscar_bitsby.gateway.client import BitsbyClient
from oscar_bitsby.simulator.process import running_simulator
from tests.bitsby import KEY, PROJECT, error, fields_of, new_id, success
from tests.support.http import assert_hidden

INVOICE = uuid.UUID("f31c61f6-407f-4999-95cf-56477eff06d4")
PAYMENT = uuid.UUID("f986ad8d-2298-473d-982a-efbc817b975d")
LEAST_PAUSES = 1.2 + 3.0
MOST_PAUSES = 1.5 * LEAST_PAUSES

WRITES = {
    "/invoices/create": lambda client: client.create_invoice(
        project_id=PROJECT, amount=Decimal("10.00"), currency="USD", time_to_pay=Decimal(1)
    ),
    "/invoices/cancel": lambda client: client.cancel_invoice(INVOICE),
    "/invoices/bindPayment": lambda client: client.bind_payment(INVOICE, PAYMENT),
}
READS = {
    "/invoices/list": lambda client: list(client.list_invoices()),
    "/payments/list": lambda client: list(client.list_payments()),
    "/billing/balances": lambda client: client.balances(),
    "/billing/tarrifs": lambda client: client.tariffs(),
    "/billing/history": lambda client: list(client.history()),
}
#: What may become of a request, and the error that says so.
FAILURES = {
    "refused connection": (requests.ConnectionError("refused"), ConnectionFailed),
    "no connection in time": (requests.ConnectTimeout("slow"), ConnectionFailed),
    "no answer in time": (requests.ReadTimeout("slow"), ConnectionFailed),
    "broken off": (requests.exceptions.ChunkedEncodingError("broken"), ConnectionFailed),
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
LASTING = [name for name in FAILURES if name not in PASSING]


@pytest.fixture
def client():
    return BitsbyClient(KEY)


@pytest.fixture
def scripted(fake):
    """Return a function that makes an endpoint answer with one thing after the other."""

    def script(path, *answers):
        left = list(answers)
        fake.on(path, lambda fields: left.pop(0) if len(left) > 1 else left[0])
        return fake

    return script


# Endpoints


def test_creating_an_invoice_sends_the_six_documented_fields(client, fake, payload):
    """``create_invoice`` sends what the documentation names and returns the answer."""
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
def test_hours_are_sent_as_plain_numbers(client, fake, hours, sent):
    """The time to pay has neither an exponent nor needless zeros, which Bitsby may not take."""
    client.create_invoice(
        project_id=PROJECT, amount=Decimal(1), currency="EUR", time_to_pay=Decimal(hours)
    )
    assert fake.asked("/invoices/create")[0]["timeToPay"] == sent


def test_cancelling_names_the_invoice(client, fake, payload):
    """``cancel_invoice`` sends the invoice's id and returns Bitsby's text."""
    fake.on("/invoices/cancel", payload("invoices_cancel"))
    assert client.cancel_invoice(INVOICE) == "Invoice canceled"
    assert fake.asked("/invoices/cancel") == [{"invoiceId": str(INVOICE)}]


def test_binding_names_the_invoice_and_the_payment(client, fake, payload):
    """``bind_payment`` sends both ids and returns Bitsby's text."""
    fake.on("/invoices/bindPayment", payload("invoices_bind_payment"))
    assert client.bind_payment(INVOICE, PAYMENT) == "Invoice binded to payment"
    assert fake.asked("/invoices/bindPayment") == [
        {"invoiceId": str(INVOICE), "paymentId": str(PAYMENT)}
    ]


def test_listing_invoices_sends_the_filters_that_are_given(client, fake, payload):
    """``list_invoices`` sends days as dates and leaves out what is not asked."""
    fake.on("/invoices/list", payload("invoices_list"))
    found = list(
        client.list_invoices(
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
    list(client.list_invoices())
    assert fake.asked("/invoices/list")[1] == {"offset": "0", "limit": "50"}


def test_listing_payments_sends_the_filters_that_are_given(client, fake, payload):
    """``list_payments`` sends days as dates and returns payments with their invoices."""
    fake.on("/payments/list", payload("payments_list"))
    (payment,) = client.list_payments(
        invoice_id=INVOICE, start_date=dt.date(2024, 2, 1), end_date=dt.date(2024, 2, 29)
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


def test_balances_are_returned(client, fake, payload):
    """``balances`` returns both as Decimals."""
    fake.on("/billing/balances", payload("billing_balances"))
    assert client.balances() == schemas.Balances(Decimal(100), Decimal(0))


def test_tariffs_are_returned(client, fake):
    """``tariffs`` asks the endpoint by its misspelt name and leaves out what is unreadable."""
    item = {"id": PROJECT, "name": "Shop", "payer": "seller", "rate": "1.00"}
    fake.on("/billing/tarrifs", success([item, "strange"]))
    assert client.tariffs() == (schemas.Tariff(PROJECT, "Shop", "seller", Decimal(1)),)


def test_history_is_listed_page_by_page(client, fake):
    """``history`` walks through all pages; equal bookings on one page are all kept."""
    entries = [{"datetime": f"2024-01-01 00:00:{n:02d}", "event": "e"} for n in range(60)]
    entries[1] = entries[0]
    fake.on("/billing/history", lambda fields: success(fake._page(entries, fields)))
    assert [entry.at.second for entry in client.history()] == [0, 0, *range(2, 60)]


@pytest.mark.parametrize("path", ["/invoices/create", "/billing/balances", "/invoices/list"])
@pytest.mark.parametrize("data", [None, "text", 5, {"id": 5}])
def test_data_of_a_wrong_shape_is_not_understood(client, fake, path, data):
    """A success whose data is not as documented is a ``ReplyNotUnderstood`` with its beginning."""
    fake.on(path, success(data))
    with pytest.raises(ReplyNotUnderstood, match=f"^{path}: ") as caught:
        (WRITES | READS)[path](client)
    assert (caught.value.status, caught.value.body) == (200, json.dumps(success(data)))
    assert caught.value.__context__ is None


# Tries


@pytest.mark.parametrize("failure", PASSING)
@pytest.mark.parametrize("path", READS)
def test_a_read_is_tried_three_times_and_no_more(client, fake, clock, path, failure):
    """Without an answer, or refused for coming too soon, a read is sent three times, spaced."""
    answer, kind = FAILURES[failure]
    fake.on(path, answer)
    with pytest.raises(GatewayError) as caught:
        READS[path](client)
    assert type(caught.value) is kind
    assert len(fake.asked(path)) == client.requests == 3
    assert LEAST_PAUSES <= clock.slept <= MOST_PAUSES


@pytest.mark.parametrize("failure", PASSING)
@pytest.mark.parametrize("failures", [1, 2])
def test_a_read_succeeds_after_a_failure(client, scripted, payload, failure, failures):
    """A read whose second or third try is answered returns that answer."""
    answers = [FAILURES[failure][0]] * failures
    fake = scripted("/billing/balances", *answers, payload("billing_balances"))
    assert client.balances().internal == 100
    assert len(fake.asked("/billing/balances")) == failures + 1


@pytest.mark.parametrize("failure", LASTING)
@pytest.mark.parametrize("path", READS)
def test_what_would_fail_again_is_not_tried_again(client, fake, clock, path, failure):
    """A refusal or a strange answer ends a read at once."""
    answer, kind = FAILURES[failure]
    fake.on(path, answer)
    with pytest.raises(kind):
        READS[path](client)
    assert (len(fake.asked(path)), clock.slept) == (1, 0)


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("path", WRITES)
def test_a_write_is_sent_exactly_once(client, fake, clock, path, failure):
    """Creating, cancelling and binding are never repeated, whatever becomes of the request."""
    answer, kind = FAILURES[failure]
    fake.on(path, answer)
    with pytest.raises(GatewayError) as caught:
        WRITES[path](client)
    assert type(caught.value) is kind
    assert len(fake.requests) == client.requests == 1
    assert clock.slept == 0


@pytest.mark.parametrize("tries", [1, 2, 5])
def test_the_number_of_tries_can_be_chosen(fake, clock, tries):
    """A client that somebody waits for may be told to try once, another more often."""
    fake.on("/billing/balances", FAILURES["proxy"][0])
    with pytest.raises(ConnectionFailed):
        BitsbyClient(KEY, tries=tries).balances()
    assert len(fake.asked("/billing/balances")) == tries
    assert (clock.slept == 0) is (tries == 1)


def test_each_page_has_its_own_tries(client, fake):
    """A list is not given up for single failures on several of its pages."""
    turns = []

    def answer(fields):
        turns.append(fields)
        if len(turns) % 3:
            return requests.ConnectionError("broken")
        return success(fake._page(items(120), fields))

    fake.on("/invoices/list", answer)
    assert len(list(client.list_invoices())) == 120
    assert len(turns) == 12


# Slots


def test_a_slot_is_taken_before_each_request(fake):
    """Every try of every page waits for its slot first."""
    order = []
    fake.on("/billing/balances", lambda fields: order.append("sent") or FAILURES["proxy"][0])
    client = BitsbyClient(KEY, acquire_slot=lambda: order.append("slot"))
    with pytest.raises(ConnectionFailed):
        client.balances()
    assert order == ["slot", "sent"] * 3


@pytest.mark.parametrize("path", READS | WRITES)
def test_without_a_slot_nothing_is_sent(fake, clock, path):
    """``RateLimitTimeout`` is handed on at once: the wait was the slot's matter."""
    asked = []

    def no_slot():
        asked.append(path)
        raise RateLimitTimeout("none")

    client = BitsbyClient(KEY, acquire_slot=no_slot)
    with pytest.raises(RateLimitTimeout):
        (READS | WRITES)[path](client)
    assert (asked, fake.requests, client.requests, clock.slept) == ([path], [], 0, 0)


# Pages


def items(number, payments=False):
    """Return as many items of a list, each with its own id."""
    id_of = (str(uuid.UUID(int=n + 1)) for n in range(number))
    if payments:
        return [{"id": one, "amount": "1.00000000", "hash": "f0"} for one in id_of]
    return [{"id": one, "amountFiat": "1.00", "status": "unpaid"} for one in id_of]


def ids(found):
    return [item.id.int for item in found]


@pytest.mark.parametrize("cap", [10, 20, 50, 1000])
@pytest.mark.parametrize("number", [0, 1, 9, 10, 11, 49, 50, 51, 100, 137])
def test_a_list_is_read_to_its_end_whatever_the_largest_page(client, fake, cap, number):
    """Servers that give fewer than asked for, down to the documented ten, hide nothing."""
    everything = items(number)
    fake.on(
        "/invoices/list",
        lambda fields: success(fake._page(everything, fields | {"limit": min(cap, 50)})),
    )
    assert ids(client.list_invoices()) == list(range(1, number + 1))
    assert len(fake.requests) <= number // min(cap, 50) + 2


def test_payments_are_read_to_their_end(client, fake):
    """The same goes for payments."""
    fake.payments = items(75, payments=True)
    assert ids(client.list_payments()) == list(range(1, 76))


@pytest.mark.parametrize("cap", [10, 20, 50])
def test_a_server_that_ignores_the_offset_is_asked_twice(client, fake, cap):
    """The same page again ends the list, and its items are given once."""
    fake.on("/invoices/list", success(items(cap)))
    assert ids(client.list_invoices()) == list(range(1, cap + 1))
    assert len(fake.requests) == 2


def test_a_server_that_begins_again_at_the_end_is_left(client, fake):
    """A page of nothing but what was seen ends the list."""
    everything = items(30)
    fake.on(
        "/invoices/list",
        lambda fields: success(
            (everything * 10)[int(fields["offset"]) :][:10],
        ),
    )
    assert ids(client.list_invoices()) == list(range(1, 31))


def test_what_moves_to_the_next_page_meanwhile_is_not_missed(client, fake):
    """New items at the front while the list is read hide none of the older ones."""
    everything = items(100)

    def answer(fields):
        page = fake._page(list(everything), fields)
        everything.insert(0, items(1)[0] | {"id": str(new_id())})
        return success(page)

    fake.on("/invoices/list", answer)
    assert set(range(1, 101)) <= set(ids(client.list_invoices()))


def test_a_list_that_never_ends_is_left(client, fake, monkeypatch, caplog):
    """After ``MOST_PAGES`` pages the list is left with a warning, and what was read counts."""
    monkeypatch.setattr(client_module, "MAX_PAGES", 4)
    fake.on(
        "/payments/list",
        lambda fields: success(
            [
                item | {"id": str(uuid.UUID(int=int(fields["offset"]) + n + 1))}
                for n, item in enumerate(items(50, payments=True))
            ]
        ),
    )
    assert ids(client.list_payments()) == list(range(1, 201))
    assert len(fake.requests) == 4
    assert "does not end" in caplog.text


def test_unreadable_items_are_left_out_and_counted(client, fake, caplog):
    """One strange entry hides neither its page nor the pages after it."""
    everything = items(60)
    everything[3] = everything[3] | {"amountFiat": "much"}
    everything[7] = "strange"
    everything[9] = {"id": "no UUID", "amountFiat": "1.00"}
    everything[55] = None
    fake.invoices = everything
    fake.on("/invoices/list", lambda fields: success(fake._page(everything, fields)))

    pages = list(client.invoice_pages())

    assert [(len(page.items), page.unreadable, page.size) for page in pages] == [
        (47, 3, 50),
        (9, 1, 10),
        (0, 0, 0),
    ]
    assert [fields["offset"] for fields in fake.asked("/invoices/list")] == ["0", "50", "60"]
    assert caplog.text.count("left out an item") == 4


def test_a_page_of_nothing_readable_does_not_end_the_list(client, fake):
    """The readable items behind a page of rubbish are found."""
    everything = ["strange"] * 50 + items(5)
    fake.on("/invoices/list", lambda fields: success(fake._page(everything, fields)))
    assert ids(client.list_invoices()) == [1, 2, 3, 4, 5]


def test_pages_are_asked_for_one_by_one(client, fake):
    """Whoever stops reading early saves the requests for the rest."""
    fake.invoices = items(200)
    pages = client.invoice_pages()
    assert fake.requests == []
    next(pages)
    assert len(fake.requests) == 1


# The key


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("path", ["/invoices/create", "/invoices/list"])
def test_no_error_and_no_record_shows_the_key(fake, caplog, path, failure):
    """Texts, frames and causes of an error, and log records on the way, are free of the key."""
    caplog.set_level(logging.DEBUG)
    fake.on(path, FAILURES[failure][0])
    with pytest.raises(GatewayError) as caught:
        (READS | WRITES)[path](BitsbyClient(KEY))
    assert_hidden(caught.value)
    assert not [record for record in caplog.records if KEY in repr(vars(record))]


def test_the_client_does_not_show_the_key():
    """Neither its ``repr`` nor the values of its attributes have it."""
    for client in (BitsbyClient(KEY), BitsbyClient(Secret(KEY))):
        assert KEY not in repr(client)
        assert KEY not in repr(vars(client))


def test_the_key_goes_into_the_header_and_nowhere_else(client, responses):
    """A request has the key once: not in its address, its form or another header."""
    responses.post("https://api.bitsby.app/billing/balances", json=error("no"))
    with pytest.raises(Refused):
        client.balances()
    request = responses.calls[0].request
    assert request.headers["Authorization"] == f"Token {KEY}"
    rest = {name: value for name, value in request.headers.items() if name != "Authorization"}
    assert KEY not in f"{request.url} {rest} {fields_of(request)}"


def test_a_strange_answer_that_repeats_the_key_is_not_in_the_frames(client, fake):
    """An echo of the key in data of a wrong shape is in no variable of the error's frames."""
    fake.on("/billing/balances", success([KEY]))
    with pytest.raises(ReplyNotUnderstood) as caught:
        client.balances()
    assert_hidden(caught.value)


def test_an_id_that_repeats_the_key_is_not_shown(fake, payload):
    """A key of 32 letters where an id should be is not in the error's message."""
    key = "k" * 32
    fake.on("/invoices/create", success(payload("invoices_create")["data"] | {"id": key}))
    with pytest.raises(ReplyNotUnderstood) as caught:
        WRITES["/invoices/create"](BitsbyClient(key))
    assert key not in str(caught.value)


# A far side in a process of its own


@pytest.fixture(scope="module")
def simulator():
    with running_simulator(webhooks=False, token=KEY, page_size=10) as simulator:
        yield simulator


@pytest.fixture
def far(simulator):
    simulator.control("reset", {})
    simulator.control("ratelimit", {"seconds": 0})
    return simulator


def accepted(far, path):
    return [one for one in far.control("state")["requests"] if one["path"] == path]


@pytest.mark.parametrize(("kind", "made"), [("drop", 0), ("drop_after", 1)])
def test_a_lost_answer_does_not_make_a_second_invoice(far, kind, made):
    """When the connection breaks, before or after Bitsby did it, nothing is sent again."""
    far.control("faults", {"faults": [{"kind": kind, "path": "/invoices/create"}]})
    with pytest.raises(ConnectionFailed) as caught:
        WRITES["/invoices/create"](BitsbyClient(KEY, api_url=far.url))
    assert_hidden(caught.value)
    assert len(accepted(far, "/invoices/create")) == 1
    assert len(far.control("state")["invoices"]) == made


def test_a_read_survives_broken_connections(far):
    """Two broken connections in a row cost a read two more tries and no more."""
    far.control("faults", {"faults": [{"kind": "drop", "times": 2}]})
    client = BitsbyClient(KEY, api_url=far.url)
    assert client.balances().internal == 100
    assert client.requests == 3


def test_a_whole_life_of_an_invoice(far):
    """Created, seen, paid by another amount, bound and listed: over real HTTP, page by page."""
    client = BitsbyClient(KEY, api_url=far.url)
    seeded = far.control("seed", {"invoices": 23})["ids"]
    created = WRITES["/invoices/create"](client)
    remote = {"invoiceId": str(created.id), "amount": "9.00000000"}
    payment_id = uuid.UUID(far.control("pay", remote)["paymentId"])

    (payment,) = client.list_payments()
    assert (payment.id, payment.amount, payment.invoice) == (payment_id, Decimal(9), None)
    client.bind_payment(created.id, payment_id)
    (paid,) = client.list_invoices(invoice_id=created.id)
    assert (paid.status, paid.payment.id) == (schemas.PAID, payment_id)
    everything = [str(item.id) for item in client.list_invoices()]
    assert sorted(everything) == sorted([*seeded, str(created.id)])
    client.cancel_invoice(uuid.UUID(seeded[0]))
    assert len(list(client.list_invoices(status="canceled"))) == 1


def test_a_wrong_key_is_refused(far):
    """Another key than the account's is a ``Refused``, and is not shown."""
    key = "another-key-of-somebody"
    with pytest.raises(Refused, match="token") as caught:
        BitsbyClient(key, api_url=far.url).balances()
    assert_hidden(caught.value, key)


# The client as the shop has configured it


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("make", "tries"),
    [(factory.for_buyer, 1), (factory.for_background, 3), (factory.without_waiting, 1)],
)
def test_the_shops_client_tries_as_often_as_somebody_can_wait(fake, make, tries):
    """A buyer's request and one in a free slot are sent once, background reads three times."""
    fake.on("/billing/balances", FAILURES["proxy"][0])
    with pytest.raises(ConnectionFailed):
        make().balances()
    assert len(fake.requests) == tries


@pytest.mark.django_db
def test_the_shops_client_keeps_the_spacing(fake, clock, payload):
    """Requests of different clients of the shop are 1.1 seconds apart."""
    fake.on("/billing/balances", payload("billing_balances"))
    factory.for_buyer().balances()
    factory.for_background().balances()
    factory.for_buyer().balances()
    assert 2.1 < clock.slept <= 2.2


@pytest.mark.django_db
def test_a_client_for_a_free_slot_is_had_only_then(fake, clock):
    """``if_free`` takes the slot at once or says ``RateLimitTimeout`` without waiting."""
    factory.without_waiting()
    with pytest.raises(RateLimitTimeout):
        factory.without_waiting()
    clock.sleep(1.2)
    factory.without_waiting()
    assert clock.slept == 1.2


@pytest.mark.django_db
def test_a_further_request_in_a_free_slot_needs_another(fake, clock, payload):
    """The client of ``if_free`` has one request in its slot, and more only as slots are free."""
    fake.on("/billing/balances", payload("billing_balances"))
    client = factory.without_waiting()
    client.balances()
    with pytest.raises(RateLimitTimeout):
        client.balances()
    clock.sleep(1.2)
    client.balances()
    assert len(fake.requests) == 2


@pytest.mark.django_db
def test_a_buyers_patience_ends(fake, payload):
    """A buyer whose slot does not come in time gets ``RateLimitTimeout``, and nothing is sent."""
    fake.on("/billing/balances", payload("billing_balances"))
    factory.without_waiting()
    with pytest.raises(RateLimitTimeout):
        factory.for_buyer(max_wait=0.5).balances()
    assert fake.requests == []


@pytest.mark.django_db
def test_a_shop_without_settings_has_no_client(settings):
    """Without settings there is a ``ConfigurationError`` and not a client without a key."""
    settings.OSCAR_BITSBY = {}
    with pytest.raises(ConfigurationError):
        factory.for_buyer()


@pytest.mark.django_db
def test_the_shops_settings_reach_the_client(settings, responses):
    """Address and key are those of the settings."""
    settings.OSCAR_BITSBY = settings.OSCAR_BITSBY | {
        "API_URL": "https://other.example/api/",
        "API_KEY": "other-key",
    }
    responses.post("https://other.example/api/billing/balances", json=error("no"))
    with pytest.raises(Refused) as caught:
        factory.for_background().balances()
    assert responses.calls[0].request.headers["Authorization"] == "Token other-key"
    assert_hidden(caught.value, "other-key")
