"""Compares the rows of a shop at rest with Bitsby's data and with what the shop promises."""

from collections import Counter
from decimal import Decimal

from django.db.models import Q
from django.utils import timezone
from oscar.core.loading import get_model

from oscar_bitsby.choices import InvoiceStatus, RefundState, Resolution
from oscar_bitsby.models import BitsbyPayment, GatewayState
from tests.support import invariants

Basket = get_model("basket", "Basket")
Line = get_model("order", "Line")
Order = get_model("order", "Order")
OrderDiscount = get_model("order", "OrderDiscount")
PaymentEvent = get_model("order", "PaymentEvent")
Voucher = get_model("voucher", "Voucher")
VoucherApplication = get_model("voucher", "VoucherApplication")

PENDING, PAID, CANCELLED = "Pending", "Being processed", "Cancelled"


def audit(shop, *, staff_moved_orders=False, placed_meanwhile=False):
    """Return the problems of a shop at rest, in words.

    Args:
        staff_moved_orders: staff set statuses by hand, so that any status is right.
        placed_meanwhile: an order was placed while another process changed its vouchers.
    """
    remote = invariants.Remote(shop.state())
    rows = invariants.Rows()
    return [
        *invariants.check_books(rows, remote),
        *payments(rows, remote),
        *orders(staff_moved_orders),
        *baskets(),
        *stock(),
        *vouchers(placed_meanwhile),
        *invoices(rows, remote),
        *locks(),
    ]


def payments(rows, remote):
    """Every payment for our invoices is booked once, and every other one waits for review."""
    events = Counter(PaymentEvent.objects.values_list("reference", flat=True))
    sent = [refund for refund in rows.refunds if refund.state == RefundState.SENT]
    unbooked = {row.pk for row in rows.payments.values() if row.booked_at is None}
    counted = (refund for refund in rows.refunds if refund.state != RefundState.CANCELLED)
    refunded_unbooked = {one.payment_id for one in counted} & unbooked
    for refund in sent:
        if events[refund.transaction_hash] != refund.is_booked:
            yield f"refund {refund.pk}: {events[refund.transaction_hash]} payment events"
    for key, payment in remote.payments.items():
        row = rows.payments.get(key)
        invoice = rows.by_bitsby_id.get(invariants.invoice_id_of(payment))
        if row is not None and row.pk in refunded_unbooked:
            if invoice is not None and "rebound" not in row.review_reasons:
                yield f"payment {key}: bound after its refund and not to be reviewed"
        elif invoice is not None:
            if row is None or row.booked_at is None or row.invoice_id != invoice.pk:
                yield f"payment {key}: bound to an invoice of ours and not booked for it"
            if events[key] != 1:
                yield f"payment {key}: {events[key]} payment events"
        elif row is None or not row.review_reason:
            yield f"payment {key}: bound to no invoice of ours and not to be reviewed"
        elif row.booked_at is not None:
            yield f"payment {key}: booked, but bound to no invoice of ours"
        elif row.resolved_at is not None and not row.resolved_by_id:
            yield f"payment {key}: resolved without a member of staff"


def orders(staff_moved_orders):
    """An order has one source and the status that its money gives it."""
    for order in Order.objects.all():
        sources = list(order.sources.all())
        if [source.source_type.code for source in sources] != ["bitsby"]:
            yield f"order {order.number}: {len(sources)} sources"
            continue
        (source,) = sources
        if source.amount_allocated != order.total_incl_tax:
            yield f"order {order.number}: {source.amount_allocated} allocated"
        debits = source.transactions.filter(txn_type="Debit")
        booked = sum((entry.amount for entry in debits), Decimal(0))
        total = booked - source.amount_refunded
        changes = list(order.status_changes.values_list("new_status", flat=True))
        if staff_moved_orders:
            continue
        of_order = BitsbyPayment.objects.filter(invoice__order=order, booked_at__isnull=False)
        late = of_order.filter(review_reason__in=("late", "cancelled"))
        # Its rest is asked for, or staff decide what happens without it.
        short = of_order.filter(Q(resolution=Resolution.ASKED) | Q(resolved_at=None))
        short = short.filter(review_reason__in=("short", "rest_missing"))
        if order.status == CANCELLED and total and not late.exists():
            yield f"order {order.number}: cancelled with {total} and no late payment to review"
        if order.status == PAID and not booked:
            yield f"order {order.number}: paid with no money"
        if order.status == PENDING and total and not short.exists():
            yield f"order {order.number}: pending with {total} booked"
        expected = [] if order.status == PENDING else [order.status]
        if order.status == CANCELLED and source.amount_refunded:
            # Staff cancelled it when they refunded it.
            expected.append(PAID)
        if changes != expected:
            yield f"order {order.number}: {order.status}, its changes {changes}"


