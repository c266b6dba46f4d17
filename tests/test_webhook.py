"""The webhook: what comes is checked, recorded, looked into, and answered as design.md says."""

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

Order = get_model("order", "Order")
Transaction = get_model("payment", "Transaction")

pytestmark = pytest.mark.django_db


@pytest.fixture
def deliver(client, payload):
    """Return a function that posts the documented delivery about an invoice."""

    def post(invoice=None, body=None, path=None, **extra):
        if body is None:
            data = payload("webhook_paid")
            data["invoice"]["id"] = str(invoice.bitsby_id)
            body = json.dumps(data)
        path = path or reverse("oscar_bitsby:webhook")
        return client.post(path, body, content_type="application/json", **extra)

    return post


@pytest.fixture
def paid(invoice, fake):
    """An invoice that Bitsby calls paid."""
    fake.invoices = [bitsby.invoice_item(invoice, "paid", payment=bitsby.transfer())]
    return invoice


def status_of(order):
    return Order.objects.get(pk=order.pk).status


# 200


def test_delivery_settles_its_order(order, paid, deliver, fake):
    """The API confirms the delivery: 200, one transaction, one row that says so."""
    response = deliver(paid)

    assert (response.status_code, response.content) == (200, b"settled")
    assert status_of(order) == "Being processed"
    assert Transaction.objects.count() == 1
    assert len(fake.requests) == 1
    delivery = WebhookDelivery.objects.get()
    assert (delivery.invoice, delivery.answered, delivery.outcome) == (paid, 200, "settled")
    paid.refresh_from_db()
    assert paid.webhook_pending_since is None


def test_repeated_delivery_is_answered_as_settled(order, paid, deliver, fake):
    """Deliveries of a settled invoice cost neither a request nor a row."""
    deliver(paid)
    answers = {deliver(paid).status_code for _ in range(5)}

    assert answers == {200}
    assert (len(fake.requests), WebhookDelivery.objects.count()) == (1, 1)
    assert Transaction.objects.count() == 1


def test_delivery_for_an_unknown_invoice_makes_no_request(invoice, deliver, fake):
    """A delivery about somebody else's invoice: 200, no request and no row."""
    invoice.bitsby_id = bitsby.new_id()

    response = deliver(invoice)

    assert (response.status_code, fake.requests) == (200, [])
    assert not WebhookDelivery.objects.exists()


@pytest.mark.parametrize("reason", ["mismatch", "unknown_value"])
def test_paid_invoice_under_review_is_answered_as_settled(order, invoice, deliver, fake, reason):
    """What only staff can decide is no reason for Bitsby to come again."""
    values = {"amountFiat": "1.00"} if reason == "mismatch" else {"wallet": bitsby.wallet(id="x")}
    if reason == "unknown_value":
        values["wallet"]["cryptocurrency"] = "doge"
    fake.invoices = [bitsby.invoice_item(invoice, "paid", payment=bitsby.transfer(), **values)]

    assert deliver(invoice).status_code == 200
    assert BitsbyPayment.objects.get().review_reason == reason
    assert status_of(order) == "Pending"


@pytest.mark.parametrize("status", ["expired", "canceled"])
def test_delivery_for_a_closed_invoice_is_checked(order, invoice_for, deliver, fake, status):
    """An ended invoice is looked into as well, whatever our own records call it."""
    invoice = invoice_for(order, status)
    fake.invoices = [bitsby.invoice_item(invoice, "paid", payment=bitsby.transfer())]

    assert deliver(invoice).status_code == 200
    assert status_of(order) == "Being processed"


def test_only_the_id_of_a_delivery_is_used(order, invoice, deliver, fake):
    """Amounts, states and payments that a delivery claims are never booked."""
    fake.invoices = [bitsby.invoice_item(invoice, "paid", payment=bitsby.transfer("5.00000000"))]
    claim = {
        "invoice": {"id": str(invoice.bitsby_id), "status": "paid", "calcAmountFiat": "1000.00"},
        "payment": bitsby.transfer("1000.00000000"),
    }

    deliver(body=json.dumps(claim))

    assert [row.amount for row in Transaction.objects.all()] == [5]
    assert BitsbyPayment.objects.count() == 1


# 503


@pytest.mark.parametrize("word", ["unpaid", "expired", "canceled", "confirming"])
def test_delivery_for_an_unpaid_invoice_must_be_retried(order, invoice, deliver, fake, word):
    """What the API does not call paid: 503, nothing booked, and a reconcile clears it up."""
    fake.invoices = [bitsby.invoice_item(invoice, word)]

    response = deliver(invoice)

    assert (response.status_code, response["Retry-After"]) == (503, "10")
    assert WebhookDelivery.objects.get().answered == 503
    assert status_of(order) == "Pending"
    assert not Transaction.objects.exists()
    reconciliation.reconcile()
    invoice.refresh_from_db()
    assert invoice.webhook_pending_since is None


