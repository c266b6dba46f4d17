"""P6: settling payments, compared to plain ORM calls that write the same rows."""

import statistics
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from django.db import connection, transaction
from django.utils import timezone
from oscar.core.loading import get_class, get_model

from bench import counting, rows
from bench.report import Row, spread
from oscar_bitsby import conf, settlement
from oscar_bitsby.choices import InvoiceStatus, MailCode
from oscar_bitsby.gateway import parsing, schemas
from oscar_bitsby.models import BitsbyInvoice, BitsbyPayment, BuyerMail
from tests.support.bitsby import invoice_item, payment_item, transfer

EventHandler = get_class("order.processing", "EventHandler")
OrderNote = get_model("order", "OrderNote")
OrderStatusChange = get_model("order", "OrderStatusChange")
PaymentEvent = get_model("order", "PaymentEvent")
PaymentEventQuantity = get_model("order", "PaymentEventQuantity")
PaymentEventType = get_model("order", "PaymentEventType")
Transaction = get_model("payment", "Transaction")

#: Both ways must write the same number of rows of these models, and the same statuses.
WRITTEN_MODELS = (
    BitsbyPayment,
    BuyerMail,
    Transaction,
    PaymentEvent,
    PaymentEventQuantity,
    OrderNote,
    OrderStatusChange,
)


def measure(key: str, quick: bool) -> list[Row]:
    """Settle a thousand payments with the app and as many by hand, in turns."""
    rounds, batch = (4, 10) if quick else (20, 50)
    count = 2 * (rounds + 1) * batch
    rows.add_orders(count)
    rows.add_lines_and_sources(count)
    rows.add_invoices(count)
    # The type exists already, as for all payments except the first one of a shop.
    PaymentEventType.objects.get_or_create(code=conf.PAID_EVENT_CODE, defaults={"name": "Paid"})
    payments = [
        parsing.parse_payment(payment_item(transfer(), invoice_item(invoice, "paid")))
        for invoice in BitsbyInvoice.objects.order_by("pk")
    ]
    batches = iter([payments[start : start + batch] for start in range(0, count, batch)])
    _run(_settle, next(batches)), _run(_by_hand, next(batches))
    settled, by_hand = [], []
    for number in range(rounds):
        pair = [(_settle, settled), (_by_hand, by_hand)]
        for way, found in pair if number % 2 else reversed(pair):
            found.append(_run(way, next(batches)))
    _compare(payments)
    ratios = [a / b for a, b in zip(settled, by_hand, strict=True)]
    queries = _queries()
    how = (
        f"in this process; {rounds} runs of {batch} payments each way in turn, each payment in its"
        " own transaction. By hand: plain ORM calls write the same rows, that of the e-mail"
        " included, without locks, checks or savepoints; Oscar's own EventHandler writes the event"
        " and the order's status. No e-mail is sent. The rows of both ways are compared."
        " Medians per payment:"
        f" {statistics.median(settled) * 1000 / batch:.1f} and"
        f" {statistics.median(by_hand) * 1000 / batch:.1f} ms; {queries[0]} and {queries[1]}"
        " queries."
    )
    return [
        Row(
            "P6",
            f"settling {rounds * batch:,} payments ÷ plain ORM calls",
            "≤ 1.5",
            spread(ratios),
            statistics.median(ratios) <= 1.5,
            how,
        )
    ]


def _run(way: Callable[[schemas.Payment], None], batch: Sequence[schemas.Payment]) -> float:
    begin = time.perf_counter()
    for payment in batch:
        way(payment)
    return time.perf_counter() - begin


def _settle(payment: schemas.Payment) -> None:
    assert payment.invoice is not None
    invoice = BitsbyInvoice.objects.get(bitsby_id=payment.invoice.id)
    settlement.settle(invoice, payment.invoice, payment)


def _by_hand(payment: schemas.Payment) -> None:
    """Write the rows that settling writes, without protection against concurrency."""
    assert payment.invoice is not None
    assert payment.wallet is not None
    with transaction.atomic():
        invoice = BitsbyInvoice.objects.get(bitsby_id=payment.invoice.id)
        order: Any = invoice.order
        invoice.status, invoice.page_views = InvoiceStatus.PAID, payment.invoice.views
        invoice.order_awaits_payment = False
        invoice.save()
        BitsbyPayment.objects.create(
            bitsby_id=payment.id,
            invoice=invoice,
            bound_to=payment.invoice.id,
            project_id=payment.invoice.project_id,
            amount=payment.amount,
            hash=payment.hash,
            transaction_at=payment.transaction_at,
            cryptocurrency=payment.wallet.cryptocurrency,
            blockchain=payment.wallet.blockchain,
            wallet_id=payment.wallet.id,
            address=payment.wallet.address,
            fiat_value=invoice.amount,
            currency=invoice.currency,
            booked_at=timezone.now(),
        )
        source = order.sources.get(source_type__code=conf.METHOD_CODE)
        source.debit(invoice.amount, reference=str(payment.id), status="paid")
        lines = list(order.lines.all())
        EventHandler().handle_payment_event(
            order,
            PaymentEventType.objects.get(code=conf.PAID_EVENT_CODE),
            invoice.amount,
            lines=lines,
            line_quantities=[line.quantity for line in lines],
            reference=str(payment.id),
        )
        note = f"Bitsby payment {payment.id} received for invoice {invoice.uid}."
        EventHandler().handle_order_status_change(order, "Being processed", note_msg=note)
        BuyerMail.objects.create(
            code=MailCode.PAID,
            key=f"{MailCode.PAID}:{order.pk}::",
            order=order,
            order_number=order.number,
        )


def _compare(payments: Sequence[schemas.Payment]) -> None:
    """Check that both ways have written the same rows.

    Raises:
        AssertionError: they have not.
    """
    assert {model: model.objects.count() for model in WRITTEN_MODELS} == dict.fromkeys(
        WRITTEN_MODELS, len(payments)
    )
    statuses = Counter(
        BitsbyInvoice.objects.values_list("status", "order_awaits_payment", "order__status")
    )
    assert dict(statuses) == {("paid", False, "Being processed"): len(payments)}, statuses
    assert not BitsbyPayment.objects.exclude(
        review_reason="", fiat_value=10, booked_at__isnull=False
    )


def _queries() -> tuple[int, int]:
    """Count the queries of each way for one more payment."""
    found = []
    for number, way in enumerate((_settle, _by_hand), BitsbyInvoice.objects.count() + 1):
        key = str(number)
        rows.add_orders(1, id=key, number=f"'B{number}'")
        rows.add_lines_and_sources(1, order=key)
        rows.add_invoices(1, id=key, order_id=key)
        invoice = BitsbyInvoice.objects.get(pk=number)
        payment = parsing.parse_payment(payment_item(transfer(), invoice_item(invoice, "paid")))
        counter = counting.Counter()
        with connection.execute_wrapper(counter):
            way(payment)
        found.append(counter.queries)
    return found[0], found[1]
