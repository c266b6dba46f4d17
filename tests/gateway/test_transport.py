"""One request over real HTTP: what is sent, what is believed, what is never shown."""

from __future__ import annotations

import gzip
import json
import logging
import socket
import time

import pytest
import requests

from oscar_bitsby import __version__
from oscar_bitsby.conf import Secret
from oscar_bitsby.exceptions import (
    ConfigurationError,
    ConnectionFailed,
    GatewayError,
    RateLimited,
    Refused,
    ReplyNotUnderstood,
)
from oscar_bitsby.gateway.transport import MAX_ANSWER_BYTES, Transport
from tests.bitsby import KEY, fields_of
from tests.support.http import PATIENCE, assert_hidden, refuse, reply, serve

__all__ = ["serve"]

SUCCESS = {"result": "success", "data": {"internal": "100.00"}}


@pytest.fixture
def ask(serve):
    """Return a function that asks a server of its own, which answers as told."""

    def post(answer, timeout=PATIENCE, key=KEY):
        return Transport(Secret(key), serve(answer).url, timeout).post("/billing/balances", {})

    return post


def test_the_search_for_the_key_finds_it_where_requests_leaves_it(serve):
    """An error straight from ``requests`` has the key in its frames, so the search can fail."""
    with pytest.raises(requests.ConnectionError) as caught:
        requests.post(
            serve(refuse).url, headers={"Authorization": f"Token {KEY}"}, timeout=PATIENCE
        )
    with pytest.raises(AssertionError):
        assert_hidden(caught.value)


def test_a_request_is_a_multipart_form_with_the_key(serve):
    """Fields go as parts of a form, the key in the header, the version in the user agent."""
    server = serve(reply(SUCCESS))
    fields = {"projectId": "p", "description": "Заказ № 1", "serviceData": '{"orderId":"1"}'}

    answer = Transport(Secret(KEY), server.url + "/", PATIENCE).post("/invoices/create", fields)

    assert (answer.data, answer.status) == (SUCCESS["data"], 200)
    (request,) = server.requests
    assert request.path == "/invoices/create"
    assert request.headers["Authorization"] == f"Token {KEY}"
    assert request.headers["User-Agent"] == f"django-oscar-bitsby/{__version__}"
    assert request.headers["Content-Type"].startswith("multipart/form-data; boundary=")
    assert request.headers["Accept-Encoding"] == "identity"
    assert fields_of(request) == fields


def test_a_request_without_fields_is_a_multipart_form_too(serve):
    """A form needs a part to be one, so an empty request gets a harmless one."""
    server = serve(reply(SUCCESS))
    Transport(Secret(KEY), server.url, PATIENCE).post("/billing/balances", {})
    assert server.requests[0].headers["Content-Type"].startswith("multipart/form-data; boundary=")
    assert fields_of(server.requests[0]) == {"limit": "10"}


