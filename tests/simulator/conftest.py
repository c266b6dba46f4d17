"""A simulator in a thread of the test process, and a shop that takes its deliveries."""

import json
import os
import queue
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import requests

from oscar_bitsby.simulator.account import Options
from oscar_bitsby.simulator.process import RunningSimulator
from oscar_bitsby.simulator.server import SimulatorServer, make_server

PROJECT = "9deea1e2-0c08-41a3-bdc2-a34eada3892d"
PATIENCE_SECONDS = 10


class Simulator(RunningSimulator):
    """A simulator and a browser-like client of it."""

    def __init__(self, server: SimulatorServer, session: requests.Session) -> None:
        super().__init__(server.url, os.getpid())
        self.server = server
        self.account = server.account
        self.http = session

    def call(self, path: str, token: str = "key", **fields: str):
        """Send an API request and return the reply, decoded."""
        form = {name: (None, value) for name, value in fields.items()}
        headers = {"Authorization": f"Token {token}"}
        return self.http.post(self.url + path, files=form, headers=headers, timeout=10).json()

    def create(self, **fields: str) -> dict:
        """Create an invoice and return the data of the reply."""
        asked = {"projectId": PROJECT, "amountFiat": "11.45", "currencyFiat": "USD"}
        reply = self.call("/invoices/create", **{**asked, "timeToPay": "1", **fields})
        assert reply["result"] == "success", reply
        return reply["data"]

    def listed(self, invoice: dict) -> dict:
        """Return the invoice as the list shows it now."""
        (item,) = self.call("/invoices/list", invoiceId=invoice["id"])["data"]
        return item


class Shop:
    """Takes deliveries; answers each with the next of ``statuses``, then with 200."""

    def __init__(self) -> None:
        self.received: queue.Queue[dict] = queue.Queue()
        self.statuses: list[int] = []
        self.url = ""

    def next(self) -> dict:
        """Wait for the next delivery: its content type, path and body."""
        return self.received.get(timeout=PATIENCE_SECONDS)


def eventually(condition: Callable[[], object]) -> None:
    """Wait until the condition holds; fail when it takes too long."""
    pause = threading.Event()
    for _ in range(PATIENCE_SECONDS * 100):
        if condition():
            return
        pause.wait(0.01)
    pytest.fail("It did not happen in time")


@pytest.fixture
def start() -> Iterator[Callable[..., Simulator]]:
    """Return a function that starts a simulator with options and without a rate limit."""
    running = []

    def begin(**options) -> Simulator:
        server = make_server(0, Options(**options))
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        session = requests.Session()
        session.trust_env = False
        running.append((server, thread, session))
        server.account.traffic.limit = 0
        return Simulator(server, session)

    yield begin
    for server, thread, session in running:
        session.close()
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def simulator(start) -> Simulator:
    """A simulator with nothing special."""
    return start()


@pytest.fixture
def shop() -> Iterator[Shop]:
    """A shop's webhook address."""
    shop = Shop()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status = shop.statuses.pop(0) if shop.statuses else 200
            self.send_response(status)
            if status == 302:
                self.send_header("Location", "/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()
            shop.received.put(
                {"type": self.headers["Content-Type"], "path": self.path, "body": json.loads(body)}
            )

        def log_message(self, *args) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    shop.url = f"http://127.0.0.1:{server.server_address[1]}/bitsby/webhook/?from=simulator"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield shop
    server.shutdown()
    server.server_close()
    thread.join()
