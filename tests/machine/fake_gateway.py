"""The other side of the machine: a clock, a Bitsby with the simulator's rules, a bad network."""

import copy
import datetime as dt
import json
from collections import deque
from dataclasses import dataclass, field

from django.db import connection

from oscar_bitsby.exceptions import ConnectionFailed, GatewayError
from oscar_bitsby.simulator import api, serializers
from oscar_bitsby.simulator.account import Account, Options
from oscar_bitsby.simulator.state import CANCELED, EXPIRED, PAID, Refused, State
from tests.machine.pauses import Pauses

START = dt.datetime(2026, 3, 10, 22, 40, tzinfo=dt.timezone.utc)
PAGES = "https://dash.bitsby.app"
#: Between the arrivals of two requests of the account.
MIN_INTERVAL = dt.timedelta(seconds=1)

#: Answers to requests about one invoice that are of no use: an HTTP status, and the body or data.
STRANGE_ANSWERS = {
    "null": (200, api.success(None)),
    "object": (200, api.success({})),
    "empty": (200, api.success([])),
    "rubbish in a list": (200, api.success([{"id": 5}])),
    "error": (200, api.error("Invoice not found")),
    "bad request": (400, {"detail": "bad"}),
    "not found": (404, {}),
    "server error": (500, {}),
}

#: How Bitsby refuses to create invoices for an account with a debt; the text is not documented.
BLOCKED = "You have a debt"

IN_TRANSACTION = "a request was sent inside a database transaction"
TOO_SOON = "a request was sent too soon after the previous one"


class Clock:
    """The clock of the shop's processes; sleeping moves it and takes no time."""

    def __init__(self):
        self.time = START

    def now(self):
        return self.time

    def sleep(self, seconds):
        self.time += dt.timedelta(seconds=seconds)

    def monotonic(self):
        return (self.time - START).total_seconds()


class RemoteClock:
    """Bitsby's clock, which may differ from the shop's."""

    def __init__(self, clock, skew):
        self.clock, self.skew = clock, dt.timedelta(seconds=skew)

    def now(self):
        return self.clock.now() + self.skew


@dataclass(frozen=True)
class Quirks:
    """One answer to each question that Bitsby's documentation leaves open.

    Attributes:
        order: in which order lists come.
        late: whether a payment on an ended invoice stays unbound, makes it paid, or is bound to it
            while the invoice keeps its status.
        binds_ended: whether an ended invoice can be bound.
        delivers_bindings: whether binding by hand sends a webhook delivery.
        unbound: how an unbound payment shows that it has no invoice.
        includes_end_dates: whether date filters include their first and last day.
        error_status: the HTTP status of errors.
        skew: seconds that Bitsby's clock is ahead of the shop's.
        page_size: the most items in one answer of a list.
    """

    order: str = "newest"
    late: str = "unbound"
    binds_ended: bool = True
    delivers_bindings: bool = True
    unbound: str = "missing"
    includes_end_dates: bool = True
    error_status: int = 200
    skew: int = 0
    page_size: int = 50


class Books(State):
    """The simulator's state with quirks; counts its changes and can show an earlier state."""

    def __init__(self, clock, quirks, on_paid):
        #: The number of each payment's last change, of one count for all payments.
        self.changed = {}
        self.count = 0
        self.quirks = quirks
        #: A snapshot that lists show instead of the present state.
        self.frozen = None
        self.is_binding = False
        self.deliver = on_paid
        super().__init__(clock, on_paid=self._deliver)

    def snapshot(self):
        """Return what lists show now, so that they can show it again later."""
        return (self.count, *copy.deepcopy((super().invoices(), super().payments())))

    def invoices(self):
        return self._in_order(self.frozen[1] if self.frozen else super().invoices())

    def payments(self):
        return self._in_order(self.frozen[2] if self.frozen else super().payments())

    def all_payments(self):
        """Return the payments as they are, oldest first."""
        return list(self._payments.values())

    def all_invoices(self):
        self._expire_due()
        return list(self._invoices.values())

    def transfer(self, wallet, amount, tx_hash=None):
        payment = super().transfer(wallet, amount, tx_hash)
        self._count_change(payment)
        if payment.invoice is None and self.quirks.late != "unbound":
            ended = [
                invoice
                for invoice in self._invoices.values()
                if invoice.status in (EXPIRED, CANCELED)
                and invoice.payment is None
                and invoice.reserved[wallet.id] == amount
            ]
            if ended and self.quirks.late == "paid":
                self._settle(ended[-1], payment)
            elif ended:
                ended[-1].payment, payment.invoice = payment, ended[-1]
        return payment

    def bind(self, invoice_id, payment_id):
        invoice, payment = self.invoice(invoice_id), self.payment(payment_id)
        self.is_binding = True
        try:
            if invoice.status in (EXPIRED, CANCELED) and not self.quirks.binds_ended:
                raise Refused("Invoice is not active")
            if invoice.payment is not None and invoice.status != PAID:
                if invoice.payment is not payment:
                    raise Refused("Invoice has another payment")
                # Binding by hand makes it paid.
                self._settle(invoice, payment)
            else:
                super().bind(invoice_id, payment_id)
        finally:
            self.is_binding = False

    def _settle(self, invoice, payment):
        super()._settle(invoice, payment)
        self._count_change(payment)

    def _count_change(self, payment):
        self.count += 1
        self.changed[payment.id] = self.count

    def _deliver(self, invoice, payment):
        if self.quirks.delivers_bindings or not self.is_binding:
            self.deliver(invoice, payment)

    def _in_order(self, items):
        if self.quirks.order == "oldest":
            return items[::-1]
        if self.quirks.order == "shuffled":
            return sorted(items, key=lambda one: one.number * 37 % 101)
        return items