def test_a_netrc_file_does_not_take_the_place_of_the_key(serve, monkeypatch, tmp_path):
    """Credentials for the host in the account's netrc file are not sent."""
    (tmp_path / "netrc").write_text("default login somebody password else\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    server = serve(reply(SUCCESS))
    Transport(Secret(KEY), server.url, PATIENCE).post("/billing/balances", {})
    assert server.requests[0].headers["Authorization"] == f"Token {KEY}"


@pytest.mark.parametrize("status", [200, 201, 400, 404, 429, 500, 502])
def test_the_word_result_decides_and_not_the_status(ask, status):
    """A body that says success is one, since the HTTP status is not documented."""
    answer = ask(reply(SUCCESS, status))
    assert (answer.data, answer.status) == (SUCCESS["data"], status)


@pytest.mark.parametrize("status", [200, 400, 401, 500])
def test_an_error_is_a_refusal_with_its_text(ask, status):
    """A body that says error is a ``Refused`` that names the endpoint and Bitsby's text."""
    with pytest.raises(Refused, match=r"^/billing/balances: Project not found$") as caught:
        ask(reply({"result": "error", "data": "Project not found"}, status))
    assert caught.value.status == status
    assert "Project not found" in caught.value.body
    assert not caught.value.may_retry


@pytest.mark.parametrize("status", [200, 400, 429])
def test_too_frequent_requests_are_told_from_refusals(ask, payload, status):
    """The documented text of the rate limit is a ``RateLimited`` whatever the status."""
    with pytest.raises(RateLimited, match="Requests too frequent") as caught:
        ask(reply(payload("error_rate_limit"), status))
    assert caught.value.may_retry


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (429, RateLimited),
        (502, ConnectionFailed),
        (503, ConnectionFailed),
        (504, ConnectionFailed),
        (401, Refused),
        (403, Refused),
        (200, ReplyNotUnderstood),
        (400, ReplyNotUnderstood),
        (404, ReplyNotUnderstood),
        (500, ReplyNotUnderstood),
    ],
)
def test_without_a_documented_body_the_status_decides(ask, status, error):
    """A page of a proxy is classed by its status, and the beginning of its text is kept."""
    page = b"<html><h1>Something else</h1>" + b"x" * 1000
    with pytest.raises(GatewayError, match=str(status)) as caught:
        ask(reply(page, status, Content_Type="text/html"))
    assert type(caught.value) is error
    assert caught.value.status == status
    assert caught.value.body.startswith("<html><h1>Something else")
    assert len(caught.value.body) <= 500


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"null",
        b"true",
        b"5",
        b'"success"',
        b"[]",
        b'["success"]',
        b"{}",
        b'{"data": []}',
        b'{"result": null}',
        b'{"result": "SUCCESS", "data": []}',
        b'{"result": ["success"], "data": []}',
        b'{"result": {"success": true}}',
        b'{"result": "success", "data": [',
        b'{"result": "success", "data": []} and more',
        b'{"result": "success", "data": "\xff\xfe"}',
        b"[" * 100_000,
        b'{"result": "success", "data": ' + b"1" * 5000 + b"}",
        b"\x00\x01\x02",
    ],
)
def test_what_is_not_documented_is_not_understood(ask, body):
    """Any other body is a ``ReplyNotUnderstood``, never an error of another kind."""
    with pytest.raises(ReplyNotUnderstood, match="HTTP 200, not as documented"):
        ask(reply(body))


def test_data_may_be_missing(ask):
    """A success without data is a success; what the endpoint makes of None is its matter."""
    assert ask(reply({"result": "success"})).data is None


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_numbers_that_json_does_not_have_raise_nothing_strange(ask, number):
    """NaN, Infinity and absurd numbers are an answer or a ``GatewayError``, not a crash."""
    body = b'{"result": "success", "data": {"internal": %s}}' % number.encode()
    try:
        found = ask(reply(body)).data
    except ReplyNotUnderstood:
        return
    assert set(found) == {"internal"}


def test_decimals_lose_nothing(ask):
    """A number with decimals is read as it is written, not as the nearest binary one."""
    answer = ask(reply(b'{"result": "success", "data": 0.10000000000000000001}'))
    assert str(answer.data) == "0.10000000000000000001"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(serve, status):
    """The key never goes to another address than the configured one."""
    other = serve(reply(SUCCESS))
    server = serve(reply(b"", status, Location=f"{other.url}/billing/balances"))
    with pytest.raises(ReplyNotUnderstood, match=str(status)):
        Transport(Secret(KEY), server.url, PATIENCE).post("/billing/balances", {})
    assert (len(server.requests), other.requests) == (1, [])


def test_a_compressed_answer_is_read(ask):
    """A server that compresses unasked is understood."""
    body = gzip.compress(json.dumps(SUCCESS).encode())
    assert ask(reply(body, Content_Encoding="gzip")).data == SUCCESS["data"]


def test_an_answer_in_chunks_is_read(ask):
    """An answer without a length, sent in chunks that cut words, is put together."""

    def chunks(handler):
        handler.protocol_version = "HTTP/1.1"
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        for letter in json.dumps(SUCCESS):
            handler.wfile.write(f"1\r\n{letter}\r\n".encode())
        handler.wfile.write(b"0\r\n\r\n")

    assert ask(chunks).data == SUCCESS["data"]


def test_an_answer_that_ends_with_the_connection_is_read(ask):
    """An answer without a length that is whole counts."""
    assert ask(reply(SUCCESS, Content_Length=None)).data == SUCCESS["data"]


def assert_no_answer(caught, seconds, since):
    assert time.monotonic() - since < seconds
    assert str(caught.value).startswith("/billing/balances: no answer from http://127.0.0.1:")
    assert caught.value.may_retry
    assert_hidden(caught.value)


