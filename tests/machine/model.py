"""What must hold after every step, whatever happened before."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

from django.db.models import Q
from oscar.core.loading import get_model

from oscar_bitsby.choices import InvoiceStatus, Resolution, ReviewReason
from oscar_bitsby.models import BitsbyInvoice, BitsbyPayment
from oscar_bitsby.reconciliation import cursor
from oscar_bitsby.simulator.state import PAID
from oscar_bitsby.utils.money import to_cents

Line = get_model("order", "Line")
Order = get_model("order", "Order")
Source = get_model("payment", "Source")
StockRecord = get_model("partner", "StockRecord")
Transaction = get_model("payment", "Transaction")

DAY = dt.timedelta(days=1)


class Rows:
    """The shop's own rows at one moment."""

    def __init__(self, bitsby_type):
        self.bitsby_type = bitsby_type
        self.orders = {order.pk: order for order in Order.objects.all()}
        self.invoices = {row.pk: row for row in BitsbyInvoice.objects.all()}
        self.by_bitsby_id = {str(r.bitsby_id): r for r in self.invoices.values() if r.bitsby_id}
        self.payments = {str(row.bitsby_id): row for row in BitsbyPayment.objects.all()}
        self.sources = {source.pk: source for source in Source.objects.all()}
        self.transactions = list(Transaction.objects.filter(source__source_type__code="bitsby"))

    def payments_of(self, order_pk):
        """Return the payments on the invoices of an order."""
        for row in self.payments.values():
            if row.invoice_id and self.invoices[row.invoice_id].order_id == order_pk:
                yield row


def is_shown(row):
    """Tell whether staff can see a payment, or saw it and dealt with it."""
    return row is not None and (row.booked_at is not None or row.review_reason != "")


def check_money(rows):
    """Each payment is booked at most once, and Oscar's sums are those of what is booked."""
    references = [transaction.reference for transaction in rows.transactions]
    assert len(references) == len(set(references)), "a payment was booked twice"
    booked = {key for key, row in rows.payments.items() if row.booked_at is not None}
    assert booked == set(references), "what is booked and the transactions differ"
    sums = {}
    for transaction in rows.transactions:
        row = rows.payments[transaction.reference]
        assert transaction.txn_type == "Debit"
        assert transaction.amount == row.fiat_value, "booked at another worth"
        source = rows.sources[transaction.source_id]
        assert source.order_id == rows.invoices[row.invoice_id].order_id, "booked elsewhere"
        sums[source.pk] = sums.get(source.pk, Decimal(0)) + transaction.amount
    for pk, source in rows.sources.items():
        if source.source_type_id == rows.bitsby_type:
            assert source.amount_debited == sums.get(pk, 0), "the source's sum is wrong"


def check_rows(rows, far, accepted):
    """What we say of invoices and payments is what Bitsby says, or once said."""
    live = [row.order_id for row in rows.invoices.values() if row.status in row.LIVE]
    assert len(live) == len(set(live)), "an order has two live invoices"
    remote = {invoice.id: invoice for invoice in far.all_invoices()}
    for row in rows.invoices.values():
        if row.status == InvoiceStatus.PAID and row.pk not in accepted:
            assert remote[str(row.bitsby_id)].status == PAID, "paid, but not at Bitsby"
    paid = {payment.id: payment for payment in far.all_payments()}
    for key, row in rows.payments.items():
        payment = paid[key]
        assert row.is_foreign or is_shown(row), "a payment that nobody sees"
        if row.booked_at is not None and row.invoice_id is not None:
            invoice = rows.invoices[row.invoice_id]
            rate = invoice.amount / remote[str(invoice.bitsby_id)].reserved[payment.wallet.id]
            assert row.fiat_value == to_cents(payment.amount * rate), "its worth is wrong"


def check_asked(rows, words, altered, accepted):
    """An invoice has ended because Bitsby said so; none that it altered is booked by itself."""
    for row in rows.invoices.values():
        # One that was replaced, and one whose attempt was given up, says so.
        if (
            row.status in (InvoiceStatus.EXPIRED, InvoiceStatus.CANCELED)
            and row.bitsby_id
            and not row.failure
        ):
            assert row.status in words.get(str(row.bitsby_id), ()), "ended without asking"
    for row in rows.payments.values():
        if row.booked_at is not None and row.invoice_id not in accepted:
            bitsby_id = str(rows.invoices[row.invoice_id].bitsby_id)
            assert bitsby_id not in altered, "booked on what the shop did not ask for"


