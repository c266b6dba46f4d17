"""The webhook: deliveries are checked, stored, settled by a refresh, and answered."""

import json
import logging

import pytest
from django.test import Client
from django.urls import reverse
from oscar.core.loading import get_model

from oscar_bitsby import reconciliation
from oscar_bitsby.models import BitsbyInvoice, BitsbyPayment, WebhookDelivery
from oscar_bitsby.reconciliation import refresh
from tests.support import bitsby
from tests.support.settling import status_of

Transaction = get_model("payment", "Transaction")

pytestmark = pytest.mark.django_db


# Answered 200


def test_delivery_settles_its_order(order, paid_invoice, deliver, fake):
    """A delivery that the API confirms is answered 200, booked once and stored as settled."""
    response = deliver(paid_invoice)

    assert (response.status_code, response.content) == (200, b"settled")
    assert status_of(order) == "Being processed"
    assert Transaction.objects.count() == 1
    assert len(fake.requests) == 1
    delivery = WebhookDelivery.objects.get()
    assert (delivery.invoice, delivery.answered, delivery.outcome) == (paid_invoice, 200, "settled")
    paid_invoice.refresh_from_db()
    assert paid_invoice.webhook_pending_since is None


def test_repeated_delivery_is_answered_as_settled(order, paid_invoice, deliver, fake):
    """Further deliveries for a settled invoice are answered 200 without a request or a row."""
    deliver(paid_invoice)
    answers = {deliver(paid_invoice).status_code for _ in range(5)}

    assert answers == {200}
    assert (len(fake.requests), WebhookDelivery.objects.count()) == (1, 1)
    assert Transaction.objects.count() == 1


@pytest.mark.parametrize("reason", ["mismatch", "unknown_value"])
def test_paid_invoice_under_review_is_answered_as_settled(order, invoice, deliver, fake, reason):
    """A payment that needs review is stored, and its delivery must not be retried."""
    values = {"amountFiat": "1.00"} if reason == "mismatch" else {"wallet": bitsby.wallet(id="x")}
    if reason == "unknown_value":
        values["wallet"]["cryptocurrency"] = "doge"
    fake.invoices = [bitsby.invoice_item(invoice, "paid", payment=bitsby.transfer(), **values)]

    assert deliver(invoice).status_code == 200
    assert BitsbyPayment.objects.get().review_reason == reason
    assert status_of(order) == "Pending"


@pytest.mark.parametrize("status", ["expired", "canceled"])
def test_delivery_for_a_closed_invoice_is_checked(order, invoice_for, deliver, fake, status):
    """A delivery for an expired or canceled invoice is checked, and a paid one is settled."""
    invoice = invoice_for(order, status)
    fake.add_paid(invoice)

    assert deliver(invoice).status_code == 200
    assert status_of(order) == "Being processed"


def test_only_the_id_of_a_delivery_is_used(order, invoice, deliver, fake):
    """The amount is booked that the API answers, not the one that the delivery claims."""
    fake.invoices = [bitsby.invoice_item(invoice, "paid", payment=bitsby.transfer("5.00000000"))]
    claim = {
        "invoice": {"id": str(invoice.bitsby_id), "status": "paid", "calcAmountFiat": "1000.00"},
        "payment": bitsby.transfer("1000.00000000"),
    }

    deliver(body=json.dumps(claim))

    assert [row.amount for row in Transaction.objects.all()] == [5]
    assert BitsbyPayment.objects.count() == 1


# Answered 503


@pytest.mark.parametrize("status", ["unpaid", "expired", "canceled", "confirming"])
def test_delivery_for_an_unpaid_invoice_must_be_retried(order, invoice, deliver, fake, status):
    """An unpaid invoice is answered 503 and not booked, and the next run clears its flag."""
    fake.invoices = [bitsby.invoice_item(invoice, status)]

    response = deliver(invoice)

    assert (response.status_code, response["Retry-After"]) == (503, "10")
    assert WebhookDelivery.objects.get().answered == 503
    assert status_of(order) == "Pending"
    assert not Transaction.objects.exists()
    reconciliation.reconcile()
    invoice.refresh_from_db()
    assert invoice.webhook_pending_since is None


def test_premature_delivery_is_settled_by_the_next_run(order, unpaid_invoice, deliver, fake):
    """If the API calls the invoice paid only later, the next run settles it."""
    assert deliver(unpaid_invoice).status_code == 503

    fake.invoices = []
    fake.add_paid(unpaid_invoice)
    reconciliation.reconcile()

    assert status_of(order) == "Being processed"


