import http.client
import socket
import time

import pytest
import requests

AUTHORIZED = {"Authorization": "Token key"}


def raw(simulator, request: bytes) -> bytes:
    """Send bytes, and return all that comes until the server hangs up."""
    host, port = simulator.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        parts = []
        while part := connection.recv(65536):
            parts.append(part)
    return b"".join(parts)


def test_listens_on_this_machine_only(simulator):
    """The simulator is not reachable from the network."""
    assert simulator.url.startswith("http://127.0.0.1:")


@pytest.mark.parametrize("header", ["", "Token", "Token ", "Bearer key", "key"])
def test_requests_need_a_token(simulator, header):
    """A request without a token is refused and does not count."""
    url = f"{simulator.url}/billing/balances"
    answer = simulator.http.post(url, headers={"Authorization": header}, timeout=10)
    assert answer.json() == {"result": "error", "data": "Invalid token"}
    assert simulator.control("state")["requests"][0]["accepted"] is False


def test_only_the_given_token_opens_the_account(start):
    """Where a token is given, any other is refused, with HTTP 200 like every error."""
    simulator = start(token="right")
    assert simulator.call("/billing/balances", token="wrong")["result"] == "error"
    assert simulator.call("/billing/balances", token="right")["result"] == "success"


def test_requests_too_frequent(simulator):
    """A request too soon after the last is refused in the documented words."""
    simulator.control("ratelimit", {"seconds": 60})
    assert simulator.call("/billing/balances")["result"] == "success"
    refused = {"result": "error", "data": "Requests too frequent"}
    assert simulator.call("/billing/balances") == refused
    first, second = simulator.control("state")["requests"]
    assert (first["accepted"], second["accepted"]) == (True, False)
    assert first["at"] < second["at"]


def test_urlencoded_requests_are_taken(simulator):
    """A client may send plain forms as well."""
    simulator.control("seed", {"invoices": 3})
    answer = simulator.http.post(
        f"{simulator.url}/invoices/list?x=1", data={"limit": "2"}, headers=AUTHORIZED, timeout=10
    )
    assert len(answer.json()["data"]) == 2


def test_malformed_requests(simulator):
    """What is no form, no known method or no POST gets an error in JSON."""
    url = simulator.url
    answer = simulator.http.post(f"{url}/invoices/list", json={}, headers=AUTHORIZED, timeout=10)
    assert answer.json() == {"result": "error", "data": "Malformed form"}
    answer = simulator.http.post(f"{url}/invoices/list/", headers=AUTHORIZED, timeout=10)
    assert (answer.status_code, answer.json()["result"]) == (404, "error")
    answer = simulator.http.get(f"{url}/invoices/list", timeout=10)
    assert (answer.status_code, answer.json()["result"]) == (405, "error")


@pytest.mark.parametrize(
    ("header", "status"),
    [
        (b"Transfer-Encoding: chunked", b"411"),
        (b"Content-Length: many", b"411"),
        (b"Content-Length: -1", b"411"),
        (b"Content-Length: 1048577", b"413"),
        (b"Content-Length: " + b"9" * 5000, b"413"),
    ],
)
def test_bodies_of_unknown_or_great_length_are_refused(simulator, header, status):
    """A body that cannot be read whole is refused and the connection closed."""
    reply = raw(simulator, b"POST /invoices/list HTTP/1.1\r\nHost: x\r\n" + header + b"\r\n\r\n")
    assert reply.startswith(b"HTTP/1.1 " + status)
    assert b"Connection: close" in reply


def test_connections_are_kept(simulator):
    """One connection carries many requests, refusals included."""
    connection = http.client.HTTPConnection(simulator.url.removeprefix("http://"), timeout=10)
    try:
        for path, headers in (("/invoices/list", AUTHORIZED), ("/no", {}), ("/", {})):
            connection.request("POST", path, b"a=1", headers)
            connection.getresponse().read()
            own = connection.sock
            assert own is not None
    finally:
        connection.close()


@pytest.mark.parametrize("path", ["/_control/reset", "/webhooks", "/invoices/list"])
def test_other_sites_cannot_send_forms(simulator, path):
    """A page of another site that is open in the same browser changes nothing here."""
    headers = {**AUTHORIZED, "Origin": "http://shop.example"}
    answer = simulator.http.post(simulator.url + path, headers=headers, timeout=10)
    assert answer.status_code == 403
    headers["Origin"] = simulator.url
    assert simulator.http.post(simulator.url + path, headers=headers, timeout=10).ok


def test_fault_status_and_body(simulator):
    """The next requests get the answers that a test ordered, whatever they ask."""
    simulator.control(
        "faults",
        {
            "faults": [
                {"kind": "status", "status": 502, "body": "<h1>", "content_type": "text/html"},
                {"kind": "body", "body": "[]", "path": "/invoices/list", "times": 2},
            ]
        },
    )

    def ask():
        url = f"{simulator.url}/invoices/list"
        answer = simulator.http.post(url, headers=AUTHORIZED, timeout=10)
        return answer.status_code, answer.headers["Content-Type"], answer.text[:8]

    assert ask() == (502, "text/html", "<h1>")
    assert ask() == ask() == (200, "application/json", "[]")
    assert ask() == (200, "application/json", '{"result')


def test_empty_answers_keep_the_connection_in_order(simulator):
    """A fault that answers 204 sends no body that the next reply would be mixed up with."""
    fault = {"kind": "status", "status": 204, "body": "ignored"}
    simulator.control("faults", {"faults": [fault]})
    url = f"{simulator.url}/invoices/list"
    assert simulator.http.post(url, headers=AUTHORIZED, timeout=10).content == b""
    assert simulator.call("/invoices/list")["result"] == "success"


@pytest.mark.parametrize(("kind", "made"), [("drop", 0), ("drop_after", 1)])
def test_fault_drop(simulator, kind, made):
    """The connection closes without an answer, before or after the work is done."""
    simulator.control("faults", {"faults": [{"kind": kind}]})
    with pytest.raises(requests.ConnectionError):
        simulator.create()
    state = simulator.control("state")
    assert len(state["invoices"]) == made
    assert [request["accepted"] for request in state["requests"]] == [True]
    simulator.create()


def test_fault_delay(simulator):
    """A delayed request is answered properly, only later."""
    simulator.control("faults", {"faults": [{"kind": "delay", "seconds": 0.2}]})
    before = time.monotonic()
    simulator.create()
    assert time.monotonic() - before >= 0.2


def test_faults_can_be_cleared(simulator):
    """An empty list of faults ends the trouble."""
    simulator.control("faults", {"faults": [{"kind": "drop", "times": 99}]})
    simulator.control("faults", {"faults": []})
    simulator.create()


def test_impatient_clients_leave_no_noise(simulator, capfd):
    """A client that hangs up in the middle is nothing to report."""
    try:
        raise ConnectionResetError
    except ConnectionResetError:
        simulator.server.handle_error(None, ("127.0.0.1", 1))
    assert capfd.readouterr().err == ""


def test_our_own_errors_are_reported(simulator, capfd, monkeypatch):
    """A mistake in the simulator shows on stderr and does not end it."""
    monkeypatch.setattr(simulator.account.traffic, "admit", None)
    with pytest.raises(requests.ConnectionError):
        simulator.call("/invoices/list")
    assert "TypeError" in capfd.readouterr().err
