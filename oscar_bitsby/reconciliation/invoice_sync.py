"""Looks many invoices up in the list, and settles what the API answers."""

from collections.abc import Iterator, Mapping
from uuid import UUID

from oscar_bitsby.exceptions import ConnectionFailed
from oscar_bitsby.gateway import schemas
from oscar_bitsby.gateway.client import DATE_FILTER_MARGIN, Page
from oscar_bitsby.models import BitsbyInvoice
from oscar_bitsby.reconciliation.invoice_refresh import fetch_invoice, settle_fetched
from oscar_bitsby.reconciliation.report import ReconcileRun
from oscar_bitsby.utils.clock import db_now

#: Up to this number, invoices are fetched one by one; more are looked up in the list.
BULK_THRESHOLD = 2
#: Invoices that the list did not show are fetched one by one, up to this number in a run.
UNLISTED_PER_RUN = 5


def sync_invoices(run: ReconcileRun, invoices: list[BitsbyInvoice]) -> dict[UUID, schemas.Invoice]:
    """Fetch and settle these invoices; return the remote invoices by their ids.

    More than ``BULK_THRESHOLD`` are looked up in the list of expired invoices. One that is not
    found there was paid, canceled or is still unpaid, and is fetched by its id.
    """
    wanted = {row.bitsby_id: row for row in invoices if row.bitsby_id is not None}
    fetched: dict[UUID, schemas.Invoice] = {}
    if len(wanted) > BULK_THRESHOLD:
        for page in _expired_pages(run, wanted):
            run.renew_lease()
            for remote in page.items:
                if remote.id in wanted and remote.id not in fetched:
                    fetched[remote.id] = remote
                    _settle(run, wanted[remote.id], remote)
            if len(fetched) == len(wanted):
                break
    unlisted = [row for key, row in wanted.items() if key not in fetched]
    for row in sorted(unlisted, key=lambda row: row.last_refreshed_at)[:UNLISTED_PER_RUN]:
        run.renew_lease()
        with run.isolate_errors(row.bitsby_id):
            found = _fetch(run, row)
            if found is not None:
                fetched[found.id] = found
                _settle(run, row, found)
    return fetched


def _expired_pages(
    run: ReconcileRun, wanted: Mapping[UUID, BitsbyInvoice]
) -> Iterator[Page[schemas.Invoice]]:
    """Fetch the expired invoices, as many pages as the wanted ones could fill, and one more.

    One that Bitsby does not call expired would otherwise be looked for on all pages.
    """
    days = [row.created_at for row in wanted.values()]
    first, last = min(days), max(days)

    def side(item: schemas.Invoice) -> int:
        if item.id in wanted or item.created_at is None:
            return 0
        return (item.created_at > last) - (item.created_at < first)

    pages = run.client.invoice_pages(
        project_id=run.settings.project_id,
        status=schemas.EXPIRED,
        start_date=(first - DATE_FILTER_MARGIN).date(),
        end_date=(last + DATE_FILTER_MARGIN).date(),
    )
    sides: set[int] = set()
    read = 0
    for page in pages:
        yield page
        # The first pages do not count while all of their invoices are newer than the wanted ones,
        # or all are older: the list is ordered by time, and the wanted ones follow.
        sides.update(side(item) for item in page.items)
        if sides not in ({1}, {-1}):
            read += page.size
        if read >= len(wanted) + page.size:
            return


def _fetch(run: ReconcileRun, invoice: BitsbyInvoice) -> schemas.Invoice | None:
    try:
        return fetch_invoice(run.client, invoice, dry_run=run.dry_run)
    except ConnectionFailed:
        # Perhaps only the answer about this one is lost: the next run begins with others.
        _mark_refreshed(run, invoice)
        raise


def _settle(run: ReconcileRun, invoice: BitsbyInvoice, remote: schemas.Invoice) -> None:
    if remote.status not in (schemas.EXPIRED, schemas.CANCELED):
        # What is not over is polled less often from now on.
        _mark_refreshed(run, invoice)
    with run.isolate_errors(invoice.bitsby_id):
        outcome = settle_fetched(run.client, invoice, remote, dry_run=run.dry_run)
        run.report.count(outcome, invoice.order_number)


def _mark_refreshed(run: ReconcileRun, invoice: BitsbyInvoice) -> None:
    if not run.dry_run:
        rows = BitsbyInvoice.objects.filter(pk=invoice.pk)
        rows.update_unlocked(last_refreshed_at=db_now())
