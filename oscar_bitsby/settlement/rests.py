"""The rest of an order that is paid in part: what is due, and whether it can be asked for."""

import datetime as dt
from collections.abc import Collection
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from django.db import router
from django.db.models import Q
from django.utils.formats import localize
from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop

from oscar_bitsby.accounting import ledger
from oscar_bitsby.accounting.refundable import open_refunds
from oscar_bitsby.choices import InvoiceStatus, Resolution, ReviewReason
from oscar_bitsby.conf import Conf
from oscar_bitsby.models import BitsbyInvoice, BitsbyPayment
from oscar_bitsby.utils import i18n
from oscar_bitsby.utils.clock import db_now

#: At most this many invoices of an order ask for a rest. Then staff decide.
MAX_INVOICES = 3


@dataclass(frozen=True)
class Due:
    """What the buyer of a pending order can pay now.

    ``amount`` is in the order's currency; ``rest_asked_at`` is None unless it is a rest.
    """

    amount: Decimal
    rest_asked_at: dt.datetime | None = None


def amount_due(order: Any, statuses: Collection[str]) -> Due | None:
    """Return what the buyer of a pending order can pay; None while staff have to decide.

    Args:
        order: the order, locked if an invoice follows from the result.
        statuses: the statuses of its invoices.
    """
    if InvoiceStatus.PAID not in statuses and not ledger.has_money(order):
        # Unbooked money belongs to an order by its invoice: without invoices there is none.
        waits = statuses and ledger.has_unbooked_money(order)
        return None if waits else Due(order.total_incl_tax)
    asked_at = ledger.rest_asked_at(order)
    if asked_at is None or _is_under_review(order):
        return None
    missing = order.total_incl_tax - ledger.total_held(order)
    return Due(missing, asked_at) if missing > 0 else None


def _is_under_review(order: Any) -> bool:
    """Tell whether a payment of the order or a refund of its money is open.

    An invoice that is paid by unknown money counts, too.
    """
    alias = router.db_for_write(BitsbyPayment)
    payments = BitsbyPayment.objects.using(alias).needs_review().filter(invoice__order=order)
    if payments.exists() or open_refunds(order) > 0:
        return True
    paid = order.bitsby_invoices.using(alias).filter(status=InvoiceStatus.PAID)
    return bool(paid.exclude(payments__booked_at__isnull=False).exists())


def why_not(order: Any, missing: Decimal, settings: Conf) -> str:
    """Return why the buyer cannot be asked for ``missing``, for staff; else an empty text."""
    if missing <= 0:
        return _("Nothing is missing: the order's total is received.")
    if not settings.offers(order.currency, missing):
        text = _("Bitsby is not offered for the rest of %(missing)s %(currency)s: see MIN_AMOUNT.")
        return text % {"missing": localize(missing), "currency": order.currency}
    alias = router.db_for_write(BitsbyInvoice)
    invoices = order.bitsby_invoices.using(alias).filter(is_for_rest=True, bitsby_id__isnull=False)
    if invoices.count() >= MAX_INVOICES:
        text = _("The buyer has had %(count)s invoices for the rest already.")
        return text % {"count": MAX_INVOICES}
    return ""


def others_open(order: Any, payment: BitsbyPayment) -> bool:
    """Tell whether another payment of the order needs a decision before the rest is asked for.

    One whose rest is missing does not: the rest is the same.
    """
    alias = router.db_for_write(BitsbyPayment)
    others = BitsbyPayment.objects.using(alias).needs_review().filter(invoice__order=order)
    is_same_rest = Q(review_reason=ReviewReason.REST_MISSING, further_reasons="")
    return bool(others.exclude(Q(pk=payment.pk) | is_same_rest).exists())


def mark_asked(order: Any, payment: BitsbyPayment, user: Any = None, note: str = "") -> None:
    """Resolve a locked, booked and short payment: the buyer of the locked order is asked.

    Args:
        user: the member of staff; None if the shop's rules decided.
        note: the reason that staff gave.
    """
    payment.review_reason, payment.further_reasons = ReviewReason.SHORT, ""
    payment.resolution, payment.resolved_at = Resolution.ASKED, db_now()
    payment.resolved_by, payment.resolution_note = user, note.strip()[:300]
    names = ("review_reason", "further_reasons", "resolution", "resolved_at")
    payment.save(update_fields=[*names, "resolved_by", "resolution_note"])
    close_missing(order)
    text = i18n.shop_text(
        gettext_noop(
            "Bitsby payment %(id)s received: %(payment)s, less than the order's total. The buyer is"
            " asked for the rest of %(missing)s %(currency)s."
        ),
        id=payment.bitsby_id,
        payment=payment,
        missing=ledger.amount_to_pay(order),
        currency=order.currency,
    )
    order.notes.create(message=text, note_type="System", user=user)


def close_missing(order: Any) -> None:
    """Resolve the payments of a locked order whose rest was missing.

    It is received, or asked for again.
    """
    missing = BitsbyPayment.objects.filter(
        invoice__order=order,
        review_reason=ReviewReason.REST_MISSING,
        further_reasons="",
        resolved_at=None,
    )
    missing.update(resolution=Resolution.ASKED, resolved_at=db_now())