def test_premature_delivery_is_settled_by_the_next_run(order, invoice, deliver, fake):
    """Bitsby's own list lagging behind its delivery loses nothing."""
    fake.invoices = [bitsby.invoice_item(invoice)]
    assert deliver(invoice).status_code == 503

    fake.invoices = [bitsby.invoice_item(invoice, "paid", payment=bitsby.transfer())]
    reconciliation.reconcile()

    assert status_of(order) == "Being processed"


@pytest.mark.parametrize(
    "answer", [ConnectionError("down"), bitsby.error("no"), (500, {}, "<html>"), (200, {}, "[]")]
)
def test_delivery_without_an_api_answer_must_be_retried(order, invoice, deliver, fake, answer):
    """A delivery that could not be checked comes again, and is noted for the next pass."""
    fake.on("/invoices/list", answer)

    assert deliver(invoice).status_code == 503

    assert WebhookDelivery.objects.get().outcome
    invoice.refresh_from_db()
    assert invoice.webhook_pending_since is not None
    assert status_of(order) == "Pending"


def test_delivery_for_an_invoice_unknown_to_bitsby_must_be_retried(invoice, deliver, fake):
    """No word about the invoice is no proof, so the delivery is to come again."""
    assert deliver(invoice).status_code == 503


def test_delivery_does_not_wait_for_a_slot(order, paid, deliver, fake, clock):
    """Without a free slot: 503 at once, nothing sent, and the next pass settles it."""
    refresh(BitsbyInvoice(bitsby_id=bitsby.new_id()))
    fake.requests.clear()

    assert deliver(paid).status_code == 503
    assert (fake.requests, clock.slept) == ([], 0)
    assert "no free slot" in WebhookDelivery.objects.get().outcome

    reconciliation.reconcile()
    assert status_of(order) == "Being processed"


def test_deliveries_for_an_invoice_cause_one_request_in_ten_seconds(
    invoice, deliver, fake, clock, move_time
):
    """A flood of deliveries about one invoice costs one request and one row in ten seconds."""
    fake.invoices = [bitsby.invoice_item(invoice)]
    for _ in range(19):
        assert deliver(invoice).status_code == 503
        move_time(milliseconds=500)
        clock.sleep(0.5)
    assert (len(fake.requests), WebhookDelivery.objects.count()) == (1, 1)

    move_time(seconds=1)
    assert deliver(invoice).status_code == 503
    assert (len(fake.requests), WebhookDelivery.objects.count()) == (2, 2)


def test_unexpected_error_is_a_503(invoice, deliver, fake, monkeypatch):
    """A bug of ours does not tell Bitsby that the delivery was dealt with."""

    def fail(*args):
        raise ZeroDivisionError

    monkeypatch.setattr("oscar_bitsby.reconciliation.invoice_refresh.refresh_for_delivery", fail)

    assert deliver(invoice).status_code == 503


@pytest.mark.parametrize("value", [None, {}, {"API_KEY": "x"}, "nonsense"])
def test_delivery_without_settings_must_be_retried(invoice, deliver, fake, settings, value):
    """Without usable settings nothing can be checked: Bitsby shall come again."""
    settings.OSCAR_BITSBY = value

    assert deliver(invoice).status_code == 503
    assert fake.requests == []


# 400 and other ways not to be a delivery


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
    """What is no delivery is refused, costs no request and leaves no row."""
    assert deliver(body=body).status_code == 400
    assert fake.requests == []
    assert not WebhookDelivery.objects.exists()


def test_body_over_64_kib_is_refused(paid, deliver, fake):
    """A body just within the limit is a delivery, one byte more is none."""
    data = json.dumps({"invoice": {"id": str(paid.bitsby_id)}, "padding": ""})
    fitting = data.replace('"padding": ""', '"padding": "' + "x" * (64 * 1024 - len(data)) + '"')
    assert len(fitting) == 64 * 1024

    assert deliver(body=fitting + " ").status_code == 400
    assert fake.requests == []
    assert deliver(body=fitting).status_code == 200


def test_wrong_content_length_does_not_bypass_the_size_limit(paid, deliver, fake):
    """A content length that is not a number is refused, not an error page."""
    body = json.dumps({"invoice": {"id": str(paid.bitsby_id)}})

    assert deliver(body=body, CONTENT_LENGTH="many").status_code == 400


@pytest.mark.parametrize("method", ["get", "head", "put", "patch", "delete", "options"])
def test_other_methods_are_refused(client, invoice, fake, method):
    """Only a POST is a delivery."""
    response = getattr(client, method)(reverse("oscar_bitsby:webhook"))

    assert response.status_code == 405
    assert fake.requests == []


