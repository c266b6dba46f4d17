"""Refunds: requested, given an address, sent; booked under the locks of settling.

The shop sends the coins with its own wallet: Bitsby has no call for it, and nobody verifies the
transaction hash. Every function locks the order, then the payment, then the refund, and raises
``RefundRefused`` with a message for the person when it changes nothing.
"""

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from oscar_bitsby.models import BitsbyPayment, BitsbyRefund


@dataclass(frozen=True)
class Refundable:
    """What can still be refunded.

    ``amount`` is in the order's currency, None where no value is known; ``surplus`` the part of it
    above the order's total; ``coin_amount`` what of a payment's coins was not refunded yet, None
    without a payment.
    """

    amount: Decimal | None
    surplus: Decimal
    coin_amount: Decimal | None
    currency: str


def refundable(payment: BitsbyPayment | None, order: Any) -> Refundable:
    """Return what can still be refunded of a payment or, without one, of an order's money."""
    raise NotImplementedError


def propose_coin_amount(payment: BitsbyPayment, amount: Decimal) -> Decimal | None:
    """Return the coins worth an amount at the rate that the invoice locked, rounded down."""
    raise NotImplementedError


def request_refund(
    *,
    user: Any,
    note: str,
    payment: BitsbyPayment | None = None,
    order: Any = None,
    amount: Decimal | None = None,
    coin_amount: Decimal | None = None,
    cryptocurrency: str = "",
    blockchain: str = "",
) -> BitsbyRefund:
    """Record a refund, and ask the buyer for an address by e-mail.

    Args:
        payment: the payment to refund; coin and chain are its own.
        order: needed without a payment; then coin and chain are needed too.
        amount: in the order's currency; needed if the money is booked.
        coin_amount: the coins to send; None takes the proposed amount.
    """
    raise NotImplementedError


def set_address(refund_pk: Any, address: str, *, user: Any = None) -> BitsbyRefund:
    """Store the address, once. ``user`` is the member of staff who entered it, None the buyer."""
    raise NotImplementedError


def reopen(refund_pk: Any, user: Any, note: str) -> BitsbyRefund:
    """Remove the address, and ask the buyer again by a new link; earlier links become invalid."""
    raise NotImplementedError


def renew_link(refund_pk: Any, user: Any) -> BitsbyRefund:
    """Send the buyer a new link for the address; earlier links become invalid."""
    raise NotImplementedError


def mark_sent(
    refund_pk: Any, transaction_hash: str, user: Any, note: str = "", *, cancel_order: bool = False
) -> BitsbyRefund:
    """Record that the coins were sent, and book it in Oscar's ledger if the money was booked."""
    raise NotImplementedError


def cancel(refund_pk: Any, user: Any, note: str) -> BitsbyRefund:
    """Cancel a refund that was not sent; a reason is required."""
    raise NotImplementedError
