"""Compares booked payments and sent refunds with Oscar's ledger: sources and transactions."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import Any

from django.db.models import Exists, OuterRef, Q
from oscar.core.loading import get_model

from oscar_bitsby.accounting.audit import Difference, Scope, each, everything, in_chunks, of_payment
from oscar_bitsby.accounting.ledger import REFERENCE_LENGTH
from oscar_bitsby.choices import DifferenceKind, RefundState
from oscar_bitsby.conf import METHOD_CODE
from oscar_bitsby.models import BitsbyPayment, BitsbyRefund

Source = get_model("payment", "Source")
SourceType = get_model("payment", "SourceType")
Transaction = get_model("payment", "Transaction")

_SOURCE_REMEDY = (
    "Compare the order's transactions with its payments and refunds in the dashboard, and correct"
    " the source by hand."
)


def compare_ledger(scope: Scope) -> Iterator[Difference]:
    """Compare the sources of all orders with money in the days of the audit, some at a time."""
    for sources in in_chunks(_sources(scope)):
        yield from _compare_sources(sources)
    has_source = Source._default_manager.filter(
        order=OuterRef("invoice__order"), source_type__code=METHOD_CODE
    )
    without = _booked(scope).filter(~Exists(has_source), invoice__order__isnull=False)
    for payment in each(without.select_related("invoice")):
        yield _not_in_ledger(payment)
    has_source = Source._default_manager.filter(
        order=OuterRef("order"), source_type__code=METHOD_CODE
    )
    for refund in each(_sent(scope).filter(~Exists(has_source), order__isnull=False)):
        if _must_be_booked(refund):
            yield _refund_not_in_ledger(refund)


def _booked(scope: Scope) -> Any:
    return scope.payments().filter(booked_at__isnull=False)


def _sent(scope: Scope) -> Any:
    found = everything(BitsbyRefund).filter(scope.during("closed_at"), state=RefundState.SENT)
    return found.select_related("payment")


def _sources(scope: Scope) -> Any:
    """Return Bitsby's sources with money; if days are given, those with movements on these days."""
    # By its key: PostgreSQL knows how many sources have it, and reads a chunk by the index. The
    # table of types is too small for statistics: with a join, all sources are sorted each time.
    kinds = list(SourceType._default_manager.filter(code=METHOD_CODE).values_list("pk", flat=True))
    found = everything(Source).filter(source_type__in=kinds).select_related("order")
    if not scope.has_days:
        return found
    entries = Transaction._default_manager.filter(
        scope.during("date_created"), source=OuterRef("pk")
    )
    payments = _booked(scope).filter(invoice__order=OuterRef("order"))
    refunds = _sent(scope).filter(order=OuterRef("order"))
    return found.filter(Exists(entries) | Exists(payments) | Exists(refunds))


def _compare_sources(sources: list[Any]) -> Iterator[Difference]:
    orders = {source.order_id for source in sources}
    entries = _by(
        everything(Transaction).filter(
            source__in=sources, txn_type__in=(Transaction.DEBIT, Transaction.REFUND)
        ),
        lambda entry: entry.source_id,
    )
    payments = _by(
        everything(BitsbyPayment)
        .filter(invoice__order__in=orders, booked_at__isnull=False)
        .select_related("invoice")
        .defer("invoice__wallets", "invoice__reply"),
        lambda payment: payment.invoice.order_id,
    )
    refunds = _by(
        everything(BitsbyRefund)
        .filter(order__in=orders, state=RefundState.SENT)
        .select_related("payment"),
        lambda refund: refund.order_id,
    )
    seen: set[Any] = set()
    # An order has one source of Bitsby. In a second one nothing of ours is booked.
    for source in sources:
        of_order = source.order_id
        is_first = of_order not in seen
        seen.add(of_order)
        yield from _compare_source(
            source,
            entries[source.pk],
            payments[of_order] if is_first else [],
            refunds[of_order] if is_first else [],
        )


def _by(rows: Iterable[Any], key: Any) -> defaultdict[Any, list[Any]]:
    found: defaultdict[Any, list[Any]] = defaultdict(list)
    for row in rows:
        found[key(row)].append(row)
    return found


def _compare_source(
    source: Any, entries: list[Any], payments: list[Any], refunds: list[Any]
) -> Iterator[Difference]:
    number = source.order.number
    debits = [entry for entry in entries if entry.txn_type == Transaction.DEBIT]
    credits = [entry for entry in entries if entry.txn_type == Transaction.REFUND]
    for name, found in (("amount_debited", debits), ("amount_refunded", credits)):
        total = sum((entry.amount for entry in found), Decimal(0))
        if total != getattr(source, name):
            yield Difference(
                DifferenceKind.SOURCE_SUM,
                f"the source's {name} is {getattr(source, name)} {source.currency}, and its"
                f" transactions sum up to {total}",
                _SOURCE_REMEDY,
                number,
            )
    by_id = {str(payment.bitsby_id): payment for payment in payments}
    yield from _compare_payments(source, by_id, _by(debits, lambda entry: entry.reference))
    yield from _compare_refunds(source, refunds, credits)