def test_a_broken_connection_is_no_answer(ask):
    """A connection that is reset before the answer is a ``ConnectionFailed``."""
    since = time.monotonic()
    with pytest.raises(ConnectionFailed) as caught:
        ask(refuse)
    assert_no_answer(caught, PATIENCE, since)


def test_nobody_there_is_no_answer():
    """A port on which nobody listens is a ``ConnectionFailed``."""
    with socket.socket() as somebody:
        somebody.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{somebody.getsockname()[1]}"
        since = time.monotonic()
        with pytest.raises(ConnectionFailed) as caught:
            Transport(Secret(KEY), url, PATIENCE).post("/billing/balances", {})
    assert_no_answer(caught, PATIENCE, since)


def test_an_answer_that_breaks_off_is_no_answer(ask):
    """Fewer bytes than announced are a ``ConnectionFailed``, even if they happen to be JSON."""
    body = json.dumps(SUCCESS).encode()
    with pytest.raises(ConnectionFailed) as caught:
        ask(reply(body, Content_Length=str(len(body) + 1)))
    assert_hidden(caught.value)


def test_rubbish_instead_of_http_is_no_answer(ask):
    """A server that does not speak HTTP is a ``ConnectionFailed``."""
    with pytest.raises(ConnectionFailed) as caught:
        ask(lambda handler: handler.wfile.write(b"220 mail.example.com ESMTP\r\n"))
    assert_hidden(caught.value)


def test_broken_compression_is_no_answer(ask):
    """A body that is not what its encoding says is a ``ConnectionFailed``."""
    with pytest.raises(ConnectionFailed) as caught:
        ask(reply(b"not compressed", Content_Encoding="gzip"))
    assert_hidden(caught.value)


def test_silence_is_given_up_after_the_timeout(ask):
    """A server that takes the request and says nothing is left after the timeout."""
    since = time.monotonic()
    with pytest.raises(ConnectionFailed) as caught:
        ask(lambda handler: handler.server.over.wait(PATIENCE), timeout=0.3)
    assert time.monotonic() - since >= 0.3
    assert_no_answer(caught, PATIENCE / 2, since)


def test_a_trickle_is_given_up_after_the_timeout(ask):
    """A body that keeps coming, a byte at a time, is left after the timeout as a whole."""

    def answer(handler):
        handler.send_response(200)
        handler.end_headers()
        handler.server.trickle(handler.wfile.write)

    since = time.monotonic()
    with pytest.raises(ConnectionFailed, match="too long") as caught:
        ask(answer, timeout=0.3)
    assert time.monotonic() - since >= 0.3
    assert_no_answer(caught, PATIENCE / 2, since)


def test_an_endless_answer_is_given_up_at_the_largest_size(ask):
    """No more than ``LARGEST_ANSWER`` bytes and a little are held in memory."""
    sent = []

    def answer(handler):
        handler.send_response(200)
        handler.end_headers()
        while len(sent) * 65536 < 40 * MAX_ANSWER_BYTES:
            handler.wfile.write(b" " * 65536)
            sent.append(1)

    with pytest.raises(ConnectionFailed, match="too long") as caught:
        ask(answer, timeout=30)
    assert len(sent) * 65536 < 3 * MAX_ANSWER_BYTES
    assert_hidden(caught.value)


def test_a_compressed_answer_is_measured_unpacked(ask):
    """A small body that unpacks to a huge one is left at the largest size."""
    bomb = gzip.compress(b" " * (4 * MAX_ANSWER_BYTES))
    assert len(bomb) < MAX_ANSWER_BYTES / 100
    with pytest.raises(ConnectionFailed, match="too long"):
        ask(reply(bomb, Content_Encoding="gzip"), timeout=30)


