"""What an order is to settling: pending, cancelled, something else, gone; until when it is kept."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from enum import Enum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from oscar_bitsby import conf
    from oscar_bitsby.models import BitsbyInvoice


class OrderStage(Enum):
    """What the order is now, as far as settling cares."""

    PENDING = "pending"
    CANCELLED = "cancelled"
    #: Paid, shipped, or whatever else staff made of it.
    OTHER = "other"
    GONE = "gone"


def order_stage(settings: conf.Conf, order: Any) -> OrderStage:
    """Sort an order's status into what settling cares about."""
    if order is None:
        return OrderStage.GONE
    if order.status == settings.order_status_pending:
        return OrderStage.PENDING
    if order.status == settings.order_status_cancelled:
        return OrderStage.CANCELLED
    return OrderStage.OTHER


def cancellation_deadline(
    order: Any, invoices: Iterable[BitsbyInvoice], settings: conf.Conf
) -> dt.datetime:
    """Return when an order that nobody pays is cancelled, where ``CANCEL_AFTER`` is set."""
    patience = settings.cancel_after or dt.timedelta()
    ends: list[dt.datetime] = [
        invoice.ended_at for invoice in invoices if invoice.ended_at is not None
    ]
    if ends:
        return max(ends) + patience
    # The buyer never came as far as an invoice.
    placed: dt.datetime = order.date_placed
    return placed + dt.timedelta(hours=float(settings.time_to_pay)) + patience
