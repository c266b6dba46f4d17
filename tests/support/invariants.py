"""Invariants of the books, shared by the crash suite and the state machine.

Each check is a generator of the problems that it finds, in words. They hold at any moment between
two transactions; what holds only for a shop at rest is checked by ``tests.crash.audit``, and what
needs a history by ``tests.machine.model``.
"""

from collections import Counter
from decimal import Decimal

from oscar.core.loading import get_model

from oscar_bitsby.choices import InvoiceStatus, RefundState
from oscar_bitsby.models import BitsbyInvoice, BitsbyPayment, BitsbyRefund
from oscar_bitsby.utils.money import to_cents

Line = get_model("order", "Line")
Order = get_model("order", "Order")
Source = get_model("payment", "Source")
StockRecord = get_model("partner", "StockRecord")
Transaction = get_model("payment", "Transaction")

BOOKED_TWICE = "a payment was booked twice"
ROWS_AND_TRANSACTIONS = "booked rows and transactions differ"
TRANSACTION_TYPE = "a payment was booked with another transaction type"
BOOKED_VALUE = "a payment was booked at another value than its row has"
BOOKED_ELSEWHERE = "a payment was booked on the source of another order"
SOURCE_SUM = "a source's sum differs from its transactions"
TWO_LIVE_INVOICES = "an order has two live invoices"
PAID_HERE_ONLY = "an invoice is paid here and not at Bitsby"
UNKNOWN_PAYMENT = "Bitsby knows no such payment"
UNSEEN_PAYMENT = "a payment is neither booked nor to be reviewed"
FIAT_VALUE = "a payment's fiat value is not that of the locked rate"
REFUNDS_AND_TRANSACTIONS = "sent refunds of booked money and transactions of type Refund differ"
REFUND_AND_BOOKING = "a sent refund is in the ledger and its payment is not, or the reverse"
BOOKED_AFTER_REFUND = "a payment was booked after its refund was requested"
REFUNDED_TOO_MUCH = "more is refunded, or about to be, than was booked or received"
TWO_OPEN_REFUNDS = "a payment has two open refunds"
MONEY_SUM = "received money is not what is booked, less what was refunded, and what waits"
ASKED_TOO_MUCH = "an order is asked for more than it owes"
STOCK_SUM = "stock and lines differ"

REFUND = Transaction.REFUND


class Remote:
    """Bitsby's invoices and payments by id, from what the simulator's ``state`` answers."""

    def __init__(self, state):
        self.invoices = {item["id"]: item for item in state["invoices"]}
        self.payments = {item["id"]: item for item in state["payments"]}


def invoice_id_of(payment):
    """Return the id of the invoice that a remote payment is bound to, or None."""
    return (payment.get("invoice") or {}).get("id")


class Rows:
    """The shop's own rows at one moment."""

    def __init__(self):
        self.orders = {order.pk: order for order in Order.objects.all()}
        self.invoices = {row.pk: row for row in BitsbyInvoice.objects.all()}
        self.by_bitsby_id = {str(r.bitsby_id): r for r in self.invoices.values() if r.bitsby_id}
        self.payments = {str(row.bitsby_id): row for row in BitsbyPayment.objects.all()}
        bitsby_sources = Source.objects.filter(source_type__code="bitsby")
        self.sources = {source.pk: source for source in bitsby_sources}
        transactions = Transaction.objects.filter(source__source_type__code="bitsby")
        self.refunds = list(BitsbyRefund.objects.order_by("pk"))
        self.refund_transactions = [one for one in transactions if one.txn_type == REFUND]
        #: All others, so that one of an unexpected type is found.
        self.transactions = [one for one in transactions if one.txn_type != REFUND]

    def payments_of(self, order_pk):
        """Return the payments on the invoices of an order."""
        for row in self.payments.values():
            if row.invoice_id and self.invoices[row.invoice_id].order_id == order_pk:
                yield row


def is_shown(row):
    """Tell whether a payment is booked, waits for review or was reviewed."""
    return row is not None and (row.booked_at is not None or row.review_reason != "")