def test_delivery_needs_no_csrf_token(paid, payload):
    """Bitsby has no cookie of ours."""
    strict = Client(enforce_csrf_checks=True)
    body = json.dumps({"invoice": {"id": str(paid.bitsby_id)}})

    response = strict.post(reverse("oscar_bitsby:webhook"), body, content_type="text/plain")

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
def test_webhook_url_needs_the_token(order, paid, deliver, fake, settings, token, args, status):
    """With ``WEBHOOK_TOKEN`` there is a webhook only at that address, and without only without."""
    settings.OSCAR_BITSBY = {**settings.OSCAR_BITSBY, "WEBHOOK_TOKEN": token}

    response = deliver(paid, path=reverse("oscar_bitsby:webhook", args=args))

    assert response.status_code == status
    assert (status_of(order) == "Being processed") == (status == 200)
    assert bool(fake.requests) == (status == 200)


# What is kept and what is told


def test_delivery_is_stored_without_secret_headers(paid, deliver):
    """Body, address and headers are kept; cookies and credentials are not."""
    deliver(
        paid,
        HTTP_COOKIE="sessionid=the-cookie",
        HTTP_AUTHORIZATION="Token the-credential",
        HTTP_PROXY_AUTHORIZATION="Basic the-credential",
        HTTP_USER_AGENT="Bitsby/1.0",
        HTTP_X_ODD="nul\x00nul",
        REMOTE_ADDR="192.0.2.7",
    )

    delivery = WebhookDelivery.objects.get()
    assert delivery.headers["User-Agent"] == "Bitsby/1.0"
    assert delivery.remote_address == "192.0.2.7"
    assert json.loads(delivery.body)["invoice"]["id"] == str(paid.bitsby_id)
    kept = json.dumps(delivery.headers)
    assert "the-cookie" not in kept
    assert "the-credential" not in kept
    assert "\x00" not in kept


def test_unusual_text_can_be_stored(invoice, deliver, fake):
    """NUL and broken UTF-8 in a delivery are no reason to fail, on PostgreSQL neither."""
    fake.invoices = [bitsby.invoice_item(invoice, "paid", payment=bitsby.transfer())]
    body = json.dumps({"invoice": {"id": str(invoice.bitsby_id)}, "x": "a\\u0000b\u0000"})

    assert deliver(body=body).status_code == 200
    assert WebhookDelivery.objects.count() == 1


def test_many_long_headers_are_truncated(paid, deliver):
    """Whoever sends a hundred long headers does not fill the database."""
    deliver(paid, **{f"HTTP_X_{number}": "y" * 5000 for number in range(100)})

    headers = WebhookDelivery.objects.get().headers
    assert len(headers) <= 40
    assert max(len(value) for value in headers.values()) <= 200


def test_no_secret_is_logged(paid, deliver, settings, caplog, fake):
    """Our logs of a delivery, good or bad, name neither the key nor the token."""
    settings.OSCAR_BITSBY = {**settings.OSCAR_BITSBY, "WEBHOOK_TOKEN": "secret-token"}
    path = reverse("oscar_bitsby:webhook", args=["secret-token"])
    with caplog.at_level(logging.DEBUG, "oscar_bitsby"):
        fake.on("/invoices/list", ConnectionError(f"Authorization: Token {bitsby.KEY}"))
        deliver(paid, path=path)
        deliver(body="junk", path=path)

    text = "\n".join(r.getMessage() for r in caplog.records if r.name.startswith("oscar_bitsby"))
    assert bitsby.KEY not in text
    assert "secret-token" not in text
    delivery = WebhookDelivery.objects.get()
    assert bitsby.KEY not in delivery.outcome + delivery.body + json.dumps(delivery.headers)


# Bursts


def test_burst_of_deliveries_causes_few_requests(place, invoice_for, deliver, fake, clock):
    """Fifty invoices paid at once: one look covers all that wait, and all are settled."""
    invoices = [invoice_for(place()) for _ in range(50)]
    for row in invoices:
        payment = bitsby.transfer()
        remote = bitsby.invoice_item(row, "paid", payment=payment)
        fake.invoices.append(remote)
        fake.payments.append(bitsby.payment_item(payment, remote))
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
    """A delivery that lied before does not keep the next true one from being settled."""
    lied, true = invoice_for(place()), invoice_for(place())
    payment = bitsby.transfer()
    remote = bitsby.invoice_item(true, "paid", payment=payment)
    fake.invoices = [bitsby.invoice_item(lied), remote]
    fake.payments = [bitsby.payment_item(payment, remote)]
    assert deliver(lied).status_code == 503
    clock.sleep(2)

    assert deliver(true).status_code == 200
    assert Transaction.objects.get().reference == payment["id"]
