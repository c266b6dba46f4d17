"""An order's status, and with it its stock and vouchers: move, release, reopen."""

from __future__ import annotations

import logging
from decimal import Decimal
from typing import Any

from django.db import transaction
from django.db.models import F, Value
from django.db.models.functions import Greatest
from oscar.apps.order.exceptions import InvalidOrderStatus
from oscar.apps.partner.exceptions import InvalidStockAdjustment
from oscar.core.loading import get_class, get_model

Voucher = get_model("voucher", "Voucher")
VoucherApplication = get_model("voucher", "VoucherApplication")
EventHandler = get_class("order.processing", "EventHandler")
ConditionalOffer = get_model("offer", "ConditionalOffer")
logger = logging.getLogger("oscar_bitsby")
StockRecord = get_model("partner", "StockRecord")


def change_order_status(order: Any, status: str, note: str) -> bool:
    """Give the order a new status and say why in a note; False when its pipeline forbids it."""
    before = order.status
    try:
        with transaction.atomic():
            EventHandler().handle_order_status_change(order, status, note_msg=note)
        return True
    except InvalidOrderStatus:
        logger.error(  # the pipeline says no; the traceback says nothing more
            "order %s cannot move from %r to %r: OSCAR_ORDER_STATUS_PIPELINE does not allow it",
            order.number,
            before,
            status,
        )
        order.status = before
        return False
    except Exception:
        logger.exception("a receiver or handler failed: order=%s status=%s", order.number, status)
    order.status = before
    if status not in order.available_statuses():
        return False
    # The change is allowed, and it was somebody else's code that failed: what Bitsby said is true
    # all the same, so it is written without them.
    order.status = status
    order.save(update_fields=["status"])
    order.status_changes.create(old_status=before, new_status=status)
    order.notes.create(message=note, note_type="System")
    return True


def release_order(order: Any) -> None:
    """Release what a cancelled order held: vouchers first, then stock line by line."""
    _release_vouchers(order)
    handler = EventHandler()
    # In the order that Oscar itself takes the stock records' locks when placing.
    for line in order.lines.order_by("stockrecord_id", "pk"):
        if not line.num_allocated or line.stockrecord_id is None:
            # A deleted stock record leaves nothing to give the stock back to.
            continue
        try:
            with transaction.atomic():
                handler.cancel_stock_allocations(order, [line], [line.num_allocated])
        except Exception:
            # Releasing fires "back in stock" mails at once, and those may fail.
            logger.exception("stock released without signals: order=%s", order.number)
            _release_quietly(line)


def reopen_order(order: Any, status: str, note: str) -> bool:
    """Move a cancelled order to ``status`` and take its stock again; False when either cannot be.

    All or nothing: an order that is paid again but has no stock would be promised twice.
    """
    try:
        with transaction.atomic():
            for line in order.lines.order_by("stockrecord_id", "pk"):
                _allocate_again(line)
            if not change_order_status(order, status, note):
                raise _CannotReopen
    except (_CannotReopen, InvalidStockAdjustment):
        order.refresh_from_db()
        return False
    return True


class _CannotReopen(Exception):
    """Stock or pipeline do not allow it."""


def _allocate_again(line: Any) -> None:
    if line.stockrecord_id is None:
        raise _CannotReopen
    if not line.allocation_cancelled or not line.can_track_allocations:
        return
    record = StockRecord.objects.select_for_update().filter(pk=line.stockrecord_id).first()
    if record is None or (record.net_stock_level or 0) < line.quantity:
        raise _CannotReopen
    record.allocate(line.quantity)
    line.num_allocated, line.allocation_cancelled = line.quantity, False
    line.save(update_fields=["num_allocated", "allocation_cancelled"])


def _release_quietly(line: Any) -> None:
    held = line.num_allocated
    type(line).objects.filter(pk=line.pk).update(num_allocated=0, allocation_cancelled=True)
    StockRecord.objects.filter(pk=line.stockrecord_id).update(
        num_allocated=_decrement("num_allocated", held)
    )


def _release_vouchers(order: Any) -> None:
    used = VoucherApplication.objects.filter(order=order)
    voucher_ids = list(used.values_list("voucher_id", flat=True))
    # All at once and in the model's own order, as Oscar itself locks them when placing.
    list(Voucher.objects.filter(pk__in=voucher_ids).select_for_update())
    for voucher_id in voucher_ids:
        Voucher.objects.filter(pk=voucher_id).update(num_orders=_decrement("num_orders", 1))
    used.delete()
    for discount in order.discounts.exclude(voucher_id=None).order_by("voucher_id", "pk"):
        Voucher.objects.filter(pk=discount.voucher_id).update(
            total_discount=_decrement("total_discount", discount.amount)
        )
        ConditionalOffer.objects.filter(pk=discount.offer_id).update(
            num_applications=_decrement("num_applications", discount.frequency or 0),
            num_orders=_decrement("num_orders", 1),
            total_discount=_decrement("total_discount", discount.amount),
        )


def _decrement(name: str, amount: int | Decimal) -> Greatest:
    """Subtract without going below zero, where a positive column would refuse."""
    return Greatest(F(name) - amount, Value(type(amount)(0)))
