"""A time limit for a whole request: its connections are shut down when the time is over."""

import socket
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from requests.adapters import HTTPAdapter
from requests.exceptions import ReadTimeout
from urllib3 import PoolManager


class DeadlineAdapter(HTTPAdapter):
    """End a blocked read by a timer, for a session that sends one request at a time.

    This also covers what a proxy and TLS exchange before the request is sent.
    """

    def __init__(self) -> None:
        # Sockets and not connections: a connection drops its socket when the answer says "close",
        # but the answer is still being read from it.
        self._sockets: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        self._is_over = threading.Event()
        super().__init__()

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Create pools whose connections register their sockets."""
        super().init_poolmanager(*args, **kwargs)
        self._register_sockets_of(self.poolmanager)

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        """Return the proxy's manager, whose connections register their sockets, too."""
        is_new = proxy not in self.proxy_manager
        manager = super().proxy_manager_for(proxy, **kwargs)
        if is_new:
            self._register_sockets_of(manager)
        return manager

    def _register_sockets_of(self, manager: PoolManager) -> None:
        # Subclasses of the manager's own classes: those for SOCKS connect in another way.
        manager.pool_classes_by_scheme = {
            scheme: type(pool.__name__, (pool,), {"ConnectionCls": self._registering(pool)})
            for scheme, pool in manager.pool_classes_by_scheme.items()
        }

    def _registering(self, pool: Any) -> Any:
        """Return the pool's class of connections, extended to register each socket."""
        adapter = self

        class Connection(pool.ConnectionCls):  # type: ignore[misc]
            close_duplicate = staticmethod(lambda: None)

            def _new_conn(self) -> socket.socket:
                connected: socket.socket = super()._new_conn()
                # TLS takes the socket over before its handshake. A duplicate can still shut down
                # the connection; it is closed with the connection, or when that connects again.
                duplicate = connected.dup()
                self.close_duplicate()
                self.close_duplicate = weakref.finalize(self, duplicate.close)
                adapter._sockets.add(duplicate)
                if adapter._is_over.is_set():
                    # The timer has shut down the sockets that it knew, and fires only once.
                    adapter._interrupt(adapter._is_over)
                return connected

            def _tunnel(self) -> None:
                super()._tunnel()
                if adapter._is_over.is_set():
                    # A shut down connection reads like the end of the proxy's answer, and TLS
                    # would leave its socket open.
                    raise TimeoutError("the answer took too long")

        return Connection

    @contextmanager
    def interrupted_after(self, seconds: float) -> Iterator[None]:
        """Shut down all connections, and raise ``ReadTimeout``, if the block takes longer."""
        self._is_over = is_over = threading.Event()
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
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
