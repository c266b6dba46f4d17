"""The HTTP server: what it listens on, its connections, and what it writes to stderr."""

import http.client
import os
import signal
import socket
import struct
import subprocess
import sys

import pytest

from tests.simulator.support import eventually, send_raw

BREAKS = """
from oscar_bitsby.simulator import __main__, traffic
traffic.Traffic.admit = None
__main__.main(["--port=0"])
"""


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
def test_body_of_unknown_or_too_great_length_is_refused(simulator, header, status):
    """A body that cannot be read whole is refused and the connection closed."""
    reply = send_raw(
        simulator, b"POST /invoices/list HTTP/1.1\r\nHost: x\r\n" + header + b"\r\n\r\n"
    )
    assert reply.startswith(b"HTTP/1.1 " + status)
    assert b"Connection: close" in reply


def test_connections_are_kept(simulator):
    """One connection carries many requests, refusals and faults included."""
    simulator.fail({"kind": "status", "status": 204, "path": "/invoices/list"})
    connection = http.client.HTTPConnection(simulator.url.removeprefix("http://"), timeout=10)
    try:
        sockets = []
        for path in ("/invoices/list", "/invoices/list", "/no", "/invoices/pay/no"):
            connection.request("POST", path, b"a=1", {"Authorization": "Token key"})
            connection.getresponse().read()
            sockets.append(connection.sock)
        assert sockets[0] is not None
        assert len(set(sockets)) == 1
    finally:
        connection.close()


def test_clients_that_hang_up_are_not_reported(capfd, start_simulator):
    """A client that closes the connection in the middle of a request leaves no trace on stderr."""
    simulator = start_simulator()
    simulator.fail({"kind": "delay", "seconds": 0.1})
    host, port = simulator.url.removeprefix("http://").split(":")
    for body in (b"", b"part"):
        with socket.create_connection((host, int(port)), timeout=10) as connection:
            # Closing resets the connection.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            head = f"POST /no HTTP/1.1\r\nHost: x\r\nContent-Length: {2 * len(body)}\r\n"
            connection.sendall(f"{head}Authorization: Token key\r\n\r\n".encode() + body)
    eventually(lambda: len(simulator.state("requests")) == 2)
    simulator.create()
    assert capfd.readouterr().err == ""


def test_own_errors_are_reported():
    """An error in the simulator is a 500 with a traceback on stderr, and does not end it."""
    with subprocess.Popen(
        [sys.executable, "-c", BREAKS], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        address = process.stdout.readline().split("//")[1].strip()
        for _ in range(2):
            connection = http.client.HTTPConnection(address, timeout=10)
            connection.request("POST", "/invoices/list")
            assert connection.getresponse().status == 500
            connection.close()
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=20)
    assert errors.count("TypeError") == 2


def test_settings_of_a_shop_are_ignored(monkeypatch, start_simulator):
    """The simulator runs on its own settings where the environment names those of a shop."""
    monkeypatch.setitem(os.environ, "DJANGO_SETTINGS_MODULE", "shop.settings")
    start_simulator().create()
