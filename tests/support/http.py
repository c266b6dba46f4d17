"""A web server on this machine that misbehaves on demand, and a search of errors for the
API key."""

import contextlib
import json
import socket
import struct
import threading
import time
import traceback
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.paths import TESTS
from tests.support.bitsby import KEY

HERE = str(TESTS)
#: Far more than any answer of a local server takes.
PATIENCE = 5


class StubServer(ThreadingHTTPServer):
    """A server or proxy that answers each POST and CONNECT by ``answer``, a function of the
    handler."""

    def __init__(self, answer):
        self.answer = answer
        self.requests = []
        self.has_request = threading.Event()
        self.over = threading.Event()
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def record(self, handler):
        self.requests.append(handler)
        self.has_request.set()

    def trickle(self, write, piece=b" ", pause=0.02):
        """Write a piece again and again until the other side has had enough, or patience ends."""
        end = time.monotonic() + PATIENCE
        with contextlib.suppress(OSError):
            while time.monotonic() < end and not self.over.wait(pause):
                write(piece)


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        self.body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.record(self)
        with contextlib.suppress(OSError):
            self.server.answer(self)

    def do_CONNECT(self):
        self.server.record(self)
        with contextlib.suppress(OSError):
            self.server.answer(self)

    def log_message(self, *arguments):
        pass


def reply(body, status=200, **headers):
    """Return an answer of a JSON body, or of bytes as they are."""
    if not isinstance(body, bytes):
        body = json.dumps(body).encode()

    def answer(handler):
        handler.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            if value is not None:
                handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def reset_connection(handler):
    """Break the connection off with a reset, before any answer."""
    now = struct.pack("ii", 1, 0)
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, now)
    handler.connection.close()


@pytest.fixture
def serve():
    """Return a function that starts a server with an answer."""
    with contextlib.ExitStack() as stack:

        def start(answer):
            server = StubServer(answer)
            thread = threading.Thread(target=server.serve_forever, args=(0.01,))
            thread.start()
            for end in (thread.join, server.server_close, server.shutdown, server.over.set):
                stack.callback(end)
            return server

        yield start


def texts_of_error(error):
    """Return all that an error report can show: texts, and each frame's variables, of the chain.

    The frames of the tests themselves are left out: they hold the key on purpose.
    """
    texts, left, done = [], [error], set()
    while left:
        one = left.pop()
        if one is None or id(one) in done:
            continue
        done.add(id(one))
        left += [one.__cause__, one.__context__]
        texts += [str(one), repr(one), repr(one.args), repr(vars(one))]
        for frame, _ in traceback.walk_tb(one.__traceback__):
            if frame.f_code.co_filename.startswith(HERE):
                continue
            for name, value in frame.f_locals.items():
                texts.append(f"{frame.f_code.co_name}.{name} = {value!r}")
                if hasattr(value, "__dict__"):
                    texts.append(f"vars({frame.f_code.co_name}.{name}) = {vars(value)!r}")
    return texts


def assert_hidden(error, key=KEY):
    leaks = [text for text in texts_of_error(error) if key in text]
    assert leaks == []
