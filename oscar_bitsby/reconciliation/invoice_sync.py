"""Looks many invoices up in the list, and settles what the API answers."""

from collections.abc import Iterable
from uuid import UUID

from oscar_bitsby.gateway import schemas
from oscar_bitsby.gateway.client import DATE_FILTER_MARGIN
from oscar_bitsby.models import BitsbyInvoice
from oscar_bitsby.reconciliation.invoice_refresh import fetch_invoice_or_none, settle_fetched
from oscar_bitsby.reconciliation.report import ReconcileRun
from oscar_bitsby.utils.clock import db_now

#: Up to this number, invoices are fetched one by one; more are looked up in the list.
BULK_THRESHOLD = 2
#: Invoices that the list did not show are fetched one by one, up to this number in a run.
UNLISTED_PER_RUN = 5


def sync_invoices(run: ReconcileRun, invoices: list[BitsbyInvoice]) -> dict[UUID, schemas.Invoice]:
    """Fetch and settle these invoices; return the remote invoices by their ids."""
    fetched, asked = fetch_invoices(run, invoices)
    if not run.dry_run:
        # What is not over is polled less often from now on.
        over = (schemas.EXPIRED, schemas.CANCELED)
        not_over = asked - {key for key, remote in fetched.items() if remote.status in over}
        rows = BitsbyInvoice.objects.filter(bitsby_id__in=not_over)
        rows.update_unlocked(last_refreshed_at=db_now())
    for invoice in invoices:
        if invoice.bitsby_id in fetched:
            remote = fetched[invoice.bitsby_id]
            with run.isolate_errors(invoice.bitsby_id):
                run.report.count(settle_fetched(run.client, invoice, remote, dry_run=run.dry_run))
    return fetched


def fetch_invoices(
    run: ReconcileRun, invoices: Iterable[BitsbyInvoice]
) -> tuple[dict[UUID, schemas.Invoice], set[UUID]]:
    """Return the remote invoices by their ids, and the ids that were asked about.

    More than ``BULK_THRESHOLD`` are looked up in the list of expired invoices until all are found.
    An invoice that is not in that list was paid or canceled, and is fetched by its id.
    """
    wanted = {row.bitsby_id: row for row in invoices if row.bitsby_id is not None}
    fetched: dict[UUID, schemas.Invoice] = {}
    if len(wanted) > BULK_THRESHOLD:
        days = [row.created_at for row in wanted.values()]
        pages = run.client.invoice_pages(
            project_id=run.settings.project_id,
            status=schemas.EXPIRED,
            start_date=(min(days) - DATE_FILTER_MARGIN).date(),
            end_date=(max(days) + DATE_FILTER_MARGIN).date(),
        )
        for page in pages:
            run.renew_lease()
            fetched |= {item.id: item for item in page.items if item.id in wanted}
            if len(fetched) == len(wanted):
                break
    unlisted = [row for key, row in wanted.items() if key not in fetched][:UNLISTED_PER_RUN]
    for row in unlisted:
        run.renew_lease()
        remote = fetch_invoice_or_none(run.client, row)
        if remote is not None:
            fetched[remote.id] = remote
    return fetched, {*fetched, *(row.bitsby_id for row in unlisted if row.bitsby_id)}
