"""Webhook deliveries: response texts, size limits and stored requests."""

import io
import json

import pytest
from django.test import RequestFactory

from oscar_bitsby.choices import InvoiceStatus
from oscar_bitsby.gateway import factory
from oscar_bitsby.models import EPOCH, BitsbyInvoice, WebhookDelivery
from oscar_bitsby.webhook import MAX_BODY_BYTES, webhook
from tests.support import bitsby

pytestmark = pytest.mark.django_db


def body_of(invoice, **values):
    return json.dumps({"invoice": {"id": str(invoice.bitsby_id)}} | values)


class Stream(io.BytesIO):
    """A body as a server may hand it over: longer than its Content-Length, or incomplete."""

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


# Responses


def test_responses_name_the_result_in_plain_text(
    paid_invoice, invoice_for, place, deliver, settings, clock
):
    """Each response names its result as plain text; only retryable ones have ``Retry-After``."""
    unpaid = invoice_for(place())
    responses = [deliver(paid_invoice), deliver(paid_invoice), deliver(body="invalid")]
    clock.sleep(2)
    responses.append(deliver(unpaid))
    paid_invoice.bitsby_id = bitsby.new_id()
    responses.append(deliver(paid_invoice))
    settings.OSCAR_BITSBY = {}
    responses.append(deliver(unpaid))

    assert [(one.content, one.get("Retry-After")) for one in responses] == [
        (b"settled", None),
        (b"settled", None),
        (b"not a delivery", None),
        (b"try again", "10"),
        (b"unknown invoice", None),
        (b"not configured", "10"),
    ]
    assert {one["Content-Type"] for one in responses} == {"text/plain; charset=utf-8"}


def test_retryable_response_is_not_logged_by_django(unpaid_invoice, deliver, caplog):
    """Django logs no 503, and so neither the URL with its token nor an e-mail to admins."""
    assert deliver(unpaid_invoice).status_code == 503

    assert "django.request" not in [record.name for record in caplog.records]


def test_other_refusals_are_logged_by_django(unpaid_invoice, deliver, caplog):
    """Django logs a refused delivery as any bad request."""
    assert deliver(unpaid_invoice, body="invalid").status_code == 400

    assert [record.name for record in caplog.records] == ["django.request"]


def test_unexpected_error_is_logged_with_its_invoice(unpaid_invoice, deliver, monkeypatch, caplog):
    """An unexpected error is answered 503 and logged with its traceback and the invoice."""

    def fail(*args):
        raise ZeroDivisionError

    monkeypatch.setattr("oscar_bitsby.reconciliation.invoice_refresh.refresh_for_delivery", fail)

    response = deliver(unpaid_invoice)

    assert (response.status_code, response.content) == (503, b"try again")
    (record,) = [record for record in caplog.records if record.name == "oscar_bitsby"]
    assert record.getMessage() == f"delivery not processed: invoice={unpaid_invoice.bitsby_id}"
    assert record.exc_info[0] is ZeroDivisionError


# Bodies


def test_body_longer_than_its_content_length_is_not_read_to_its_end(paid_invoice, fake):
    """A body is read up to one byte over the limit, whatever its Content-Length, and refused."""
    stream = Stream(b" " * MAX_BODY_BYTES + body_of(paid_invoice).encode())

    assert deliver_stream(stream, CONTENT_LENGTH="10").status_code == 400
    assert stream.asked == [MAX_BODY_BYTES + 1]


def test_body_with_too_large_content_length_is_not_read(paid_invoice):
    """A too large Content-Length is enough to refuse a delivery."""
    stream = Stream(body_of(paid_invoice).encode())

    assert deliver_stream(stream, CONTENT_LENGTH=str(MAX_BODY_BYTES + 1)).status_code == 400
    assert stream.asked == []


@pytest.mark.parametrize("length", ["", None])
def test_delivery_without_content_length_is_read(paid_invoice, fake, length):
    """A body without a Content-Length, as servers pass chunked ones on, is accepted."""
    response = deliver_stream(Stream(body_of(paid_invoice).encode()), CONTENT_LENGTH=length)

    assert response.status_code == 200


def test_incomplete_body_is_not_accepted(paid_invoice, fake):
    """A connection that breaks while the body is read is answered 400, without a request."""
    response = deliver_stream(Stream(b"", OSError("gone")))

    assert (response.status_code, fake.requests) == (400, [])


# Stored deliveries


