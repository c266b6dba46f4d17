"""What must hold in the machine's shop in view of its history, beyond the shared invariants.

Each violated promise raises an ``AssertionError`` that begins with one of the constants here or in
``tests.support.invariants``.
"""

import datetime as dt

from django.db.models import Q
from oscar.core.loading import get_model

from oscar_bitsby.choices import InvoiceStatus, Resolution, ReviewReason
from oscar_bitsby.models import BitsbyInvoice, BitsbyPayment
from oscar_bitsby.reconciliation import cursor, payment_sync
from tests.support.invariants import is_shown

Line = get_model("order", "Line")
Source = get_model("payment", "Source")

DAY = dt.timedelta(days=1)
#: The reasons for which an order may hold money and be pending. The rest was asked for, staff
#: decide what happens without it, or the status could not be changed.
KEEPS_PENDING = {ReviewReason.STATUS, ReviewReason.SHORT, ReviewReason.REST_MISSING}

ENDED_UNASKED = "an invoice ended without Bitsby's answer"
BOOKED_ALTERED = "a payment was booked on what the shop did not ask for"
PAID_WITHOUT_MONEY = "an order is paid without money"
MONEY_AND_PENDING = "money is booked and its order is pending"
UNEXPECTED_STATUS = "an order has an unexpected status"
CANCELLED_WITH_MONEY = "an order with money was cancelled"
CANCELLED_IN_REVIEW = "an order was cancelled while its payment waits for review"
STOCK_NOT_RELEASED = "a cancelled order holds stock, or another one holds none"
LINES_AND_HOLDS = "other orders hold stock than should"
LOST_PAYMENT = "a payment was not found"
UNSEEN_OWN_PAYMENT = "a payment of this shop is not shown to staff"
WRONG_INVOICE = "a payment was recorded with another invoice"


def check_asked(rows, statuses, altered, accepted):
    """An invoice ends by Bitsby's answer, and no altered one is booked without staff.

    Args:
        statuses: every status that Bitsby has answered, by the invoice's id.
        altered: the ids of invoices that differ at Bitsby from what the shop asked for.
        accepted: keys of the invoices whose payment staff accepted.
    """
    for row in rows.invoices.values():
        # A replaced invoice and a failed attempt have a ``failure``.
        if (
            row.status in (InvoiceStatus.EXPIRED, InvoiceStatus.CANCELED)
            and row.bitsby_id
            and not row.failure
        ):
            assert row.status in statuses.get(str(row.bitsby_id), ()), ENDED_UNASKED
    for row in rows.payments.values():
        if row.booked_at is not None and row.invoice_id not in accepted:
            bitsby_id = str(rows.invoices[row.invoice_id].bitsby_id)
            assert bitsby_id not in altered, BOOKED_ALTERED


def check_orders(rows, by_hand):
    """An order leaves "pending" because of money, a person, or because nobody paid."""
    for pk, order in rows.orders.items():
        if pk in by_hand:
            continue
        payments = list(rows.payments_of(pk))
        has_booked = any(row.booked_at for row in payments)
        if order.status == "Being processed":
            assert has_booked, PAID_WITHOUT_MONEY
        elif order.status == "Pending":
            kept = any(set(row.review_reasons) & KEEPS_PENDING for row in payments)
            assert kept or not has_booked, MONEY_AND_PENDING
        else:
            assert order.status == "Cancelled", UNEXPECTED_STATUS


def amount_held(order_pk):
    """Return what all sources hold for an order, by their own rows."""
    sources = Source.objects.filter(order_id=order_pk)
    return sum(source.amount_debited - source.amount_refunded for source in sources)


def check_cancelled(order):
    """An order that the app cancels as unpaid has no money, booked or waiting for review."""
    assert not amount_held(order.pk), CANCELLED_WITH_MONEY
    waiting = BitsbyPayment.objects.filter(invoice__order=order, booked_at=None, resolved_at=None)
    assert not waiting.exclude(review_reason="").exists(), CANCELLED_IN_REVIEW


