"""Reads both of Bitsby's lists for an audit, page by page; an aborted audit is continued."""

import datetime as dt
import json
import uuid
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from django.db import router, transaction
from django.db.models import Exists, F, OuterRef, QuerySet
from django.utils import timezone

from oscar_bitsby import conf
from oscar_bitsby.accounting.audit import INVOICES, LISTS, PAYMENTS
from oscar_bitsby.choices import AuditState
from oscar_bitsby.exceptions import BitsbyError
from oscar_bitsby.gateway import schemas
from oscar_bitsby.gateway.client import (
    DATE_FILTER_MARGIN,
    DEFAULT_PAGE_SIZE,
    BitsbyClient,
    Page,
)
from oscar_bitsby.models import AuditedItem, AuditRun
from oscar_bitsby.reconciliation import cursor
from oscar_bitsby.reconciliation.payment_sync import review_reason

#: An aborted audit is resumed for this long; what it has read is then too old.
RESUMABLE_FOR = dt.timedelta(hours=6)
#: How often a list that changes while it is read is read at most.
MAX_READINGS = 3
#: A list with more pages than this is treated as endless.
MAX_PAGES = 100_000


class AuditTakenOver(BitsbyError):
    """Another process has started the same audit and goes on with it."""


@dataclass
class ListProgress:
    """How far a list is read; stored after each page."""

    offset: int = 0
    pages: int = 0
    largest_page: int = 0
    #: The ids on the first page, as it was read.
    first_page: list[str] = field(default_factory=list)
    #: Items that an earlier page already had: so many new ones were inserted before them.
    repeated: int = 0
    #: The ids on the last page, and how many pages in a row had the same or nothing readable.
    last_page: list[str] = field(default_factory=list)
    same_pages: int = 0
    unreadable_pages: int = 0
    unreadable: int = 0
    readings: int = 1
    is_complete: bool = False
    #: Why nothing can be proved with this list; empty if something can.
    problem: str = ""


def start(date_from: dt.date | None, date_to: dt.date | None) -> AuditRun:
    """Return a new audit, or an aborted one of the same days, to be continued by this process.

    A process that works on the same audit stops at its next page, so that an audit whose process
    was killed can be continued at once.
    """
    now, token = timezone.now(), uuid.uuid4().hex
    abandon(now)
    running = audits().filter(state=AuditState.RUNNING, date_from=date_from, date_to=date_to)
    run: AuditRun | None = running.first()
    if run is None:
        return audits().create(
            date_from=date_from, date_to=date_to, token=token, started_at=now, touched_at=now
        )
    audits().filter(pk=run.pk).update(token=token, touched_at=now)
    run.token = token
    return run


def abandon(now: dt.datetime) -> None:
    """End audits that were aborted too long ago to be resumed, and delete what they have read.

    So is what one has left that was killed between its result and the deletion.
    """
    old = audits().filter(state=AuditState.RUNNING, touched_at__lt=now - RESUMABLE_FOR)
    for pk in list(old.values_list("pk", flat=True)):
        ended = old.filter(pk=pk)
        ended.update(state=AuditState.UNPROVED, finished_at=now, progress={})
    finished = audits().exclude(state=AuditState.RUNNING)
    for run in finished.filter(Exists(AuditedItem.objects.filter(run=OuterRef("pk")))):
        delete_items(items_of(run.pk))


def audits() -> QuerySet[AuditRun]:
    """Return all audits, by the database that is written to."""
    return AuditRun.objects.using(router.db_for_write(AuditRun))


def items_of(run_pk: Any) -> QuerySet[AuditedItem]:
    """Return the items that an audit has read, by the database that is written to."""
    return AuditedItem.objects.using(router.db_for_write(AuditedItem)).filter(run=run_pk)


def delete_items(items: QuerySet[AuditedItem]) -> None:
    """Delete items some at a time: where a shop listens to deletions, Django reads them all."""
    while pks := list(items.values_list("pk", flat=True)[:1000]):
        everything = AuditedItem.objects.using(items.db)
        everything.filter(pk__in=pks).delete()