@pytest.mark.parametrize(
    "answer",
    [
        ConnectionError("down"),
        bitsby.error("no"),
        (500, {}, "<html>"),
        (200, {}, "[]"),
        bitsby.success([]),
    ],
)
def test_delivery_without_an_api_answer_must_be_retried(order, invoice, deliver, fake, answer):
    """A delivery that cannot be checked is answered 503, and its invoice is flagged."""
    fake.on("/invoices/list", answer)

    assert deliver(invoice).status_code == 503

    assert WebhookDelivery.objects.get().outcome
    invoice.refresh_from_db()
    assert invoice.webhook_pending_since is not None
    assert status_of(order) == "Pending"


def test_delivery_does_not_wait_for_a_slot(order, paid_invoice, deliver, fake, clock):
    """Without a free slot it is answered 503 without a request, and the next run settles it."""
    refresh(BitsbyInvoice(bitsby_id=bitsby.new_id()))
    fake.requests.clear()

    assert deliver(paid_invoice).status_code == 503
    assert (fake.requests, clock.slept) == ([], 0)
    assert "no free slot" in WebhookDelivery.objects.get().outcome

    reconciliation.reconcile()
    assert status_of(order) == "Being processed"


def test_deliveries_for_an_invoice_cause_one_request_in_ten_seconds(
    unpaid_invoice, deliver, fake, clock, move_time
):
    """Any number of deliveries for an invoice cause one request and one row in ten seconds."""
    for _ in range(19):
        assert deliver(unpaid_invoice).status_code == 503
        move_time(milliseconds=500)
        clock.sleep(0.5)
    assert (len(fake.requests), WebhookDelivery.objects.count()) == (1, 1)

    move_time(seconds=1)
    assert deliver(unpaid_invoice).status_code == 503
    assert (len(fake.requests), WebhookDelivery.objects.count()) == (2, 2)


@pytest.mark.parametrize("value", [None, {}, {"API_KEY": "x"}, "nonsense"])
def test_delivery_without_settings_must_be_retried(invoice, deliver, fake, settings, value):
    """Without valid settings a delivery is answered 503, and no request is sent."""
    settings.OSCAR_BITSBY = value

    assert deliver(invoice).status_code == 503
    assert fake.requests == []


# Refused


@pytest.mark.parametrize(
    "body",
    [
        "",
        "no json",
        "null",
        "7",
        "[]",
        '"text"',
        "{}",
        '{"invoice": null}',
        '{"invoice": []}',
        '{"invoice": "text"}',
        '{"invoice": {}}',
        '{"invoice": {"id": null}}',
        '{"invoice": {"id": 5}}',
        '{"invoice": {"id": "not a uuid"}}',
        '{"invoice": {"id": {"a": 1}}}',
        '{"invoice": {"id": "' + "9" * 500 + '"}}',
        "[" * 20_000,
        '{"a":' * 10_000,
        '{"invoice": {"id": ' + "9" * 6000 + "}}",
        b"\xff\xfe\x00",
        b'{"invoice": {"id": "\xff"}}',
    ],
    ids=lambda body: repr(body)[:40],
)
def test_invalid_delivery_is_refused(invoice, deliver, fake, body):
    """An invalid body is answered 400, without a request or a row."""
    assert deliver(body=body).status_code == 400
    assert fake.requests == []
    assert not WebhookDelivery.objects.exists()


def test_body_over_64_kib_is_refused(paid_invoice, deliver, fake):
    """A body of 64 KiB is accepted; one byte more, or an invalid length, is refused."""
    data = json.dumps({"invoice": {"id": str(paid_invoice.bitsby_id)}, "padding": ""})
    fitting = data.replace('"padding": ""', '"padding": "' + "x" * (64 * 1024 - len(data)) + '"')
    assert len(fitting) == 64 * 1024

    assert deliver(body=fitting + " ").status_code == 400
    assert deliver(body=data, CONTENT_LENGTH="many").status_code == 400
    assert fake.requests == []
    assert deliver(body=fitting).status_code == 200


@pytest.mark.parametrize("method", ["get", "head", "put", "patch", "delete", "options"])
def test_other_methods_are_refused(client, invoice, fake, method):
    """Any method but POST is answered 405 without a request."""
    response = getattr(client, method)(reverse("oscar_bitsby:webhook"))

    assert response.status_code == 405
    assert fake.requests == []