def test_result_of_a_delivery_is_stored(unpaid_invoice, deliver, fake, clock, move_time):
    """A delivery that settles nothing is stored with its reason, cut at 300 characters."""
    deliver(unpaid_invoice)
    move_time(seconds=11)
    factory.without_waiting()
    deliver(unpaid_invoice)
    clock.sleep(20)
    move_time(seconds=11)
    fake.on("/invoices/list", bitsby.error("no " * 200))
    deliver(unpaid_invoice)

    unpaid, no_slot, failed = WebhookDelivery.objects.order_by("pk")
    assert (unpaid.answered, unpaid.outcome) == (503, "asked")
    assert (no_slot.answered, no_slot.outcome) == (
        503,
        "not asked: no free slot, or just fetched",
    )
    assert failed.answered == 503
    assert failed.outcome.startswith("/invoices/list: no no no")
    assert len(failed.outcome) == 300


def test_overlong_remote_address_is_truncated(paid_invoice, deliver):
    """A remote address that is too long for its column is cut, and the delivery is accepted."""
    assert deliver(paid_invoice, REMOTE_ADDR="a" * 99).status_code == 200
    assert WebhookDelivery.objects.get().remote_address == "a" * 64


def test_delivery_without_remote_address_is_stored(paid_invoice, fake):
    """Without a remote address a delivery is accepted and stored."""
    request = RequestFactory().post("/", body_of(paid_invoice), content_type="application/json")
    del request.META["REMOTE_ADDR"]

    assert webhook(request).status_code == 200
    assert WebhookDelivery.objects.get().remote_address == ""


def test_headers_are_stored_up_to_their_limits(paid_invoice, deliver):
    """Forty headers are stored, each with 60 characters of its name and 200 of its value."""
    long = {f"HTTP_X_{number:02}_{'N' * 70}": "v" * 201 for number in range(60)}
    deliver(paid_invoice, HTTP_X_SHORT="v", **long)

    headers = WebhookDelivery.objects.get().headers
    assert len(headers) == 40
    assert max(len(name) for name in headers) == 60
    assert max(len(value) for value in headers.values()) == 200


def test_nul_characters_are_removed(paid_invoice, deliver):
    """NUL characters are removed from headers, and the rest is stored unchanged."""
    deliver(paid_invoice, HTTP_X_ODD="nul\x00nul")

    assert WebhookDelivery.objects.get().headers["X-Odd"] == "nulnul"


def test_body_in_another_encoding_is_accepted(paid_invoice, deliver):
    """JSON in UTF-16 is accepted, and stored without what a text column cannot store."""
    body = body_of(paid_invoice, note="ä").encode("utf-16")

    assert deliver(paid_invoice, body=body).status_code == 200

    body = WebhookDelivery.objects.get().body
    assert body.startswith("\ufffd\ufffd{")
    assert str(paid_invoice.bitsby_id) in body
    assert "\x00" not in body


def test_delivery_within_ten_seconds_is_stored_only_if_it_settles_after_a_failure(
    unpaid_invoice, deliver, fake, clock
):
    """A second failure stores no row; a delivery that finds the invoice paid does."""
    deliver(unpaid_invoice)
    deliver(unpaid_invoice)
    BitsbyInvoice.objects.update(last_refreshed_at=EPOCH)
    clock.sleep(2)
    fake.invoices = []
    fake.add_paid(unpaid_invoice)

    assert deliver(unpaid_invoice).status_code == 200
    stored = WebhookDelivery.objects.order_by("pk").values_list("answered", flat=True)
    assert list(stored) == [503, 200]


def test_delivery_that_succeeds_after_a_failure_is_stored_once(unpaid_invoice, deliver, clock):
    """The newest stored delivery of a settled invoice is not the one that failed before."""
    assert deliver(unpaid_invoice).status_code == 503
    BitsbyInvoice.objects.update(status=InvoiceStatus.PAID)
    clock.sleep(2)

    assert {deliver(unpaid_invoice).status_code for _ in range(3)} == {200}

    stored = WebhookDelivery.objects.order_by("pk").values_list("answered", "outcome")
    assert [answered for answered, _ in stored] == [503, 200]
    assert stored[1][1] == "settled"


@pytest.mark.parametrize(("is_known", "content"), [(True, b"settled"), (False, b"unknown invoice")])
def test_delivery_that_needs_no_check_makes_one_query(
    invoice, deliver, fake, django_assert_num_queries, is_known, content
):
    """A delivery for a settled or unknown invoice is answered without a request or a row."""
    BitsbyInvoice.objects.update(status=InvoiceStatus.PAID)
    if not is_known:
        invoice.bitsby_id = bitsby.new_id()

    with django_assert_num_queries(1):
        response = deliver(invoice)

    assert (response.status_code, response.content) == (200, content)
    assert fake.requests == []
    assert not WebhookDelivery.objects.exists()
