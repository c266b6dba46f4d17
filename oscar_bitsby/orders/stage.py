"""The stage of an order for settling, and the time at which it is cancelled."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from enum import Enum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from oscar_bitsby import conf
    from oscar_bitsby.models import BitsbyInvoice


class OrderStage(Enum):
    """The order's status, reduced to what settling distinguishes."""

    PENDING = "pending"
    CANCELLED = "cancelled"
    #: Paid, shipped, or any other status that staff set.
    OTHER = "other"
    #: Deleted.
    GONE = "gone"


def order_stage(settings: conf.Conf, order: Any) -> OrderStage:
    """Return the stage of an order."""
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
    """Return when an unpaid order is cancelled: ``CANCEL_AFTER`` after its last invoice ended."""
    cancel_after = settings.cancel_after or dt.timedelta()
    ended = [invoice.ended_at for invoice in invoices if invoice.ended_at is not None]
    if ended:
        return max(ended) + cancel_after
    # No invoice was created for this order: its time to pay counts from placing it.
    placed: dt.datetime = order.date_placed
    return placed + dt.timedelta(hours=float(settings.time_to_pay)) + cancel_after