def baskets():
    """A submitted basket has one order, an open one has none."""
    counts = Counter(Order.objects.values_list("basket_id", flat=True))
    for basket in Basket.objects.all():
        expected = {"Submitted": 1, "Open": 0}.get(basket.status)
        if counts[basket.pk] != expected:
            yield f"basket {basket.pk}: {basket.status}, with {counts[basket.pk]} orders"


def stock():
    """Lines hold stock exactly when the app has not cancelled their order."""
    for line in Line.objects.select_related("order"):
        is_cancelled = line.order.status == CANCELLED
        is_released = is_cancelled and line.allocation_cancelled
        expected = 0 if is_released else line.quantity
        by_us = line.order.notes.filter(message__startswith="Cancelled: ").exists()
        if line.num_allocated != expected or is_released is not (is_cancelled and by_us):
            yield f"line {line.pk} of {line.order.number}: {line.num_allocated} allocated"


def vouchers(placed_meanwhile=False):
    """A voucher counts the orders that are not cancelled and their discounts."""
    # A reinstated order keeps the note.
    by_us = Order.objects.filter(notes__message__startswith="Cancelled: ")
    released = by_us.filter(status=CANCELLED)
    holding = Order.objects.exclude(pk__in=released)
    for voucher in Voucher.objects.all():
        discounts = OrderDiscount.objects.filter(voucher_id=voucher.pk, order__in=holding)
        amount = sum((one.amount for one in discounts), Decimal(0))
        orders = holding.filter(basket__vouchers=voucher).count()
        used = VoucherApplication.objects.filter(voucher=voucher).count()
        if used != orders:
            yield f"voucher {voucher.code}: used {used} times, by {orders} orders"
        # Oscar saves vouchers and offers as it read them before it locked them, so that these
        # counts may be wrong without our doing.
        if placed_meanwhile:
            continue
        found = (voucher.num_orders, voucher.total_discount)
        if found != (orders, amount):
            yield f"voucher {voucher.code}: {found}, should be {(orders, amount)}"
        offer = voucher.offers.get()
        found, expected = (offer.num_orders, offer.total_discount), (discounts.count(), amount)
        if found != expected and orders < 2:
            yield f"offer {offer.name}: {found}, should be {expected}"


def invoices(rows, remote):
    """Invoices have Bitsby's status; no attempt and no webhook delivery is left unfinished."""
    for row in rows.invoices.values():
        if row.status == InvoiceStatus.CREATING:
            yield f"invoice {row.pk}: still being created"
        if row.webhook_pending_since is not None:
            yield f"invoice {row.pk}: a delivery was not processed"
        # A replaced invoice stays watched, whatever its status at Bitsby.
        is_replaced = row.status in (InvoiceStatus.CANCELED, InvoiceStatus.EXPIRED) and row.failure
        if row.bitsby_id is not None:
            item = remote.invoices[str(row.bitsby_id)]
            if row.amount != Decimal(item["amountFiat"]):
                yield f"invoice {row.pk}: {row.amount}, at Bitsby another amount"
            if item["status"] != row.status and not is_replaced:
                yield f"invoice {row.pk}: {row.status}, at Bitsby {item['status']}"
        order = rows.orders.get(row.order_id)
        if row.order_awaits_payment and (order is None or order.status != PENDING) and row.ended_at:
            yield f"invoice {row.pk}: still waits for an order that is {order and order.status}"


def locks():
    """No lease outlives its run, and no rate-limit slot stays taken."""
    now = timezone.now()
    for row in GatewayState.objects.all():
        if row.lease_token or row.lease_until > now:
            yield f"the lease is still taken until {row.lease_until}"
        if row.next_request_at > now:
            yield f"no request before {row.next_request_at}"
