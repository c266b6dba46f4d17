"""What tests of settling read from the database and from signals."""

from typing import Any, NamedTuple

from oscar.core.loading import get_model

from oscar_bitsby import signals

Order = get_model("order", "Order")
Source = get_model("payment", "Source")
SourceType = get_model("payment", "SourceType")
Transaction = get_model("payment", "Transaction")

OUR_SIGNALS = {
    name: getattr(signals, name)
    for name in (
        "invoice_created",
        "invoice_paid",
        "invoice_expired",
        "payment_needs_attention",
        "refund_requested",
        "refund_sent",
    )
}


class Sent(NamedTuple):
    """A signal that was sent."""

    name: str
    sender: Any
    payload: dict[str, Any]


def reasons(sent):
    """Return the reasons of the payments that need attention, by the signals."""
    return [one.payload["reason"] for one in sent if one.name == "payment_needs_attention"]


def status_of(order):
    return Order.objects.get(pk=order.pk).status


def booked(order):
    """Return references and amounts of the order's transactions."""
    found = Transaction.objects.filter(source__order=order).order_by("pk")
    return [(row.reference, row.amount) for row in found]


def pay_by_card(order, refunded=0):
    """Book 10 dollars of another source of the order, of which some were refunded."""
    Source.objects.create(
        order=order,
        source_type=SourceType.objects.create(name="Card", code="card"),
        currency="USD",
        amount_debited=10,
        amount_refunded=refunded,
    )


def reload(row):
    """Return a row as it is in the database now."""
    return type(row).objects.get(pk=row.pk)
