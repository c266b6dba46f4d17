"""How API requests are authorized, limited, read and, on demand, answered badly."""

import time

import pytest
import requests

from tests.simulator.support import send_raw


@pytest.mark.parametrize("header", ["", "Token", "Token ", "Bearer key", "key"])
def test_requests_need_a_token(simulator, header):
    """A request without a token is refused and does not count."""
    answer = simulator.post("/billing/balances", headers={"Authorization": header})
    assert answer.json() == {"result": "error", "data": "Invalid token"}
    assert simulator.state("requests")[0]["accepted"] is False


def test_only_the_given_token_opens_the_account(start_simulator):
    """Where a token is given, any other is refused, with HTTP 200 like every error."""
    simulator = start_simulator(token="right")
    assert simulator.call("/billing/balances", token="wrong")["result"] == "error"
    assert simulator.call("/billing/balances", token="right")["result"] == "success"


def test_too_frequent_requests_are_refused(simulator):
    """A request too soon after the last is refused; a test can set another limit, or none."""
    simulator.control("ratelimit", {"seconds": 60})
    assert simulator.call("/billing/balances")["result"] == "success"
    refused = {"result": "error", "data": "Requests too frequent"}
    assert simulator.call("/billing/balances") == refused
    first, second = simulator.state("requests")
    assert (first["accepted"], second["accepted"]) == (True, False)
    assert first["at"] < second["at"]
    simulator.control("ratelimit", {"seconds": 0})
    assert simulator.call("/billing/balances")["result"] == "success"


@pytest.mark.parametrize(("data", "number"), [({"limit": "2"}, 2), (None, 3)])
def test_urlencoded_and_empty_bodies_are_accepted(simulator, data, number):
    """A client may send plain forms as well, and no body without parameters."""
    simulator.control("seed", {"invoices": 3})
    answer = simulator.post("/invoices/list?x=1", data=data).json()
    assert (answer["result"], len(answer["data"])) == ("success", number)


def test_wrong_addresses_and_methods_are_errors(simulator):
    """An unknown method, or one that is not called with POST, is an error in JSON."""
    answer = simulator.post("/invoices/list/")
    assert (answer.status_code, answer.json()["result"]) == (404, "error")
    answer = simulator.get(f"{simulator.url}/invoices/list")
    assert (answer.status_code, answer.json()["result"]) == (405, "error")


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("application/json", b"{}"),
        ("text/plain", b"limit=1"),
        ("application/x-www-form-urlencoded; charset=latin-1", b"limit=1"),
        ("application/x-www-form-urlencoded", b"&".join([b"limit=1"] * 1001)),
        ("multipart/form-data", b"--b--\r\n"),
        ("multipart/form-data; boundary=b", b'--b\r\ncontent-disposition: form-data; name="limit"'),
    ],
)
def test_malformed_forms_are_refused(simulator, kind, body):
    """A body that is no form, or one that is cut off, is an error in JSON."""
    length = len(body) + ("boundary=b" in kind)
    request = (
        f"POST /invoices/list HTTP/1.0\r\nAuthorization: Token key\r\nContent-Type: {kind}\r\n"
        f"Content-Length: {length}\r\n\r\n"
    )
    reply = send_raw(simulator, request.encode() + body)
    assert reply.endswith(b'{"result": "error", "data": "Malformed form"}')
    (logged,) = simulator.state("requests")
    assert logged["fields"] == {}


def test_multipart_fields_are_read_as_sent(simulator):
    """Empty values, line ends and UTF-8 in a multipart form survive."""
    sent = {"description": "one\r\n\r\n--two\n", "serviceData": "\u2603", "uid": ""}
    simulator.call("/invoices/create", **sent)
    (request,) = simulator.state("requests")
    assert request["fields"] == sent


@pytest.mark.parametrize("path", ["/_control/reset", "/webhooks", "/invoices/list"])
def test_other_sites_cannot_send_forms(simulator, path):
    """A page of another site that is open in the same browser changes nothing here."""
    headers = {"Authorization": "Token key", "Origin": "http://shop.example"}
    assert simulator.post(path, headers=headers).status_code == 403
    assert simulator.post(path, headers=headers | {"Origin": simulator.url}).ok


def test_faults_replace_answers(simulator):
    """The next requests get the answers that a test set, whatever they ask."""
    simulator.fail(
        {"kind": "status", "status": 502, "body": "<h1>", "content_type": "text/html"},
        {"kind": "body", "body": "[]", "path": "/invoices/list", "times": 2},
    )

    def ask():
        answer = simulator.post("/invoices/list")
        return answer.status_code, answer.headers["Content-Type"], answer.text[:8]

    assert ask() == (502, "text/html", "<h1>")
    assert ask() == ask() == (200, "application/json", "[]")
    assert ask() == (200, "application/json", '{"result')


def test_204_has_no_body(simulator):
    """A fault that answers 204 sends no body, which a client would take for the next reply."""
    simulator.fail({"kind": "status", "status": 204, "body": "ignored"})
    assert simulator.post("/invoices/list").content == b""
    assert simulator.call("/invoices/list")["result"] == "success"


@pytest.mark.parametrize(("kind", "created"), [("drop", 0), ("drop_after", 1)])
def test_faults_drop_connections(simulator, kind, created):
    """The connection closes without an answer, before or after the work is done."""
    simulator.fail({"kind": kind})
    with pytest.raises(requests.ConnectionError):
        simulator.create()
    state = simulator.control("state")
    assert len(state["invoices"]) == created
    assert [request["accepted"] for request in state["requests"]] == [True]
    simulator.create()


def test_faults_delay_answers(simulator):
    """A delayed request gets its usual answer, only later."""
    simulator.fail({"kind": "delay", "seconds": 0.2})
    before = time.monotonic()
    simulator.create()
    assert time.monotonic() - before >= 0.2


def test_faults_can_be_cleared(simulator):
    """An empty list of faults removes those that are left."""
    simulator.fail({"kind": "drop", "times": 99})
    simulator.fail()
    simulator.create()
