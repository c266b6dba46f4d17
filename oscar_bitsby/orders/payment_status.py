"""The payment status of an order that its buyer sees, from the database only."""

import datetime as dt
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from django.db import router
from django.utils import timezone

from oscar_bitsby import conf, models
from oscar_bitsby.accounting import ledger
from oscar_bitsby.accounting.refundable import open_refunds
from oscar_bitsby.accounting.unmatched import likely_matches
from oscar_bitsby.choices import InvoiceStatus, ReviewReason
from oscar_bitsby.models import BitsbyInvoice, BitsbyPayment
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

#: An invoice that expires within this time is urgent. ``order.js`` has the same number.
URGENT_SECONDS = 300

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
#: A pending order with such a payment waits for staff: its buyer is not asked for the rest.
SHORT_REASONS = {ReviewReason.SHORT, ReviewReason.REST_MISSING}
#: Reasons why staff decide about booked money. The others do not concern the buyer.
MONEY_REASONS = SHORT_REASONS | {
    ReviewReason.OVER,
    ReviewReason.SECOND,
    ReviewReason.LATE,
    ReviewReason.CANCELLED,
}


@dataclass(frozen=True)
class SeenPayment:
    """A payment that is not booked and that staff have not decided about."""

    #: The transfer as it was made, in coins.
    coins: str
    #: In ``currency``, at the rate that the invoice locked; None if no rate is known.
    value: Decimal | None
    currency: str


@dataclass(frozen=True)
class PaymentStatus:
    """The payment status of an order. Amounts are in the order's currency."""

    #: One of the states above.
    state: str
    #: The newest invoice, if any.
    invoice: BitsbyInvoice | None
    #: When the invoice expires; None where it cannot be paid.
    until: dt.datetime | None = None
    #: The hold on the unpaid order is over: it gets no invoice any more, and will be cancelled.
    hold_ended: bool = False
    #: The order's total.
    asked: Decimal = Decimal(0)
    #: The money that is booked and not refunded.
    received: Decimal = Decimal(0)
    #: What the buyer is asked for after a short payment; 0 if the rest was not asked for.
    missing: Decimal = Decimal(0)
    #: Staff have not decided yet about booked money: too little, too much, late or twice.
    is_undecided: bool = False
    #: A refund waits for the buyer's address or for the shop.
    is_refund_open: bool = False
    #: Payments that are, or may be, for this order and that staff have to check first.
    seen: tuple[SeenPayment, ...] = ()

    @property
    def is_final(self) -> bool:
        return self.state in FINAL

    @property
    def shortfall(self) -> Decimal:
        """How much less than the total was received; 0 if nothing was."""
        return max(self.asked - self.received, Decimal(0)) if self.received else Decimal(0)

    @property
    def surplus(self) -> Decimal:
        """How much more than the total was received."""
        return max(self.received - self.asked, Decimal(0))

    @property
    def to_pay(self) -> Decimal:
        """What the buyer is asked for: the rest if it was asked for, otherwise the total."""
        return self.missing or self.asked

    @property
    def version(self) -> str:
        """A text that changes whenever the content of the buyer's page changes."""
        until = "" if self.until is None else f"{self.until:%Y%m%d%H%M%S}"
        end = "-ended" if self.hold_ended else ""
        end += "-cancelling" if self.is_being_cancelled else ""
        invoice = self.invoice.pk if self.invoice else ""
        money = f"{self.asked}-{self.received}-{self.missing}"
        open_decisions = f"{self.is_undecided:d}{self.is_refund_open:d}"
        seen = "+".join(payment.coins for payment in self.seen)
        return f"{self.state}-{invoice}-{until}{end}-{money}-{open_decisions}-{seen}"

    @property
    def is_being_cancelled(self) -> bool:
        """The shop has requested to cancel the invoice, whose addresses were not shown."""
        invoice = self.invoice
        if invoice is None or invoice.addresses_shown_at is not None:
            return False
        return invoice.cancelling_since is not None

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
        # About money that is, or may be, of this order the shop decides first.
        may_have_money = bool(self.received or self.seen)
        return (self.state == CANCELLED and not may_have_money) or self.hold_ended

    @property
    def seconds_left(self) -> int | None:
        if self.until is None:
            return None
        return max(0, int((self.until - timezone.now()).total_seconds()))

    @property
    def is_urgent(self) -> bool:
        """The invoice expires so soon that a slow transfer would come too late."""
        return self.seconds_left is not None and 0 < self.seconds_left <= URGENT_SECONDS


