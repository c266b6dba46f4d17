"""The invoices that unbound payments are compared with: bounded, however many a shop has."""

import datetime as dt
from dataclasses import dataclass

from django.db.models import Q

from oscar_bitsby.accounting.valuation import ReservedAmounts
from oscar_bitsby.choices import InvoiceStatus
from oscar_bitsby.models import BitsbyInvoice
from oscar_bitsby.utils.clock import CLOCK_SKEW

#: For how long after its expiry a payment is still probably meant for an invoice.
LATE_WINDOW = dt.timedelta(days=2)
#: The newest invoices that the payments on a page are compared with at most. The binding page of an
#: order compares with all invoices of that order.
MAX_INVOICES = 150
#: From an invoice's creation to the last payment that is probably meant for it.
MAX_INVOICE_AGE = LATE_WINDOW + dt.timedelta(hours=12)


@dataclass(frozen=True)
class Offers:
    """The newest invoices that payments can be meant for, and from when on they are complete.

    ``since`` is None if there are no older ones.
    """

    all: list[ReservedAmounts]
    since: dt.datetime | None


def newest_offers(first: dt.datetime, last: dt.datetime, *conditions: Q) -> Offers:
    """Return the invoices that payments between two moments can be meant for, with one query.

    Paid invoices have a limit of their own: in most shops they are the most.
    """
    invoices = BitsbyInvoice.objects.filter(
        *conditions,
        bitsby_id__isnull=False,
        order__isnull=False,
        created_at__range=(first - MAX_INVOICE_AGE, last + CLOCK_SKEW),
    ).order_by("-created_at", "-pk")
    paid = Q(status=InvoiceStatus.PAID)
    # A union, since each side reads its index. Keys, since SQLite allows no limit inside a union.
    sides = [
        BitsbyInvoice.objects.filter(pk__in=rows.values("pk")[:MAX_INVOICES])
        .defer("reply")
        .order_by()
        for rows in (invoices.exclude(paid), invoices.filter(paid))
    ]
    found = list(sides[0].union(sides[1], all=True))
    limits = []
    for is_paid in (False, True):
        times = [one.created_at for one in found if (one.status == InvoiceStatus.PAID) is is_paid]
        if len(times) == MAX_INVOICES:
            limits.append(min(times))
    return Offers([ReservedAmounts(invoice) for invoice in found], max(limits, default=None))
