"""A fake Bitsby in this process, which answers at once and records the paths of requests."""

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from oscar_bitsby.gateway.client import BitsbyClient
from oscar_bitsby.gateway.transport import Answer, Transport
from oscar_bitsby.models import BitsbyInvoice, BitsbyPayment, GatewayState
from oscar_bitsby.utils.clock import db_now
from tests.support.bitsby import KEY, invoice_item, payment_item, transfer, written

#: The largest page, as in the example of Bitsby's documentation.
MAX_PAGE_SIZE = 50


class FakeBitsby:
    """Answers from two lists, without the rate limit: requests are counted, not timed."""

    def __init__(self) -> None:
        self.payments: Sequence[Any] = []
        self.invoices: Sequence[Any] = []
        self.paths: list[str] = []

    def post(self, transport: Transport, path: str, fields: Mapping[str, str]) -> Answer:
        self.paths.append(path)
        items = self.payments if path == "/payments/list" else self.invoices
        if "invoiceId" in fields:
            items = [item for item in items if item.get("id") == fields["invoiceId"]]
        if "status" in fields and isinstance(items, list):
            items = [item for item in items if item["status"] == fields["status"]]
        offset = int(fields.get("offset", 0))
        limit = min(MAX_PAGE_SIZE, int(fields.get("limit", 10)))
        return Answer(list(items[offset : offset + limit]), 200, "")

    @contextmanager
    def replace_network(self) -> Iterator[BitsbyClient]:
        """Replace the network in the block, and yield a client that waits for no slot.

        The balance counts as just fetched.
        """
        before = Transport.post

        def post(transport: Transport, path: str, fields: Mapping[str, str]) -> Answer:
            return self.post(transport, path, fields)

        self.paths.clear()
        # Once an hour a run asks for the balance; the figures are those of all other runs.
        GatewayState.ensure_exists()
        GatewayState.row().update(balance_asked_at=db_now())
        Transport.post = post  # type: ignore[method-assign]
        try:
            yield BitsbyClient(KEY)
        finally:
            Transport.post = before  # type: ignore[method-assign]

    def list_known_payments(self) -> None:
        """List the payments that the shop has stored, newest first."""
        rows = BitsbyPayment.objects.select_related("invoice").order_by("-transaction_at")
        self.payments = [_as_listed(row) for row in rows]

    def add_payments_for(self, invoices: Sequence[BitsbyInvoice]) -> None:
        """Add an exact payment for each of these invoices, made now."""
        new = [payment_item(transfer(), invoice_item(invoice, "paid")) for invoice in invoices]
        self.payments = [*new, *self.payments]

    def shuffle(self) -> None:
        """Put the list in random order, which the documentation does not rule out."""
        payments = list(self.payments)
        random.Random(5).shuffle(payments)
        self.payments = payments


def _as_listed(row: BitsbyPayment) -> dict[str, Any]:
    payment = transfer(
        str(row.amount),
        id=str(row.bitsby_id),
        hash=row.hash,
        transactionDatetime=written(row.transaction_at),
    )
    return payment_item(payment, invoice_item(row.invoice, "paid") if row.invoice else None)
