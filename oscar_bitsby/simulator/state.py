"""The state of the fake account: its clock, invoices and payments, and their rules."""

import heapq
import itertools
import secrets
import string
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from decimal import Decimal

from .wallets import WALLETS, Wallet, amount_to_reserve

UNPAID, CANCELED, PAID, EXPIRED = STATUSES = ("unpaid", "canceled", "paid", "expired")
UID_LENGTH = 12
_UID_ALPHABET = string.ascii_letters + string.digits


class Refused(Exception):
    """The request is refused; the text goes into the reply."""


class Clock:
    """Real UTC time plus an offset that tests can move."""

    def __init__(self) -> None:
        self.offset = timedelta()

    def now(self) -> datetime:
        """Return the current time of the account."""
        return datetime.now(timezone.utc) + self.offset

    def advance(self, seconds: float) -> None:
        """Move the clock, back if ``seconds`` is negative; refuse dates that Python cannot hold."""
        try:
            offset = self.offset + timedelta(seconds=seconds)
            moved = datetime.now(timezone.utc) + offset
        except (OverflowError, ValueError):
            raise Refused("The clock cannot be moved that far") from None
        # Leave room for deadlines after the new time.
        if not 1970 <= moved.year <= 9000:
            raise Refused("The clock cannot be moved that far")
        self.offset = offset


@dataclass(eq=False)
class Invoice:
    """An invoice, with the amount that it reserves on each wallet."""

    id: str
    uid: str
    project_id: str
    created: datetime
    pay_until: datetime
    amount: Decimal
    currency: str
    description: str | None
    service_data: str | None
    reserved: dict[str, Decimal]
    number: int
    views: int = 0
    status: str = UNPAID
    payment: "Payment | None" = field(default=None, repr=False)


@dataclass(eq=False)
class Payment:
    """A transfer that arrived in a wallet, bound to an invoice or not."""

    id: str
    wallet: Wallet
    amount: Decimal
    hash: str
    seen: datetime
    number: int
    invoice: Invoice | None = None


