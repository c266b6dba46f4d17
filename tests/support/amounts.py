"""Orders whose payment was not exactly right."""

from decimal import Decimal

from django.utils import timezone

from oscar_bitsby.choices import InvoiceStatus, Resolution, ReviewReason
from oscar_bitsby.models import BitsbyPayment
from tests.support import bitsby


def book(invoice, amount, reason="", **values):
    """Book a payment of so many dollars for an invoice, which is then paid."""
    order = invoice.order
    order.sources.get().debit(Decimal(amount), reference="x")
    type(invoice).objects.filter(pk=invoice.pk).update(status=InvoiceStatus.PAID)
    defaults = {
        "bitsby_id": bitsby.new_id(),
        "invoice": invoice,
        "bound_to": invoice.bitsby_id,
        "amount": Decimal(amount),
        "cryptocurrency": "usdt",
        "wallet_id": bitsby.TRON,
        "fiat_value": Decimal(amount),
        "currency": order.currency,
        "booked_at": timezone.now(),
        "transaction_at": timezone.now(),
        "review_reason": reason,
    }
    return BitsbyPayment.objects.create(**(defaults | values))


def book_and_pay(invoice, amount, reason=""):
    """Book a payment that moves its order to the paid status."""
    payment = book(invoice, amount, reason)
    invoice.order.set_status("Being processed")
    return payment


def ask_for_rest(invoice, amount):
    """Book a short payment whose buyer is asked for the rest now."""
    now = timezone.now()
    resolved = {"resolution": Resolution.ASKED, "resolved_at": now}
    return book(invoice, amount, ReviewReason.SHORT, **resolved)
