"""The unbound payments that are probably meant for an order: the buyer is not asked to pay again.

They may also be another buyer's: the API does not name the payer. Each payment counts for the
order that it fits best, and for no other.
"""

from collections.abc import Iterable
from typing import Any

from django.db import router
from django.db.models import Q

from oscar_bitsby.accounting import matching
from oscar_bitsby.accounting.matching import Match
from oscar_bitsby.accounting.offers import LATE_WINDOW, newest_offers
from oscar_bitsby.accounting.valuation import ReservedAmounts
from oscar_bitsby.models import BitsbyInvoice, BitsbyPayment
from oscar_bitsby.utils.clock import CLOCK_SKEW

#: The newest plausible payments that are compared for one order.
MAX_PAYMENTS = 50


def likely_matches(
    order: Any, invoices: Iterable[BitsbyInvoice] | None = None
) -> list[matching.Match]:
    """Return the payments that wait for a review and are probably meant for an order, newest first.

    Without such a payment it costs one indexed query. It reads the database that is written to: a
    replica may be behind the caller's lock.

    Args:
        order: the order.
        invoices: all invoices of the order, where the caller has them.
    """
    invoices = order.bitsby_invoices.defer("reply") if invoices is None else invoices
    own = [ReservedAmounts(invoice) for invoice in invoices if invoice.bitsby_id is not None]
    if not own:
        return []
    mine = ((payment, matching.best_match(payment, own)) for payment in _plausible_payments(own))
    likely = {payment: found for payment, found in mine if found is not None and found.is_likely}
    if not likely:
        return []
    rivals = _rivals(order, list(likely.values()))
    best = (matching.best_match(payment, [*own, *rivals]) for payment in likely)
    keys = {offer.invoice.pk for offer in own}
    return [found for found in best if found is not None and found.invoice.pk in keys]


def _plausible_payments(own: list[ReservedAmounts]) -> list[BitsbyPayment]:
    """Return the unbound payments that an order's invoices can have been paid by."""
    invoices = [offer.invoice for offer in own]
    since = min(invoice.created_at for invoice in invoices) - CLOCK_SKEW
    until = max(invoice.expires_at or invoice.created_at for invoice in invoices)
    until += LATE_WINDOW
    payments = BitsbyPayment.objects.using(router.db_for_write(BitsbyPayment)).needs_review()
    # Staff have decided about those that they refund.
    plausible = payments.without_refund().filter(
        Q(transaction_at__range=(since, until)) | Q(transaction_at=None, seen_at__lte=until),
        matching.plausible_amount(invoices),
        bound_to=None,
        booked_at=None,
        is_dust=False,
        seen_at__gte=since,
    )
    return list(plausible.order_by("-seen_at", "-pk")[:MAX_PAYMENTS])


def _rivals(order: Any, mine: list[Match]) -> list[ReservedAmounts]:
    """Return the invoices of other orders that these payments may fit better."""
    times = [found.payment.paid_at for found in mine]
    values = [found.fiat_value for found in mine if found.fiat_value is not None]
    # Likely matches only, so that the limit cuts off none of them for one that is not.
    factor = matching.PLAUSIBLE_FACTOR
    about_right = Q(amount__range=(min(values) / factor, max(values) * factor))
    other_currency = ~Q(currency=mine[0].invoice.currency)
    offers = newest_offers(min(times), max(times), ~Q(order=order), about_right | other_currency)
    return offers.all
