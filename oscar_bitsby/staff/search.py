"""Finding invoices and payments by what people have at hand: a number, an id, a hash.

Whole values only: each of them is indexed, and a part of a hash says nothing. Keys are looked up
first, one index after another: one question with an OR over two tables would read every row.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.db.models import Q

from oscar_bitsby.models import BitsbyInvoice, BitsbyPayment

#: Nobody looks through more.
MAX_RESULTS = 1_000


def find_invoices(text: str) -> list[Any]:
    """Return the keys of the invoices with this order number, id or short id, or paid by this
    payment or transaction hash."""
    found = BitsbyInvoice.objects.filter(_invoice_named(text)).order_by()
    paid_by = BitsbyPayment.objects.filter(_payment_named(text), invoice__isnull=False).order_by()
    return [
        *found.values_list("pk", flat=True)[:MAX_RESULTS],
        *paid_by.values_list("invoice", flat=True)[:MAX_RESULTS],
    ]


def find_payments(text: str) -> list[Any]:
    """Return the keys of the payments with this id or hash, or of an invoice named so."""
    found = BitsbyPayment.objects.filter(_payment_named(text)).order_by()
    invoices = BitsbyInvoice.objects.filter(_invoice_named(text)).order_by()
    keys = list(invoices.values_list("pk", flat=True)[:MAX_RESULTS])
    for_them = BitsbyPayment.objects.filter(invoice__in=keys).order_by()
    return [
        *found.values_list("pk", flat=True)[:MAX_RESULTS],
        *for_them.values_list("pk", flat=True)[:MAX_RESULTS],
    ]


def _invoice_named(text: str) -> Q:
    named = Q(order_number=text) | Q(uid=text)
    return named | Q(bitsby_id=text) if _is_uuid(text) else named


def _payment_named(text: str) -> Q:
    # Explorers write the same hash in either case.
    named = Q(hash__in={text, text.lower()})
    return named | Q(bitsby_id=text) if _is_uuid(text) else named


def _is_uuid(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True
