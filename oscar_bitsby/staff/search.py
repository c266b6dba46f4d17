"""Find invoices, payments and refunds by what staff type; each search uses an index."""

from typing import Any
from uuid import UUID

from django.contrib.auth import get_user_model
from django.db import connections
from django.db.models import Q

from oscar_bitsby.models import BitsbyInvoice, BitsbyPayment, BitsbyRefund
from oscar_bitsby.models.invoice import email_keys
from oscar_bitsby.staff.pagination import MAX_COUNT

#: Results at most from each table. One query with an OR over both would read every row.
MAX_RESULTS = 1_000
#: The least that is searched for as a part of an order number.
MIN_PART = 3


def find_invoices(text: str) -> list[Any]:
    """Return the primary keys of the invoices that a text names, or whose payments it names."""
    found = BitsbyInvoice.objects.filter(_invoice_named(text)).order_by()
    paid_by = BitsbyPayment.objects.filter(_payment_named(text), invoice__isnull=False).order_by()
    return [
        *found.values_list("pk", flat=True)[:MAX_RESULTS],
        *paid_by.values_list("invoice", flat=True)[:MAX_RESULTS],
    ]


def find_by_number_part(text: str) -> list[Any]:
    """Return the primary keys of invoices by a part of their order number, the newest first.

    Those are all whose number begins with the text, and of the newest ``MAX_COUNT`` invoices those
    whose number contains it: without an extension, no database has an index of substrings.
    """
    if len(text) < MIN_PART:
        return []
    numbers = BitsbyInvoice.objects.order_by("-created_at", "-pk")
    oldest = numbers.values_list("created_at", flat=True)[MAX_COUNT - 1 : MAX_COUNT]
    recent = numbers.filter(*(Q(created_at__gte=at) for at in oldest))
    begins = BitsbyInvoice.objects.order_by().filter(order_number__startswith=text)
    if connections[begins.db].vendor == "sqlite":
        # Its LIKE ignores case, and therefore the index, too.
        begins = begins.filter(order_number__gte=text, order_number__lte=f"{text}\U0010ffff")
    return [
        *recent.filter(order_number__icontains=text).values_list("pk", flat=True)[:MAX_RESULTS],
        *begins.values_list("pk", flat=True)[:MAX_RESULTS],
    ]


def find_by_email(email: str) -> list[Any]:
    """Return the primary keys of the newest invoices of a buyer, a guest or a user.

    A user whose address has changed is found by the present one and by that of the invoice.
    """
    users = get_user_model()._default_manager.filter(email__in={email, email.lower()})
    conditions = (
        Q(email_key__in=email_keys(email)),
        Q(order__user__in=list(users.values_list("pk", flat=True)[:MAX_RESULTS])),
    )
    rows = BitsbyInvoice.objects.order_by("-pk").values_list("pk", flat=True)
    return [key for condition in conditions for key in rows.filter(condition)[:MAX_RESULTS]]


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
