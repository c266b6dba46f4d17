"""What staff do: bind, decide, cancel, change orders by hand, and ask."""

from __future__ import annotations

from contextlib import suppress
from decimal import Decimal

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from oscar_bitsby import reconciliation
from oscar_bitsby.choices import InvoiceStatus
from oscar_bitsby.exceptions import GatewayError
from oscar_bitsby.models import BitsbyInvoice, BitsbyPayment
from oscar_bitsby.staff import binding, review
from tests.machine.common import (
    EventHandler,
    Order,
    counts,
    has_payments,
    has_records,
    one,
    pick,
)

ACTIONS = ("accept", "dismiss", "undo", "reinstate")


class Keepers:
    """The rules of those who keep the shop."""

    @precondition(has_payments)
    @rule(number=pick, other=pick)
    def bind(self, number, other):
        """Staff bind a payment, of the list or typed by hand, to an invoice that is not paid."""
        open_ones = BitsbyInvoice.objects.filter(bitsby_id__isnull=False)
        open_ones = open_ones.exclude(status=InvoiceStatus.PAID)
        invoice = one(open_ones.order_by("pk"), number)
        payment = one(self.far.all_payments(), other)
        if invoice is not None and payment is not None:
            self.bind_these(invoice, payment)

    def bind_these(self, invoice, payment):
        self.by_hand.add(invoice.order_id)
        result = binding.bind(invoice, payment.id, self.staff, "it is theirs")
        self.committed()
        if result.done:
            counts["bindings"] += 1
            assert BitsbyPayment.objects.get(bitsby_id=payment.id).booked_at

    @rule(number=pick)
    def open_binding(self, number):
        """Staff open the page of payments that may be meant for an order."""
        order = self.order(number)
        binding.refresh_payments(order)
        binding.candidates(order)
        self.committed()

    @precondition(has_records)
    @rule(number=pick, action=st.sampled_from(ACTIONS))
    def decide(self, number, action):
        """Staff take a payment as it is, dismiss it, undo that, or bring its order back."""
        record = one(BitsbyPayment.objects.order_by("pk"), number)
        if record is not None:
            self.decide_this(record, action)

    @precondition(has_records)
    @rule(action=st.sampled_from(ACTIONS))
    def clear_inbox(self, action):
        """Staff deal in one way with all payments of orders that wait in the inbox."""
        for record in BitsbyPayment.objects.needs_review().exclude(invoice=None).order_by("-pk"):
            self.decide_this(record, action)

    def decide_this(self, record, action):
        note = () if action == "undo" else ("fine",)
        order = record.invoice.order if record.invoice else None
        try:
            result = getattr(review, action)(record.pk, self.staff, *note)
        except review.ChangedMeanwhile:
            return
        self.committed()
        if not result.done:
            return
        counts[f"decisions: {action}"] += 1
        record.refresh_from_db()
        if action == "dismiss":
            change = self.dismissed.add if record.booked_at is None else self.dismissed.discard
            change(record.pk)
        if order is None:
            return
        before = order.status
        order.refresh_from_db()
        if action == "accept":
            self.by_hand.add(order.pk)
            self.accepted.add(record.invoice_id)
            assert order.status != "Pending"
        elif action == "reinstate":
            self.by_hand.add(order.pk)
            if order.status != before:
                self.holds[order.pk] = True

    @rule(
        number=pick,
        status=st.sampled_from(["Pending", "Being processed", "Complete", "Cancelled"]),
    )
    def set_status(self, number, status):
        """Staff or a partner write the order's status by hand."""
        order = self.order(number)
        Order.objects.filter(pk=order.pk).update(status=status)
        self.by_hand.add(order.pk)

    @rule(number=pick)
    def cancel_order(self, number):
        """Staff cancel an order as Oscar does it, and give its stock back."""
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
        """Staff ask about one invoice."""
        invoice = self.invoice(number)
        if invoice is None:
            return
        with suppress(GatewayError):
            reconciliation.refresh(invoice)
        self.committed()

    @rule(number=pick)
    def cancel_invoice(self, number):
        """Staff cancel an invoice at Bitsby."""
        invoice = self.invoice(number)
        if invoice is not None:
            binding.cancel_invoice(invoice, self.staff, "wrong")
            self.committed()
