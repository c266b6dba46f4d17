"""The payment status of an order that its buyer sees, from the database only."""

import datetime as dt
from dataclasses import dataclass
from typing import Any

from django.utils import timezone

from oscar_bitsby import conf, models
from oscar_bitsby.accounting import ledger
from oscar_bitsby.accounting.matching import has_plausible_unmatched_payment
from oscar_bitsby.choices import InvoiceStatus
from oscar_bitsby.models import BitsbyInvoice
from oscar_bitsby.orders import stage
from oscar_bitsby.orders.stage import OrderStage

#: No invoice yet, or the attempt to create one failed.
NEW = "new"
#: An invoice is waiting for the buyer's payment.
WAITING = "waiting"
#: WAITING or EXPIRED, but an unmatched payment may be this buyer's wrong amount.
POSSIBLE_MISMATCH = "possible_mismatch"
#: A payment needs a decision by staff. The buyer must not pay again.
UNDER_REVIEW = "under_review"
PAID = "paid"
#: The last invoice expired. The order can still be paid.
EXPIRED = "expired"
CANCELLED = "cancelled"
#: Staff gave the order another status.
OTHER = "other"

FINAL = (PAID, CANCELLED, OTHER)
#: Bootstrap's alert levels. No state is shown as an error.
ALERT_LEVELS = {
    NEW: "info",
    WAITING: "info",
    POSSIBLE_MISMATCH: "warning",
    UNDER_REVIEW: "warning",
    PAID: "success",
    EXPIRED: "warning",
    CANCELLED: "secondary",
    OTHER: "info",
}


@dataclass(frozen=True)
class PaymentStatus:
    """The payment status of an order."""

    #: One of the states above.
    state: str
    #: The newest invoice, if any.
    invoice: BitsbyInvoice | None
    #: When the invoice expires; None where it cannot be paid.
    until: dt.datetime | None = None
    #: The hold on the unpaid order is over: it gets no invoice any more, and will be cancelled.
    hold_ended: bool = False

    @property
    def is_final(self) -> bool:
        return self.state in FINAL

    @property
    def version(self) -> str:
        """A text that changes whenever the content of the buyer's page changes."""
        until = "" if self.until is None else f"{self.until:%Y%m%d%H%M%S}"
        end = "-ended" if self.hold_ended else ""
        return f"{self.state}-{self.invoice.pk if self.invoice else ''}-{until}{end}"

    @property
    def alert_level(self) -> str:
        """The last part of Bootstrap's class of an alert in this state."""
        return ALERT_LEVELS[self.state]

    @property
    def can_pay(self) -> bool:
        states = (NEW, WAITING, POSSIBLE_MISMATCH, EXPIRED)
        return self.state in states and not self.hold_ended

    @property
    def can_reorder(self) -> bool:
        return self.state == CANCELLED or self.hold_ended

    @property
    def seconds_left(self) -> int | None:
        if self.until is None:
            return None
        return max(0, int((self.until - timezone.now()).total_seconds()))


def get_payment_status(order: Any) -> PaymentStatus:
    """Return the payment status of an order. Booked money makes it paid, not its own status."""
    settings, now = conf.get(), timezone.now()
    invoice = order.bitsby_invoices.order_by("-pk").first()
    order_stage = stage.order_stage(settings, order)
    if order_stage is OrderStage.CANCELLED:
        return PaymentStatus(CANCELLED, invoice)
    if ledger.has_money(order):
        return PaymentStatus(PAID, invoice)
    if ledger.has_unbooked_money(order):
        return PaymentStatus(UNDER_REVIEW, invoice)
    if order_stage is not OrderStage.PENDING:
        return PaymentStatus(OTHER, invoice)
    hold_end = stage.hold_deadline(order, settings)
    hold_ended = hold_end is not None and hold_end <= now
    if invoice is None or invoice.status == InvoiceStatus.CREATING or invoice.bitsby_id is None:
        # An attempt that began before the end may still get its invoice.
        is_creating = invoice is not None and invoice.status == InvoiceStatus.CREATING
        return PaymentStatus(NEW, invoice, hold_ended=hold_ended and not is_creating)
    if invoice.status == InvoiceStatus.PAID or invoice.failure == models.PAID_WITHOUT_PAYMENT:
        return PaymentStatus(UNDER_REVIEW, invoice)
    if invoice.status == InvoiceStatus.UNPAID and not invoice.is_over(now):
        # It can still be paid after the hold.
        state, until, hold_ended = WAITING, invoice.expires_at, False
    else:
        state, until = EXPIRED, None
    state = POSSIBLE_MISMATCH if has_plausible_unmatched_payment(invoice) else state
    return PaymentStatus(state, invoice, until, hold_ended)
