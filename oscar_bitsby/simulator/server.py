"""The HTTP side: sockets, request bodies, and the way from an address to what answers it."""

import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from oscar_bitsby import __version__

from . import api, control, overview, pages
from .account import DEFAULT_PORT, HOST, Account, Options
from .answers import Answer, json_answer, not_found_page
from .parameters import parse_form

LARGEST_BODY = 1024 * 1024
PAY_PREFIX = "/invoices/pay/"


class SimulatorServer(ThreadingHTTPServer):
    """Serves one account on this machine only, each connection in a thread of its own."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, port: int, options: Options) -> None:
        # Closing needs the account, and a port that is taken means closing at once.
        self.account = Account(options)
        super().__init__((HOST, port), Handler)
        self.url = self.account.base_url = f"http://{HOST}:{self.server_port}"
        self.account.webhooks.start()

    def server_bind(self) -> None:
        """Bind without asking the name service who we are, which can take seconds."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = HOST, self.server_address[1]

    def server_close(self) -> None:
        """Free the port and deliver nothing more."""
        super().server_close()
        self.account.webhooks.stop()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Report our own errors, but not clients that hang up."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


def make_server(port: int = DEFAULT_PORT, options: Options | None = None) -> SimulatorServer:
    """Return a bound simulator; port 0 picks a free one, OSError means that it is taken.

    Run its ``serve_forever()``; ``shutdown()`` and ``server_close()`` end it.
    """
    return SimulatorServer(port, options or Options())


class Handler(BaseHTTPRequestHandler):
    """Takes the requests of one connection."""

    protocol_version = "HTTP/1.1"
    server_version = f"oscar-bitsby-simulator/{__version__}"
    sys_version = ""
    disable_nagle_algorithm = True
    server: SimulatorServer

    def do_GET(self) -> None:
        """Answer with a page, or the state for tests."""
        self._send(self._get(viewed=True))

    def do_HEAD(self) -> None:
        """Answer like GET but without the body, and without counting a view."""
        self._send(self._get(viewed=False), with_body=False)

    def do_POST(self) -> None:
        """Answer the API, a form of a page, or a command of a test."""
        arrived = time.monotonic()
        body = self._read_body()
        answer = body if isinstance(body, Answer) else self._post(body, arrived)
        if answer is None:
            self.close_connection = True
        else:
            self._send(answer)

    def _get(self, *, viewed: bool) -> Answer:
        account, parts = self.server.account, urlsplit(self.path)
        if parts.path == "/":
            return overview.show(account)
        if parts.path.startswith(PAY_PREFIX):
            query = dict(parse_qsl(parts.query))
            return pages.show(account, parts.path.removeprefix(PAY_PREFIX), query, viewed=viewed)
        if parts.path.startswith(control.PREFIX):
            return control.answer(account, "GET", parts.path, b"")
        if parts.path in api.ENDPOINTS:
            return json_answer(api.error("Use POST"), 405)
        return not_found_page()

    def _post(self, body: bytes, arrived: float) -> Answer | None:
        account, path = self.server.account, urlsplit(self.path).path
        origin = self.headers.get("Origin")
        if origin is not None and origin != f"http://{self.headers.get('Host')}":
            # Any page open in the developer's browser could send forms here.
            return Answer(403, b"Requests from pages of other sites are not taken.\n")
        if path.startswith(control.PREFIX):
            return control.answer(account, "POST", path, body)
        form: dict[str, str] | None
        try:
            form = parse_form(self.headers.get("Content-Type", ""), body)
        except ValueError:
            form = None
        if path.startswith(PAY_PREFIX):
            return pages.act(account, path.removeprefix(PAY_PREFIX), form or {})
        if path == "/webhooks":
            return overview.switch_webhooks(account, form or {})
        return self._call_api(account, path, form, arrived)

    def _call_api(
        self, account: Account, path: str, form: dict[str, str] | None, arrived: float
    ) -> Answer | None:
        """Answer an API request, well or badly; None means to hang up."""
        authorized = account.authorizes(self.headers.get("Authorization", ""))
        accepted = account.traffic.admit(arrived, path, form or {}, authorized)
        if not authorized:
            return json_answer(api.error(api.WRONG_TOKEN))
        if not accepted:
            return json_answer(api.error(api.TOO_FREQUENT))
        fault = account.traffic.next_fault(path)
        if fault is not None:
            if fault.kind in ("status", "body"):
                return Answer(fault.http_status, fault.body.encode(), fault.content_type)
            if fault.kind == "drop":
                return None
            time.sleep(fault.seconds)
        if path not in api.ENDPOINTS:
            return json_answer(api.error("Unknown method"), 404)
        if form is None:
            return json_answer(api.error("Malformed form"))
        reply = api.answer(account, path, form)
        return None if fault is not None and fault.kind == "drop_after" else json_answer(reply)

    def _read_body(self) -> bytes | Answer:
        length = self.headers.get("Content-Length", "0")
        if "Transfer-Encoding" in self.headers or not (length.isascii() and length.isdigit()):
            problem = Answer(411, b"Send a Content-Length.\n")
        elif len(length) > 9 or int(length) > LARGEST_BODY:
            problem = Answer(413, b"The body is too large.\n")
        else:
            return self.rfile.read(int(length))
        # What is left unread would be taken for the next request.
        self.close_connection = True
        return problem

    def _send(self, answer: Answer, *, with_body: bool = True) -> None:
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(answer.body)))
        self.send_header("X-Content-Type-Options", "nosniff")
        for name, value in answer.headers.items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if with_body and answer.status not in (204, 304):
            self.wfile.write(answer.body)

    def log_message(self, format: str, *args: Any) -> None:
        """Stay quiet: the requests are in the state for tests."""
