"""Where an order stands for its buyer: exactly one state, from our own records alone."""

from __future__ import annotations

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

#: Nothing was started yet, or the attempt failed.
NEW = "new"
#: An invoice waits for the buyer's transfer.
WAITING = "waiting"
#: The same or EXPIRED, but a payment was seen that may be this buyer's wrong amount, or another's.
POSSIBLE_MISMATCH = "possible_mismatch"
#: Money was seen, and the shop has to look at it: the buyer must not pay again.
UNDER_REVIEW = "under_review"
PAID = "paid"
#: The last invoice ran out; the order can still be paid.
EXPIRED = "expired"
CANCELLED = "cancelled"
#: The shop deals with the order in another way.
OTHER = "other"

FINAL = (PAID, CANCELLED, OTHER)
#: What still waits for something is never shown as a failure.
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
    """The payment status of an order; ``invoice`` is the newest, ``until`` when to pay it by."""

    state: str
    invoice: BitsbyInvoice | None
    until: dt.datetime | None = None

    @property
    def is_final(self) -> bool:
        return self.state in FINAL

    @property
    def version(self) -> str:
        """Something that changes whenever the buyer's page has something else to say."""
        until = "" if self.until is None else f"{self.until:%Y%m%d%H%M%S}"
        return f"{self.state}-{self.invoice.pk if self.invoice else ''}-{until}"

    @property
    def alert_level(self) -> str:
        """The state's colour, as the last part of Bootstrap's class of an alert."""
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
    """Return where ``order`` stands. Its status is no proof of payment: booked money is."""
    invoice = order.bitsby_invoices.order_by("-pk").first()
    shop_state = stage.order_stage(conf.get(), order)
    if shop_state is OrderStage.CANCELLED:
        return PaymentStatus(CANCELLED, invoice)
    if ledger.has_money(order):
        return PaymentStatus(PAID, invoice)
    if ledger.has_unbooked_money(order):
        return PaymentStatus(UNDER_REVIEW, invoice)
    if shop_state is not OrderStage.PENDING:
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
