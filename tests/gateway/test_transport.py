"""One request over HTTP: what is sent, how answers are read, and that the key is not shown."""

import contextlib
import gzip
import json
import logging
import socket
import threading
import time
from pathlib import Path

import pytest
import requests
from urllib3.util import connection

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
from tests.support.bitsby import KEY, fields_of
from tests.support.http import PATIENCE, assert_hidden, reply, reset_connection, serve

__all__ = ["serve"]

SUCCESS = {"result": "success", "data": {"internal": "100.00"}}


@pytest.fixture
def ask(serve):
    """Return a function that sends a request to a server with the given answer."""

    def post(answer, timeout=PATIENCE, key=KEY):
        return post_to(serve(answer), timeout, key)

    return post


def post_to(server, timeout=PATIENCE, key=KEY):
    """Send a request without fields to a server."""
    return Transport(Secret(key), server.url, timeout).post("/billing/balances", {})


def test_assert_hidden_finds_the_key_in_an_error_of_requests(serve):
    """An error of ``requests`` itself has the key in its frames, and ``assert_hidden`` finds it."""
    with pytest.raises(requests.ConnectionError) as caught:
        requests.post(
            serve(reset_connection).url, headers={"Authorization": f"Token {KEY}"}, timeout=PATIENCE
        )
    with pytest.raises(AssertionError):
        assert_hidden(caught.value)


def test_request_is_a_multipart_form_with_the_key(serve):
    """Fields are sent in a form, the key in a header and the version in the user agent."""
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


def test_request_without_fields_has_an_empty_body(serve):
    """A request without fields is a POST with an empty body: no field is made up."""
    server = serve(reply(SUCCESS))
    post_to(server)
    (request,) = server.requests
    assert (request.command, request.body) == ("POST", b"")
    assert request.headers["Content-Length"] == "0"
    assert request.headers["Content-Type"] is None


def test_netrc_file_does_not_replace_the_key(serve, monkeypatch, tmp_path):
    """Credentials for the host in the account's netrc file are not sent."""
    (tmp_path / "netrc").write_text("default login somebody password else\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    server = serve(reply(SUCCESS))
    post_to(server)
    assert server.requests[0].headers["Authorization"] == f"Token {KEY}"


@pytest.mark.parametrize("status", [200, 201, 400, 404, 429, 500, 502])
def test_result_counts_and_not_the_http_status(ask, status):
    """A body with ``"result": "success"`` is a success with any HTTP status."""
    answer = ask(reply(SUCCESS, status))
    assert (answer.data, answer.status) == (SUCCESS["data"], status)


@pytest.mark.parametrize("status", [200, 400, 401, 500])
def test_error_result_is_a_refusal_with_its_text(ask, status):
    """A body with ``"result": "error"`` raises ``Refused`` with the endpoint and Bitsby's text."""
    with pytest.raises(Refused, match=r"^/billing/balances: Project not found$") as caught:
        ask(reply({"result": "error", "data": "Project not found"}, status))
    assert caught.value.status == status
    assert "Project not found" in caught.value.body
    assert not caught.value.may_retry


@pytest.mark.parametrize("status", [200, 400, 429])
def test_rate_limit_text_is_not_a_refusal(ask, payload, status):
    """The documented text of the rate limit raises ``RateLimited`` with any status."""
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
def test_undocumented_body_is_classified_by_status(ask, status, error):
    """A proxy's page is classified by its status, and its first characters are kept."""
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
        *(b"", b" ", b"null", b"true", b"5", b'"success"', b"[]", b'["success"]', b"{}"),
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
        # An exponent that is too large for Decimal.
        b'{"result": "success", "data": 1e9999999999999999999999}',
        b'{"result": "success", "data": -1e-9999999999999999999999}',
        b"\x00\x01\x02",
    ],
)
def test_undocumented_body_is_not_understood(ask, body):
    """Any other body raises ``ReplyNotUnderstood`` and no other error."""
    with pytest.raises(ReplyNotUnderstood, match="HTTP 200, not as documented"):
        ask(reply(body))


def test_data_may_be_missing(ask):
    """A success without data is returned with None."""
    assert ask(reply({"result": "success"})).data is None


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_invalid_json_numbers_raise_gateway_errors_only(ask, number):
    """NaN, Infinity and huge numbers give an answer or ``ReplyNotUnderstood``."""
    body = b'{"result": "success", "data": {"internal": %s}}' % number.encode()
    with contextlib.suppress(ReplyNotUnderstood):
        assert set(ask(reply(body)).data) == {"internal"}