def check_orders(rows, by_hand):
    """A status after pending has its reason: money, a person, or want of payment."""
    for pk, order in rows.orders.items():
        if pk in by_hand:
            continue
        payments = list(rows.payments_of(pk))
        has_booked = any(row.booked_at for row in payments)
        if order.status == "Being processed":
            assert has_booked, "paid without money"
        elif order.status == "Pending":
            unmoved = any(row.review_reason == ReviewReason.STATUS for row in payments)
            assert unmoved or not has_booked, "money is booked and the order waits"
        else:
            assert order.status == "Cancelled"


def held(order_pk):
    """Return what all sources hold for an order, by their own rows."""
    sources = Source.objects.filter(order_id=order_pk)
    return sum(source.amount_debited - source.amount_refunded for source in sources)


def check_given_up(order):
    """An order that is cancelled for want of payment has no money, nor any that waits."""
    assert not held(order.pk), "an order with money was cancelled"
    waiting = BitsbyPayment.objects.filter(invoice__order=order, booked_at=None, resolved_at=None)
    assert not waiting.exclude(review_reason="").exists(), (
        "cancelled while its money waits for staff"
    )


def check_stock(rows, stock_pk, holds, by_hand):
    """Exactly the orders that were not given up hold stock."""
    for pk, order in rows.orders.items():
        if pk not in by_hand:
            assert holds[pk] == (order.status != "Cancelled"), "stock was not given back"
    allocated = StockRecord.objects.get(pk=stock_pk).num_allocated or 0
    lines = Line.objects.values_list("order_id", "num_allocated")
    assert {pk for pk, number in lines if number} == {pk for pk, held in holds.items() if held}
    assert allocated == sum(number for _, number in lines), "stock and lines differ"


def check_found(payment, rows, project):
    """A payment that was looked for is booked, or staff can see it, as what it is now."""
    row = rows.payments.get(payment.id)
    assert row is not None, "money that is nowhere"
    bound = payment.invoice
    if bound is None:
        assert is_shown(row) or row.is_foreign
    elif bound.id in rows.by_bitsby_id:
        invoice = rows.by_bitsby_id[bound.id]
        assert is_shown(row), "money of ours that nobody sees"
        assert not row.is_foreign, "money of ours that is called somebody else's"
        assert row.invoice_id == invoice.pk or row.booked_at, "money on another invoice"
    elif bound.project_id == project:
        assert is_shown(row), "money of our project that nobody sees"
    else:
        assert row.is_foreign or is_shown(row)


def covered(is_far, now):
    """Return from when on a pass that begins now looks at payments; None when at none."""
    began = cursor.first_invoice_at()
    if began is None or not BitsbyInvoice.objects.watched(now - 30 * DAY).exists():
        return None
    return max(now - (30 * DAY if is_far else DAY), began)


def is_settled_as_unpaid(invoice, rows, before):
    """Tell whether nobody waited for an invoice since then: ended, or its money dismissed."""
    if invoice.status in (InvoiceStatus.EXPIRED, InvoiceStatus.CANCELED):
        return invoice.ended_at < before
    payments = [row for row in rows.payments.values() if row.invoice_id == invoice.pk]
    return bool(payments) and all(
        row.booked_at is None
        and row.resolution == Resolution.DISMISSED
        and row.resolved_at < before
        for row in payments
    )


def orders_left_waiting(rows, by_hand, since, now):
    """Return the orders that should have been cancelled for want of payment by now.

    Of the orders that have no invoice, only those are looked for that were placed after ``since``:
    older ones are left to staff where no pass was made for so long.
    """
    money = Q(amount_debited__gt=0)
    with_money = set(Source.objects.filter(money).values_list("order_id", flat=True))
    left = []
    for pk, order in rows.orders.items():
        invoices = [row for row in rows.invoices.values() if row.order_id == pk]
        is_over = all(is_settled_as_unpaid(row, rows, now - DAY) for row in invoices)
        has_waiting = any(row.review_reason and not row.resolved_at for row in rows.payments_of(pk))
        is_over &= bool(invoices) or order.date_placed > since
        is_over &= order.date_placed < now - DAY and not has_waiting
        if is_over and order.status == "Pending" and pk not in by_hand | with_money:
            left.append(order.number)
    return left
