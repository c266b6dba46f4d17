"""One reconcile run: what its steps need, and the report that they fill in."""

import datetime as dt
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from oscar_bitsby import conf
from oscar_bitsby.exceptions import UNUSABLE_ANSWERS, BitsbyError
from oscar_bitsby.gateway.client import BitsbyClient
from oscar_bitsby.models import EPOCH
from oscar_bitsby.settlement.rules import ActionType, Outcome
from oscar_bitsby.utils.plurals import plural

logger = logging.getLogger("oscar_bitsby")

#: The lines about orders and payments that the report of a dry run has at most.
MAX_PLANNED = 100


@dataclass
class RunReport:
    """What a run did, or with ``dry_run`` would do."""

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
    #: Invoices about which Bitsby gave no usable answer.
    unanswered: int = 0
    lists_newest_first: bool = True
    #: Whether the list had different times at all; equal times say nothing about its order.
    is_descending: bool = False
    newest: dt.datetime = EPOCH
    #: What a dry run would do to which order or payment: at most ``MAX_PLANNED`` lines, each once.
    planned: list[str] = field(default_factory=list)
    has_more: bool = False

    def count(self, outcome: Outcome, order_number: str) -> None:
        """Add what settling one invoice of an order did."""
        self.booked += outcome.did(ActionType.BOOK)
        self.flagged += outcome.did(ActionType.FLAG)
        self.ended += outcome.did(ActionType.EXPIRE) or outcome.did(ActionType.CANCEL)
        if self.dry_run and outcome.is_final:
            self.plan(f"order {order_number}", ", ".join(map(str, outcome.actions)))

    def plan(self, subject: str, what: str) -> None:
        """Add what a dry run would do to an order or payment; other runs name nothing."""
        line = f"{subject}: {what}"
        # A dry run settles nothing, so it can meet the same invoice in both lists.
        if self.dry_run and line not in self.planned:
            if len(self.planned) < MAX_PLANNED:
                self.planned.append(line)
            else:
                self.has_more = True

    def __str__(self) -> str:
        if self.skipped:
            return "another run is in progress; this one was skipped"
        return (
            f"{plural(self.requests, 'request')}, {plural(self.payments, 'payment')} seen:"
            f" {self.booked} booked, {self.flagged} to review,"
            f" {plural(self.ended, 'invoice')} expired or cancelled,"
            f" {plural(self.cancelled, 'order')} cancelled, {plural(self.failures, 'failure')}"
            + (f", {plural(self.mails, 'e-mail')} sent" if self.mails else "")
            + (f", {plural(self.unreadable, 'unreadable item')}" if self.unreadable else "")
            + (
                f", {plural(self.unanswered, 'invoice')} without an answer"
                if self.unanswered
                else ""
            )
        )


@dataclass
class ReconcileRun:
    """The context that all steps of a run share.

    ``progress`` is called with a short text before each step. ``renew_lease`` is called between
    requests; it raises ``LeaseLost`` when another run took over.
    """

    client: BitsbyClient
    settings: conf.Conf = field(default_factory=conf.get)
    report: RunReport = field(default_factory=RunReport)
    progress: Callable[[str], None] = lambda text: None
    renew_lease: Callable[[], None] = lambda: None

    @property
    def dry_run(self) -> bool:
        """Whether the run only reports what it would do."""
        return self.report.dry_run

    @contextmanager
    def isolate_errors(self, subject: Any) -> Iterator[None]:
        """Log and count an error that concerns one invoice, payment or order only.

        In the block requests are sent about that one only: an answer that cannot be used concerns
        it alone. All other errors of the gateway concern all of them and are raised.
        """
        try:
            yield
        except UNUSABLE_ANSWERS as error:
            self.report.unanswered += 1
            logger.warning("no answer about %s: %s", subject, error)
        except BitsbyError:
            raise
        except Exception:
            self.report.failures += 1
            logger.exception("could not process %s", subject)
