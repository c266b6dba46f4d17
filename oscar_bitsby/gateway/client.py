"""``BitsbyClient``: one method for each endpoint of the API, which returns frozen dataclasses."""

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

logger = logging.getLogger("oscar_bitsby")
T = TypeVar("T")
Item = TypeVar("Item", schemas.Invoice, schemas.Payment)

#: Callers add this to both ends of a date filter. The documentation says neither in which time
#: zone a filter's days are (up to 14 hours from ours) nor whether the first and last day count.
DATE_FILTER_MARGIN = dt.timedelta(days=2)
#: The list of payments is ordered by the time of the transaction. A payment that was confirmed late
#: appears this much later than its time at most, below newer ones.
CONFIRMATION_LAG = dt.timedelta(hours=6)
#: The limit of the documentation's example; whether the API allows more is not documented.
PAGE_SIZE = 50
#: The documented default of ``limit``. A shorter page is the last one.
DEFAULT_PAGE_SIZE = 10
#: A list with more pages than this is treated as endless.
MAX_PAGES = 2000
#: Seconds to wait before the second and the third try of a read.
BACK_OFF = (1.2, 3.0)


@dataclass(frozen=True)
class Page(Generic[T]):
    """One page of a list; ``unreadable`` counts the items that are not as documented.

    They are skipped, because one strange item must not hide the others.
    """

    items: tuple[T, ...]
    unreadable: int = 0

    @property
    def size(self) -> int:
        """The number of items that the server sent."""
        return len(self.items) + self.unreadable


