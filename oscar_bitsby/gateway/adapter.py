"""An end to a request as a whole: its connections are shut when its time is up."""

from __future__ import annotations

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
    """Knows the sockets that it opened, so that another thread can end a wait on them.

    For a session that one thread uses for one request at a time.
    """

    def __init__(self) -> None:
        # Sockets and not connections: these let go of theirs when an answer says that it is the
        # last one, and go on reading from it.
        self._sockets: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        super().__init__()

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Let the pools make connections that register themselves."""
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
        """Shut all connections when the block takes longer; whoever reads then gets an error."""
        is_over = threading.Event()
        timer = threading.Timer(seconds, self._interrupt, [is_over])
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
        if is_over.is_set():
            # What was read until then may look like the end of an answer.
            raise ReadTimeout("the answer took too long")

    def _interrupt(self, is_over: threading.Event) -> None:
        is_over.set()
        for sock in list(self._sockets):
            # The plain socket's own method: that of a TLS socket would take the TLS away from
            # under the thread that reads.
            with suppress(OSError):
                socket.socket.shutdown(sock, socket.SHUT_RDWR)
