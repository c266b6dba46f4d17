"""What happens at Bitsby, on the road to it, and at the webhook's door."""

from __future__ import annotations

import json
from contextlib import suppress
from decimal import Decimal

from django.test import RequestFactory
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from oscar_bitsby.choices import InvoiceStatus
from oscar_bitsby.models import BitsbyInvoice
from oscar_bitsby.simulator.state import UNPAID, Refused
from oscar_bitsby.webhook import webhook
from tests import bitsby
from tests.machine.common import (
    BITCOIN,
    DAY,
    HOUR,
    MINUTE,
    STRANGER,
    TRON,
    counts,
    has_deliveries,
    has_few_payments,
    has_payments,
    one,
    pick,
)

#: Short ones are drawn more often: at the end of a long one little is left to happen.
WAITS = (
    *(2, 12, 12, 6 * MINUTE, 6 * MINUTE, 31 * MINUTE, 61 * MINUTE, 61 * MINUTE),
    *(2 * HOUR, 25 * HOUR, 6 * DAY, 40 * DAY),
)
FAULTS = (
    "none",
    "none",
    "lost",
    "done, lost",
    "done, slow",
    "html",
    "done, html",
    "refused",
    "frequent",
    "shape",
)
RUBBISH = (b"", b"[]", b"{", b'{"invoice": {"id": 5}}', b"\xff\x00")


class Outside:
    """The rules of Bitsby, of others at Bitsby, of the road and of time."""

    @precondition(has_few_payments)
    @rule(count=st.sampled_from([1, 1, 1, 12]))
    def strangers(self, count):
        """Money arrives that nobody asked for, and money of the account's other project."""
        for number in range(count):
            self.far.transfer(BITCOIN, Decimal(7 + number))
        other = self.far.create(STRANGER, Decimal("5.00"), "USD", Decimal(1))
        self.far.transfer(TRON, other.reserved[TRON.id])

    @precondition(has_payments)
    @rule(number=pick, other=pick)
    def merchant_binds_at_bitsby(self, number, other):
        """The merchant binds a payment on Bitsby's own pages, to any invoice of the account."""
        payment = one(self.far.all_payments(), number)
        invoice = one(self.far.all_invoices(), other)
        if payment is None or invoice is None:
            return
        with suppress(Refused):
            self.far.bind(invoice.id, payment.id)

    @rule(number=pick, what=st.sampled_from(["project", "amount", "currency"]))
    def alter(self, number, what):
        """Bitsby's record of an invoice that waits is no longer what the shop has asked for."""
        row = self.invoice(number)
        if row is None or row.bitsby_id is None:
            return
        invoice = self.far.invoice(str(row.bitsby_id))
        if invoice.status != UNPAID:
            return
        if self.altered.get(invoice.id) != "project":
            # What no longer is of our project stays so, whatever else is altered.
            self.altered[invoice.id] = what
        if what == "project":
            invoice.project_id = STRANGER
        elif what == "amount":
            invoice.amount += 1
        else:
            invoice.currency = "EUR"

    @rule(seconds=st.sampled_from(WAITS))
    def wait(self, seconds):
        """Time goes by."""
        self.clock.sleep(seconds)

    @rule(faults=st.lists(st.sampled_from(FAULTS), min_size=1, max_size=4))
    def trouble(self, faults):
        """The next requests fail, or some of them."""
        self.wire.faults.extend(faults)

    @rule(lists=st.integers(1, 4))
    def lag(self, lists):
        """The next lists show what is true now, whenever they are asked for."""
        self.wire.lag(lists)

    @rule()
    def calm(self):
        """All trouble ends."""
        self.wire.calm()

    @rule(
        what=st.sampled_from(
            ["pay", "pay_click", "deliver", "bind", "pass", "staff", "status", "wait"]
        ),
        number=pick,
        is_before=st.booleans(),
    )
    def meanwhile(self, what, number, is_before):
        """While the next request is under way, another process or person does something."""
        actions = {
            "pay": lambda: self.pay(number, "exact", TRON, 1),
            "pay_click": lambda: self.click_pay(number, False),
            "deliver": lambda: self.deliver(number, 0),
            "bind": lambda: self.merchant_binds_at_bitsby(number, number),
            "pass": lambda: self.one_pass(False),
            "staff": lambda: self.decide(number, "accept"),
            "status": lambda: self.set_status(number, "Cancelled"),
            "wait": lambda: self.wait(6 * MINUTE),
        }
        self.wire.meanwhile.append((actions[what], is_before))

    @precondition(has_deliveries)
    @rule(number=pick, age=pick)
    def deliver(self, number, age):
        """A delivery comes: for the first time, again, late or out of order; others never do."""
        body = one(self.deliveries[::-1], age if number % 2 else number)
        if body is None:
            return
        answer = self.post(body)
        invoice = BitsbyInvoice.objects.filter(bitsby_id=body["invoice"]["id"]).first()
        if answer == 200 and invoice is not None:
            assert invoice.status == InvoiceStatus.PAID, "a delivery was answered for nothing"

    @precondition(has_deliveries)
    @rule()
    def deliver_newest(self):
        """A delivery comes at once, as most do."""
        if self.deliveries:
            self.deliver(1, 0)

    @rule(number=pick, what=st.sampled_from(["known", "known", "unknown", "rubbish"]))
    def forge(self, number, what):
        """Somebody sends a delivery that Bitsby never sent, or what is none at all."""
        before = len(self.wire.sent)
        if what == "rubbish":
            assert self.post(one(RUBBISH, number)) == 400
            assert len(self.wire.sent) == before
            return
        invoice = self.invoice(number)
        is_known = what == "known" and invoice is not None and invoice.bitsby_id is not None
        key = str(invoice.bitsby_id) if is_known else STRANGER
        word = "paid" if number % 3 else "expired"
        payment, project = bitsby.transfer("10.00000000"), {"id": bitsby.PROJECT}
        answer = self.post(
            {"invoice": {"id": key, "status": word}, "payment": payment, "project": project}
        )
        if not is_known:
            assert answer == 200
            assert len(self.wire.sent) == before

    def post(self, body):
        """Send a body to the webhook and return the status of its answer."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        request = RequestFactory().post("/bitsby/webhook/", data, content_type="application/json")
        answer = webhook(request).status_code
        counts[f"deliveries answered {answer}"] += 1
        self.committed()
        assert answer in (200, 400, 503)
        return answer
