"""A simulator in a process of its own, and a shop that takes its deliveries."""

import json
import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import requests

from oscar_bitsby.simulator.process import RunningSimulator, running_simulator
from tests.simulator.support import PATIENCE_SECONDS, PROJECT


class Simulator(RunningSimulator):
    """A simulator without a rate limit, and a browser-like client of it."""

    def __init__(self, running: RunningSimulator, session: requests.Session) -> None:
        super().__init__(running.url, running.pid)
        self.http = session
        self.control("ratelimit", {"seconds": 0})

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

    def ids(self, path: str, **fields: str) -> list[str]:
        """Return the ids that a list has."""
        return [item["id"] for item in self.call(path, **fields)["data"]]

    def pay(self, invoice: dict) -> dict:
        """Let the exact amount of an invoice arrive, and return the answer."""
        return self.control("pay", {"invoiceId": invoice["id"]})

    def fail(self, *faults: dict) -> None:
        """Let the next requests fail."""
        self.control("faults", {"faults": list(faults)})

    def state(self, name: str):
        """Return the time, or the invoices, payments, requests or deliveries that are stored."""
        return self.control("state")[name]

    def get(self, url: str) -> requests.Response:
        """Open a page."""
        return self.http.get(url, timeout=10)

    def post(self, path: str, **options) -> requests.Response:
        """Send a request to the simulator, with the token of the account by default."""
        options = {"headers": {"Authorization": "Token key"}, "timeout": 10, **options}
        return self.http.post(self.url + path, **options)


class Shop:
    """Takes deliveries; answers each with the next of ``statuses``, then with 200."""

    def __init__(self) -> None:
        self.received: queue.Queue[dict] = queue.Queue()
        self.statuses: list[int] = []
        self.url = ""

    def next(self) -> dict:
        """Wait for the next delivery: its content type, path and body."""
        return self.received.get(timeout=PATIENCE_SECONDS)


@pytest.fixture
def session() -> Iterator[requests.Session]:
    """An HTTP client that uses no proxy."""
    with requests.Session() as session:
        session.trust_env = False
        yield session


@pytest.fixture
def start_simulator(session) -> Iterator[Callable[..., Simulator]]:
    """Return a function that starts a simulator with options."""
    with ExitStack() as stack:
        yield lambda **options: Simulator(
            stack.enter_context(running_simulator(**options)), session
        )


@pytest.fixture(scope="session")
def running() -> Iterator[RunningSimulator]:
    """The process behind ``simulator``, started once for all tests."""
    with running_simulator() as simulator:
        yield simulator


@pytest.fixture
def simulator(running, session) -> Simulator:
    """A simulator without options in its first state."""
    running.control("reset", {})
    return Simulator(running, session)


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
