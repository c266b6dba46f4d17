"""The single questions that a pass is made of, and the report of what came of them."""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from oscar_bitsby import conf, replies, settlement
from oscar_bitsby.client import BitsbyClient
from oscar_bitsby.exceptions import BitsbyError, Refused
from oscar_bitsby.models import EPOCH, BitsbyInvoice
from oscar_bitsby.settlement import Do

logger = logging.getLogger("oscar_bitsby")

#: Asked for in addition on either side of the days that are meant: it is not documented in which
#: zone a filter's days are (up to 14 hours from ours), nor whether the first and last are included.
MARGIN = dt.timedelta(days=2)
#: Up to so many invoices are asked about one by one; more are looked up in the list.
ONE_BY_ONE = 2
#: Invoices that the list did not show are asked about one by one, so many in a pass.
STRAYS_PER_PASS = 5


@dataclass
class Report:
    """What a pass did, or with ``dry_run`` would do."""

    dry_run: bool = False
    stood_back: bool = False
    requests: int = 0
    payments: int = 0
    unreadable: int = 0
    booked: int = 0
    flagged: int = 0
    ended: int = 0
    cancelled: int = 0
    mails: int = 0
    failures: int = 0
    newest_first: bool = True
    #: Whether the list had different times at all; equal ones say nothing about its order.
    descends: bool = False
    newest: dt.datetime = EPOCH
    #: Says that the pass still runs; called between requests.
    keep_alive: Callable[[], None] = field(default=lambda: None, repr=False)

    def count(self, outcome: settlement.Outcome) -> None:
        self.booked += outcome.did(Do.BOOK)
        self.flagged += outcome.did(Do.FLAG)
        self.ended += outcome.did(Do.EXPIRE) or outcome.did(Do.CANCEL)

    @contextmanager
    def failures_counted(self, what: Any) -> Iterator[None]:
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
        if self.stood_back:
            return "another pass is running; this one stood back"
        return (
            f"{self.requests} requests, {self.payments} payments seen: {self.booked} booked,"
            f" {self.flagged} for the inbox, {self.ended} invoices ended,"
            f" {self.cancelled} orders cancelled, {self.failures} failures"
            + (f", {self.mails} mails sent" if self.mails else "")
            + (f", {self.unreadable} items that could not be read" if self.unreadable else "")
        )


def ask_about(client: BitsbyClient, invoice: BitsbyInvoice) -> replies.Invoice | None:
    """Return what Bitsby says of one invoice, or None when it does not know it."""
    page = next(client.invoice_pages(invoice_id=invoice.bitsby_id), None)
    # A server that does not heed the filter answers with others.
    found = (told for told in page.items if told.id == invoice.bitsby_id) if page else iter(())
    return next(found, None)


def word_on(client: BitsbyClient, invoice: BitsbyInvoice) -> replies.Invoice | None:
    """Return the same, or None where Bitsby refuses to say.

    How it refuses an invoice that it does not know is not documented, and one such invoice must
    not stop a whole pass.
    """
    try:
        return ask_about(client, invoice)
    except Refused as error:
        logger.warning("no word on invoice %s: %s", invoice.bitsby_id, error)
        return None


def settle_told(
    client: BitsbyClient, invoice: BitsbyInvoice, told: replies.Invoice, *, dry_run: bool = False
) -> settlement.Outcome:
    """Settle what was told; where it is called paid without its payment, ask for that too."""
    payment = told.payment
    if told.status == replies.PAID and (payment is None or payment.wallet is None):
        payment = _payment_of(client, told) or payment
    return settlement.settle(invoice, told, payment, dry_run=dry_run)


def _payment_of(client: BitsbyClient, told: replies.Invoice) -> replies.Payment | None:
    try:
        page = next(client.payment_pages(invoice_id=told.id), None)
    except Refused as error:
        logger.warning("no payments of invoice %s: %s", told.id, error)
        return None
    items = page.items if page else ()
    return next((item for item in items if item.invoice and item.invoice.id == told.id), None)


def ask_about_many(
    settings: conf.Conf,
    client: BitsbyClient,
    invoices: Iterable[BitsbyInvoice],
    keep_alive: Callable[[], None] = lambda: None,
) -> tuple[dict[UUID, replies.Invoice], set[UUID]]:
    """Return what Bitsby says of these invoices, by its ids, and which ones it was asked about.

    Many are looked up in the list of expired ones, newest first as it seems to be, until all are
    found; what is not there was paid or canceled, and is asked about one by one.
    """
    wanted = {row.bitsby_id: row for row in invoices if row.bitsby_id is not None}
    told: dict[UUID, replies.Invoice] = {}
    if len(wanted) > ONE_BY_ONE:
        days = [row.created_at for row in wanted.values()]
        pages = client.invoice_pages(
            project_id=settings.project_id,
            status=replies.EXPIRED,
            start_date=(min(days) - MARGIN).date(),
            end_date=(max(days) + MARGIN).date(),
        )
        for page in pages:
            keep_alive()
            told |= {item.id: item for item in page.items if item.id in wanted}
            if len(told) == len(wanted):
                break
    strays = [row for key, row in wanted.items() if key not in told][:STRAYS_PER_PASS]
    for row in strays:
        keep_alive()
        word = word_on(client, row)
        if word is not None:
            told[word.id] = word
    return told, {*told, *(row.bitsby_id for row in strays if row.bitsby_id)}
