"""A time limit for a whole request: its connections are shut down when the time is over."""

import socket
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from requests.adapters import HTTPAdapter
from requests.exceptions import ReadTimeout
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool


class DeadlineAdapter(HTTPAdapter):
    """End a blocked read by a timer, for a session that sends one request at a time."""

    def __init__(self) -> None:
        # Sockets and not connections: a connection drops its socket when the answer says "close",
        # but the answer is still being read from it.
        self._sockets: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        super().__init__()

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Create pools whose connections register their sockets."""
        super().init_poolmanager(*args, **kwargs)
        sockets = self._sockets

        class PlainConnection(HTTPConnection):
            def connect(self) -> None:
                super().connect()
                sockets.add(self.sock)

        class SecureConnection(HTTPSConnection):
            def connect(self) -> None:
                super().connect()
                sockets.add(self.sock)

        class PlainPool(HTTPConnectionPool):
            ConnectionCls = PlainConnection

        class SecurePool(HTTPSConnectionPool):
            ConnectionCls = SecureConnection

        self.poolmanager.pool_classes_by_scheme = {"http": PlainPool, "https": SecurePool}

    @contextmanager
    def interrupted_after(self, seconds: float) -> Iterator[None]:
        """Shut down all connections, and raise ``ReadTimeout``, if the block takes longer."""
        is_over = threading.Event()
        timer = threading.Timer(seconds, self._interrupt, [is_over])
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
        if is_over.is_set():
            # The part that was read until then may look like a complete answer.
            raise ReadTimeout("the answer took too long")

    def _interrupt(self, is_over: threading.Event) -> None:
        is_over.set()
        for sock in list(self._sockets):
            # The method of the plain socket: that of a TLS socket would remove the TLS layer while
            # the other thread reads from it.
            with suppress(OSError):
                socket.socket.shutdown(sock, socket.SHUT_RDWR)
