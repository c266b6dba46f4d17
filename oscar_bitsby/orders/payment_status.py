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

    @property
    def is_final(self) -> bool:
        return self.state in FINAL

    @property
    def version(self) -> str:
        """A text that changes whenever the content of the buyer's page changes."""
        until = "" if self.until is None else f"{self.until:%Y%m%d%H%M%S}"
        return f"{self.state}-{self.invoice.pk if self.invoice else ''}-{until}"

    @property
    def alert_level(self) -> str:
        """The last part of Bootstrap's class of an alert in this state."""
        return ALERT_LEVELS[self.state]

    @property
    def can_pay(self) -> bool:
        return self.state in (NEW, WAITING, POSSIBLE_MISMATCH, EXPIRED)

    @property
    def seconds_left(self) -> int | None:
        if self.until is None:
            return None
        return max(0, int((self.until - timezone.now()).total_seconds()))


def get_payment_status(order: Any) -> PaymentStatus:
    """Return the payment status of an order. Booked money makes it paid, not its own status."""
    invoice = order.bitsby_invoices.order_by("-pk").first()
    order_stage = stage.order_stage(conf.get(), order)
    if order_stage is OrderStage.CANCELLED:
        return PaymentStatus(CANCELLED, invoice)
    if ledger.has_money(order):
        return PaymentStatus(PAID, invoice)
    if ledger.has_unbooked_money(order):
        return PaymentStatus(UNDER_REVIEW, invoice)
    if order_stage is not OrderStage.PENDING:
        return PaymentStatus(OTHER, invoice)
    if invoice is None or invoice.status == InvoiceStatus.CREATING or invoice.bitsby_id is None:
        return PaymentStatus(NEW, invoice)
    if invoice.status == InvoiceStatus.PAID or invoice.failure == models.PAID_WITHOUT_PAYMENT:
        return PaymentStatus(UNDER_REVIEW, invoice)
    if invoice.status == InvoiceStatus.UNPAID and not invoice.is_over(timezone.now()):
        state, until = WAITING, invoice.expires_at
    else:
        state, until = EXPIRED, None
    return PaymentStatus(
        POSSIBLE_MISMATCH if has_plausible_unmatched_payment(invoice) else state, invoice, until
    )
