"""``BitsbyClient``: one method for each endpoint, HTTP in, frozen dataclasses out; no models."""

from __future__ import annotations

import datetime as dt
import logging
import random
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Generic, TypeVar

from oscar_bitsby.conf import Secret
from oscar_bitsby.exceptions import (
    ConnectionFailed,
    RateLimited,
    RateLimitTimeout,
    ReplyNotUnderstood,
)
from oscar_bitsby.gateway import parsing, schemas, transport

#: Asked for in addition on either side of the days that are meant: it is not documented in which
#: zone a filter's days are (up to 14 hours from ours), nor whether the first and last are included.
DATE_FILTER_MARGIN = dt.timedelta(days=2)

logger = logging.getLogger("oscar_bitsby")
T = TypeVar("T")

#: What the documentation's example asks for; whether more is allowed is not documented.
PAGE_SIZE = 50
#: The documented default of ``limit``. A server that gives fewer has no more to give.
DEFAULT_PAGE_SIZE = 10
#: A list that is longer than this many pages is taken for one that never ends.
MAX_PAGES = 2000
#: Seconds before a read is tried again, for each further try.
BACK_OFF = (1.2, 3.0)


@dataclass(frozen=True)
class Page(Generic[T]):
    """One answer of a list endpoint.

    ``unreadable`` counts items that have not the documented shape: they are left out, since one
    strange entry of the account must not hide the others.
    """

    items: tuple[T, ...]
    unreadable: int = 0

    @property
    def size(self) -> int:
        return len(self.items) + self.unreadable


