"""Changes of an order's status, with its stock and vouchers."""

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
    """Change the order's status and add a note with the reason.

    Errors of the shop's receivers and handlers do not prevent the change.

    Returns:
        False if the status pipeline does not allow the change.
    """
    before = order.status
    try:
        with transaction.atomic():
            EventHandler().handle_order_status_change(order, status, note_msg=note)
        return True
    except InvalidOrderStatus:
        logger.error(  # expected: a traceback would not help
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
    # The pipeline allows the change, and code of the shop failed. The payment or expiry is a fact
    # all the same, so the change is written without that code.
    order.status = status
    order.save(update_fields=["status"])
    order.status_changes.create(old_status=before, new_status=status)
    order.notes.create(message=note, note_type="System")
    return True


def release_order(order: Any) -> None:
    """Release the vouchers and the stock of a cancelled order."""
    _release_vouchers(order)
    handler = EventHandler()
    # Oscar locks stock records in this order when an order is placed.
    for line in order.lines.order_by("stockrecord_id"):
        if not line.num_allocated or line.stockrecord_id is None:
            # Nothing to release, or the stock record was deleted.
            continue
        try:
            with transaction.atomic():
                handler.cancel_stock_allocations(order, [line], [line.num_allocated])
        except Exception:
            # Releasing sends "back in stock" e-mails at once, which can fail.
            logger.exception("stock released without signals: order=%s", order.number)
            _release_quietly(line)


def reopen_order(order: Any, status: str, note: str) -> bool:
    """Change a cancelled order's status and allocate its stock again, both or neither.

    Returns:
        False if the pipeline does not allow the status or there is not enough stock.
    """
    try:
        with transaction.atomic():
            for line in order.lines.order_by("stockrecord_id"):
                _allocate_again(line)
            if not change_order_status(order, status, note):
                raise _CannotReopen
    except (_CannotReopen, InvalidStockAdjustment):
        order.refresh_from_db()
        return False
    return True


class _CannotReopen(Exception):
    """There is not enough stock, or the pipeline does not allow the status."""


def _allocate_again(line: Any) -> None:
    if line.stockrecord_id is None:
        raise _CannotReopen
    if not line.allocation_cancelled or not line.can_track_allocations:
        return
    stock = StockRecord.objects.select_for_update().filter(pk=line.stockrecord_id).first()
    if stock is None or (stock.net_stock_level or 0) < line.quantity:
        raise _CannotReopen
    stock.allocate(line.quantity)
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
    # Oscar locks vouchers together and in the model's order when an order is placed.
    list(Voucher.objects.filter(pk__in=voucher_ids).select_for_update())
    for voucher_id in voucher_ids:
        Voucher.objects.filter(pk=voucher_id).update(num_orders=_decrement("num_orders", 1))
    used.delete()
    for discount in order.discounts.exclude(voucher_id=None):
        Voucher.objects.filter(pk=discount.voucher_id).update(
            total_discount=_decrement("total_discount", discount.amount)
        )
        ConditionalOffer.objects.filter(pk=discount.offer_id).update(
            num_applications=_decrement("num_applications", discount.frequency or 0),
            num_orders=_decrement("num_orders", 1),
            total_discount=_decrement("total_discount", discount.amount),
        )


def _decrement(name: str, amount: int | Decimal) -> Greatest:
    """Return an expression that subtracts an amount, but not below zero."""
    return Greatest(F(name) - amount, Value(type(amount)(0)))
