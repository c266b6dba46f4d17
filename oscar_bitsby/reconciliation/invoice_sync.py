"""Many invoices at once: look them up in the list, settle what it says."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from uuid import UUID

from oscar_bitsby import conf
from oscar_bitsby.gateway import schemas
from oscar_bitsby.gateway.client import DATE_FILTER_MARGIN, BitsbyClient
from oscar_bitsby.models import BitsbyInvoice
from oscar_bitsby.reconciliation.invoice_refresh import fetch_invoice_or_none, settle_fetched
from oscar_bitsby.reconciliation.report import RunReport
from oscar_bitsby.utils.clock import db_now

#: Up to so many invoices are asked about one by one; more are looked up in the list.
BULK_THRESHOLD = 2

#: Invoices that the list did not show are asked about one by one, so many in a pass.
UNLISTED_PER_RUN = 5


def fetch_invoices(
    settings: conf.Conf,
    client: BitsbyClient,
    invoices: Iterable[BitsbyInvoice],
    renew_lease: Callable[[], None] = lambda: None,
) -> tuple[dict[UUID, schemas.Invoice], set[UUID]]:
    """Return what Bitsby says of these invoices, by its ids, and which ones it was asked about.

    Many are looked up in the list of expired ones, newest first as it seems to be, until all are
    found; what is not there was paid or canceled, and is asked about one by one.
    """
    wanted = {row.bitsby_id: row for row in invoices if row.bitsby_id is not None}
    remote: dict[UUID, schemas.Invoice] = {}
    if len(wanted) > BULK_THRESHOLD:
        days = [row.created_at for row in wanted.values()]
        pages = client.invoice_pages(
            project_id=settings.project_id,
            status=schemas.EXPIRED,
            start_date=(min(days) - DATE_FILTER_MARGIN).date(),
            end_date=(max(days) + DATE_FILTER_MARGIN).date(),
        )
        for page in pages:
            renew_lease()
            remote |= {item.id: item for item in page.items if item.id in wanted}
            if len(remote) == len(wanted):
                break
    unlisted = [row for key, row in wanted.items() if key not in remote][:UNLISTED_PER_RUN]
    for row in unlisted:
        renew_lease()
        word = fetch_invoice_or_none(client, row)
        if word is not None:
            remote[word.id] = word
    return remote, {*remote, *(row.bitsby_id for row in unlisted if row.bitsby_id)}


def sync_invoices(
    settings: conf.Conf,
    client: BitsbyClient,
    report: RunReport,
    invoices: list[BitsbyInvoice],
) -> dict[UUID, schemas.Invoice]:
    remote, asked = fetch_invoices(settings, client, invoices, report.renew_lease)
    ended = {
        key for key, word in remote.items() if word.status in (schemas.EXPIRED, schemas.CANCELED)
    }
    if not report.dry_run:
        # What was asked in vain is asked about less often; what was answered is not held up.
        BitsbyInvoice.objects.filter(bitsby_id__in=asked - ended).update_unlocked(
            last_refreshed_at=db_now()
        )
    for invoice in invoices:
        word = remote.get(invoice.bitsby_id) if invoice.bitsby_id else None
        if word is not None:
            with report.isolate_errors(invoice.bitsby_id):
                report.count(settle_fetched(client, invoice, word, dry_run=report.dry_run))
    return remote