class BitsbyClient:
    """Send requests to the API for one Bitsby account.

    Args:
        api_key, api_url: the account's API key, and the address of the API.
        timeout: seconds for one request, from sending it to the last byte of the answer.
        acquire_slot: called right before each request is sent, to respect the account's rate
            limit. It raises ``RateLimitTimeout`` if it cannot get a slot in time.
        tries: how often a read is sent at most if no answer comes or Bitsby's rate limit refuses
            it. ``create_invoice``, ``bind_payment`` and ``cancel_invoice`` are sent once, because
            Bitsby may have processed a request whose answer was lost.

    Raises:
        GatewayError: every method that sends a request raises ``ConnectionFailed``,
            ``RateLimited``, ``Refused`` or ``ReplyNotUnderstood``.

    All facts about the API are from its public documentation.
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
        #: The number of requests that were sent, including repeated tries.
        self.requests = 0
        #: The number of successful answers.
        self.answers = 0

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
        """Create an invoice.

        Args:
            project_id: the UUID of the Bitsby project.
            amount: the fiat amount to pay.
            currency: the currency of ``amount``, such as ``EUR``.
            time_to_pay: the hours until the invoice expires.
            description: a text that the payment page shows.
            service_data: a text for the shop's own use, which the API returns with the invoice.
        """
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
        """Cancel an invoice; Bitsby refuses unless it is unpaid and its page has no views."""
        return self._write("/invoices/cancel", {"invoiceId": str(invoice_id)}, str)

    def bind_payment(self, invoice_id: uuid.UUID, payment_id: uuid.UUID) -> str:
        """Bind a payment of a wrong amount to an invoice, which makes the invoice paid."""
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
        offset: int = 0,
    ) -> Iterator[Page[schemas.Invoice]]:
        """Fetch the invoices that match, created between the dates; one request a page.

        ``offset`` is the number of items to leave out at the beginning.
        """
        fields = {
            "invoiceId": invoice_id,
            "projectId": project_id,
            "startDate": start_date,
            "endDate": end_date,
            "status": status,
        }
        return self._pages("/invoices/list", fields, parsing.parse_invoice, offset)

    def payment_pages(
        self,
        *,
        invoice_id: uuid.UUID | None = None,
        start_date: dt.date | None = None,
        end_date: dt.date | None = None,
        offset: int = 0,
    ) -> Iterator[Page[schemas.Payment]]:
        """Fetch the payments of transactions between the dates; one request a page.

        ``offset`` is the number of items to leave out at the beginning.
        """
        fields = {"invoiceId": invoice_id, "startDate": start_date, "endDate": end_date}
        return self._pages("/payments/list", fields, parsing.parse_payment, offset)

    def balances(self) -> schemas.Balances:
        """Fetch the account's balances in USD."""
        return self._read("/billing/balances", {}, parsing.parse_balances)

    def tariffs(self) -> tuple[schemas.Tariff, ...]:
        """Fetch the tariff of each project of the account."""
        return self._read("/billing/tarrifs", {}, _page_of(parsing.parse_tariff)).items

    def _pages(
        self, path: str, filters: Mapping[str, Any], parse: Callable[[Any], Item], offset: int
    ) -> Iterator[Page[Item]]:
        fields = {name: str(value) for name, value in filters.items() if value is not None}
        seen: set[uuid.UUID] = set()
        was_unreadable = False
        for _ in range(MAX_PAGES):
            page = self._read(
                path, fields | {"offset": str(offset), "limit": str(PAGE_SIZE)}, _page_of(parse)
            )
            fresh = {item.id for item in page.items} - seen
            if page.items and not fresh:
                # The server sends the same page again: it ignores the offset.
                return
            yield page
            # Two unreadable pages in a row may well be the same page.
            if not page.items and was_unreadable:
                return
            was_unreadable = not page.items
            # A page shorter than requested may be the server's own limit and not the last one.
            if page.size < DEFAULT_PAGE_SIZE:
                return
            seen |= fresh
            offset += page.size
        logger.warning("stopped reading %s after %d pages: the list does not end", path, MAX_PAGES)

    def _read(self, path: str, fields: Mapping[str, str], parse: Callable[[Any], T]) -> T:
        """Send a request that changes nothing, again if it fails for a passing reason."""
        for attempt in range(self._tries - 1):
            try:
                return self._write(path, fields, parse)
            except RateLimitTimeout:
                raise
            except (ConnectionFailed, RateLimited) as error:
                logger.info("%s: %s; trying again", path, error)
            pause = BACK_OFF[min(attempt, len(BACK_OFF) - 1)]
            # Jitter, so that two machines that were refused together do not retry together.
            time.sleep(pause * random.uniform(1, 1.5))  # noqa: S311  # no secret depends on it
        return self._write(path, fields, parse)

    def _write(self, path: str, fields: Mapping[str, str], parse: Callable[[Any], T]) -> T:
        """Send a request once and return the parsed answer."""
        # The error is raised here and not in _send(), whose variables hold the answer: it may
        # contain the key, and error reports show the variables of each frame.
        result = self._send(path, fields, parse)
        if isinstance(result, ReplyNotUnderstood):
            raise result
        return result

    def _send(
        self, path: str, fields: Mapping[str, str], parse: Callable[[Any], T]
    ) -> T | ReplyNotUnderstood:
        self._acquire_slot()
        self.requests += 1
        answer = self._transport.post(path, fields)
        try:
            parsed = parse(answer.data)
        except (ValueError, TypeError, ArithmeticError, RecursionError) as error:
            problem = f"{path}: {error}"[:300]
            return ReplyNotUnderstood(problem, status=answer.status, body=answer.excerpt)
        self.answers += 1
        return parsed


def _page_of(parse: Callable[[Any], T]) -> Callable[[Any], Page[T]]:
    """Return a parser of a list, whose items are parsed one by one."""

    def parse_page(data: Any) -> Page[T]:
        if not isinstance(data, list):
            raise ValueError("a list was expected")
        items, unreadable = [], 0
        for item in data:
            try:
                items.append(parse(item))
            except (ValueError, TypeError) as error:
                unreadable += 1
                logger.warning("skipped an item that is not as documented: %s", error)
        return Page(tuple(items), unreadable)

    return parse_page
