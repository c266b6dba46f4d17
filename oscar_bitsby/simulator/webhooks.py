"""Deliver webhooks in the background, and again while the shop refuses them."""

import heapq
import itertools
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
    """Delivers at the due time; each attempt runs in its own thread."""

    def __init__(self, clock: Clock, speed: float, url: str | None, enabled: bool) -> None:
        self._clock = clock
        self._speed = speed
        self._at_start = (url, enabled)
        self._change = threading.Condition()
        self._stopping = False
        self._era = 0
        self.reset()
        self._thread = threading.Thread(target=self._run, name="webhooks", daemon=True)

    def start(self) -> None:
        """Start delivering."""
        self._thread.start()

    def stop(self) -> None:
        """Stop delivering."""
        with self._change:
            self._stopping = True
            self._change.notify_all()
        if self._thread.is_alive():
            self._thread.join()

    def reset(self) -> None:
        """Forget all deliveries and restore the settings at the start."""
        with self._change:
            self._era += 1
            self.url, self.enabled = self._at_start
            self._numbers = itertools.count()
            self._queue: list[tuple[datetime, int, str, int]] = []
            self._bodies: dict[str, bytes] = {}
            self._attempts: Counter[str] = Counter()
            self._log: list[dict[str, Any]] = []
            self._change.notify_all()

    def wake(self) -> None:
        """Check again what is due, because the clock was moved."""
        with self._change:
            self._change.notify_all()

    def send(self, invoice_id: str, body: dict[str, Any]) -> None:
        """Enqueue a delivery; while webhooks are off it is lost."""
        with self._change:
            self._bodies[invoice_id] = json.dumps(body).encode()
            if self.enabled and self.url:
                self._enqueue(invoice_id, self._clock.now(), 0)

    def send_now(self, invoice_id: str) -> int | None:
        """Deliver once more and return the status; scheduled deliveries stay."""
        with self._change:
            if not self.url:
                raise Refused("No webhook URL is set")
            if invoice_id not in self._bodies:
                raise Refused("This invoice has no delivery")
            url, body, era = self.url, self._bodies[invoice_id], self._era
        status = post_json(url, body)
        with self._change:
            self._note(era, invoice_id, status)
        return status

    def deliveries(self) -> list[dict[str, Any]]:
        """Return every attempt, oldest first."""
        with self._change:
            return list(self._log)

    def _enqueue(self, invoice_id: str, due: datetime, tries: int) -> None:
        heapq.heappush(self._queue, (due, next(self._numbers), invoice_id, tries))
        self._change.notify_all()

    def _note(self, era: int, invoice_id: str, status: int | None) -> None:
        if era == self._era:
            self._attempts[invoice_id] += 1
            self._log.append(
                {
                    "invoiceId": invoice_id,
                    "status": status,
                    "attempt": self._attempts[invoice_id],
                    "at": stamp(self._clock.now()),
                }
            )

    def _run(self) -> None:
        with self._change:
            while not self._stopping:
                if not self._queue:
                    self._change.wait()
                    continue
                seconds = (self._queue[0][0] - self._clock.now()).total_seconds()
                if seconds > 0:
                    # A wait of years would overflow the lock.
                    self._change.wait(min(seconds, 3600.0))
                    continue
                _, _, invoice_id, tries = heapq.heappop(self._queue)
                if self.enabled and self.url:
                    order = (self.url, self._bodies[invoice_id], self._era, invoice_id, tries)
                    threading.Thread(target=self._attempt, args=order, daemon=True).start()

    def _attempt(self, url: str, body: bytes, era: int, invoice_id: str, tries: int) -> None:
        status = post_json(url, body)
        with self._change:
            self._note(era, invoice_id, status)
            if era == self._era and status != 200 and tries < len(REDELIVERY_MINUTES):
                wait = timedelta(minutes=REDELIVERY_MINUTES[tries]) / self._speed
                self._enqueue(invoice_id, self._clock.now() + wait, tries + 1)
