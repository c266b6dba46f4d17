"""What happens to API requests first: the rate limit, the log, and faults that tests set."""

import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

LIMIT_SECONDS = 1.0
MAX_LOGGED = 10_000
KINDS = ("status", "body", "delay", "drop", "drop_after")


@dataclass
class Fault:
    """What goes wrong with the next ``times`` requests to ``path``."""

    kind: str
    path: str = "*"
    times: int = 1
    status: int | None = None
    body: str = ""
    content_type: str = "application/json"
    seconds: float = 0.0

    @classmethod
    def from_json(cls, raw: object) -> "Fault":
        """Build a fault from what a test sent; raise ValueError with what is wrong with it."""
        if not isinstance(raw, dict):
            raise ValueError("A fault is an object")
        expected: dict[str, type | tuple[type, ...]] = {
            "kind": str,
            "path": str,
            "times": int,
            "status": int,
            "body": str,
            "content_type": str,
            "seconds": (int, float),
        }
        for name, value in raw.items():
            if name not in expected:
                raise ValueError(f"A fault has no {name}")
            if not isinstance(value, expected[name]) or isinstance(value, bool):
                raise ValueError(f"The fault's {name} has the wrong type")
        if raw.get("kind") not in KINDS:
            raise ValueError(f"The fault's kind is one of {', '.join(KINDS)}")
        fault = cls(**raw)
        if not 200 <= fault.http_status <= 599:
            raise ValueError("The fault's status is from 200 to 599")
        if not (fault.content_type.isascii() and fault.content_type.isprintable()):
            raise ValueError("The fault's content_type is no header")
        if not 0 <= fault.seconds <= 3600:
            raise ValueError("The fault's seconds are from 0 to 3600")
        return fault

    @property
    def http_status(self) -> int:
        """The status to answer: a fault "status" without one is a 500."""
        if self.status is not None:
            return self.status
        return 500 if self.kind == "status" else 200


class Traffic:
    """Limits and logs requests and keeps the faults; safe to use from many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.reset()

    def reset(self) -> None:
        """Forget all requests and faults and restore the documented limit."""
        with self._lock:
            self.limit = LIMIT_SECONDS
            self._last_accepted: float | None = None
            self._faults: list[Fault] = []
            self._log: deque[dict[str, Any]] = deque(maxlen=MAX_LOGGED)

    def admit(self, arrived: float, path: str, fields: Mapping[str, str], authorized: bool) -> bool:
        """Log a request and return whether it is accepted.

        ``arrived`` is its monotonic time of arrival in seconds. Only accepted requests count
        towards the limit; one with a wrong token is never accepted.
        """
        with self._lock:
            last = self._last_accepted
            accepted = authorized and (last is None or arrived - last >= self.limit)
            if accepted:
                self._last_accepted = arrived
            self._log.append(
                {"at": arrived, "path": path, "accepted": accepted, "fields": dict(fields)}
            )
            return accepted

    def set_faults(self, faults: list[Fault]) -> None:
        """Replace the faults that are left."""
        with self._lock:
            self._faults = [fault for fault in faults if fault.times > 0]

    def next_fault(self, path: str) -> Fault | None:
        """Return the first fault for this path and count that it was used."""
        with self._lock:
            for fault in self._faults:
                if fault.path in ("*", path):
                    fault.times -= 1
                    if not fault.times:
                        self._faults.remove(fault)
                    return fault
        return None

    def requests(self) -> list[dict[str, Any]]:
        """Return the log, oldest first."""
        with self._lock:
            return list(self._log)
