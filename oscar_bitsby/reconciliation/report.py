"""What a run did."""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from oscar_bitsby.exceptions import BitsbyError
from oscar_bitsby.models import EPOCH
from oscar_bitsby.settlement import service
from oscar_bitsby.settlement.rules import ActionType

logger = logging.getLogger("oscar_bitsby")


@dataclass
class RunReport:
    """What a pass did, or with ``dry_run`` would do."""

    dry_run: bool = False
    skipped: bool = False
    requests: int = 0
    payments: int = 0
    unreadable: int = 0
    booked: int = 0
    flagged: int = 0
    ended: int = 0
    cancelled: int = 0
    mails: int = 0
    failures: int = 0
    lists_newest_first: bool = True
    #: Whether the list had different times at all; equal ones say nothing about its order.
    is_descending: bool = False
    newest: dt.datetime = EPOCH
    #: Says that the pass still runs; called between requests.
    renew_lease: Callable[[], None] = field(default=lambda: None, repr=False)

    def count(self, outcome: service.Outcome) -> None:
        self.booked += outcome.did(ActionType.BOOK)
        self.flagged += outcome.did(ActionType.FLAG)
        self.ended += outcome.did(ActionType.EXPIRE) or outcome.did(ActionType.CANCEL)

    @contextmanager
    def isolate_errors(self, what: Any) -> Iterator[None]:
        """Log and count what goes wrong with one thing, so that it does not stop the others.

        What Bitsby answered, or that it did not, concerns all of them and goes on its way.
        """
        try:
            yield
        except BitsbyError:
            raise
        except Exception:
            self.failures += 1
            logger.exception("could not deal with %s", what)

    def __str__(self) -> str:
        if self.skipped:
            return "another pass is running; this one stood back"
        return (
            f"{self.requests} requests, {self.payments} payments seen: {self.booked} booked,"
            f" {self.flagged} for the inbox, {self.ended} invoices ended,"
            f" {self.cancelled} orders cancelled, {self.failures} failures"
            + (f", {self.mails} mails sent" if self.mails else "")
            + (f", {self.unreadable} items that could not be read" if self.unreadable else "")
        )
