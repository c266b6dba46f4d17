"""Money of a month for tests: payments, refunds and invoices at chosen moments."""

import datetime as dt
from decimal import Decimal

from oscar_bitsby.choices import InvoiceStatus, RefundState
from oscar_bitsby.models import BitsbyInvoice, BitsbyPayment, BitsbyRefund
from tests.support import bitsby
from tests.support.refunds import new_hash


def at(day, hour=12, minute=0, month=11):
    """Return a moment of 2026 in UTC, by default at noon of a day in November."""
    return dt.datetime(2026, month, day, hour, minute, tzinfo=dt.timezone.utc)


def paid(moment, value="10.00", coin="usdt", currency="USD", **values):
    """Create a booked payment."""
    return BitsbyPayment.objects.create(
        **{
            "bitsby_id": bitsby.new_id(),
            "amount": Decimal("8"),
            "fiat_value": None if value is None else Decimal(value),
            "currency": currency,
            "cryptocurrency": coin,
            "blockchain": "tron",
            "hash": new_hash(),
            "transaction_at": moment,
            "booked_at": moment,
        }
        | values
    )


def to_decide(moment, value="8.00", coin="usdt", currency="USD", **values):
    """Create a payment that needs a decision and is not booked."""
    return paid(
        moment, value, coin, currency, **{"booked_at": None, "review_reason": "mismatch"} | values
    )


def waiting(moment, amount="20.00", currency="USD", **values):
    """Create an invoice that waits for its payment, of an order that does not matter."""
    return BitsbyInvoice.objects.create(
        **{
            "order_number": "deleted",
            "status": InvoiceStatus.UNPAID,
            "amount": Decimal(amount),
            "currency": currency,
            "project_id": bitsby.PROJECT,
            "bitsby_id": bitsby.new_id(),
            "created_at": moment,
            "expires_at": moment + dt.timedelta(hours=1),
        }
        | values
    )


def refunded(moment, amount="5.00", coin="usdt", currency="USD", **values):
    """Create a refund that was sent."""
    return BitsbyRefund.objects.create(
        **{
            "state": RefundState.SENT,
            "amount": None if amount is None else Decimal(amount),
            "currency": currency,
            "cryptocurrency": coin,
            "blockchain": "tron",
            "coin_amount": Decimal("5"),
            "transaction_hash": new_hash(),
            "closed_at": moment,
        }
        | values
    )