def test_delivery_needs_no_csrf_token(paid_invoice, payload):
    """A delivery without a CSRF cookie is accepted."""
    csrf_client = Client(enforce_csrf_checks=True)
    body = json.dumps({"invoice": {"id": str(paid_invoice.bitsby_id)}})

    response = csrf_client.post(reverse("oscar_bitsby:webhook"), body, content_type="text/plain")

    assert response.status_code == 200


# The token


@pytest.mark.parametrize(
    ("token", "args", "status"),
    [
        ("", [], 200),
        ("", ["anything"], 404),
        ("secret-token", ["secret-token"], 200),
        ("secret-token", [], 404),
        ("secret-token", ["secret-tokem"], 404),
        ("secret-token", ["SECRET-TOKEN"], 404),
        ("secret-token", ["secret-token2"], 404),
    ],
)
def test_webhook_url_needs_the_token(
    order, paid_invoice, deliver, fake, configure, token, args, status
):
    """The webhook answers only at the URL with the token that is set, or without any."""
    configure(WEBHOOK_TOKEN=token)

    response = deliver(paid_invoice, path=reverse("oscar_bitsby:webhook", args=args))

    assert response.status_code == status
    assert (status_of(order) == "Being processed") == (status == 200)
    assert bool(fake.requests) == (status == 200)


# What is stored and logged


def test_delivery_is_stored_without_secret_headers(paid_invoice, deliver):
    """Body, remote address and headers are stored; cookies and credentials are not."""
    deliver(
        paid_invoice,
        HTTP_COOKIE="sessionid=the-cookie",
        HTTP_AUTHORIZATION="Token the-credential",
        HTTP_PROXY_AUTHORIZATION="Basic the-credential",
        HTTP_USER_AGENT="Bitsby/1.0",
        REMOTE_ADDR="192.0.2.7",
    )

    delivery = WebhookDelivery.objects.get()
    assert delivery.headers["User-Agent"] == "Bitsby/1.0"
    assert delivery.remote_address == "192.0.2.7"
    assert json.loads(delivery.body)["invoice"]["id"] == str(paid_invoice.bitsby_id)
    headers = json.dumps(delivery.headers)
    assert "the-cookie" not in headers
    assert "the-credential" not in headers


def test_unusual_text_can_be_stored(paid_invoice, deliver):
    """A body with NUL characters is accepted and stored, on PostgreSQL too."""
    body = json.dumps({"invoice": {"id": str(paid_invoice.bitsby_id)}, "x": "a\\u0000b\u0000"})

    assert deliver(body=body).status_code == 200
    assert WebhookDelivery.objects.count() == 1


def test_no_secret_is_logged(paid_invoice, deliver, configure, caplog, fake):
    """Neither the log nor the stored delivery contains the API key or the token."""
    configure(WEBHOOK_TOKEN="secret-token")
    path = reverse("oscar_bitsby:webhook", args=["secret-token"])
    with caplog.at_level(logging.DEBUG, "oscar_bitsby"):
        fake.on("/invoices/list", ConnectionError(f"Authorization: Token {bitsby.KEY}"))
        deliver(paid_invoice, path=path)
        deliver(body="invalid", path=path)

    text = "\n".join(r.getMessage() for r in caplog.records if r.name.startswith("oscar_bitsby"))
    assert bitsby.KEY not in text
    assert "secret-token" not in text
    delivery = WebhookDelivery.objects.get()
    assert bitsby.KEY not in delivery.outcome + delivery.body + json.dumps(delivery.headers)


# Bursts


def test_burst_of_deliveries_causes_few_requests(place, invoice_for, deliver, fake, clock):
    """Deliveries for fifty paid invoices are settled with at most three requests."""
    invoices = [invoice_for(place()) for _ in range(50)]
    for row in invoices:
        fake.add_paid(row)
    for row in invoices:
        deliver(row)
    first = len(fake.requests)
    clock.sleep(2)
    for row in invoices:
        deliver(row)

    assert first == 1
    assert len(fake.requests) <= 3
    assert Transaction.objects.count() == 50
    assert {deliver(row).status_code for row in invoices} == {200}


def test_wrong_delivery_does_not_delay_a_true_one(place, invoice_for, deliver, fake, clock):
    """A delivery for a paid invoice is settled although a wrong one for another came before."""
    unpaid, paid = invoice_for(place()), invoice_for(place())
    fake.invoices = [bitsby.invoice_item(unpaid)]
    payment = fake.add_paid(paid)
    assert deliver(unpaid).status_code == 503
    clock.sleep(2)

    assert deliver(paid).status_code == 200
    assert Transaction.objects.get().reference == payment["id"]
