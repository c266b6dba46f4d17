"""Find invoices, payments and refunds by whole order numbers, ids or hashes, which use an index."""

from typing import Any
from uuid import UUID

from django.db.models import Q

from oscar_bitsby.models import BitsbyInvoice, BitsbyPayment, BitsbyRefund

#: Results at most from each table. One query with an OR over both would read every row.
MAX_RESULTS = 1_000


def find_invoices(text: str) -> list[Any]:
    """Return the primary keys of the invoices that a text names, or whose payments it names."""
    found = BitsbyInvoice.objects.filter(_invoice_named(text)).order_by()
    paid_by = BitsbyPayment.objects.filter(_payment_named(text), invoice__isnull=False).order_by()
    return [
        *found.values_list("pk", flat=True)[:MAX_RESULTS],
        *paid_by.values_list("invoice", flat=True)[:MAX_RESULTS],
    ]


def find_payments(text: str) -> list[Any]:
    """Return the primary keys of the payments that a text names, or whose invoices it names."""
    found = BitsbyPayment.objects.filter(_payment_named(text)).order_by()
    invoices = BitsbyInvoice.objects.filter(_invoice_named(text)).order_by()
    keys = list(invoices.values_list("pk", flat=True)[:MAX_RESULTS])
    for_them = BitsbyPayment.objects.filter(invoice__in=keys).order_by()
    return [
        *found.values_list("pk", flat=True)[:MAX_RESULTS],
        *for_them.values_list("pk", flat=True)[:MAX_RESULTS],
    ]


def find_refunds(text: str) -> list[Any]:
    """Return the primary keys of the refunds that a text names, or whose payments it names."""
    named = Q(order_number=text) | Q(transaction_hash__in={text, text.lower()})
    found = BitsbyRefund.objects.filter(named).order_by()
    payments = BitsbyPayment.objects.filter(_payment_named(text)).order_by()
    keys = list(payments.values_list("pk", flat=True)[:MAX_RESULTS])
    of_them = BitsbyRefund.objects.filter(payment__in=keys).order_by()
    return [
        *found.values_list("pk", flat=True)[:MAX_RESULTS],
        *of_them.values_list("pk", flat=True)[:MAX_RESULTS],
    ]


def _invoice_named(text: str) -> Q:
    named = Q(order_number=text) | Q(uid=text)
    return named | Q(bitsby_id=text) if _is_uuid(text) else named


def _payment_named(text: str) -> Q:
    # Block explorers write the same hash in upper or lower case.
    named = Q(hash__in={text, text.lower()})
    return named | Q(bitsby_id=text) if _is_uuid(text) else named


def _is_uuid(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True