class BitsbyClient:
    """Speak to one Bitsby account.

    Args:
        api_key: the account's API key.
        api_url: where the API is.
        timeout: seconds for one request, from sending to the last byte of the answer.
        acquire_slot: called right before each request is sent, to keep the account's one request
            a second; raises ``RateLimitTimeout`` when the caller should not wait that long.
        tries: how often a read is sent at most, when no answer comes or Bitsby says that it came
            too soon. ``create_invoice``, ``bind_payment`` and ``cancel_invoice`` are sent once,
            because an answer that was lost does not say that nothing was done.

    Every method raises a ``GatewayError``: ``ConnectionFailed``, ``RateLimited``, ``Refused`` or
    ``ReplyNotUnderstood``. All facts about the API are from its public documentation.
    """

    def __init__(
        self,
        api_key: Secret | str,
        *,
        api_url: str = "https://api.bitsby.app",
        timeout: float = 10,
        acquire_slot: Callable[[], None] = lambda: None,
        tries: int = 1 + len(BACK_OFF),
    ) -> None:
        key = api_key if isinstance(api_key, Secret) else Secret(api_key)
        self._transport = transport.Transport(key, api_url, timeout)
        self._acquire_slot = acquire_slot
        self._tries = tries
        #: How many requests were sent, tries included.
        self.requests = 0

    def create_invoice(
        self,
        *,
        project_id: str,
        amount: Decimal,
        currency: str,
        time_to_pay: Decimal,
        description: str = "",
        service_data: str = "",
    ) -> schemas.CreatedInvoice:
        """Create an invoice of ``amount`` in ``currency``, payable for ``time_to_pay`` hours."""
        fields = {
            "projectId": project_id,
            "amountFiat": str(amount),
            "currencyFiat": currency,
            "timeToPay": format(time_to_pay.normalize(), "f"),
            "description": description,
            "serviceData": service_data,
        }
        return self._write("/invoices/create", fields, parsing.parse_created)

    def cancel_invoice(self, invoice_id: uuid.UUID) -> str:
        """Cancel an invoice; Bitsby allows it only while it is unpaid and its page has 0 views."""
        return self._write("/invoices/cancel", {"invoiceId": str(invoice_id)}, str)

    def bind_payment(self, invoice_id: uuid.UUID, payment_id: uuid.UUID) -> str:
        """Attach a payment of a wrong amount to an invoice, which becomes paid by it."""
        fields = {"invoiceId": str(invoice_id), "paymentId": str(payment_id)}
        return self._write("/invoices/bindPayment", fields, str)

    def invoice_pages(
        self,
        *,
        invoice_id: uuid.UUID | None = None,
        project_id: str | None = None,
        start_date: dt.date | None = None,
        end_date: dt.date | None = None,
        status: str | None = None,
    ) -> Iterator[Page[schemas.Invoice]]:
        """List invoices page by page, filtered by the UTC day of their creation and the rest."""
        fields = {
            "invoiceId": invoice_id,
            "projectId": project_id,
            "startDate": start_date,
            "endDate": end_date,
            "status": status,
        }
        return self._pages("/invoices/list", fields, parsing.parse_invoice, lambda item: item.id)

    def payment_pages(
        self,
        *,
        invoice_id: uuid.UUID | None = None,
        start_date: dt.date | None = None,
        end_date: dt.date | None = None,
    ) -> Iterator[Page[schemas.Payment]]:
        """List payments page by page, filtered by the UTC day of the transaction."""
        fields = {"invoiceId": invoice_id, "startDate": start_date, "endDate": end_date}
        return self._pages("/payments/list", fields, parsing.parse_payment, lambda item: item.id)

    def list_invoices(self, **filters: Any) -> Iterator[schemas.Invoice]:
        """List invoices one by one; the filters are those of ``invoice_pages``."""
        for page in self.invoice_pages(**filters):
            yield from page.items

    def list_payments(self, **filters: Any) -> Iterator[schemas.Payment]:
        """List payments one by one; the filters are those of ``payment_pages``."""
        for page in self.payment_pages(**filters):
            yield from page.items

    def balances(self) -> schemas.Balances:
        """Return the account's balances in USD."""
        return self._read("/billing/balances", {}, parsing.parse_balances)

    def tariffs(self) -> tuple[schemas.Tariff, ...]:
        """Return what each of the account's projects pays."""
        return self._read("/billing/tarrifs", {}, _page_of(parsing.parse_tariff)).items

    def history(self) -> Iterator[schemas.HistoryEntry]:
        """List the account's bookings, one by one."""
        for page in self._pages("/billing/history", {}, parsing.parse_history_entry, _itself):
            yield from page.items

    def _pages(
        self,
        path: str,
        filters: Mapping[str, Any],
        read: Callable[[Any], T],
        identify: Callable[[T], Any],
    ) -> Iterator[Page[T]]:
        fields = {name: str(value) for name, value in filters.items() if value is not None}
        seen: set[Any] = set()
        offset, was_unreadable = 0, False
        for _ in range(MAX_PAGES):
            page = self._read(
                path,
                fields | {"offset": str(offset), "limit": str(PAGE_SIZE)},
                _page_of(read),
            )
            fresh = {identify(item) for item in page.items} - seen
            if page.items and not fresh:
                # The server gives the same page again: it does not heed the offset.
                return
            yield page
            # Two pages in a row of which nothing can be read may well be the same one.
            if not page.items and was_unreadable:
                return
            was_unreadable = not page.items
            # A page shorter than asked for may be the server's own limit and not the end.
            if page.size < DEFAULT_PAGE_SIZE:
                return
            seen |= fresh
            offset += page.size
        logger.warning("%s was left after %d pages: it does not end", path, MAX_PAGES)

    def _read(self, path: str, fields: Mapping[str, str], read: Callable[[Any], T]) -> T:
        for attempt in range(1, self._tries + 1):
            try:
                return self._write(path, fields, read)
            except RateLimitTimeout:
                raise
            except (ConnectionFailed, RateLimited) as error:
                if attempt == self._tries:
                    raise
                logger.info("%s: %s; trying again", path, error)
            pause = BACK_OFF[min(attempt, len(BACK_OFF)) - 1]
            # Jitter, so that two machines that were refused together do not come back together.
            time.sleep(pause * random.uniform(1, 1.5))  # noqa: S311  # no secret depends on it
        raise AssertionError("unreachable")  # pragma: no cover

    def _write(self, path: str, fields: Mapping[str, str], read: Callable[[Any], T]) -> T:
        # Raised here, where no variable holds the answer, which may repeat the key.
        found = self._ask(path, fields, read)
        if isinstance(found, ReplyNotUnderstood):
            raise found
        return found

    def _ask(
        self, path: str, fields: Mapping[str, str], read: Callable[[Any], T]
    ) -> T | ReplyNotUnderstood:
        self._acquire_slot()
        self.requests += 1
        answer = self._transport.post(path, fields)
        try:
            return read(answer.data)
        except (ValueError, TypeError, ArithmeticError, RecursionError) as error:
            problem = f"{path}: {error}"[:300]
            return ReplyNotUnderstood(problem, status=answer.status, body=answer.excerpt)


def _page_of(read: Callable[[Any], T]) -> Callable[[Any], Page[T]]:
    def read_page(data: Any) -> Page[T]:
        if not isinstance(data, list):
            raise ValueError("a list was expected")
        items, unreadable = [], 0
        for item in data:
            try:
                items.append(read(item))
            except (ValueError, TypeError) as error:
                unreadable += 1
                logger.warning("left out an item that is not as documented: %s", error)
        return Page(tuple(items), unreadable)

    return read_page


def _itself(item: T) -> T:
    return item
