"""The audit: what the shop has written, against what Bitsby knows and what the shop promises."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal

from django.utils import timezone
from oscar.core.loading import get_model

from oscar_bitsby.choices import InvoiceStatus
from oscar_bitsby.models import BitsbyInvoice, BitsbyPayment, GatewayState

Basket = get_model("basket", "Basket")
Line = get_model("order", "Line")
Order = get_model("order", "Order")
OrderDiscount = get_model("order", "OrderDiscount")
PaymentEvent = get_model("order", "PaymentEvent")
StockRecord = get_model("partner", "StockRecord")
Transaction = get_model("payment", "Transaction")
Voucher = get_model("voucher", "Voucher")
VoucherApplication = get_model("voucher", "VoucherApplication")

PENDING, PAID, CANCELLED = "Pending", "Being processed", "Cancelled"
#: A cent more or less is rounding.
CENT = Decimal("0.01")


def audit(shop, *, staff_moved_orders=False, placed_meanwhile=False):
    """Return what is wrong with a shop at rest, in words; nothing when all promises are kept.

    Args:
        staff_moved_orders: staff gave orders a status of their own choice, which is theirs to do.
        placed_meanwhile: an order was placed while something else happened to its vouchers.
    """
    truth = shop.state()
    return [
        *money(truth),
        *orders(staff_moved_orders),
        *baskets(),
        *stock(),
        *vouchers(placed_meanwhile),
        *invoices(truth),
        *locks(),
    ]


def money(truth):
    """Every payment for our invoices is booked once at its worth; every other is in the inbox."""
    ours = {str(row.bitsby_id): row for row in BitsbyInvoice.objects.exclude(bitsby_id=None)}
    asked = {item["id"]: item for item in truth["invoices"]}
    rows = {str(row.bitsby_id): row for row in BitsbyPayment.objects.all()}
    booked = list(Transaction.objects.filter(source__source_type__code="bitsby"))
    times = Counter(entry.reference for entry in booked)
    amounts = {entry.reference: entry.amount for entry in booked}
    events = Counter(PaymentEvent.objects.values_list("reference", flat=True))
    real = {item["id"] for item in truth["payments"]}
    for item in truth["payments"]:
        key, row = item["id"], rows.get(item["id"])
        bound = item.get("invoice")
        if bound is not None and bound["id"] in ours:
            if times[key] != 1 or events[key] != 1:
                yield f"payment {key}: booked {times[key]} times, with {events[key]} events"
            elif abs(amounts[key] - fiat_value(item, asked[bound["id"]])) > CENT:
                yield f"payment {key}: booked as {amounts[key]}"
            if row is None or row.booked_at is None or row.invoice_id != ours[bound["id"]].pk:
                yield f"payment {key}: its record does not say that it is booked"
        elif times[key]:
            yield f"payment {key}: booked, but bound to no invoice of ours"
        elif row is None or not row.review_reason:
            yield f"payment {key}: bound to nothing of ours, and not in the inbox"
        elif row.resolved_at is not None and not row.resolved_by_id:
            yield f"payment {key}: taken out of the inbox by nobody"
    yield from (
        f"{key}: booked, but Bitsby knows of no such payment" for key in times.keys() - real
    )
    yield from (f"{key}: a record of no payment" for key in rows.keys() - real)


def fiat_value(payment, invoice):
    """Return what a payment is worth at the rate that its invoice locked."""
    wallet = next(one for one in invoice["wallets"] if one["id"] == payment["wallet"]["id"])
    return (
        Decimal(invoice["amountFiat"])
        * Decimal(payment["amount"])
        / Decimal(wallet["amountCrypto"])
    )


def orders(staff_moved_orders):
    """An order has its source, is paid by its money, and a cancelled one hides no money."""
    for order in Order.objects.all():
        sources = list(order.sources.all())
        if [source.source_type.code for source in sources] != ["bitsby"]:
            yield f"order {order.number}: {len(sources)} sources"
            continue
        (source,) = sources
        if source.amount_allocated != order.total_incl_tax:
            yield f"order {order.number}: {source.amount_allocated} allocated"
        total = sum((entry.amount for entry in source.transactions.all()), Decimal(0))
        if source.amount_debited != total:
            yield f"order {order.number}: {source.amount_debited} debited, transactions {total}"
        changes = list(order.status_changes.values_list("new_status", flat=True))
        if staff_moved_orders:
            continue
        late = BitsbyPayment.objects.filter(
            invoice__order=order, booked_at__isnull=False, review_reason="late"
        )
        if order.status == CANCELLED and total and not late.exists():
            yield f"order {order.number}: cancelled with {total} that nobody is told of"
        if order.status == PAID and not total:
            yield f"order {order.number}: paid with no money"
        if order.status == PENDING and total:
            yield f"order {order.number}: pending with {total} booked"
        if changes != [] if order.status == PENDING else changes != [order.status]:
            yield f"order {order.number}: {order.status}, its changes {changes}"


def baskets():
    """A basket is submitted and has one order, or is open and has none."""
    counts = Counter(Order.objects.values_list("basket_id", flat=True))
    for basket in Basket.objects.all():
        expected = {"Submitted": 1, "Open": 0}.get(basket.status)
        if counts[basket.pk] != expected:
            yield f"basket {basket.pk}: {basket.status}, with {counts[basket.pk]} orders"


def stock():
    """What is allocated is what orders that are not cancelled by us hold."""
    held = Counter()
    for line in Line.objects.select_related("order"):
        gave_back = line.order.status == CANCELLED and line.allocation_cancelled
        expected = 0 if gave_back else line.quantity
        by_us = line.order.notes.filter(message__startswith="Cancelled: Bitsby").exists()
        if line.num_allocated != expected or gave_back is not by_us:
            yield f"line {line.pk} of {line.order.number}: {line.num_allocated} allocated"
        held[line.stockrecord_id] += expected
    for record in StockRecord.objects.all():
        if (record.num_allocated or 0) != held[record.pk]:
            yield f"stock {record.pk}: {record.num_allocated} allocated, orders {held[record.pk]}"


def vouchers(placed_meanwhile=False):
    """A voucher is used by the orders that are not cancelled, as often and for as much."""
    given_back = Order.objects.filter(notes__message__startswith="Cancelled: Bitsby")
    holding = Order.objects.exclude(pk__in=given_back)
    for voucher in Voucher.objects.all():
        discounts = OrderDiscount.objects.filter(voucher_id=voucher.pk, order__in=holding)
        amount = sum((one.amount for one in discounts), Decimal(0))
        orders = holding.filter(basket__vouchers=voucher).count()
        used = VoucherApplication.objects.filter(voucher=voucher).count()
        if used != orders:
            yield f"voucher {voucher.code}: used {used} times, by {orders} orders"
        # When placing, Oscar saves vouchers and offers as it has read them before their locks, so
        # what it then makes of these counts is its own.
        if placed_meanwhile:
            continue
        remote = (voucher.num_orders, voucher.total_discount)
        if remote != (orders, amount):
            yield f"voucher {voucher.code}: {remote}, should be {(orders, amount)}"
        offer = voucher.offers.get()
        remote, expected = (offer.num_orders, offer.total_discount), (discounts.count(), amount)
        if remote != expected and orders < 2:
            yield f"offer {offer.name}: {remote}, should be {expected}"


def invoices(truth):
    """Invoices stand as Bitsby says; no attempt hangs, and no delivery is forgotten."""
    remote = {item["id"]: item["status"] for item in truth["invoices"]}
    live = Counter()
    for row in BitsbyInvoice.objects.all():
        if row.status == InvoiceStatus.CREATING:
            yield f"invoice {row.pk}: still being created"
        if row.webhook_pending_since is not None:
            yield f"invoice {row.pk}: a delivery that nobody looked into"
        live[row.order_id] += row.status in BitsbyInvoice.LIVE
        # One that was given up is kept and watched, whatever Bitsby thinks of it.
        given_up = row.status in (InvoiceStatus.CANCELED, InvoiceStatus.EXPIRED) and row.failure
        if row.bitsby_id is not None and not given_up and remote[str(row.bitsby_id)] != row.status:
            yield f"invoice {row.pk}: {row.status}, at Bitsby {remote[str(row.bitsby_id)]}"
        order = row.order
        if row.order_awaits_payment and (order is None or order.status != PENDING) and row.ended_at:
            yield f"invoice {row.pk}: still waits for an order that is {order and order.status}"
    yield from (f"order {key}: {count} live invoices" for key, count in live.items() if count > 1)


def locks():
    """Nobody is kept out: neither by a pass that is over nor by a slot that is taken for good."""
    now = timezone.now()
    for row in GatewayState.objects.all():
        if row.lease_token or row.lease_until > now:
            yield f"the lease is still taken until {row.lease_until}"
        if row.next_request_at > now:
            yield f"no request before {row.next_request_at}"