def check_bookings(rows):
    """Each payment is booked at most once, and Oscar's sums are those of the booked payments."""
    times = Counter(transaction.reference for transaction in rows.transactions)
    yield from (f"{BOOKED_TWICE}: {key}" for key, number in times.items() if number > 1)
    booked = {key for key, row in rows.payments.items() if row.booked_at is not None}
    if booked != times.keys():
        yield f"{ROWS_AND_TRANSACTIONS}: {sorted(booked ^ times.keys())}"
    sums = Counter()
    for transaction in rows.transactions:
        key, row = transaction.reference, rows.payments.get(transaction.reference)
        sums[transaction.source_id] += transaction.amount
        if transaction.txn_type != "Debit":
            yield f"{TRANSACTION_TYPE}: {key}: {transaction.txn_type}"
        if row is None:
            # Reported above.
            continue
        if transaction.amount != row.fiat_value:
            yield f"{BOOKED_VALUE}: {key}: {transaction.amount}, not {row.fiat_value}"
        invoice = rows.invoices.get(row.invoice_id)
        if invoice is None or rows.sources[transaction.source_id].order_id != invoice.order_id:
            yield f"{BOOKED_ELSEWHERE}: {key}"
    for pk, source in rows.sources.items():
        if source.amount_debited != sums[pk]:
            yield f"{SOURCE_SUM}: source {pk}: {source.amount_debited}, not {sums[pk]}"


def check_refunds(rows):
    """Each sent refund of booked money is booked once, and none is more than there was."""
    sent = [one for one in rows.refunds if one.state == RefundState.SENT]
    booked = sorted((one.transaction_hash, one.amount) for one in sent if one.is_booked)
    found = sorted((one.reference, one.amount) for one in rows.refund_transactions)
    if booked != found:
        yield f"{REFUNDS_AND_TRANSACTIONS}: {booked}, {found}"
    orders_of = {
        one.reference: rows.sources[one.source_id].order_id for one in rows.refund_transactions
    }
    sums = Counter()
    for transaction in rows.refund_transactions:
        sums[transaction.source_id] += transaction.amount
    for pk, source in rows.sources.items():
        if source.amount_refunded != sums[pk]:
            yield f"{SOURCE_SUM}: source {pk}: {source.amount_refunded} refunded, not {sums[pk]}"
    payments = {row.pk: row for row in rows.payments.values()}
    for refund in sent:
        payment = payments.get(refund.payment_id)
        if refund.is_booked != (payment is None or payment.booked_at is not None):
            yield f"{REFUND_AND_BOOKING}: refund {refund.pk}"
        if refund.is_booked and orders_of.get(refund.transaction_hash) != refund.order_id:
            yield f"{BOOKED_ELSEWHERE}: refund {refund.pk}"
    yield from _check_limits(rows, payments)


def _check_limits(rows, payments):
    """The open and the sent refunds of a payment, and of an order, stay below what came in."""
    counted = [one for one in rows.refunds if one.state != RefundState.CANCELLED]
    for refund in counted:
        payment = payments.get(refund.payment_id)
        booked_at = payment and payment.booked_at
        if booked_at is not None and booked_at > refund.requested_at:
            yield f"{BOOKED_AFTER_REFUND}: {payment.bitsby_id}"
    open_ones = Counter(one.payment_id for one in counted if one.state != RefundState.SENT)
    del open_ones[None]
    yield from (f"{TWO_OPEN_REFUNDS}: {pk}" for pk, number in open_ones.items() if number > 1)
    amounts, coins, of_orders = Counter(), Counter(), Counter()
    for refund in counted:
        payment = payments.get(refund.payment_id)
        amounts[refund.payment_id] += refund.amount or 0
        coins[refund.payment_id] += refund.coin_amount
        if payment is None or payment.booked_at is not None:
            invoice = payment and rows.invoices[payment.invoice_id]
            of_orders[invoice.order_id if invoice else refund.order_id] += refund.amount or 0
    for pk, payment in payments.items():
        if payment.fiat_value is not None and amounts[pk] > payment.fiat_value:
            yield f"{REFUNDED_TOO_MUCH}: {amounts[pk]} of {payment.bitsby_id}"
        # The coins of booked money may be more, if their rate has fallen.
        if payment.booked_at is None and coins[pk] > payment.amount:
            yield f"{REFUNDED_TOO_MUCH}: {coins[pk]} coins of {payment.bitsby_id}"
    debited = Counter()
    for source in rows.sources.values():
        debited[source.order_id] += source.amount_debited
    for pk, amount in of_orders.items():
        if amount > debited[pk]:
            yield f"{REFUNDED_TOO_MUCH}: {amount} of order {pk}, which got {debited[pk]}"


