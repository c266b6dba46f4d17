"""Oscar's sources, transactions and payment events of an order.

Only ``settlement`` and ``staff.review`` call the functions that write, inside their transactions
and with the order's row locked.
"""

import datetime as dt
import logging
from decimal import Decimal
from typing import Any

from django.db import router, transaction
from django.db.models import Exists, F, OuterRef
from django.utils import timezone
from django.utils.translation import gettext_noop
from oscar.core.loading import get_class, get_model

from oscar_bitsby.choices import Resolution
from oscar_bitsby.conf import METHOD_CODE, PAID_EVENT_CODE, REFUNDED_EVENT_CODE
from oscar_bitsby.models import BitsbyPayment, BitsbyRefund
from oscar_bitsby.utils import i18n

logger = logging.getLogger("oscar_bitsby")

EventHandler = get_class("order.processing", "EventHandler")
PaymentEventType = get_model("order", "PaymentEventType")
Source = get_model("payment", "Source")
SourceType = get_model("payment", "SourceType")
#: The length of Oscar's columns of references.
REFERENCE_LENGTH = 128


def source_type() -> Any:
    """Return the ``SourceType`` of Bitsby, created when it does not exist."""
    return SourceType.objects.get_or_create(code=METHOD_CODE, defaults={"name": "Bitsby"})[0]


def lock_sources(order: Any) -> list[Any]:
    """Lock and return all sources of an order; ``is_bitsby`` marks those of Bitsby.

    The source type is not joined: a join would lock its row too, and with it every checkout that
    writes a source of that type.
    """
    is_bitsby = Exists(SourceType.objects.filter(pk=OuterRef("source_type"), code=METHOD_CODE))
    return list(order.sources.select_for_update().annotate(is_bitsby=is_bitsby).order_by("pk"))


def has_money(order: Any) -> bool:
    """Tell whether any source of the order holds money that was not refunded.

    It reads the database that is written to: a replica may be behind the caller's lock.
    """
    sources = order.sources.using(router.db_for_write(Source))
    return bool(sources.filter(amount_debited__gt=F("amount_refunded")).exists())


def has_unbooked_money(order: Any) -> bool:
    """Tell whether a payment for the order needs a review and is not booked.

    It reads the database that is written to, as ``has_money`` does.
    """
    payments = BitsbyPayment.objects.using(router.db_for_write(BitsbyPayment)).needs_review()
    return bool(payments.filter(invoice__order=order, booked_at__isnull=True).exists())


def amount_held(sources: list[Any]) -> Decimal:
    """Return the amount that sources hold: debited and not refunded."""
    return sum((source.amount_debited - source.amount_refunded for source in sources), Decimal(0))


def total_held(order: Any) -> Decimal:
    """Return the amount that all sources of an order hold, by the database that is written to."""
    return amount_held(list(order.sources.using(router.db_for_write(Source))))


def bitsby_source(order: Any) -> Any:
    """Return Bitsby's source of an order, or None, by the database that is written to."""
    sources = order.sources.using(router.db_for_write(Source))
    return sources.filter(source_type__code=METHOD_CODE).order_by("pk").first()


def rest_asked_at(order: Any) -> dt.datetime | None:
    """Return when the buyer was last asked for the rest of a payment; None if never."""
    payments = BitsbyPayment.objects.using(router.db_for_write(BitsbyPayment)).filter(
        invoice__order=order, resolution=Resolution.ASKED, booked_at__isnull=False
    )
    moments = payments.order_by("-resolved_at").values_list("resolved_at", flat=True)
    newest: dt.datetime | None = moments.first()
    return newest


def amount_to_pay(order: Any) -> Decimal:
    """Return what a new invoice of a pending order asks for: its total, or the rest of it.

    Money counts only if the buyer was asked for the rest: about other money staff decide first.
    Zero or less means that nothing is missing.
    """
    total: Decimal = order.total_incl_tax
    if not has_money(order) or rest_asked_at(order) is None:
        return total
    return total - total_held(order)


def book_payment(order: Any, payment: BitsbyPayment, sources: list[Any]) -> None:
    """Book a payment at its fiat value. ``booked_at`` is set with it, so that it is booked once.

    ``sources`` are all sources of the order, from ``lock_sources``.

    Raises:
        ValueError: the fiat value is not known.
    """
    if payment.fiat_value is None:
        # Without an amount, Oscar would debit everything that is still allocated.
        raise ValueError("a payment without a fiat value cannot be booked")
    had_money = any(source.amount_debited > source.amount_refunded for source in sources)
    source = next((source for source in sources if source.is_bitsby), None)
    if source is None:
        source = Source(order=order, source_type=source_type(), currency=payment.currency)
    source.debit(payment.fiat_value, reference=str(payment.bitsby_id), status="paid")
    payment.booked_at = timezone.now()
    payment.save(update_fields=["booked_at", "review_reason", "further_reasons"])
    _create_event(
        order,
        (PAID_EVENT_CODE, gettext_noop("Paid")),
        payment.fiat_value,
        str(payment.bitsby_id),
        # A second payment covers no lines: they are paid already, and Oscar would refuse it.
        with_lines=not had_money,
    )


def book_refund(order: Any, refund: BitsbyRefund, sources: list[Any]) -> None:
    """Book a refund that was sent. ``is_booked`` is set with it, and saved by the caller.

    ``sources`` are all sources of the order, from ``lock_sources``.

    Raises:
        ValueError: Bitsby's source does not hold the amount.
    """
    source = next((source for source in sources if source.is_bitsby), None)
    if source is None or not refund.amount or refund.amount > amount_held([source]):
        raise ValueError("the order does not hold the amount of the refund")
    # Oscar's column is shorter than ours.
    reference = refund.transaction_hash[:REFERENCE_LENGTH]
    source.refund(refund.amount, reference=reference, status="refunded")
    refund.is_booked = True
    _create_event(
        order,
        (REFUNDED_EVENT_CODE, gettext_noop("Refunded")),
        refund.amount,
        reference,
        with_lines=amount_held(sources) <= 0,
    )


def _create_event(
    order: Any, kind: tuple[str, str], amount: Decimal, reference: str, *, with_lines: bool
) -> None:
    """Create a payment event of a kind: its code, and its name in English.

    The money stays booked: a shop's own event handler must not be able to undo that.
    """
    code, name = kind
    try:
        with transaction.atomic():
            event_type, _ = PaymentEventType.objects.get_or_create(
                code=code, defaults={"name": i18n.shop_text(name)}
            )
            lines = list(order.lines.all()) if with_lines else []
            if any(line.payment_event_quantity(event_type) for line in lines):
                # Oscar allows one event of a kind for each line.
                lines = []
            EventHandler().handle_payment_event(
                order,
                event_type,
                amount,
                lines=lines,
                line_quantities=[line.quantity for line in lines],
                reference=reference,
            )
    except Exception:
        logger.exception("payment event not created: order=%s", order.number)
