"""Webhook deliveries: response texts, size limits and stored requests."""

import io
import json

import pytest
from django.test import RequestFactory
from django.urls import reverse

from oscar_bitsby.choices import InvoiceStatus
from oscar_bitsby.gateway import factory
from oscar_bitsby.models import EPOCH, BitsbyInvoice, WebhookDelivery
from oscar_bitsby.webhook import MAX_BODY_BYTES, webhook
from tests.support import bitsby

pytestmark = pytest.mark.django_db

PATH = "oscar_bitsby:webhook"


def body_of(invoice, **values):
    return json.dumps({"invoice": {"id": str(invoice.bitsby_id)}} | values)


@pytest.fixture
def deliver(client):
    """Return a function that posts a delivery about an invoice."""

    def post(invoice, body=None, **extra):
        body = body_of(invoice) if body is None else body
        return client.post(reverse(PATH), body, content_type="application/json", **extra)

    return post


@pytest.fixture
def paid(invoice, fake):
    """An invoice that Bitsby calls paid."""
    fake.invoices = [bitsby.invoice_item(invoice, "paid", payment=bitsby.transfer())]
    return invoice


@pytest.fixture
def unpaid(invoice, fake):
    """An invoice that Bitsby does not call paid."""
    fake.invoices = [bitsby.invoice_item(invoice)]
    return invoice


class Stream(io.BytesIO):
    """A body as a server may hand it over: longer than was told, or broken off."""

    def __init__(self, body, error=None):
        super().__init__(body)
        self.error = error
        self.asked = []

    def read(self, size=-1):
        self.asked.append(size)
        if self.error:
            raise self.error
        return super().read(size)


def deliver_stream(stream, **extra):
    request = RequestFactory().post("/", b"", content_type="application/json", **extra)
    request._stream = stream
    return webhook(request)


# What is answered


def test_response_body_names_the_result_of_the_delivery(
    paid, invoice_for, place, deliver, fake, settings, clock
):
    """Whoever reads Bitsby's log of deliveries sees what this shop made of them."""
    late = invoice_for(place())
    assert deliver(paid).content == b"settled"
    assert deliver(paid).content == b"settled"
    assert deliver(paid, body="junk").content == b"not a delivery"
    clock.sleep(2)
    assert deliver(late).content == b"try again"
    paid.bitsby_id = bitsby.new_id()
    assert deliver(paid).content == b"unknown invoice"
    settings.OSCAR_BITSBY = {}
    assert deliver(late).content == b"not configured"


def test_responses_are_plain_text(paid, deliver):
    """No browser takes an answer for a page."""
    assert deliver(paid)["Content-Type"] == "text/plain; charset=utf-8"


def test_only_retryable_responses_have_retry_after(paid, invoice_for, place, deliver, clock):
    """An answer that is final names no time to try again, any other one ten seconds."""
    assert "Retry-After" not in deliver(paid)
    assert "Retry-After" not in deliver(paid, body="junk")
    clock.sleep(2)
    assert deliver(invoice_for(place()))["Retry-After"] == "10"


def test_retryable_response_is_not_logged_by_django(unpaid, deliver, caplog):
    """A 503 to Bitsby mails no admin, and does not log the address with its token."""
    assert deliver(unpaid).status_code == 503

    assert [record for record in caplog.records if record.name == "django.request"] == []


def test_other_refusals_are_logged_by_django(unpaid, deliver, caplog):
    """What is no delivery is logged as any bad request is."""
    assert deliver(unpaid, body="junk").status_code == 400

    assert [record.name for record in caplog.records] == ["django.request"]


def test_unexpected_error_is_logged_with_its_invoice(unpaid, deliver, monkeypatch, caplog):
    """Operators find a bug of ours with its traceback and the invoice that it concerns."""

    def fail(*args):
        raise ZeroDivisionError

    monkeypatch.setattr("oscar_bitsby.reconciliation.invoice_refresh.refresh_for_delivery", fail)

    response = deliver(unpaid)

    assert (response.status_code, response.content) == (503, b"try again")
    (record,) = [record for record in caplog.records if record.name == "oscar_bitsby"]
    assert record.getMessage() == f"delivery not processed: invoice={unpaid.bitsby_id}"
    assert record.exc_info[0] is ZeroDivisionError


# What is read


def test_body_longer_than_its_content_length_is_not_read_to_its_end(paid, fake):
    """A body is read up to the limit and one byte, whatever length was told, and refused then."""
    stream = Stream(b" " * MAX_BODY_BYTES + body_of(paid).encode())

    assert deliver_stream(stream, CONTENT_LENGTH="10").status_code == 400
    assert stream.asked == [MAX_BODY_BYTES + 1]


def test_body_with_too_large_content_length_is_not_read(paid):
    """A too large Content-Length is enough to refuse a delivery."""
    stream = Stream(body_of(paid).encode())

    assert deliver_stream(stream, CONTENT_LENGTH=str(MAX_BODY_BYTES + 1)).status_code == 400
    assert stream.asked == []


