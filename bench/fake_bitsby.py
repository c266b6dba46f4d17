"""A Bitsby in this process that answers lists at once and counts what it is asked."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from oscar_bitsby.gateway.client import BitsbyClient
from oscar_bitsby.gateway.transport import Answer, Transport
from oscar_bitsby.models import BitsbyInvoice, BitsbyPayment
from tests.bitsby import KEY, remote, seen, transfer, written

#: What a list gives at most, as the documentation's example has it.
PAGE = 50


class FakeBitsby:
    """Answers from two lists; the throttle is left out, since requests are counted, not timed."""

    def __init__(self) -> None:
        self.payments: Sequence[Any] = []
        self.invoices: Sequence[Any] = []
        self.asked: list[str] = []

    def post(self, transport: Transport, path: str, fields: Mapping[str, str]) -> Answer:
        self.asked.append(path)
        items = self.payments if path == "/payments/list" else self.invoices
        if "invoiceId" in fields:
            items = [item for item in items if item.get("id") == fields["invoiceId"]]
        offset = int(fields.get("offset", 0))
        limit = min(PAGE, int(fields.get("limit", 10)))
        return Answer(list(items[offset : offset + limit]), 200, "")

    @contextmanager
    def answering(self) -> Iterator[BitsbyClient]:
        """Stand in for the network in the block, and give a client that waits for no slot."""
        before = Transport.post

        def post(transport: Transport, path: str, fields: Mapping[str, str]) -> Answer:
            return self.post(transport, path, fields)

        self.asked.clear()
        Transport.post = post  # type: ignore[method-assign]
        try:
            yield BitsbyClient(KEY)
        finally:
            Transport.post = before  # type: ignore[method-assign]

    def lists_known_payments(self) -> None:
        """List what the shop has remembered already, newest first."""
        rows = BitsbyPayment.objects.select_related("invoice").order_by("-transaction_at")
        self.payments = [_listed(row) for row in rows]

    def gets_paid(self, invoices: Sequence[BitsbyInvoice]) -> None:
        """Let exact payments for these invoices arrive, now."""
        arrived = [seen(transfer(), remote(invoice, "paid")) for invoice in invoices]
        self.payments = [*arrived, *self.payments]

    def shuffle(self) -> None:
        """List in no order at all, which is not documented to be impossible."""
        payments = list(self.payments)
        random.Random(5).shuffle(payments)
        self.payments = payments


def _listed(row: BitsbyPayment) -> dict[str, Any]:
    payment = transfer(
        str(row.amount),
        id=str(row.bitsby_id),
        hash=row.hash,
        transactionDatetime=written(row.transaction_at),
    )
    return seen(payment, remote(row.invoice, "paid") if row.invoice else None)
