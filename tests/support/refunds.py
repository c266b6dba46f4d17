"""Refunds for tests: payments that are booked or not, and refunds in each state."""

from decimal import Decimal

import pytest
from django.utils import timezone
from oscar.core.loading import get_model

from oscar_bitsby.choices import MailCode
from oscar_bitsby.exceptions import RefundRefused
from oscar_bitsby.gateway import parsing
from oscar_bitsby.models import BitsbyInvoice, BitsbyPayment, BitsbyRefund, BuyerMail
from oscar_bitsby.settlement import refunds, settle
from tests.support import bitsby

Order = get_model("order", "Order")
Source = get_model("payment", "Source")

REFUND_MAILS = (MailCode.REFUND_REQUESTED, MailCode.REFUND_ADDRESS, MailCode.REFUND_SENT)
#: Valid addresses that belong to nobody in the tests, by Bitsby's codes of the chains.
ADDRESSES = {
    "tron": "TLa2f6VPqDgRE67v1736s7bJ8Ray5wYjU7",
    "ethereum": "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
    "bnbSmartChain": "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359",
    "bitcoin": "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4",
}


def new_hash(blockchain="tron"):
    """Return a new transaction hash of a chain."""
    digits = bitsby.new_id().hex * 2
    return digits if blockchain in ("tron", "bitcoin") else f"0x{digits}"


def book_payment(invoice, amount="10.00000000"):
    """Settle an invoice as paid by a transfer in USDT on Tron; return the booked payment."""
    payment = bitsby.transfer(amount)
    settle(invoice, parsing.parse_invoice(bitsby.invoice_item(invoice, "paid", payment=payment)))
    return BitsbyPayment.objects.get(bitsby_id=payment["id"])


def unbound_payment(amount="8", **values):
    """Create a payment that no invoice has and that waits for review."""
    defaults = {
        "bitsby_id": bitsby.new_id(),
        "amount": Decimal(amount),
        "cryptocurrency": "usdt",
        "blockchain": "tron",
        "hash": new_hash(),
        "address": bitsby.wallet()["address"],
        "transaction_at": timezone.now(),
        "review_reason": "unmatched",
    }
    return BitsbyPayment.objects.create(**defaults | values)


def request_refund(user, payment=None, amount="10.00", **values):
    """Request the refund of a payment."""
    values = {"note": "sent twice", "amount": Decimal(amount) if amount else None} | values
    return refunds.request_refund(user=user, payment=payment, **values)


def with_address(refund):
    """Give a refund an address, as its buyer does."""
    return refunds.set_address(refund.pk, ADDRESSES[refund.blockchain])


def sent_refund(user, payment, amount="10.00", **values):
    """Request the refund of a payment, and take it through all steps until it is sent."""
    refund = with_address(request_refund(user, payment, amount, **values))
    return refunds.mark_sent(refund.pk, new_hash(refund.blockchain), user)


def refused(function, *args, **kwargs):
    """Assert that a step is refused and that it writes nothing; return the message."""
    before = _snapshot()
    with pytest.raises(RefundRefused) as caught:
        function(*args, **kwargs)
    assert _snapshot() == before
    return str(caught.value)


def _snapshot():
    """Return everything that a step of a refund can write."""
    return [
        list(model._base_manager.order_by("pk").values())
        for model in (BitsbyRefund, BitsbyPayment, BitsbyInvoice, BuyerMail, Order, Source)
    ]


def left_of(payment=None, order=None):
    """Return what is left to refund by the database: amount, surplus and coins."""
    if payment is not None:
        payment = BitsbyPayment.objects.get(pk=payment.pk)
    found = refunds.refundable(payment, order)
    return found.amount, found.surplus, found.coin_amount


def mails_of(order):
    """Return the codes of the e-mails about refunds of an order, oldest first."""
    found = BuyerMail.objects.filter(order=order, code__in=REFUND_MAILS).order_by("pk")
    return list(found.values_list("code", flat=True))
