"""What happens at Bitsby, on the network and at the webhook, and how time passes."""

import datetime as dt
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
from tests.machine.common import (
    BITCOIN,
    DAY,
    FOREIGN_ID,
    HOUR,
    MINUTE,
    TRON,
    counts,
    has_deliveries,
    has_few_payments,
    has_payments,
    one,
    pick,
)
from tests.machine.fake_gateway import STRANGE_ANSWERS
from tests.support import bitsby

#: Short ones are drawn more often: after a long one little is left to happen.
WAITS = (
    *(2, 12, 12, 6 * MINUTE, 6 * MINUTE, 31 * MINUTE, 61 * MINUTE, 61 * MINUTE),
    *(2 * HOUR, 25 * HOUR, 6 * DAY, 40 * DAY),
)
FAULTS = (
    *("none", "none", "lost", "done, lost", "done, slow", "html", "done, html"),
    *("refused", "frequent", "shape"),
)
INVALID_BODIES = (b"", b"[]", b"{", b'{"invoice": {"id": 5}}', b"\xff\x00")

CONFIRMED_UNPAID = "a delivery was answered with 200 and its invoice is not paid"
WRONG_ANSWER = "the webhook gave another answer than promised"
NEEDLESS_REQUEST = "a delivery about no invoice of this shop caused a request"


class GatewayRules:
    """The rules of Bitsby, its other users, the network and time."""

    @precondition(has_few_payments)
    @rule(count=st.sampled_from([1, 1, 1, 12]))
    def receive_foreign_payments(self, count):
        """Payments arrive that no invoice asked for, and one of the account's other project."""
        for number in range(count):
            self.remote.transfer(BITCOIN, Decimal(7 + number))
        other = self.remote.create(FOREIGN_ID, Decimal("5.00"), "USD", Decimal(1))
        self.remote.transfer(TRON, other.reserved[TRON.id])

    @precondition(has_payments)
    @rule(number=pick, other=pick)
    def bind_at_bitsby(self, number, other):
        """The merchant binds a payment on Bitsby's own pages, to any invoice of the account."""
        payment = one(self.remote.all_payments(), number)
        invoice = one(self.remote.all_invoices(), other)
        if payment is None or invoice is None:
            return
        with suppress(Refused):
            self.remote.bind(invoice.id, payment.id)

    @rule(number=pick, what=st.sampled_from(["project", "amount", "currency"]))
    def alter(self, number, what):
        """An unpaid invoice at Bitsby comes to differ from what the shop asked for."""
        row = self.invoice(number)
        if row is None or row.bitsby_id is None:
            return
        invoice = self.remote.invoice(str(row.bitsby_id))
        if invoice.status != UNPAID:
            return
        if self.altered.get(invoice.id) != "project":
            # Once of another project, it stays so, whatever else is altered.
            self.altered[invoice.id] = what
        if what == "project":
            invoice.project_id = FOREIGN_ID
        elif what == "amount":
            invoice.amount += 1
        else:
            invoice.currency = "EUR"

    @rule(number=pick, kind=st.sampled_from([None, *STRANGE_ANSWERS]))
    def answer_strangely(self, number, kind):
        """Requests about one invoice get an answer of no use from now on, or no longer."""
        row = self.invoice(number)
        if row is None or row.bitsby_id is None:
            return
        self.wire.strange.pop(str(row.bitsby_id), None)
        if kind is not None:
            counts["invoices answered strangely"] += 1
            self.wire.strange[str(row.bitsby_id)] = kind

    @rule(seconds=st.sampled_from([0, 12, MINUTE, HOUR]))
    def block_account(self, seconds):
        """Bitsby refuses new invoices for a while, since the account has a debt, or no longer.

        All other requests are answered as before.
        """
        self.wire.blocked_until = self.clock.now() + dt.timedelta(seconds=seconds)

    @rule(seconds=st.sampled_from(WAITS))
    def wait(self, seconds):
        """Time passes."""
        self.clock.sleep(seconds)

    @rule(faults=st.lists(st.sampled_from(FAULTS), min_size=1, max_size=4))
    def trouble(self, faults):
        """Some of the next requests fail."""
        self.wire.faults.extend(faults)

    @rule(lists=st.integers(1, 4))
    def lag(self, lists):
        """The next lists show the present state, however late they are requested."""
        self.wire.lag(lists)

    @rule()
    def calm(self):
        """All faults end."""
        self.wire.calm()

    @rule(
        what=st.sampled_from(
            ["pay", "pay_click", "deliver", "bind", "run", "staff", "status", "wait"]
        ),
        number=pick,
        is_before=st.booleans(),
    )
    def meanwhile(self, what, number, is_before):
        """While the next request is under way, another process or person acts."""
        actions = {
            "pay": lambda: self.pay(number, "exact", TRON, 1),
            "pay_click": lambda: self.click_pay(number, False),
            "deliver": lambda: self.deliver(number, 0),
            "bind": lambda: self.bind_at_bitsby(number, number),
            "run": lambda: self.reconcile(False),
            "staff": lambda: self.decide(number, "accept"),
            "status": lambda: self.set_status(number, "Cancelled"),
            "wait": lambda: self.wait(6 * MINUTE),
        }
        self.wire.meanwhile.append((actions[what], is_before))

    @precondition(has_deliveries)
    @rule(number=pick, age=pick)
    def deliver(self, number, age):
        """A webhook delivery comes: first, again, late, out of order; some never come."""
        body = one(self.deliveries[::-1], age if number % 2 else number)
        if body is None:
            return
        answer = self.post(body)
        invoice = BitsbyInvoice.objects.filter(bitsby_id=body["invoice"]["id"]).first()
        if answer == 200 and invoice is not None:
            assert invoice.status == InvoiceStatus.PAID, CONFIRMED_UNPAID

    @precondition(has_deliveries)
    @rule()
    def deliver_newest(self):
        """A webhook delivery comes at once, as most do."""
        if self.deliveries:
            self.deliver(1, 0)

    @rule(number=pick, what=st.sampled_from(["known", "known", "unknown", "invalid"]))
    def forge(self, number, what):
        """Somebody else sends a delivery, or a body that is none."""
        before = len(self.wire.sent)
        if what == "invalid":
            assert self.post(one(INVALID_BODIES, number)) == 400, WRONG_ANSWER
            assert len(self.wire.sent) == before, NEEDLESS_REQUEST
            return
        invoice = self.invoice(number)
        is_known = what == "known" and invoice is not None and invoice.bitsby_id is not None
        key = str(invoice.bitsby_id) if is_known else FOREIGN_ID
        status = "paid" if number % 3 else "expired"
        payment, project = bitsby.transfer("10.00000000"), {"id": bitsby.PROJECT}
        answer = self.post(
            {"invoice": {"id": key, "status": status}, "payment": payment, "project": project}
        )
        if not is_known:
            assert answer == 200, WRONG_ANSWER
            assert len(self.wire.sent) == before, NEEDLESS_REQUEST

    def post(self, body):
        """Send a body to the webhook and return the status of its answer."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        request = RequestFactory().post("/bitsby/webhook/", data, content_type="application/json")
        answer = webhook(request).status_code
        counts[f"deliveries answered {answer}"] += 1
        self.run_commit_hooks()
        assert answer in (200, 400, 503), WRONG_ANSWER
        return answer
