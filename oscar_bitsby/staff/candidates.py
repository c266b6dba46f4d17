"""Find the unbound payments that may be for an order."""

import datetime as dt
from typing import Any
from uuid import UUID

from django.db.models import Case, Q, When

from oscar_bitsby.accounting.matching import Match, match, plausible_amount
from oscar_bitsby.choices import Resolution
from oscar_bitsby.models import BitsbyInvoice, BitsbyPayment

#: Maximum number of payments that are offered for one order.
MAX_CANDIDATES = 200


def likely_candidates(order: Any) -> list[Match]:
    """Return the unbound payments that are probably for an unpaid invoice of an order."""
    invoices = list(order.bitsby_invoices.filter(bitsby_id__isnull=False))
    if not invoices:
        return []
    fitting = _recent_unbound(order).filter(plausible_amount(invoices))
    payments = fitting.order_by("-transaction_at")[:MAX_CANDIDATES]
    matches = (best_match(payment, invoices) for payment in payments)
    likely = [found for found in matches if found.is_likely and not found.is_second]
    return sorted(likely, key=lambda found: -found.score)


def all_candidates(order: Any, chosen: UUID | None = None) -> list[Match]:
    """Return the unbound payments that may be for an order, best match first, without dust.

    Args:
        chosen: Bitsby's id of a payment that is among them even if it is dust, or too old.
    """
    invoices = list(order.bitsby_invoices.filter(bitsby_id__isnull=False))
    if not invoices:
        return []
    # Those that fit come first, so that the limit cuts off none of them for one that does not.
    fits = Case(When(plausible_amount(invoices), then=1), default=0).desc()
    payments = list(_recent_unbound(order).order_by(fits, "-transaction_at")[:MAX_CANDIDATES])
    if chosen is not None and all(payment.bitsby_id != chosen for payment in payments):
        payments.extend(_unbound().filter(bitsby_id=chosen))
    matches = [best_match(payment, invoices) for payment in payments]
    return sorted(matches, key=lambda found: -found.score)


def _unbound() -> Any:
    unbound = BitsbyPayment.objects.without_refund().filter(bound_to=None, booked_at=None)
    return unbound.exclude(resolution=Resolution.DISMISSED)


def _recent_unbound(order: Any) -> Any:
    since = order.date_placed - dt.timedelta(hours=1)
    is_recent = Q(transaction_at__gte=since) | Q(transaction_at=None, seen_at__gte=since)
    return _unbound().filter(is_recent, is_dust=False)


def best_match(payment: BitsbyPayment, invoices: list[BitsbyInvoice]) -> Match:
    """Return how a payment matches that invoice which it fits best, of equal ones the newest."""
    fits = (match(payment, invoice) for invoice in invoices)
    return max(fits, key=lambda found: (found.score, found.invoice.pk))
