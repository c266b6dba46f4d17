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


def hold_deadline(
    order: Any, settings: conf.Conf, rest_asked_at: dt.datetime | None = None
) -> dt.datetime | None:
    """Return when the hold on an unpaid order ends: ``HOLD_ORDER_FOR`` after placing it.

    After it no invoice is created for the order any more. None means never.

    Args:
        rest_asked_at: when the buyer was asked for the rest; the hold then begins anew.
    """
    if settings.hold_order_for is None:
        return None
    begin: dt.datetime = rest_asked_at or order.date_placed
    return begin + settings.hold_order_for


def cancellation_deadline(
    order: Any,
    invoices: Iterable[BitsbyInvoice],
    settings: conf.Conf,
    rest_asked_at: dt.datetime | None = None,
) -> dt.datetime | None:
    """Return when an unpaid order without a live invoice is cancelled; None means never.

    That is ``CANCEL_AFTER`` after its last invoice ended, or when its hold ends if that is earlier.
    An order that never got an invoice is cancelled only at the end of its hold.

    With ``rest_asked_at`` it is when the rest counts as missing. Such an order is never cancelled,
    and its buyer has the whole hold for the rest; without a hold, ``CANCEL_AFTER`` after the last
    invoice that ended since.
    """
    deadlines = [hold_deadline(order, settings, rest_asked_at)]
    if rest_asked_at is not None and settings.hold_order_for is not None:
        return deadlines[0]
    invoices = list(invoices)
    ended = [invoice.ended_at for invoice in invoices if invoice.ended_at is not None]
    if rest_asked_at is not None:
        ended = [moment for moment in ended if moment > rest_asked_at]
    had_invoice = any(invoice.bitsby_id is not None for invoice in invoices)
    if settings.cancel_after is not None and had_invoice and ended:
        deadlines.append(max(ended) + settings.cancel_after)
    return min((moment for moment in deadlines if moment is not None), default=None)