def test_a_large_page_is_read(ask):
    """An answer of half the largest size comes through whole."""
    body = {"result": "success", "data": "x" * (MAX_ANSWER_BYTES // 2)}
    assert len(ask(reply(body), timeout=30).data) == MAX_ANSWER_BYTES // 2


@pytest.mark.parametrize(
    "answer",
    [
        reply({"result": "error", "data": "Project not found"}),
        reply({"result": "error", "data": "Requests too frequent"}),
        reply(b"<html>", 502),
        reply(b"", 401),
        reply(b"{"),
        refuse,
    ],
)
def test_no_error_shows_the_key(ask, caplog, answer):
    """Neither texts nor frames of an error have the key, nor any log record on the way."""
    caplog.set_level(logging.DEBUG)
    with pytest.raises(GatewayError) as caught:
        ask(answer)
    assert_hidden(caught.value)
    assert caplog.records
    assert not [record for record in caplog.records if KEY in repr(vars(record))]


@pytest.mark.parametrize(
    "answer",
    [
        reply({"result": "error", "data": f"Invalid token {KEY}"}),
        reply({"result": "error", "data": f"Requests too frequent for {KEY}"}),
        reply({"result": "error", "data": {"token": KEY}}),
        reply(f"<html>Token {KEY} is wrong".encode(), 401),
        reply(f"<html>Token {KEY} is wrong".encode(), 500),
    ],
)
def test_an_answer_that_repeats_the_key_is_cleaned(ask, answer):
    """An echo of the key in the answer is not in the error's message, body or arguments."""
    with pytest.raises(GatewayError) as caught:
        ask(answer)
    error = caught.value
    assert KEY not in f"{error} {error!r} {error.args} {vars(error)}"
    assert "***" in error.body


def test_the_beginning_of_a_success_is_cleaned(ask):
    """What is kept of an answer for reports has no key even where the answer has."""
    answer = ask(reply({"result": "success", "data": [KEY]}))
    assert KEY not in answer.excerpt
    assert "***" in answer.excerpt


def test_the_transport_does_not_show_the_key():
    """Its ``repr`` says where it leads and its attributes hold nothing readable."""
    transport = Transport(Secret(KEY), "https://api.example.com/", 10)
    assert repr(transport) == "<Transport to https://api.example.com>"
    assert KEY not in repr(vars(transport))


@pytest.mark.parametrize("number", ["1e9999999999999999999999", "-1e-9999999999999999999999"])
def test_a_number_beyond_decimals_is_not_understood(ask, number):
    """A number whose exponent no Decimal takes is a ``ReplyNotUnderstood``."""
    with pytest.raises(ReplyNotUnderstood):
        ask(reply(b'{"result": "success", "data": %s}' % number.encode()))


@pytest.mark.parametrize(
    "answer",
    [
        reply({"result": "error", "data": f"Invalid token {KEY}"}),
        reply(f"<html>Token {KEY} is wrong".encode(), 401),
    ],
)
def test_an_answer_that_repeats_the_key_is_not_in_the_frames(ask, answer):
    """An echo of the key is in no variable of a frame that the error passed."""
    with pytest.raises(GatewayError) as caught:
        ask(answer)
    assert_hidden(caught.value)


def test_a_key_at_the_edge_of_the_excerpt_is_cleaned(ask):
    """Not even the first half of an echoed key is kept where the text is cut."""
    with pytest.raises(GatewayError) as caught:
        ask(reply(b"x" * 480 + KEY.encode()))
    assert KEY[:12] not in caught.value.body


@pytest.mark.parametrize("end", ["\n", "\r\n", "\nmore"])
def test_a_key_that_cannot_be_sent_is_not_shown(ask, end):
    """A key with the line's end of the file it was read from is not in the error."""
    with pytest.raises(ConfigurationError) as caught:
        ask(reply(SUCCESS), key=KEY + end)
    assert_hidden(caught.value)


def test_a_trickle_of_headers_is_given_up_after_the_timeout(ask):
    """Headers that keep coming, a byte at a time, are left after the timeout as a whole."""

    def answer(handler):
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        for _ in range(75):
            handler.server.over.wait(0.02)
            handler.wfile.write(b"x")
        handler.wfile.write(b"\r\n\r\n{}")

    since = time.monotonic()
    with pytest.raises(GatewayError):
        ask(answer, timeout=0.3)
    assert time.monotonic() - since < 1


def test_a_body_that_stops_late_is_given_up_after_the_timeout(ask):
    """Silence that begins shortly before the timeout does not start it anew."""

    def answer(handler):
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(b"{")
        handler.server.over.wait(0.8)
        handler.wfile.write(b'"result"')
        handler.server.over.wait(PATIENCE)

    since = time.monotonic()
    with pytest.raises(ConnectionFailed):
        ask(answer, timeout=1)
    assert time.monotonic() - since < 1.4
