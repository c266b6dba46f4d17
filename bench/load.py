"""A cheap HTTP client: prepared bytes over raw sockets, one request for each connection."""

import socket
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

#: A CSRF token that Django accepts both as cookie and as form field.
CSRF = "b" * 32


@dataclass(frozen=True)
class Response:
    """A response, and the seconds from connecting to its first and to its last byte."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    seconds: float
    seconds_to_first_byte: float

    @property
    def queries(self) -> int:
        return int(self.headers["x-bench-queries"])

    @property
    def requests(self) -> int:
        return int(self.headers["x-bench-requests"])


def request(
    method: str,
    path: str,
    *,
    cookies: Mapping[str, str] | None = None,
    form: Mapping[str, str] | None = None,
    body: bytes = b"",
    headers: Mapping[str, str] | None = None,
) -> bytes:
    """Return the bytes of a request; a ``form`` gets a CSRF token and the matching cookie."""
    lines = {"Host": "127.0.0.1", "Connection": "close", **(headers or {})}
    cookies = dict(cookies or {})
    if form is not None:
        cookies["csrftoken"] = CSRF
        body = urlencode({"csrfmiddlewaretoken": CSRF, **form}).encode()
        lines["Content-Type"] = "application/x-www-form-urlencoded"
    if cookies:
        lines["Cookie"] = "; ".join(f"{name}={value}" for name, value in cookies.items())
    if body or method == "POST":
        lines["Content-Length"] = str(len(body))
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + body


def send(port: int, message: bytes) -> Response:
    """Send one request and read the whole response."""
    begin = time.perf_counter()
    with socket.create_connection(("127.0.0.1", port), timeout=120) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(message)
        parts = [connection.recv(262144)]
        first_byte = time.perf_counter() - begin
        while part := connection.recv(262144):
            parts.append(part)
    seconds = time.perf_counter() - begin
    head, _, body = b"".join(parts).partition(b"\r\n\r\n")
    first, *rest = head.decode("latin-1").split("\r\n")
    pairs = (line.partition(":") for line in rest)
    headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
    return Response(int(first.split()[1]), headers, body, seconds, first_byte)


def throughput(port: int, messages: Sequence[bytes], status: int, clients: int = 4) -> float:
    """Return the requests a second of concurrent clients, each of which sends one at a time.

    Raises:
        AssertionError: a response has another status than ``status``.
    """
    wrong: list[Response] = []

    def work(mine: Sequence[bytes]) -> None:
        for message in mine:
            response = send(port, message)
            if response.status != status:
                wrong.append(response)
                return

    threads = [
        threading.Thread(target=work, args=(messages[number::clients],))
        for number in range(clients)
    ]
    begin = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - begin
    if wrong:
        raise AssertionError(f"answered {wrong[0].status}: {wrong[0].body[:300]!r}")
    return len(messages) / seconds