class AuditLists:
    """The two lists of one audit.

    Args:
        run: the audit, from ``start``.
        client: a client for background work.
        progress: called with a short text after each page.
    """

    def __init__(
        self, run: AuditRun, client: BitsbyClient, progress: Callable[[str], None]
    ) -> None:
        self._run, self._client, self._progress = run, client, progress
        self._project_id = conf.get().project_id
        self._since = cursor.first_invoice_at()
        self._requests = client.requests
        self._first = run.date_from and run.date_from - DATE_FILTER_MARGIN
        self._last = run.date_to and run.date_to + DATE_FILTER_MARGIN
        stored = run.progress
        self.lists = {name: ListProgress(**stored.get(name, {})) for name in LISTS}

    def read(self) -> None:
        """Read what is not read yet.

        Payments come first: until the invoices are read, a run has settled the newest payments.

        Raises:
            GatewayError: Bitsby could not be asked. What was read stays stored.
            AuditTakenOver: another process goes on with this audit.
        """
        for name in self.lists:
            while not self.lists[name].is_complete:
                self._read_page(name)

    def read_again(self, name: str) -> None:
        """Forget a list, and read it again from its beginning."""
        self.lists[name] = ListProgress(readings=self.lists[name].readings + 1)
        with transaction.atomic(using=router.db_for_write(AuditedItem), durable=True):
            self._save(name)
            delete_items(items_of(self._run.pk).filter(is_payment=name == PAYMENTS))
        while not self.lists[name].is_complete:
            self._read_page(name)

    def _read_page(self, name: str) -> None:
        progress = self.lists[name]
        page = self._fetch(name, progress.offset)
        is_last = not page.size or page.size < max(DEFAULT_PAGE_SIZE, progress.largest_page)
        with transaction.atomic(using=router.db_for_write(AuditedItem), durable=True):
            self._add(name, page)
            if not is_last:
                progress.problem = _problem(progress)
            progress.is_complete = bool(progress.problem)
            self._save(name)
        self._progress(f"{progress.offset} {name} on {progress.pages} pages")
        if is_last:
            self._finish(name, is_end_empty=not page.size)

    def _finish(self, name: str, *, is_end_empty: bool) -> None:
        """Complete a list that was read to its end, or read it again if it has changed meanwhile.

        New items before the others only repeat some of them. An item that disappears, or another
        order, hides one: what the first page has shown is then different. An empty page at the
        end has shown that nothing was added, and its request is enough.
        """
        progress = self.lists[name]
        is_single = progress.pages <= 1 or (is_end_empty and progress.pages == 2)
        may_be_changed = progress.repeated or not (is_single or is_end_empty)
        if may_be_changed and not self._is_first_page_unchanged(name):
            if progress.readings < MAX_READINGS:
                self._progress(f"the list of {name} has changed: it is read again")
                self.read_again(name)
                return
            progress.problem = (
                f"the list of {name} changed each of the {MAX_READINGS} times that it was read"
            )
        progress.is_complete = True
        with transaction.atomic(using=router.db_for_write(AuditedItem), durable=True):
            self._save(name)

    def _is_first_page_unchanged(self, name: str) -> bool:
        """Tell whether the list begins as before, after as many new items as were inserted.

        The new items are stored: one of them may have been further down, and was hidden.
        """
        progress, new, offset = self.lists[name], 0, 0
        while True:
            page = self._fetch(name, offset)
            ids = [item.id for item in page.items]
            known = self._known(name, ids)
            rows = {item.id: self._row(name, item) for item in page.items if item.id not in known}
            items_of(self._run.pk).bulk_create(list(rows.values()))
            old = [str(one) for one in ids if one in known]
            new += len(rows)
            if old or not ids or new > progress.repeated + len(progress.first_page):
                return old == progress.first_page[: len(old)] and progress.repeated <= new
            offset += page.size

    def _fetch(self, name: str, offset: int) -> Page[Any]:
        pages: Iterator[Page[Any]]
        fetch = self._client.payment_pages if name == PAYMENTS else self._client.invoice_pages
        pages = fetch(offset=offset, start_date=self._first, end_date=self._last)
        return next(pages)

    def _known(self, name: str, ids: list[uuid.UUID]) -> set[uuid.UUID]:
        found = items_of(self._run.pk).filter(is_payment=name == PAYMENTS, bitsby_id__in=ids)
        return set(found.values_list("bitsby_id", flat=True))

    def _add(self, name: str, page: Page[Any]) -> None:
        progress = self.lists[name]
        # The same item twice on one page is no other one that has moved.
        items = [item for n, item in enumerate(page.items) if item not in page.items[:n]]
        rows = {item.id: self._row(name, item) for item in items}
        known = self._known(name, list(rows))
        if known:
            items_of(self._run.pk).filter(is_payment=name == PAYMENTS, bitsby_id__in=known).delete()
        items_of(self._run.pk).bulk_create(list(rows.values()))
        ids = [str(item.id) for item in page.items]
        if not progress.pages:
            progress.first_page = ids
        progress.same_pages = progress.same_pages + 1 if ids and ids == progress.last_page else 0
        progress.last_page = ids
        progress.repeated += len(known) + len(items) - len(rows)
        progress.unreadable_pages = 0 if rows or not page.size else progress.unreadable_pages + 1
        progress.unreadable += page.unreadable
        progress.offset += page.size
        progress.pages += 1
        progress.largest_page = max(progress.largest_page, page.size)

    def _save(self, name: str) -> None:
        """Store how far the lists are, unless another process has taken over."""
        sent, self._requests = self._client.requests - self._requests, self._client.requests
        now = timezone.now()
        mine = audits().filter(pk=self._run.pk, token=self._run.token, state=AuditState.RUNNING)
        if not mine.update(
            progress={key: asdict(value) for key, value in self.lists.items()},
            payments_read=self.lists[PAYMENTS].offset,
            invoices_read=self.lists[INVOICES].offset,
            requests=F("requests") + sent,
            touched_at=now,
        ):
            raise AuditTakenOver("another process goes on with this audit")

    def _row(self, name: str, item: Any) -> AuditedItem:
        return self._payment_row(item) if name == PAYMENTS else self._invoice_row(item)

    def _payment_row(self, payment: schemas.Payment) -> AuditedItem:
        invoice, wallet = payment.invoice, payment.wallet
        return AuditedItem(
            run=self._run,
            is_payment=True,
            bitsby_id=payment.id,
            amount=payment.amount,
            currency=wallet.cryptocurrency[:64] if wallet else "",
            project_id=invoice.project_id[:36] if invoice else "",
            bound_to=invoice.id if invoice else None,
            wallet_id=wallet.id[:64] if wallet else "",
            hash=payment.hash[:200],
            at=payment.transaction_at,
            is_ours=bool(review_reason(payment, self._since, self._project_id)),
        )

    def _invoice_row(self, invoice: schemas.Invoice) -> AuditedItem:
        payment, created_at = invoice.payment, invoice.created_at
        is_old = self._since is None or (created_at is not None and created_at < self._since)
        return AuditedItem(
            run=self._run,
            is_payment=False,
            bitsby_id=invoice.id,
            amount=invoice.amount,
            currency=invoice.currency[:64],
            project_id=invoice.project_id[:36],
            status=invoice.status[:64],
            bound_to=payment.id if payment else None,
            order_number=_order_number(invoice.service_data),
            at=created_at,
            paid_at=payment.transaction_at if payment else None,
            is_ours=invoice.project_id == self._project_id and not is_old,
        )


def _problem(progress: ListProgress) -> str:
    """Return why a list cannot be read to its end, or nothing."""
    if progress.same_pages > 1:
        return "Bitsby sends the same page again and again, so the end of a list is not known"
    if progress.unreadable_pages > 1:
        return "two pages of a list are not as documented"
    if progress.pages >= MAX_PAGES:
        return f"a list does not end after {MAX_PAGES} pages"
    return ""


def _order_number(service_data: str) -> str:
    """Return the order's number that this app has written into an invoice's service data."""
    try:
        number = json.loads(service_data)["orderId"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return ""
    return number[:128] if isinstance(number, str) else ""