def get_payment_status(order: Any) -> PaymentStatus:
    """Return the payment status of an order. Booked money makes it paid, not its own status."""
    invoices = list(order.bitsby_invoices.defer("reply").order_by("-pk"))
    invoice = invoices[0] if invoices else None
    sources = list(order.sources.using(router.db_for_write(BitsbyPayment)))
    waiting = _waiting_payments(order)
    status = PaymentStatus(
        OTHER,
        invoice,
        asked=order.total_incl_tax,
        received=ledger.amount_held(sources),
        is_undecided=any(_is_booked_for(payment, MONEY_REASONS) for payment in waiting),
        seen=tuple(_seen(row, row.fiat_value) for row in waiting if row.booked_at is None),
    )
    rest_asked_at = None
    has_money = any(source.amount_debited > source.amount_refunded for source in sources)
    order_stage = stage.order_stage(conf.get(), order)
    if order_stage is OrderStage.CANCELLED:
        return _with_open_matters(replace(status, state=CANCELLED), order, invoices)
    if has_money:
        is_short = order_stage is OrderStage.PENDING and status.shortfall > 0
        if is_short and any(_is_booked_for(payment, SHORT_REASONS) for payment in waiting):
            return _under_review(status)
        rest_asked_at = ledger.rest_asked_at(order) if is_short else None
        if rest_asked_at is not None and open_refunds(order) > 0:
            # What was received goes back: the buyer must not pay the rest.
            return _under_review(replace(status, is_refund_open=True))
        if rest_asked_at is None:
            return _with_open_matters(replace(status, state=PAID), order, invoices)
        status = replace(status, missing=status.shortfall)
    if status.seen:
        return _under_review(status)
    if order_stage is not OrderStage.PENDING:
        return status
    hold_end = stage.hold_deadline(order, conf.get(), rest_asked_at)
    return _pending_status(status, order, invoices, hold_end)


def _pending_status(
    status: PaymentStatus, order: Any, invoices: list[BitsbyInvoice], hold_end: dt.datetime | None
) -> PaymentStatus:
    """Return the status of an order that waits for its payment, or for the rest of it."""
    now, invoice = timezone.now(), status.invoice
    hold_ended = hold_end is not None and hold_end <= now
    if invoice is None or invoice.status == InvoiceStatus.CREATING or invoice.bitsby_id is None:
        # An attempt that began before the end may still get its invoice.
        is_creating = invoice is not None and invoice.status == InvoiceStatus.CREATING
        state, until, hold_ended = NEW, None, hold_ended and not is_creating
    elif invoice.failure == models.PAID_WITHOUT_PAYMENT:
        return _under_review(status)
    elif status.missing and not invoice.asks(status.missing, order.currency):
        # The rest has no invoice yet: an earlier one asks for more.
        state, until = NEW, None
    elif invoice.status == InvoiceStatus.PAID:
        return _under_review(status)
    elif invoice.status == InvoiceStatus.UNPAID and not invoice.is_over(now):
        # It can still be paid after the hold.
        state, until, hold_ended = WAITING, invoice.expires_at, False
    else:
        state, until = EXPIRED, None
    if status.missing and hold_ended:
        # Staff decide about the money: the order is neither cancelled nor ordered again.
        return _under_review(status)
    likely = likely_matches(order, invoices)
    if likely:
        state = POSSIBLE_MISMATCH
    seen = tuple(_seen(found.payment, found.fiat_value, order.currency) for found in likely)
    return replace(status, state=state, until=until, hold_ended=hold_ended, seen=seen)


def _under_review(status: PaymentStatus) -> PaymentStatus:
    """Return the status of an order whose buyer must not pay, not even the rest."""
    return replace(status, state=UNDER_REVIEW, missing=Decimal(0))


def _with_open_matters(
    status: PaymentStatus, order: Any, invoices: list[BitsbyInvoice]
) -> PaymentStatus:
    """Add what is still open after a payment or a cancellation: refunds, and further payments."""
    likely = likely_matches(order, invoices)
    further = tuple(_seen(found.payment, found.fiat_value, order.currency) for found in likely)
    is_refund_open = any(refund.is_open for refund in order.bitsby_refunds.all())
    return replace(status, seen=status.seen + further, is_refund_open=is_refund_open)


def _waiting_payments(order: Any) -> list[BitsbyPayment]:
    """Return the order's payments that need a decision, from the database that is written to."""
    payments = BitsbyPayment.objects.using(router.db_for_write(BitsbyPayment)).needs_review()
    return list(payments.filter(invoice__order=order).order_by("pk"))


def _is_booked_for(payment: BitsbyPayment, reasons: set[ReviewReason]) -> bool:
    """Tell whether a payment is booked and waits for staff for one of these reasons."""
    return payment.booked_at is not None and not reasons.isdisjoint(payment.review_reasons)


def _seen(payment: BitsbyPayment, value: Decimal | None, currency: str = "") -> SeenPayment:
    return SeenPayment(str(payment).upper(), value, currency or payment.currency)
