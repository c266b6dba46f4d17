"""Deliver webhooks in the background, and again while the shop refuses them."""

import json
import threading
from collections import Counter
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import requests

from oscar_bitsby import __version__

from .serializers import stamp
from .state import Clock, Refused

TIMEOUT_SECONDS = 10.0
HEADERS = {
    "Content-Type": "application/json",
    "User-Agent": f"oscar-bitsby-simulator/{__version__}",
    "Connection": "close",
}
# Each wait is counted from the attempt before it.
REDELIVERY_MINUTES = (5, 15, 30, 60, 180, 360, 720, 1440)


def parse_webhook_url(text: str) -> str:
    """Accept an http or https address; raise ValueError for anything else."""
    parts = urlsplit(text)
    # Reading the port checks it.
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:
        raise ValueError("A webhook URL starts with http:// or https:// and names a host")
    return text


def post_json(url: str, body: bytes) -> int | None:
    """Post to a shop and return the HTTP status, or None if there was no answer.

    Redirects are not followed and proxies not used.
    """
    with requests.Session() as session:
        session.trust_env = False
        try:
            return session.post(
                url,
                data=body,
                headers=HEADERS,
                timeout=TIMEOUT_SECONDS,
                allow_redirects=False,
                # Only the status counts: the body is not read.
                stream=True,
            ).status_code
        except requests.RequestException:
            return None


class WebhookSender:
    """Delivers in the background; each delivery has a thread that also waits for its retries."""

    def __init__(self, clock: Clock, speed: float, url: str | None, enabled: bool) -> None:
        self._clock = clock
        self._speed = speed
        self._at_start = (url, enabled)
        self._change = threading.Condition()
        self._resets = 0
        self.reset()

    def reset(self) -> None:
        """Forget and end all deliveries, and restore the settings at the start."""
        with self._change:
            self._resets += 1
            self.url, self.enabled = self._at_start
            self._bodies: dict[str, bytes] = {}
            self._attempts: Counter[str] = Counter()
            self._log: list[dict[str, Any]] = []
            self._change.notify_all()

    def wake(self) -> None:
        """Check again what is due, because the clock was moved."""
        with self._change:
            self._change.notify_all()

    def send(self, invoice_id: str, body: dict[str, Any]) -> None:
        """Start a delivery; while webhooks are off it is lost."""
        with self._change:
            self._bodies[invoice_id] = json.dumps(body).encode()
            if self.enabled and self.url:
                threading.Thread(
                    target=self._deliver,
                    args=(invoice_id, self._resets),
                    name=f"webhook of {invoice_id}",
                    daemon=True,
                ).start()

    def send_now(self, invoice_id: str) -> int | None:
        """Deliver once more and return the status; retries that are due later stay."""
        with self._change:
            if not self.url:
                raise Refused("No webhook URL is set")
            if invoice_id not in self._bodies:
                raise Refused("This invoice has no delivery")
            attempt = (invoice_id, self._resets, self.url, self._bodies[invoice_id])
        return self._attempt(*attempt)[0]

    def deliveries(self) -> list[dict[str, Any]]:
        """Return every attempt, oldest first."""
        with self._change:
            return list(self._log)

    def _deliver(self, invoice_id: str, resets: int) -> None:
        due = self._clock.now()
        for minutes in (*REDELIVERY_MINUTES, 0):
            with self._change:
                while resets == self._resets and (now := self._clock.now()) < due:
                    # A wait of years would overflow the lock.
                    self._change.wait(min((due - now).total_seconds(), 3600.0))
                if resets != self._resets or not (self.enabled and self.url):
                    return
                url, body = self.url, self._bodies[invoice_id]
            status, ended = self._attempt(invoice_id, resets, url, body)
            if status == 200:
                return
            due = ended + timedelta(minutes=minutes) / self._speed

    def _attempt(
        self, invoice_id: str, resets: int, url: str, body: bytes
    ) -> tuple[int | None, datetime]:
        """Post a delivery, log it unless there was a reset, and return its status and end."""
        status = post_json(url, body)
        with self._change:
            # Read before a test can see the log and move the clock.
            ended = self._clock.now()
            if resets == self._resets:
                self._attempts[invoice_id] += 1
                self._log.append(
                    {
                        "invoiceId": invoice_id,
                        "status": status,
                        "attempt": self._attempts[invoice_id],
                        "at": stamp(ended),
                    }
                )
        return status, ended
