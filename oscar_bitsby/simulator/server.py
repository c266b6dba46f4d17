"""Django's own development server, bound to this machine, with one account behind it."""

import logging
import os
from typing import Any

from django.core.servers.basehttp import ThreadedWSGIServer, WSGIRequestHandler
from django.core.wsgi import get_wsgi_application

from .account import HOST, Account, Options

MAX_BODY_BYTES = 1024 * 1024


class SimulatorServer(ThreadedWSGIServer):
    """Serves one account, each connection in a thread of its own."""

    request_queue_size = 128

    def __init__(self, port: int, options: Options) -> None:
        """Bind to a port, or to a free one if it is 0; raise OSError if it is taken."""
        # A shop's settings may be named in the environment that the simulator inherits.
        os.environ["DJANGO_SETTINGS_MODULE"] = "oscar_bitsby.simulator.settings"
        logging.getLogger("django").setLevel(logging.CRITICAL)
        super().__init__((HOST, port), RequestHandler)
        self.url = f"http://{HOST}:{self.server_port}"
        self.base_environ["simulator.account"] = Account(options, self.url)
        self.set_app(get_wsgi_application())


class RequestHandler(WSGIRequestHandler):
    """Reads requests, and hands the connection on to the views."""

    # Headers and body are written separately: without this the body waits for an acknowledgement.
    disable_nagle_algorithm = True

    def parse_request(self) -> bool:
        """Refuse a body that cannot be read whole: its rest would be taken for a request."""
        if not super().parse_request():
            return False
        length = self.headers.get("Content-Length", "0")
        if "Transfer-Encoding" in self.headers or not (length.isascii() and length.isdigit()):
            self.send_error(411)
        elif len(length) > 9 or int(length) > MAX_BODY_BYTES:
            self.send_error(413)
        else:
            return True
        return False

    def get_environ(self) -> dict[str, Any]:
        """Add the connection, which a fault may have to close."""
        return {**super().get_environ(), "simulator.connection": self.connection}