def test_decimals_are_exact(ask):
    """A number with decimals keeps all its digits."""
    answer = ask(reply(b'{"result": "success", "data": 0.10000000000000000001}'))
    assert str(answer.data) == "0.10000000000000000001"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirect_is_not_followed(serve, status):
    """The key is sent to the configured address only."""
    other = serve(reply(SUCCESS))
    server = serve(reply(b"", status, Location=f"{other.url}/billing/balances"))
    with pytest.raises(ReplyNotUnderstood, match=str(status)):
        post_to(server)
    assert (len(server.requests), other.requests) == (1, [])


def answer_in_chunks(handler):
    handler.protocol_version = "HTTP/1.1"
    handler.send_response(200)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    for letter in json.dumps(SUCCESS):
        handler.wfile.write(f"1\r\n{letter}\r\n".encode())
    handler.wfile.write(b"0\r\n\r\n")


@pytest.mark.parametrize(
    "answer",
    [
        # Without a length the answer ends with the connection.
        reply(SUCCESS, Content_Length=None),
        answer_in_chunks,
        reply(gzip.compress(json.dumps(SUCCESS).encode()), Content_Encoding="gzip"),
    ],
    ids=["no length", "chunks", "compressed without a request for it"],
)
def test_answer_is_read_in_every_encoding_of_http(ask, answer):
    """Answers without a length, in chunks and compressed are read."""
    assert ask(answer).data == SUCCESS["data"]


@contextlib.contextmanager
def no_answer_within(seconds, message=None, url="http://127.0.0.1:"):
    """Expect ``ConnectionFailed`` within the seconds, which says so and does not show the key."""
    since = time.monotonic()
    with pytest.raises(ConnectionFailed, match=message) as caught:
        yield
    assert time.monotonic() - since < seconds
    assert str(caught.value).startswith(f"/billing/balances: no answer from {url}")
    assert caught.value.may_retry
    assert_hidden(caught.value)


@pytest.mark.parametrize(
    "answer",
    [
        reset_connection,
        # Fewer bytes than announced, even if they are valid JSON.
        reply(SUCCESS, Content_Length=str(len(json.dumps(SUCCESS)) + 1)),
        lambda handler: handler.wfile.write(b"220 mail.example.com ESMTP\r\n"),
        reply(b"not compressed", Content_Encoding="gzip"),
    ],
    ids=["reset", "incomplete", "another protocol", "broken compression"],
)
def test_broken_answer_is_no_answer(ask, answer):
    """An answer that HTTP cannot deliver raises ``ConnectionFailed``."""
    with no_answer_within(PATIENCE):
        ask(answer)


