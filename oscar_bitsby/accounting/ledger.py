"""Oscar's books: sources, transactions, events, statuses, stock and vouchers of an order.

What writes here is called by ``settlement`` and its companions ``cancellation`` and ``resolution``
alone, inside their transactions and with the order's row locked.
"""

from __future__ import annotations

import logging
from decimal import Decimal
from typing import Any

from django.db import router, transaction
from django.db.models import Exists, F, OuterRef
from django.utils import timezone
from django.utils.translation import gettext_noop
from oscar.core.loading import get_class, get_model

from oscar_bitsby.conf import METHOD_CODE, PAID_EVENT_CODE
from oscar_bitsby.models import BitsbyPayment
from oscar_bitsby.utils import i18n

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


def amount_held(sources: list[Any]) -> Decimal:
    """Return what sources hold and have not given back."""
    held = (source.amount_debited - source.amount_refunded for source in sources)
    return sum(held, Decimal(0))


def book_payment(order: Any, record: BitsbyPayment, sources: list[Any]) -> None:
    """Record a payment at its worth: once, because ``booked_at`` is set in the same transaction.

    Args:
        sources: all of the order's, as ``lock_sources`` gives them.
    """
    if record.fiat_value is None:
        # Oscar would take no amount for all that is open.
        raise ValueError("a payment of unknown worth cannot be booked")
    had_money = any(one.amount_debited > one.amount_refunded for one in sources)
    source = next((one for one in sources if one.is_bitsby), None)
    if source is None:
        source = Source(order=order, source_type=source_type(), currency=record.currency)
    source.debit(record.fiat_value, reference=str(record.bitsby_id), status="paid")
    record.booked_at = timezone.now()
    record.save(update_fields=["booked_at", "review_reason"])
    # The money stands; a shop's own event handler must not be able to undo that.
    try:
        with transaction.atomic():
            _record_event(order, record, with_lines=not had_money)
    except Exception:
        logger.exception("payment event not recorded: order=%s", order.number)


def _record_event(order: Any, record: BitsbyPayment, *, with_lines: bool) -> None:
    event_type, _ = PaymentEventType.objects.get_or_create(
        code=PAID_EVENT_CODE, defaults={"name": i18n.shop_text(gettext_noop("Paid"))}
    )
    # A second payment is for no lines: they are paid already, and Oscar would refuse it.
    lines = list(order.lines.all()) if with_lines else []
    EventHandler().handle_payment_event(
        order,
        event_type,
        record.fiat_value,
        lines=lines,
        line_quantities=[line.quantity for line in lines],
        reference=str(record.bitsby_id),
    )


def has_unbooked_money(order: Any) -> bool:
    """Tell whether money for this order waits in the inbox, not booked.

    It is looked for where it is written, as booked money is.
    """
    inbox = BitsbyPayment.objects.using(router.db_for_write(BitsbyPayment)).needs_review()
    return bool(inbox.filter(invoice__order=order, booked_at__isnull=True).exists())