def _compare_payments(
    source: Any, payments: dict[str, BitsbyPayment], entries: dict[str, list[Any]]
) -> Iterator[Difference]:
    for key, payment in payments.items():
        found = entries.get(key, [])
        if not found:
            yield _not_in_ledger(payment)
        elif len(found) > 1:
            yield of_payment(
                payment,
                DifferenceKind.BOOKED_TWICE,
                f"booked by {len(found)} transactions",
                "Remove all but one of them, and correct the source of the order by hand.",
            )
        elif (found[0].amount, source.currency) != (payment.fiat_value, payment.currency):
            yield of_payment(
                payment,
                DifferenceKind.AMOUNT,
                f"worth {payment.fiat_value} {payment.currency}, booked with"
                f" {found[0].amount} {source.currency}",
                _SOURCE_REMEDY,
            )
    for reference, found in entries.items():
        if reference not in payments:
            for entry in found:
                yield _transaction_only(entry, source, "no booked payment of the order")


def _compare_refunds(
    source: Any, refunds: list[BitsbyRefund], entries: list[Any]
) -> Iterator[Difference]:
    # Two refunds on different chains may have the same hash.
    left = list(entries)
    for refund in refunds:
        if not _must_be_booked(refund):
            continue
        reference = refund.transaction_hash[:REFERENCE_LENGTH]
        same = [entry for entry in left if entry.reference == reference]
        entry = next((one for one in same if one.amount == refund.amount), None) or next(
            iter(same), None
        )
        if entry is None:
            yield _refund_not_in_ledger(refund)
            continue
        left.remove(entry)
        if entry.amount != refund.amount:
            yield _of_refund(
                refund,
                DifferenceKind.AMOUNT,
                f"the refund is of {refund.amount} {refund.currency}, and booked with"
                f" {entry.amount} {source.currency}",
                _SOURCE_REMEDY,
            )
    known = Counter(refund.transaction_hash[:REFERENCE_LENGTH] for refund in refunds)
    for entry in left:
        why = "a refund that is booked already" if known[entry.reference] else "no sent refund"
        yield _transaction_only(entry, source, why)


def _must_be_booked(refund: BitsbyRefund) -> bool:
    """Tell whether a sent refund belongs in the ledger: its money was booked before."""
    if refund.is_booked or refund.payment is None:
        return True
    booked_at = refund.payment.booked_at
    return booked_at is not None and refund.closed_at is not None and booked_at < refund.closed_at


def _not_in_ledger(payment: BitsbyPayment) -> Difference:
    return of_payment(
        payment,
        DifferenceKind.NOT_IN_LEDGER,
        f"{payment.fiat_value} {payment.currency} are booked, and the order has no transaction",
        "Find out who deleted the transaction, and create it again by hand: type Debit, with the"
        " payment's id as its reference.",
    )


def _refund_not_in_ledger(refund: BitsbyRefund) -> Difference:
    return _of_refund(
        refund,
        DifferenceKind.REFUND_NOT_IN_LEDGER,
        f"{refund.amount} {refund.currency} were sent back, and the order has no transaction",
        "Create the transaction by hand: type Refund, with the transaction hash as its reference.",
    )


def _of_refund(refund: BitsbyRefund, kind: DifferenceKind, text: str, remedy: str) -> Difference:
    payment = str(refund.payment.bitsby_id) if refund.payment else ""
    return Difference(
        kind, text, remedy, refund.order_number, payment=payment, refund=str(refund.pk)
    )


def _transaction_only(entry: Any, source: Any, why: str) -> Difference:
    return Difference(
        DifferenceKind.TRANSACTION_ONLY,
        f"the transaction {entry.reference or 'without a reference'} of type {entry.txn_type} over"
        f" {entry.amount} {source.currency} belongs to {why}",
        "If somebody booked it by hand, move it to a source of another type. Otherwise remove it,"
        " and correct the source of the order.",
        source.order.number,
        transaction=str(entry.pk),
    )


def payments_of_deleted_orders(scope: Scope) -> int:
    """Return how many booked payments have no order any more, and so no ledger."""
    found: int = _booked(scope).filter(Q(invoice=None) | Q(invoice__order=None)).count()
    return found