def check_holds(rows, holds, by_hand):
    """Exactly the orders that were not cancelled hold stock."""
    for pk, order in rows.orders.items():
        if pk not in by_hand:
            assert holds[pk] == (order.status != "Cancelled"), STOCK_NOT_RELEASED
    lines = Line.objects.values_list("order_id", "num_allocated")
    holding = {pk for pk, number in lines if number}
    assert holding == {pk for pk, is_held in holds.items() if is_held}, LINES_AND_HOLDS


def check_found(payment, rows, project):
    """A payment that a sync covered is booked or shown to staff, with its present invoice."""
    row = rows.payments.get(payment.id)
    assert row is not None, LOST_PAYMENT
    bound = payment.invoice
    if bound is None:
        assert is_shown(row) or row.is_foreign, UNSEEN_OWN_PAYMENT
    elif bound.id in rows.by_bitsby_id:
        invoice = rows.by_bitsby_id[bound.id]
        assert is_shown(row), UNSEEN_OWN_PAYMENT
        assert not row.is_foreign, UNSEEN_OWN_PAYMENT
        assert row.invoice_id == invoice.pk or row.booked_at, WRONG_INVOICE
    elif bound.project_id == project:
        assert is_shown(row), UNSEEN_OWN_PAYMENT
    else:
        assert row.is_foreign or is_shown(row), UNSEEN_OWN_PAYMENT


def first_covered_moment(is_full, now):
    """Return from when on a run that begins now syncs payments; None when it syncs none."""
    first = cursor.first_invoice_at()
    if first is None or not BitsbyInvoice.objects.watched(now - 30 * DAY).exists():
        return None
    return max(now - (30 * DAY if is_full else DAY), first)


def early_stop(state, now):
    """Return the moment before which an incremental or overlap sync may stop; None when never."""
    if not state.lists_newest_first:
        return None
    is_overlap = now - state.last_overlap_sync_at >= payment_sync.OVERLAP_SYNC_INTERVAL
    return state.sync_cursor - (payment_sync.CONFIRMATION_LAG if is_overlap else dt.timedelta())


def is_settled_as_unpaid(invoice, rows, before):
    """Tell whether an invoice had ended by then, or its payments had been dismissed."""
    if invoice.status in (InvoiceStatus.EXPIRED, InvoiceStatus.CANCELED):
        return invoice.ended_at < before
    payments = [row for row in rows.payments.values() if row.invoice_id == invoice.pk]
    return bool(payments) and all(
        row.booked_at is None
        and row.resolution == Resolution.DISMISSED
        and row.resolved_at < before
        for row in payments
    )


def endless_rests(rows, excepted, since):
    """Return the orders whose rest was asked for before ``since`` and did not arrive in time."""
    return [
        rows.invoices[row.invoice_id].order_number
        for row in rows.payments.values()
        if row.booked_at is not None
        and row.resolution == Resolution.ASKED
        and row.resolved_at < since
        and (order := rows.orders[rows.invoices[row.invoice_id].order_id]).pk not in excepted
        and order.status == "Pending"
    ]


def overdue_orders(rows, by_hand, since, now):
    """Return the numbers of the orders that should have been cancelled as unpaid by now.

    Orders without an invoice count only when they were placed after ``since``: where no run was
    made for long, older ones are left to staff.
    """
    money = Q(amount_debited__gt=0)
    with_money = set(Source.objects.filter(money).values_list("order_id", flat=True))
    overdue = []
    for pk, order in rows.orders.items():
        invoices = [row for row in rows.invoices.values() if row.order_id == pk]
        is_over = all(is_settled_as_unpaid(row, rows, now - DAY) for row in invoices)
        in_review = any(row.review_reason and not row.resolved_at for row in rows.payments_of(pk))
        is_over &= bool(invoices) or order.date_placed > since
        is_over &= order.date_placed < now - DAY and not in_review
        if is_over and order.status == "Pending" and pk not in by_hand | with_money:
            overdue.append(order.number)
    return overdue