class State:
    """Invoices and payments. Callers hold ``lock`` while they read or change them."""

    def __init__(
        self,
        clock: Clock,
        speed: float = 1.0,
        on_paid: Callable[[Invoice, Payment], None] | None = None,
    ) -> None:
        self.clock = clock
        self.speed = speed
        self.on_paid = on_paid
        self.lock = threading.RLock()
        self.reset()

    def reset(self) -> None:
        """Forget every invoice and payment."""
        self._numbers = itertools.count(1)
        self._invoices: dict[str, Invoice] = {}
        self._uids: dict[str, Invoice] = {}
        self._payments: dict[str, Payment] = {}
        # The amounts of unpaid invoices: what transfers are matched with.
        self._reserved: dict[tuple[str, Decimal], Invoice] = {}
        self._deadlines: list[tuple[datetime, int, Invoice]] = []

    def invoices(self) -> list[Invoice]:
        """Return all invoices, newest first."""
        self._expire_due()
        found = self._invoices.values()
        return sorted(found, key=lambda one: (one.created, one.number), reverse=True)

    def payments(self) -> list[Payment]:
        """Return all payments, newest first."""
        found = self._payments.values()
        return sorted(found, key=lambda one: (one.seen, one.number), reverse=True)

    def invoice(self, invoice_id: str) -> Invoice:
        """Return the invoice with this id, with its current status."""
        self._expire_due()
        try:
            return self._invoices[invoice_id]
        except KeyError:
            raise Refused("Invoice not found") from None

    def invoice_by_uid(self, uid: str) -> Invoice:
        """Return the invoice with this short id."""
        self._expire_due()
        try:
            return self._uids[uid]
        except KeyError:
            raise Refused("Invoice not found") from None

    def payment(self, payment_id: str) -> Payment:
        """Return the payment with this id."""
        try:
            return self._payments[payment_id]
        except KeyError:
            raise Refused("Payment not found") from None

    def create(
        self,
        project_id: str,
        amount: Decimal,
        currency: str,
        hours: Decimal,
        description: str | None = None,
        service_data: str | None = None,
    ) -> Invoice:
        """Create an invoice that can be paid for ``hours``, divided by the speed."""
        self._expire_due()
        now = self.clock.now()
        invoice = Invoice(
            id=str(uuid.uuid4()),
            uid=self._new_uid(),
            project_id=project_id,
            created=now,
            pay_until=now + timedelta(hours=float(hours)) / self.speed,
            amount=amount,
            currency=currency,
            description=description,
            service_data=service_data,
            reserved={
                wallet.id: amount_to_reserve(amount, currency, wallet, self._reserved)
                for wallet in WALLETS
            },
            number=next(self._numbers),
        )
        self._invoices[invoice.id] = self._uids[invoice.uid] = invoice
        self._reserved.update({pair: invoice for pair in invoice.reserved.items()})
        heapq.heappush(self._deadlines, (invoice.pay_until, invoice.number, invoice))
        return invoice

    def cancel(self, invoice_id: str) -> None:
        """Cancel an unpaid invoice whose payment page was not viewed."""
        invoice = self.invoice(invoice_id)
        if invoice.status != UNPAID:
            raise Refused("Only an unpaid invoice can be canceled")
        if invoice.views:
            raise Refused("The payment page of this invoice has been viewed")
        self._close(invoice, CANCELED)

    def expire(self, invoice: Invoice) -> None:
        """Expire an unpaid invoice now; one that is expired already stays as it is."""
        if invoice.status == UNPAID:
            # Replies must not show an expired invoice with time left.
            invoice.pay_until = self.clock.now()
            self._close(invoice, EXPIRED)
        elif invoice.status != EXPIRED:
            raise Refused(f"This invoice is {invoice.status} and cannot expire")

    def transfer(self, wallet: Wallet, amount: Decimal, tx_hash: str | None = None) -> Payment:
        """Receive money in a wallet; bind it if an unpaid invoice reserved exactly this amount."""
        self._expire_due()
        payment = Payment(
            id=str(uuid.uuid4()),
            wallet=wallet,
            amount=amount,
            hash=tx_hash or secrets.token_hex(32),
            seen=self.clock.now(),
            number=next(self._numbers),
        )
        self._payments[payment.id] = payment
        invoice = self._reserved.get((wallet.id, amount))
        if invoice is not None:
            self._settle(invoice, payment)
        return payment

    def bind(self, invoice_id: str, payment_id: str) -> None:
        """Bind an unbound payment to an invoice that is not paid, whatever its status."""
        invoice, payment = self.invoice(invoice_id), self.payment(payment_id)
        if invoice.status == PAID:
            raise Refused("Invoice is already paid")
        if payment.invoice is not None:
            raise Refused("Payment is already bound to an invoice")
        self._settle(invoice, payment)

    def _settle(self, invoice: Invoice, payment: Payment) -> None:
        invoice.payment, payment.invoice = payment, invoice
        self._close(invoice, PAID)
        if self.on_paid is not None:
            self.on_paid(invoice, payment)

    def _close(self, invoice: Invoice, status: str) -> None:
        invoice.status = status
        for pair in invoice.reserved.items():
            # A newer invoice may have reserved the amount of one that closed earlier.
            if self._reserved.get(pair) is invoice:
                del self._reserved[pair]

    def _expire_due(self) -> None:
        now = self.clock.now()
        while self._deadlines and self._deadlines[0][0] <= now:
            invoice = heapq.heappop(self._deadlines)[2]
            if invoice.status == UNPAID:
                self._close(invoice, EXPIRED)

    def _new_uid(self) -> str:
        while True:
            uid = "".join(secrets.choice(_UID_ALPHABET) for _ in range(UID_LENGTH))
            if uid not in self._uids:
                return uid
