"""Changes of an order's status, with its stock, vouchers and offers."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from django.contrib.auth.models import AnonymousUser
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
    """Release the vouchers, the offers and the stock of a cancelled order, each once."""
    _release_discounts(order)
    handler = EventHandler()
    # Oscar locks stock records in this order when an order is placed.
    for line in order.lines.order_by("stockrecord_id", "pk"):
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
    """Change a cancelled order's status and take again what was released, all or nothing.

    The buyer keeps discounts whose voucher or offer is used up: see ``used_up_discounts``. They
    count beyond the limit, because they are granted.

    Returns:
        False if the pipeline does not allow the status or there is not enough stock.
    """
    try:
        with transaction.atomic():
            _take_discounts(order)
            for line in order.lines.order_by("stockrecord_id", "pk"):
                _allocate_again(line)
            if not change_order_status(order, status, note):
                raise _CannotReopen
    except (_CannotReopen, InvalidStockAdjustment):
        order.refresh_from_db()
        return False
    return True


def lines_without_stock(order: Any) -> list[Any]:
    """Return the lines of a cancelled order whose products are not in stock any more."""
    missing: list[Any] = []
    left: dict[Any, int] = {}
    for line in order.lines.select_related("stockrecord").order_by("stockrecord_id", "pk"):
        if line.stockrecord is None:
            missing.append(line)
        elif line.allocation_cancelled and line.can_track_allocations:
            # Several lines can need the same stock record. One that gets none leaves it to others.
            stock = left.setdefault(line.stockrecord_id, line.stockrecord.net_stock_level or 0)
            if stock < line.quantity:
                missing.append(line)
            else:
                left[line.stockrecord_id] = stock - line.quantity
    return missing


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


def _release_discounts(order: Any) -> None:
    were_released = _were_offers_released(order)
    order.bitsby_invoices.update(offers_released=True)
    used = VoucherApplication.objects.filter(order=order)
    voucher_ids = set(used.values_list("voucher_id", flat=True))
    # Oscar locks vouchers together and in the model's order when an order is placed.
    list(Voucher.objects.filter(pk__in=voucher_ids).select_for_update())
    for voucher_id in voucher_ids:
        Voucher.objects.filter(pk=voucher_id).update(num_orders=_decrement("num_orders", 1))
    used.delete()
    for discount, offer in _discounts(order, lock=True):
        if discount.voucher_id in voucher_ids:
            Voucher.objects.filter(pk=discount.voucher_id).update(
                total_discount=_decrement("total_discount", discount.amount)
            )
        if offer is not None and not were_released:
            _release_offer(offer, discount)


def _release_offer(offer: Any, discount: Any) -> None:
    offer.num_applications = max(offer.num_applications - (discount.frequency or 0), 0)
    offer.num_orders = max(offer.num_orders - 1, 0)
    offer.total_discount = max(offer.total_discount - discount.amount, Decimal(0))
    if not offer.is_suspended:
        # As the model's save(), which would also run receivers of the shop: these can fail.
        is_consumed = offer.get_max_applications() == 0
        offer.status = offer.CONSUMED if is_consumed else offer.OPEN
    names = ("num_applications", "num_orders", "total_discount", "status")
    ConditionalOffer.objects.filter(pk=offer.pk).update(**{n: getattr(offer, n) for n in names})


def _take_discounts(order: Any) -> None:
    were_released = _were_offers_released(order)
    order.bitsby_invoices.update(offers_released=False)
    vouchers = {voucher.pk: voucher for voucher in _released_vouchers(order, lock=True)}
    for voucher in vouchers.values():
        voucher.record_usage(order, order.user or AnonymousUser())
    for discount, offer in _discounts(order, lock=True):
        usage = {"freq": discount.frequency or 0, "discount": discount.amount}
        if discount.voucher_id in vouchers:
            vouchers[discount.voucher_id].record_discount(usage)
        if offer is not None and were_released:
            offer.record_usage(usage)


@dataclass(frozen=True)
class UsedUpDiscount:
    """A discount of a cancelled order that its voucher or offer cannot give once more."""

    #: The voucher's code, or the name of an offer without a voucher.
    name: str
    amount: Decimal
    currency: str

    def __str__(self) -> str:
        return f"{self.name} ({self.amount} {self.currency})"


def used_up_discounts(order: Any, *, lock: bool = False) -> list[UsedUpDiscount]:
    """Return the discounts of a cancelled order that were used up after they were released.

    Args:
        lock: whether to lock vouchers and offers, so that the answer is true until the end of the
            transaction.
    """
    released = _released_vouchers(order, lock=lock)
    used_up = {voucher.pk for voucher in released if _is_used_up(voucher, order.user)}
    were_released = _were_offers_released(order)
    return [
        UsedUpDiscount(discount.description(), discount.amount, order.currency)
        for discount, offer in _discounts(order, lock=lock)
        if discount.voucher_id in used_up
        or (were_released and offer is not None and _exceeds_limit(offer, discount))
    ]


def _is_used_up(voucher: Any, user: Any) -> bool:
    if user is None and voucher.usage == voucher.ONCE_PER_CUSTOMER:
        # The account was deleted, so its voucher cannot be used again.
        return False
    is_available, _reason = voucher.is_available_to_user(user or AnonymousUser())
    return not is_available


def _exceeds_limit(offer: Any, discount: Any) -> bool:
    """Tell whether the offer cannot be applied as often as it was, by its limits for the shop."""
    if offer.max_discount and offer.total_discount >= offer.max_discount:
        return True
    applications = offer.num_applications + (discount.frequency or 0)
    return bool(offer.max_global_applications) and applications > offer.max_global_applications


def _were_offers_released(order: Any) -> bool:
    return bool(order.bitsby_invoices.filter(offers_released=True).exists())


def _released_vouchers(order: Any, *, lock: bool) -> list[Any]:
    """Return the vouchers that gave the order a discount and that it no longer uses."""
    used = VoucherApplication.objects.filter(order=order).values("voucher_id")
    gave = order.discounts.exclude(voucher_id=None).values("voucher_id")
    vouchers = Voucher.objects.filter(pk__in=gave).exclude(pk__in=used)
    return list(vouchers.select_for_update() if lock else vouchers)


def _discounts(order: Any, *, lock: bool) -> Iterator[tuple[Any, Any]]:
    """Yield the order's discounts with their offers, None for deleted ones.

    Oscar stores discounts in the order in which it locks their offers. Each offer is read when it
    is its turn, because two discounts can have the same one.
    """
    offers = ConditionalOffer.objects.all()
    if lock:
        offers = offers.select_for_update()
    for discount in order.discounts.order_by("pk"):
        yield discount, offers.filter(pk=discount.offer_id).first()


def _decrement(name: str, amount: int | Decimal) -> Greatest:
    """Return an expression that subtracts an amount, but not below zero."""
    return Greatest(F(name) - amount, Value(type(amount)(0)))
