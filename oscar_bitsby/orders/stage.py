"""The stage of an order for settling, and the times at which its hold ends and it is cancelled."""

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


def hold_deadline(order: Any, settings: conf.Conf) -> dt.datetime | None:
    """Return when the hold on an unpaid order ends: ``HOLD_ORDER_FOR`` after placing it.

    After it no invoice is created for the order any more. None means never.
    """
    if settings.hold_order_for is None:
        return None
    placed: dt.datetime = order.date_placed
    return placed + settings.hold_order_for


def cancellation_deadline(
    order: Any, invoices: Iterable[BitsbyInvoice], settings: conf.Conf
) -> dt.datetime | None:
    """Return when an unpaid order without a live invoice is cancelled; None means never.

    That is ``CANCEL_AFTER`` after its last invoice ended, or when its hold ends if that is earlier.
    An order that never got an invoice is cancelled only at the end of its hold.
    """
    deadlines = [hold_deadline(order, settings)]
    invoices = list(invoices)
    ended = [invoice.ended_at for invoice in invoices if invoice.ended_at is not None]
    had_invoice = any(invoice.bitsby_id is not None for invoice in invoices)
    if settings.cancel_after is not None and had_invoice and ended:
        deadlines.append(max(ended) + settings.cancel_after)
    return min((moment for moment in deadlines if moment is not None), default=None)
