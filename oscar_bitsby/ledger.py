"""Oscar's books: sources, transactions, events, statuses, stock and vouchers of an order.

What writes here is called by ``settlement`` and its companions ``cancellation`` and ``resolution``
alone, inside their transactions and with the order's row locked.
"""

from __future__ import annotations

import logging
from decimal import Decimal
from typing import Any

from django.db import router, transaction
from django.db.models import Exists, F, OuterRef, Value
from django.db.models.functions import Greatest
from django.utils import timezone
from django.utils.translation import gettext_noop
from oscar.apps.order.exceptions import InvalidOrderStatus
from oscar.apps.partner.exceptions import InvalidStockAdjustment
from oscar.core.loading import get_class, get_model

from oscar_bitsby import wording
from oscar_bitsby.conf import METHOD_CODE, PAID_EVENT_CODE
from oscar_bitsby.models import BitsbyPayment

logger = logging.getLogger("oscar_bitsby")

EventHandler = get_class("order.processing", "EventHandler")
PaymentEventType = get_model("order", "PaymentEventType")
Source = get_model("payment", "Source")
SourceType = get_model("payment", "SourceType")
StockRecord = get_model("partner", "StockRecord")
ConditionalOffer = get_model("offer", "ConditionalOffer")
Voucher = get_model("voucher", "Voucher")
VoucherApplication = get_model("voucher", "VoucherApplication")


def source_type() -> Any:
    """Return the ``SourceType`` of money that came through Bitsby."""
    return SourceType.objects.get_or_create(code=METHOD_CODE, defaults={"name": "Bitsby"})[0]


def lock_sources(order: Any) -> list[Any]:
    """Lock and return all of an order's sources; ``is_bitsby`` tells which ones are ours.

    The type is looked up beside and not joined: a join would lock its row too, and with it every
    checkout that is about to write a source of that type.
    """
    is_bitsby = Exists(SourceType.objects.filter(pk=OuterRef("source_type"), code=METHOD_CODE))
    return list(order.sources.select_for_update().annotate(is_bitsby=is_bitsby).order_by("pk"))


def has_money(order: Any) -> bool:
    """Tell whether any source holds money for this order that was not given back.

    They are read where they are written: a replica may be behind the lock that the caller has.
    """
    sources = order.sources.using(router.db_for_write(Source))
    return bool(sources.filter(amount_debited__gt=F("amount_refunded")).exists())


def money_in(sources: list[Any]) -> Decimal:
    """Return what sources hold and have not given back."""
    held = (source.amount_debited - source.amount_refunded for source in sources)
    return sum(held, Decimal(0))


def book(order: Any, record: BitsbyPayment, sources: list[Any]) -> None:
    """Record a payment at its worth: once, because ``booked_at`` is set in the same transaction.

    Args:
        sources: all of the order's, as ``lock_sources`` gives them.
    """
    if record.worth is None:
        # Oscar would take no amount for all that is open.
        raise ValueError("a payment of unknown worth cannot be booked")
    had_money = any(one.amount_debited > one.amount_refunded for one in sources)
    source = next((one for one in sources if one.is_bitsby), None)
    if source is None:
        source = Source(order=order, source_type=source_type(), currency=record.currency)
    source.debit(record.worth, reference=str(record.bitsby_id), status="paid")
    record.booked_at = timezone.now()
    record.save(update_fields=["booked_at", "attention"])
    # The money stands; a shop's own event handler must not be able to undo that.
    try:
        with transaction.atomic():
            _record_event(order, record, with_lines=not had_money)
    except Exception:
        logger.exception("payment event not recorded: order=%s", order.number)


def _record_event(order: Any, record: BitsbyPayment, *, with_lines: bool) -> None:
    event_type, _ = PaymentEventType.objects.get_or_create(
        code=PAID_EVENT_CODE, defaults={"name": wording.note(gettext_noop("Paid"))}
    )
    # A second payment is for no lines: they are paid already, and Oscar would refuse it.
    lines = list(order.lines.all()) if with_lines else []
    EventHandler().handle_payment_event(
        order,
        event_type,
        record.worth,
        lines=lines,
        line_quantities=[line.quantity for line in lines],
        reference=str(record.bitsby_id),
    )


def move_order(order: Any, status: str, note: str) -> bool:
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


def give_back(order: Any) -> None:
    """Release what a cancelled order held: vouchers first, then stock line by line."""
    _give_back_vouchers(order)
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


def reopen(order: Any, status: str, note: str) -> bool:
    """Move a cancelled order to ``status`` and take its stock again; False when either cannot be.

    All or nothing: an order that is paid again but has no stock would be promised twice.
    """
    try:
        with transaction.atomic():
            for line in order.lines.order_by("stockrecord_id", "pk"):
                _take_again(line)
            if not move_order(order, status, note):
                raise _CannotReopen
    except (_CannotReopen, InvalidStockAdjustment):
        order.refresh_from_db()
        return False
    return True


class _CannotReopen(Exception):
    """Stock or pipeline do not allow it."""


def _take_again(line: Any) -> None:
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
        num_allocated=_less("num_allocated", held)
    )


def _give_back_vouchers(order: Any) -> None:
    used = VoucherApplication.objects.filter(order=order)
    voucher_ids = list(used.values_list("voucher_id", flat=True))
    # All at once and in the model's own order, as Oscar itself locks them when placing.
    list(Voucher.objects.filter(pk__in=voucher_ids).select_for_update())
    for voucher_id in voucher_ids:
        Voucher.objects.filter(pk=voucher_id).update(num_orders=_less("num_orders", 1))
    used.delete()
    for discount in order.discounts.exclude(voucher_id=None).order_by("voucher_id", "pk"):
        Voucher.objects.filter(pk=discount.voucher_id).update(
            total_discount=_less("total_discount", discount.amount)
        )
        ConditionalOffer.objects.filter(pk=discount.offer_id).update(
            num_applications=_less("num_applications", discount.frequency or 0),
            num_orders=_less("num_orders", 1),
            total_discount=_less("total_discount", discount.amount),
        )


def _less(name: str, amount: int | Decimal) -> Greatest:
    """Subtract without going below zero, where a positive column would refuse."""
    return Greatest(F(name) - amount, Value(type(amount)(0)))
