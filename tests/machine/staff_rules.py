"""What staff do: bind, decide on payments, cancel, change orders by hand, and refresh."""

from contextlib import suppress
from decimal import Decimal

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from oscar_bitsby import reconciliation
from oscar_bitsby.choices import InvoiceStatus, RefundState
from oscar_bitsby.exceptions import GatewayError, RefundRefused
from oscar_bitsby.models import BitsbyInvoice, BitsbyPayment, BitsbyRefund
from oscar_bitsby.settlement import refunds
from oscar_bitsby.staff import binding, candidates, decision, review
from tests.machine.common import (
    EventHandler,
    Order,
    counts,
    has_payment_rows,
    has_payments,
    has_refunds,
    one,
    pick,
)
from tests.support.refunds import ADDRESSES

ACTIONS = ("accept", "dismiss", "undo", "reinstate", "ask")

BOUND_UNBOOKED = "a payment was bound and not booked"
ASKED_NOT_PENDING = "the rest of an order is asked for that does not wait for a payment"
ACCEPTED_PENDING = "a payment was accepted and its order is pending"


class StaffRules:
    """The rules of staff."""

    @precondition(has_payments)
    @rule(number=pick, other=pick, asks=st.booleans())
    def bind(self, number, other, asks):
        """Staff bind a payment, known to the shop or not, to an invoice that is not paid."""
        open_ones = BitsbyInvoice.objects.filter(bitsby_id__isnull=False)
        open_ones = open_ones.exclude(status=InvoiceStatus.PAID)
        invoice = one(open_ones.order_by("pk"), number)
        payment = one(self.remote.all_payments(), other)
        if invoice is not None and payment is not None:
            self.bind_pair(invoice, payment, asks=asks)

    def bind_pair(self, invoice, payment, *, asks=False):
        self.by_hand.add(invoice.order_id)
        result = binding.bind(invoice, payment.id, self.staff, "it was meant", ask_for_rest=asks)
        self.run_commit_hooks()
        if result.done:
            counts["bindings"] += 1
            assert BitsbyPayment.objects.get(bitsby_id=payment.id).booked_at, BOUND_UNBOOKED

    @rule(number=pick)
    def open_binding(self, number):
        """Staff open the page that lists payments for an order to bind."""
        order = self.order(number)
        binding.refresh_payments(order)
        candidates.all_candidates(order)
        self.run_commit_hooks()

    @precondition(has_payment_rows)
    @rule(number=pick, action=st.sampled_from(ACTIONS))
    def decide(self, number, action):
        """Staff accept a payment, dismiss it, undo that, or reinstate its order."""
        payment_row = one(BitsbyPayment.objects.order_by("pk"), number)
        if payment_row is not None:
            self.decide_on(payment_row, action)

    @precondition(has_payment_rows)
    @rule(action=st.sampled_from(ACTIONS))
    def decide_all(self, action):
        """Staff decide in one way on all payments of orders that wait for review."""
        waiting = BitsbyPayment.objects.needs_review().exclude(invoice=None)
        for payment_row in waiting.order_by("-pk"):
            self.decide_on(payment_row, action)

    def decide_on(self, payment_row, action):
        note = () if action == "undo" else ("fine",)
        order = payment_row.invoice.order if payment_row.invoice else None
        try:
            result = getattr(review, action)(payment_row.pk, self.staff, *note)
        except decision.ChangedMeanwhile:
            return
        self.run_commit_hooks()
        if not result.done:
            return
        counts[f"decisions: {action}"] += 1
        payment_row.refresh_from_db()
        if action == "dismiss":
            change = self.dismissed.add if payment_row.booked_at is None else self.dismissed.discard
            change(payment_row.pk)
        if order is None:
            return
        before = order.status
        order.refresh_from_db()
        if action == "accept":
            self.by_hand.add(order.pk)
            self.accepted.add(payment_row.invoice_id)
            assert order.status != "Pending", ACCEPTED_PENDING
        elif action == "ask":
            self.by_hand.add(order.pk)
            assert order.status == "Pending", ASKED_NOT_PENDING
        elif action == "reinstate":
            self.by_hand.add(order.pk)
            if order.status != before:
                self.holds[order.pk] = True

    @precondition(has_payment_rows)
    @rule(number=pick, part=st.sampled_from(["all", "all", "surplus", "half"]))
    def request_refund(self, number, part):
        """Staff request the refund of a payment, booked or not."""
        payment_row = one(BitsbyPayment.objects.order_by("pk"), number)
        if payment_row is not None:
            self.request_refund_of(payment_row, part)

    def request_refund_of(self, payment_row, part):
        order = payment_row.invoice.order if payment_row.invoice else None
        left = refunds.refundable(payment_row, order)
        amount = None
        if payment_row.booked_at is not None:
            amount = {"surplus": left.surplus, "half": left.amount / 2}.get(part, left.amount)
            amount = amount.quantize(Decimal("0.01"))
        with suppress(RefundRefused):
            refunds.request_refund(
                user=self.staff, note="too much", payment=payment_row, amount=amount
            )
            counts["refunds requested"] += 1
        self.run_commit_hooks()

    @precondition(has_refunds)
    @rule(
        number=pick,
        step=st.sampled_from(["address", "address", "send", "send", "send", "reopen", "cancel"]),
        cancels_order=st.booleans(),
    )
    def go_on_with_refund(self, number, step, cancels_order):
        """A buyer or staff take one step of a refund that is not sent."""
        refund = one(BitsbyRefund.objects.open().order_by("pk"), number)
        if refund is not None:
            self.step_of_refund(refund, step, cancels_order=cancels_order)

    def step_of_refund(self, refund, step, *, cancels_order=False):
        steps = {
            "address": lambda: refunds.set_address(refund.pk, ADDRESSES[refund.blockchain]),
            "send": lambda: refunds.mark_sent(
                refund.pk, f"{refund.pk:064x}", self.staff, cancel_order=cancels_order
            ),
            "reopen": lambda: refunds.reopen(refund.pk, self.staff, "a wrong address"),
            "cancel": lambda: refunds.cancel(refund.pk, self.staff, "it was kept"),
        }
        self.staff_cancels = cancels_order
        try:
            done = steps[step]()
        except RefundRefused:
            return
        finally:
            self.staff_cancels = False
            self.run_commit_hooks()
        counts[f"refunds: {step}"] += 1
        if done.state == RefundState.SENT and cancels_order and done.order is not None:
            self.by_hand.add(done.order_id)

    @rule(
        number=pick,
        status=st.sampled_from(["Pending", "Being processed", "Complete", "Cancelled"]),
    )
    def set_status(self, number, status):
        """Staff or a partner set the order's status by hand."""
        order = self.order(number)
        Order.objects.filter(pk=order.pk).update(status=status)
        self.by_hand.add(order.pk)

    @rule(number=pick)
    def cancel_order(self, number):
        """Staff cancel an order with Oscar's own handler and release its stock."""
        order = self.order(number)
        if order.status == "Pending":
            EventHandler().handle_order_status_change(order, "Cancelled")
            for line in order.lines.filter(num_allocated__gt=0):
                EventHandler().cancel_stock_allocations(order, [line], [line.num_allocated])
            self.by_hand.add(order.pk)
            self.holds[order.pk] = False

    @rule(number=pick, total=st.sampled_from(["10.00", "12.34"]))
    def change_total(self, number, total):
        """Staff change what an order costs."""
        Order.objects.filter(pk=self.order(number).pk).update(total_incl_tax=Decimal(total))

    @rule(number=pick)
    def refresh(self, number):
        """Staff refresh one invoice."""
        invoice = self.invoice(number)
        if invoice is None:
            return
        with suppress(GatewayError):
            reconciliation.refresh(invoice)
        self.run_commit_hooks()

    @rule(number=pick)
    def cancel_invoice(self, number):
        """Staff cancel an invoice at Bitsby."""
        invoice = self.invoice(number)
        if invoice is not None:
            binding.cancel_invoice(invoice, self.staff, "wrong")
            self.run_commit_hooks()
