"""Orders in each payment status, with what their page shows."""

import datetime as dt
from decimal import Decimal

from django.urls import reverse
from django.utils import timezone

from oscar_bitsby.choices import InvoiceStatus, ReviewReason
from oscar_bitsby.models import BitsbyPayment
from oscar_bitsby.orders import signed_urls
from tests.support import bitsby


def state_url(order):
    """Return the URL of an order's payment status as JSON."""
    return reverse("oscar_bitsby:state", args=[signed_urls.sign_order_number(order.number)])


def leave_new(order, invoice_for):
    """No payment was started."""


def create_waiting_invoice(order, invoice_for):
    invoice_for(order, last_refreshed_at=timezone.now())


def create_paid_invoice_without_payment(order, invoice_for):
    invoice_for(order, status=InvoiceStatus.PAID)


def create_payment_under_review(order, invoice_for):
    BitsbyPayment.objects.create(
        invoice=invoice_for(order, status=InvoiceStatus.EXPIRED),
        bitsby_id=bitsby.new_id(),
        amount=Decimal(1),
        review_reason=ReviewReason.NOT_PAID,
    )


def book_payment(order, invoice_for):
    order.sources.get().debit(order.total_incl_tax, reference="x")


def pay_order(order, invoice_for):
    invoice_for(order, status=InvoiceStatus.PAID)
    book_payment(order, invoice_for)
    order.set_status("Being processed")


def create_expired_invoice(order, invoice_for):
    invoice_for(order, status=InvoiceStatus.EXPIRED)


def create_overdue_invoice(order, invoice_for):
    past = timezone.now() - dt.timedelta(minutes=1)
    invoice_for(order, expires_at=past, last_refreshed_at=timezone.now())


def create_unmatched_payment(amount="8"):
    """Create a payment that Bitsby has bound to no invoice."""
    BitsbyPayment.objects.create(
        bitsby_id=bitsby.new_id(),
        amount=Decimal(amount),
        wallet_id=bitsby.TRON,
        cryptocurrency="usdt",
        transaction_at=timezone.now(),
        seen_at=timezone.now(),
        review_reason=ReviewReason.UNMATCHED,
    )


def create_possible_mismatch(order, invoice_for):
    invoice_for(order, last_refreshed_at=timezone.now())
    create_unmatched_payment()


def create_possible_mismatch_after_expiry(order, invoice_for):
    invoice_for(order, status=InvoiceStatus.EXPIRED)
    create_unmatched_payment("12.5")


def cancel_order(order, invoice_for):
    invoice_for(order, status=InvoiceStatus.EXPIRED)
    order.set_status("Cancelled")


def process_order(order, invoice_for):
    order.set_status("Being processed")


def create_failed_attempt(order, invoice_for):
    invoice_for(order, status=InvoiceStatus.CREATING, bitsby_id=None, url="")


STATES = [
    # arrangement, payment status, text of the page, label of the button, whether it is final
    (leave_new, "new", "This order hasn't been paid yet", "Pay now", False),
    (create_failed_attempt, "new", "This order hasn't been paid yet", "Pay now", False),
    (create_waiting_invoice, "waiting", "Waiting for your payment", "Open the payment page", False),
    (
        create_paid_invoice_without_payment,
        "under_review",
        "We're reviewing your payment",
        None,
        False,
    ),
    (create_payment_under_review, "under_review", "We're reviewing your payment", None, False),
    (pay_order, "paid", "Thank you, we've received your payment", None, True),
    (
        create_possible_mismatch,
        "possible_mismatch",
        "Have you already paid?",
        "Not paid yet? Pay now",
        False,
    ),
    (
        create_possible_mismatch_after_expiry,
        "possible_mismatch",
        "Have you already paid?",
        "Not paid yet? Pay now",
        False,
    ),
    (
        create_expired_invoice,
        "expired",
        "The payment window has closed",
        "Request a new quote",
        False,
    ),
    (
        create_overdue_invoice,
        "expired",
        "The payment window has closed",
        "Request a new quote",
        False,
    ),
    (cancel_order, "cancelled", "This order has been cancelled", None, True),
    (process_order, "other", "The order status is: Being processed", None, True),
]