def test_closed_port_is_no_answer():
    """A port without a server raises ``ConnectionFailed``."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        with no_answer_within(PATIENCE):
            Transport(Secret(KEY), url, PATIENCE).post("/billing/balances", {})


def answer_with_slow_body(handler):
    handler.send_response(200)
    handler.end_headers()
    handler.server.trickle(handler.wfile.write)


def answer_with_slow_headers(handler):
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    for _ in range(75):
        handler.server.over.wait(0.02)
        handler.wfile.write(b"x")
    handler.wfile.write(b"\r\n\r\n{}")


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda handler: handler.server.over.wait(PATIENCE), None),
        (answer_with_slow_body, "too long"),
        (answer_with_slow_headers, None),
    ],
    ids=["no answer", "slow body", "slow headers"],
)
def test_slow_answer_times_out(ask, answer, message):
    """An answer that is missing or arrives byte by byte times out, although each read succeeds."""
    since = time.monotonic()
    with no_answer_within(1, message):
        ask(answer, timeout=0.3)
    assert time.monotonic() - since >= 0.3


@pytest.fixture
def ask_through(serve, monkeypatch):
    """Return a function that sends a request to a URL through a proxy with the given answer."""

    def post(answer, url, timeout=PATIENCE):
        proxy = serve(answer)
        for name in ("HTTP_PROXY", "HTTPS_PROXY"):
            monkeypatch.setenv(name, proxy.url)
            monkeypatch.delenv(name.lower(), raising=False)
        for name in ("NO_PROXY", "no_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.delenv(name, raising=False)
        try:
            return Transport(Secret(KEY), url, timeout).post("/billing/balances", {})
        finally:
            # The request may time out here before its server has read it.
            proxy.has_request.wait(PATIENCE)
            assert [(one.command, one.path) for one in proxy.requests] == [
                ("CONNECT", "api.example.com:443")
                if url.startswith("https:")
                else ("POST", f"{url}/billing/balances")
            ]

    return post


def answer_with_slow_handshake(handler):
    """Open the tunnel, and send the beginning of a TLS record byte by byte."""
    handler.wfile.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
    # The first byte of the client's handshake: what is sent before it belongs to the answer above.
    handler.rfile.read(1)
    handler.wfile.write(b"\x16\x03\x03\x40\x00")
    handler.server.trickle(handler.wfile.write, b"\x00")


@pytest.mark.parametrize(
    ("url", "answer"),
    [
        ("http://api.example.com", lambda handler: handler.server.over.wait(PATIENCE)),
        ("http://api.example.com", answer_with_slow_headers),
        ("http://api.example.com", answer_with_slow_body),
        ("https://api.example.com", lambda handler: handler.server.over.wait(PATIENCE)),
        ("https://api.example.com", answer_with_slow_headers),
        ("https://api.example.com", answer_with_slow_handshake),
    ],
    ids=[
        *("http: no answer", "http: slow headers", "http: slow body"),
        *("https: no answer", "https: slow headers", "https: slow handshake"),
    ],
)
def test_timeout_covers_a_slow_proxy(ask_through, url, answer):
    """A proxy that does not answer, or answers byte by byte, times out like a slow server."""
    since = time.monotonic()
    with no_answer_within(1, url=url):
        ask_through(answer, url, timeout=0.3)
    assert time.monotonic() - since >= 0.3


def test_proxy_passes_on_an_answer(ask_through):
    """A request through a proxy that works is answered."""
    assert ask_through(reply(SUCCESS), "http://api.example.com").data == SUCCESS["data"]


def test_connection_that_opens_too_late_is_ended_at_once(ask, monkeypatch):
    """A time that is over while the connection is being opened, such as to a host with several
    addresses, is not given again to the answer."""
    connect = connection.create_connection

    def connect_late(*args, **kwargs):
        threading.Event().wait(0.2)
        return connect(*args, **kwargs)

    monkeypatch.setattr(connection, "create_connection", connect_late)
    with no_answer_within(1):
        ask(answer_with_slow_headers, timeout=0.1)


def test_connections_that_the_server_closes_leave_no_open_socket(serve):
    """Many requests of one client to a server that closes each connection need few sockets."""
    server = serve(reply(SUCCESS))
    transport = Transport(Secret(KEY), server.url, PATIENCE)
    transport.post("/billing/balances", {})
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(10):
        transport.post("/billing/balances", {})
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + 4


def test_endless_answer_is_refused_at_the_maximum_size(ask):
    """Not much more than ``MAX_ANSWER_BYTES`` bytes of an answer are read."""
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


def test_size_of_a_compressed_answer_is_the_unpacked_one(ask):
    """A small body that unpacks to a huge one is refused."""
    bomb = gzip.compress(b" " * (4 * MAX_ANSWER_BYTES))
    assert len(bomb) < MAX_ANSWER_BYTES / 100
    with pytest.raises(ConnectionFailed, match="too long"):
        ask(reply(bomb, Content_Encoding="gzip"), timeout=30)


def test_large_page_is_read(ask):
    """An answer of half the maximum size is read completely."""
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
        reset_connection,
    ],
)
def test_no_error_shows_the_key(ask, caplog, answer):
    """The key is neither in an error's texts and frames nor in log records."""
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
def test_key_in_an_answer_is_redacted_from_errors(ask, answer):
    """A key in the answer is neither in the error's texts and body nor in its frames."""
    with pytest.raises(GatewayError) as caught:
        ask(answer)
    assert_hidden(caught.value)
    assert "***" in caught.value.body


def test_key_is_redacted_from_the_excerpt_of_a_success(ask):
    """The excerpt of a successful answer does not contain the key."""
    answer = ask(reply({"result": "success", "data": [KEY]}))
    assert KEY not in answer.excerpt
    assert "***" in answer.excerpt


def test_transport_does_not_show_the_key():
    """The ``repr`` of a transport shows only the address; its attributes do not show the key."""
    transport = Transport(Secret(KEY), "https://api.example.com/", 10)
    assert repr(transport) == "<Transport to https://api.example.com>"
    assert KEY not in repr(vars(transport))


def test_key_at_the_end_of_the_excerpt_is_redacted(ask):
    """The cut of the excerpt does not leave a part of the key."""
    with pytest.raises(GatewayError) as caught:
        ask(reply(b"x" * 480 + KEY.encode()))
    assert KEY[:12] not in caught.value.body


@pytest.mark.parametrize("end", ["\n", "\r\n", "\nmore"])
def test_a_key_that_cannot_be_sent_is_not_shown(ask, end):
    """A key with a line end, as from a file, is not in the error."""
    with pytest.raises(ConfigurationError) as caught:
        ask(reply(SUCCESS), key=KEY + end)
    assert_hidden(caught.value)


def test_timeout_does_not_start_again_with_each_read(ask):
    """The timeout is for the whole request, also if the server pauses shortly before its end."""

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
