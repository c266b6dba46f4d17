"""The client's smaller promises: defaults, the end of lists, and what is said of rubbish."""

from __future__ import annotations

import logging
import uuid
from decimal import Decimal

import pytest

from oscar_bitsby.exceptions import RateLimited, ReplyNotUnderstood
from oscar_bitsby.gateway import client as client_module
from oscar_bitsby.gateway.client import BitsbyClient
from tests.bitsby import KEY, PROJECT, error, success

INVOICE = {"amountFiat": "1.00", "status": "unpaid"}


@pytest.fixture
def client():
    return BitsbyClient(KEY)


def invoices(count, first=1):
    return [INVOICE | {"id": str(uuid.UUID(int=first + number))} for number in range(count)]


def test_texts_that_are_not_given_are_sent_empty(client, fake):
    """An invoice without a description and service data is created with empty ones."""
    client.create_invoice(
        project_id=PROJECT, amount=Decimal("10.00"), currency="USD", time_to_pay=Decimal(1)
    )

    (sent,) = fake.asked("/invoices/create")
    assert (sent["description"], sent["serviceData"]) == ("", "")


def test_pages_without_anything_readable_end_the_list(client, fake):
    """A server that gives the same unreadable page for ever is asked twice."""
    fake.on("/invoices/list", success(["strange"] * 50))

    assert list(client.list_invoices()) == []
    assert len(fake.requests) == 2


def test_an_unreadable_page_between_others_ends_nothing(client, fake):
    """Whatever is readable after a page of rubbish is listed, on as many pages as there are."""
    everything = invoices(50) + ["strange"] * 50 + invoices(120, first=51) + ["strange"] * 50
    fake.on("/invoices/list", lambda fields: success(fake._page(everything, fields)))

    assert [item.id.int for item in client.list_invoices()] == list(range(1, 171))


def test_data_that_is_no_list_is_said_to_be_none(client, fake):
    """Whoever reads the error learns what was expected where."""
    fake.on("/invoices/list", success({"id": 5}))

    with pytest.raises(ReplyNotUnderstood, match=r"^/invoices/list: a list was expected"):
        list(client.list_invoices())


def test_what_is_left_out_is_logged_with_its_reason(client, fake, caplog):
    """The log says what was wrong with an item that no list shows."""
    fake.on("/invoices/list", success([INVOICE | {"id": "no UUID"}]))

    assert list(client.list_invoices()) == []

    (line,) = caplog.messages
    assert line.startswith("left out an item that is not as documented: ")
    assert "UUID" in line


def test_an_endless_list_is_logged_by_its_name(client, fake, monkeypatch, caplog):
    """The log says which list was left, and after how many pages."""
    monkeypatch.setattr(client_module, "MAX_PAGES", 2)
    fake.on("/invoices/list", lambda fields: success(invoices(50, first=int(fields["offset"]) + 1)))

    assert len(list(client.list_invoices())) == 100

    assert caplog.messages == ["/invoices/list was left after 2 pages: it does not end"]


def test_a_request_waits_as_long_as_the_client_was_told(responses):
    """The time-out reaches each request; nobody who forgets it waits for ever."""
    responses.post("https://api.bitsby.app/invoices/cancel", json=success("Invoice canceled"))
    for client in (BitsbyClient(KEY), BitsbyClient(KEY, timeout=2.5)):
        client.cancel_invoice(uuid.UUID(int=1))

    assert [call.request.req_kwargs["timeout"] for call in responses.calls] == [10, 2.5]


def test_the_second_pause_is_longer_than_the_first(client, fake, clock):
    """A read that was refused comes back soon, and after a second refusal later."""
    moments = []
    fake.on(
        "/billing/balances",
        lambda fields: moments.append(clock.slept) or error("Requests too frequent"),
    )
    with pytest.raises(RateLimited):
        client.balances()

    first, second = moments[1] - moments[0], moments[2] - moments[1]
    assert 1.2 <= first <= 1.8
    assert 3.0 <= second <= 4.5


def test_each_further_try_is_logged_with_its_reason(client, fake, caplog):
    """Operators see which question was asked again, and what had become of it."""
    fake.on("/billing/balances", error("Requests too frequent"))
    with caplog.at_level(logging.INFO, "oscar_bitsby"), pytest.raises(RateLimited) as caught:
        client.balances()

    assert caplog.messages == [f"/billing/balances: {caught.value}; trying again"] * 2
