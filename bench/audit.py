"""P11: the requests and the memory of an audit, with few and with many payments."""

import resource
import time

from django.conf import settings
from django.db import connection

from bench import rows
from bench.databases import fill
from bench.fake_bitsby import MAX_PAGE_SIZE, FakeBitsby
from bench.report import Row
from oscar_bitsby.accounting import ledger
from oscar_bitsby.models import BitsbyInvoice, BitsbyPayment
from oscar_bitsby.reconciliation.audit import audit
from tests.support.bitsby import invoice_item, payment_item, transfer, written

#: Peak memory may grow by this factor from few payments to many.
MAX_GROWTH = 1.15


class Listed:
    """One of Bitsby's lists, newest first; each page is built on request to save memory."""

    def __init__(self, *, payments: bool) -> None:
        self._payments = payments

    def __getitem__(self, part: slice) -> list[dict[str, object]]:
        found = BitsbyPayment.objects.select_related("invoice").defer(
            "invoice__wallets", "invoice__reply"
        )
        # Its keys are 1, 2, 3… and follow the times. An offset would make the last pages slow.
        return [
            self._item(row)
            for row in found.filter(pk__gt=part.start, pk__lte=part.stop).order_by("pk")
        ]

    def _item(self, row: BitsbyPayment) -> dict[str, object]:
        payment = transfer(
            str(row.amount),
            id=str(row.bitsby_id),
            hash=row.hash,
            transactionDatetime=written(row.transaction_at),
        )
        invoice = invoice_item(row.invoice, "paid", payment=payment)
        return payment_item(payment, invoice) if self._payments else invoice


def measure(key: str, quick: bool) -> list[Row]:
    """Audit a shop with few payments, and then one with many, in the same process."""
    few, many = 1_000, 5_000 if quick else 100_000
    # Django would keep the text of each query.
    assert not settings.DEBUG
    peaks, requests, seconds = {}, {}, {}
    for count in (few, many):
        _fill(count)
        bitsby = FakeBitsby()
        bitsby.payments, bitsby.invoices = Listed(payments=True), Listed(payments=False)  # type: ignore[assignment]
        begin = time.monotonic()
        with bitsby.replace_network() as client:
            result = audit(client=client)
        seconds[count] = time.monotonic() - begin
        assert str(result.state) == "proved", result
        peaks[count] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
        requests[count] = len(bitsby.paths)
    allowed = {count: 2 * -(-count // MAX_PAGE_SIZE) + 2 for count in requests}
    how = (
        "a fake Bitsby in this process builds pages of 50 from the database, without waiting for"
        f" slots; ru_maxrss of one process after both audits; {seconds[many]:.0f} s for the second"
    )
    return [
        Row(
            key,
            f"API requests of an audit of {few:,} and {many:,} paid invoices",
            "≤ pages of both lists + 2",
            " and ".join(f"{requests[count]:,} (≤ {allowed[count]:,})" for count in requests),
            all(requests[count] <= allowed[count] for count in requests),
            how,
        ),
        Row(
            key,
            f"peak memory of an audit of {many:,} payments, against {few:,}",
            f"≤ {MAX_GROWTH}",
            f"{peaks[many] / peaks[few]:.2f} ({peaks[few]:.0f} and {peaks[many]:.0f} MB)",
            peaks[many] <= MAX_GROWTH * peaks[few],
            how,
        ),
    ]


def _fill(count: int) -> None:
    """Store as many paid orders with their invoices, payments and ledgers."""
    with connection.cursor() as cursor:
        names = ("bitsbypayment", "bitsbyinvoice", "gatewaystate", "auditrun")
        tables = ", ".join(f"oscar_bitsby_{name}" for name in names)
        cursor.execute(f"TRUNCATE {tables}, payment_source, order_order CASCADE")
    rows.add_orders(count, status="'Being processed'")
    rows.add_invoices(count, status="'paid'", order_awaits_payment="false")
    BitsbyInvoice.objects.all().update(created_at=BitsbyInvoice.objects.first().created_at)
    rows.add_payments(count)
    kind = str(ledger.source_type().pk)
    fill(
        rows.Source,
        count,
        id="n",
        order_id="n",
        source_type_id=kind,
        currency="'USD'",
        amount_allocated="10",
        amount_debited="10",
    )
    fill(
        rows.Source.transactions.rel.related_model,
        count,
        source_id="n",
        txn_type="'Debit'",
        amount="10",
        reference="(SELECT p.bitsby_id::text FROM oscar_bitsby_bitsbypayment p WHERE p.id = n)",
        date_created="now()",
    )