@pytest.mark.parametrize("length", ["", None])
def test_delivery_without_content_length_is_read(paid, fake, length):
    """Servers that take bodies in pieces tell no length."""
    response = deliver_stream(Stream(body_of(paid).encode()), CONTENT_LENGTH=length)

    assert response.status_code == 200


def test_incomplete_body_is_not_accepted(paid, fake):
    """A connection that ends in the middle is a 400 that nobody reads, and no error of ours."""
    response = deliver_stream(Stream(b"", OSError("gone")))

    assert (response.status_code, fake.requests) == (400, [])


# What is kept


def test_result_of_a_delivery_is_stored(unpaid, deliver, fake, clock, move_time):
    """Staff see why a delivery settled nothing: asked in vain, not asked, or without an answer."""
    deliver(unpaid)
    move_time(seconds=11)
    factory.without_waiting()
    deliver(unpaid)
    clock.sleep(20)
    move_time(seconds=11)
    fake.on("/invoices/list", bitsby.error("no " * 200))
    deliver(unpaid)

    asked, refused, failed = WebhookDelivery.objects.order_by("pk")
    assert (asked.answered, asked.outcome) == (503, "asked")
    assert (refused.answered, refused.outcome) == (
        503,
        "not asked: no free slot, or just fetched",
    )
    assert failed.answered == 503
    assert failed.outcome.startswith("/invoices/list: no no no")
    assert len(failed.outcome) == 300


def test_overlong_remote_address_is_truncated(paid, deliver):
    """An address that fits no column loses its end and not the delivery."""
    assert deliver(paid, REMOTE_ADDR="a" * 99).status_code == 200
    assert WebhookDelivery.objects.get().remote_address == "a" * 64


def test_delivery_without_remote_address_is_stored(paid, fake):
    """Behind some servers there is no address."""
    request = RequestFactory().post("/", body_of(paid), content_type="application/json")
    del request.META["REMOTE_ADDR"]

    assert webhook(request).status_code == 200
    assert WebhookDelivery.objects.get().remote_address == ""


def test_headers_are_stored_up_to_their_limits(paid, deliver):
    """Forty headers, each with 60 letters of its name and 200 of its value, are kept."""
    long = {f"HTTP_X_{number:02}_{'N' * 70}": "v" * 201 for number in range(60)}
    deliver(paid, HTTP_X_SHORT="v", **long)

    headers = WebhookDelivery.objects.get().headers
    assert len(headers) == 40
    assert max(len(name) for name in headers) == 60
    assert max(len(value) for value in headers.values()) == 200


def test_nul_characters_are_removed(paid, deliver):
    """What no database keeps is dropped from headers, and the rest stays as it came."""
    deliver(paid, HTTP_X_ODD="nul\x00nul")

    assert WebhookDelivery.objects.get().headers["X-Odd"] == "nulnul"


def test_body_in_another_encoding_is_accepted(paid, deliver):
    """JSON in UTF-16 is read, and kept as far as a text column takes it."""
    body = body_of(paid, note="ä").encode("utf-16")

    assert deliver(paid, body=body).status_code == 200

    kept = WebhookDelivery.objects.get().body
    assert kept.startswith("\ufffd\ufffd{")
    assert str(paid.bitsby_id) in kept
    assert "\x00" not in kept


def test_delivery_that_cannot_be_stored_is_still_processed(unpaid, deliver, fake, clock):
    """The second delivery of a moment leaves no row, and is settled when Bitsby now says so."""
    deliver(unpaid)
    BitsbyInvoice.objects.update(last_refreshed_at=EPOCH)
    clock.sleep(2)
    fake.invoices = [bitsby.invoice_item(unpaid, "paid", payment=bitsby.transfer())]

    assert deliver(unpaid).status_code == 200
    assert WebhookDelivery.objects.count() == 1


def test_delivery_for_a_settled_invoice_makes_one_query(
    invoice, deliver, fake, django_assert_num_queries
):
    """It is answered at once: Bitsby is not asked, and no row is kept."""
    BitsbyInvoice.objects.update(status=InvoiceStatus.PAID)

    with django_assert_num_queries(1):
        answer = deliver(invoice)

    assert (answer.status_code, answer.content) == (200, b"settled")
    assert fake.requests == []
    assert not WebhookDelivery.objects.exists()


def test_delivery_for_an_unknown_invoice_makes_one_query(
    invoice, deliver, fake, django_assert_num_queries
):
    """Whoever floods the shop with invented ids gets as little as that."""
    body = json.dumps({"invoice": {"id": str(bitsby.new_id())}})

    with django_assert_num_queries(1):
        answer = deliver(invoice, body)

    assert (answer.status_code, answer.content) == (200, b"unknown invoice")
    assert fake.requests == []
