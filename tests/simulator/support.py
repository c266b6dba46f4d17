"""What the tests of the simulator share."""

import html
import re
import socket
import threading
from collections.abc import Callable

import pytest

PROJECT = "9deea1e2-0c08-41a3-bdc2-a34eada3892d"
OTHER_PROJECT = "00000000-0000-4000-8000-000000000000"
PATIENCE_SECONDS = 10


def eventually(condition: Callable[[], object]) -> None:
    """Wait until the condition holds; fail when it takes too long."""
    pause = threading.Event()
    for _ in range(PATIENCE_SECONDS * 100):
        if condition():
            return
        pause.wait(0.01)
    pytest.fail("It did not happen in time")


def text_of(page: str) -> str:
    """Return what a person reads on a page."""
    page = re.sub(r"<(style|title)>.*?</\1>", "", page, flags=re.DOTALL)
    return html.unescape(" ".join(re.sub(r"<[^>]+>", " ", page).split()))


def send_raw(simulator, request: bytes) -> bytes:
    """Send bytes, and return all that comes until the server closes the connection."""
    host, port = simulator.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=PATIENCE_SECONDS) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(65536), b""))