def check_sums(rows, remote):
    """What Bitsby received for our invoices is booked, less what was sent back, or it waits.

    It is counted at the locked rates. What staff dismissed unbooked waits no longer.
    """
    received = waiting = Decimal(0)
    sent = [one for one in rows.refunds if one.state == RefundState.SENT]
    unbooked = Counter()
    for refund in sent:
        if not refund.is_booked:
            unbooked[refund.payment_id] += refund.amount or 0
    for key, row in rows.payments.items():
        if row.fiat_value is None or key not in remote.payments:
            continue
        received += row.fiat_value - unbooked[row.pk]
        if row.booked_at is None:
            waiting += row.fiat_value - unbooked[row.pk]
    held = sum((one.amount_debited - one.amount_refunded for one in rows.sources.values()), 0)
    refunded = sum((one.amount for one in sent if one.is_booked), Decimal(0))
    if received - refunded != held + waiting:
        yield f"{MONEY_SUM}: {received} less {refunded}, and {held} and {waiting}"


def owed(order):
    """Return what an order still owes, by its own row and those of all its sources."""
    sources = Source.objects.filter(order_id=order.pk)
    held = sum((one.amount_debited - one.amount_refunded for one in sources), Decimal(0))
    return Order.objects.get(pk=order.pk).total_incl_tax - held


def check_invoices(rows, remote, accepted=()):
    """An order has one live invoice at most, and a paid invoice is paid at Bitsby, too.

    Args:
        accepted: keys of the invoices whose payment staff accepted without Bitsby.
    """
    live = Counter(row.order_id for row in rows.invoices.values() if row.status in row.LIVE)
    yield from (f"{TWO_LIVE_INVOICES}: order {pk}" for pk, number in live.items() if number > 1)
    for row in rows.invoices.values():
        if row.status == InvoiceStatus.PAID and row.pk not in accepted:
            status = remote.invoices[str(row.bitsby_id)]["status"]
            if status != InvoiceStatus.PAID:
                yield f"{PAID_HERE_ONLY}: {row.bitsby_id}: {status}"


def check_payments(rows, remote):
    """Each payment row is of a real payment, can be seen by staff, and has the right value."""
    for key, row in rows.payments.items():
        payment = remote.payments.get(key)
        if payment is None:
            yield f"{UNKNOWN_PAYMENT}: {key}"
            continue
        if not row.is_foreign and not is_shown(row):
            yield f"{UNSEEN_PAYMENT}: {key}"
        if row.booked_at is not None and row.invoice_id is not None:
            value = locked_value(payment, rows.invoices[row.invoice_id], remote)
            if row.fiat_value != value:
                yield f"{FIAT_VALUE}: {key}: {row.fiat_value}, not {value}"


def locked_value(payment, invoice, remote):
    """Return a payment's value in the invoice's currency, in cents, at the locked rate."""
    wallets = remote.invoices[str(invoice.bitsby_id)]["wallets"]
    (wallet,) = [one for one in wallets if one["id"] == payment["wallet"]["id"]]
    return to_cents(Decimal(payment["amount"]) * (invoice.amount / Decimal(wallet["amountCrypto"])))


def check_stock():
    """A stock record has allocated what the lines of all orders hold of it."""
    held = Counter()
    for record_pk, number in Line.objects.values_list("stockrecord_id", "num_allocated"):
        held[record_pk] += number or 0
    for record in StockRecord.objects.all():
        if (record.num_allocated or 0) != held[record.pk]:
            yield f"{STOCK_SUM}: {record.pk}: {record.num_allocated}, lines {held[record.pk]}"


def check_books(rows, remote, accepted=()):
    """Yield what all checks of this module find."""
    yield from check_bookings(rows)
    yield from check_refunds(rows)
    yield from check_sums(rows, remote)
    yield from check_invoices(rows, remote, accepted)
    yield from check_payments(rows, remote)
    yield from check_stock()