@dataclass(frozen=True)
class Answer:
    """An item of ``invoices/list``: when it was sent, as of which change, with which status."""

    at: dt.datetime
    as_of: int
    status: str


class RuleBroken(AssertionError):
    """The shop sent a request in a way that it promised to avoid."""


@dataclass
class Wire:
    """The network between the shop and Bitsby; takes the place of ``Transport.post``."""

    clock: Clock
    books: Books
    account: Account
    #: What happens to the next requests, one each.
    faults: deque = field(default_factory=deque)
    #: What outdated lists show, and how many more lists will be outdated.
    snapshot: tuple | None = None
    behind: int = 0
    #: What happens while the next requests are under way, one each.
    meanwhile: deque = field(default_factory=deque)
    #: How often a fault or an outdated list was served.
    disturbed: int = 0
    #: How requests about these invoices are answered until this ends, by ids.
    strange: dict[str, str] = field(default_factory=dict)
    #: Until when the account has a debt, so that Bitsby creates no invoice for it.
    blocked_until: dt.datetime = START
    pauses: Pauses = field(default_factory=Pauses)
    #: When a successful answer last arrived.
    succeeded_at: dt.datetime | None = None
    sent: list = field(default_factory=list)
    #: When a request for each invoice by its id last got an answer.
    asked: dict[str, dt.datetime] = field(default_factory=dict)
    #: The last answer about each invoice in ``invoices/list``.
    answers: dict[str, Answer] = field(default_factory=dict)
    #: Every status that was answered for each invoice, in either list.
    statuses: dict[str, set[str]] = field(default_factory=dict)
    broken: list = field(default_factory=list)

    def lag(self, lists):
        """Let the next lists show the present state."""
        self.snapshot, self.behind = self.books.snapshot(), lists

    def calm(self):
        """End all faults."""
        self.faults.clear()
        self.meanwhile.clear()
        self.behind = 0

    def post(self, transport, path, fields):
        """Answer as ``Transport.post`` does."""
        try:
            self._check(path)
            fields = dict(fields)
            if path == "/invoices/create":
                status, body = self._create(path, fields)
            else:
                status, body = self._exchange(path, fields)
        except OSError as error:
            found = ConnectionFailed(f"{path}: {error}")
        except Exception as error:
            # The app may log and count it, so the machine must learn of it here.
            self.broken.append(str(error) if isinstance(error, RuleBroken) else repr(error))
            raise
        else:
            found = transport._unpack(path, status, body)
        if isinstance(found, GatewayError):
            raise found
        return found

    def _check(self, path):
        if not all(block._from_testcase for block in connection.atomic_blocks):
            raise RuleBroken(f"{IN_TRANSACTION}: {path}")
        now = self.clock.now()
        if self.sent and now - self.sent[-1] < MIN_INTERVAL:
            raise RuleBroken(f"{TOO_SOON}: {path}")
        self.sent.append(now)

    def _create(self, path, fields):
        """Answer a request that creates an invoice, and check that no pause forbids it."""
        order, now, number = (
            json.loads(fields["serviceData"])["orderId"],
            self.sent[-1],
            len(self.sent),
        )
        violated = self.pauses.violated_by(order, now)
        if violated is not None:
            raise RuleBroken(violated)
        fault = self.faults[0] if self.faults else "none"
        is_answered = False
        try:
            status, body = self._exchange(path, fields)
            is_answered = fault == "none" and json.loads(body)["result"] == "success"
        finally:
            # After "frequent" no attempt remains.
            if fault != "frequent":
                is_alone = len(self.sent) == number
                self.pauses.remember(order, now, is_answered=is_answered, is_alone=is_alone)
        return status, body

    def _exchange(self, path, fields):
        fault = self.faults.popleft() if self.faults else None
        fault = None if fault == "none" else fault
        action, is_before = self.meanwhile.popleft() if self.meanwhile else (None, False)
        self.disturbed += fault is not None
        if action is not None and is_before:
            action()
        self.clock.sleep(0.2)
        answer = None
        if fault in (None, "done, lost", "done, slow", "done, html"):
            arrives = fault is None and fields.get("invoiceId") not in self.strange
            answer = self._work(path, fields, arrives=arrives)
        if action is not None and not is_before:
            action()
        kind = self.strange.get(fields.get("invoiceId")) if path.endswith("/list") else None
        if kind is not None and fault is None:
            if kind == "empty":
                # The shop may conclude that there is no such invoice.
                self.asked[fields["invoiceId"]] = self.clock.now()
            status, body = STRANGE_ANSWERS[kind]
            return status, json.dumps(body).encode()
        return self._reply(fault, answer)

    def _reply(self, fault, answer):
        if fault == "done, slow":
            self.clock.sleep(10)
        if fault in ("lost", "done, lost", "done, slow"):
            raise ConnectionError("broken off")
        if fault == "frequent":
            answer = api.error(api.TOO_FREQUENT)
        elif fault == "refused":
            answer = api.error("Something went wrong")
        elif fault == "shape":
            answer = api.success({"strange": True})
        elif fault in ("html", "done, html"):
            return 502 if fault == "html" else 200, b"<html>Bad gateway</html>"
        is_error = answer["result"] == "error"
        status = self.books.quirks.error_status if is_error else 200
        return status, json.dumps(answer).encode()

    def _work(self, path, fields, *, arrives):
        if not self.books.quirks.includes_end_dates:
            for name, days in (("startDate", 1), ("endDate", -1)):
                if name in fields:
                    day = dt.date.fromisoformat(fields[name]) + dt.timedelta(days=days)
                    fields[name] = day.isoformat()
        is_behind = path.endswith("/list") and self.behind > 0
        self.behind -= is_behind
        self.disturbed += is_behind
        self.books.frozen = self.snapshot if is_behind else None
        as_of = self.snapshot[0] if is_behind else self.books.count
        try:
            if path == "/invoices/create" and self.clock.now() < self.blocked_until:
                answer = api.error(BLOCKED)
            else:
                answer = api.answer(self.account, path, fields)
        finally:
            self.books.frozen = None
        if arrives and answer["result"] == "success":
            self.succeeded_at = self.clock.now()
        if path.endswith("/list") and answer["result"] == "success":
            if arrives and "invoiceId" in fields:
                self.asked[fields["invoiceId"]] = self.clock.now()
            for item in answer["data"]:
                if path == "/payments/list" and "invoice" not in item:
                    if self.books.quirks.unbound != "missing":
                        item["invoice"] = None if self.books.quirks.unbound == "null" else {}
                elif arrives:
                    self._remember_answer(path, item, as_of)
        return answer

    def _remember_answer(self, path, item, as_of):
        is_invoice = path == "/invoices/list"
        invoice = item if is_invoice else item["invoice"]
        self.statuses.setdefault(invoice["id"], set()).add(invoice["status"])
        if is_invoice:
            self.answers[item["id"]] = Answer(self.clock.now(), as_of, item["status"])


def open_account(clock, quirks):
    """Return the wire to a new account, and the deliveries that it will send."""
    deliveries = []

    def on_paid(invoice, payment):
        deliveries.append(serializers.delivery(invoice, payment))

    account = Account(Options(page_size=quirks.page_size), PAGES)
    account.clock = RemoteClock(clock, quirks.skew)
    account.state = Books(account.clock, quirks, on_paid)
    wire = Wire(clock, account.state, account)
    return wire, deliveries
