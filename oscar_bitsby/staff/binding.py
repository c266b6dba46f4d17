"""Binding by staff: which payments may be meant for an order, and attaching one to its invoice."""

from __future__ import annotations

import datetime as dt
import logging
from typing import Any
from uuid import UUID

from django.contrib.admin.models import LogEntry
from django.db.models import Q
from django.utils import timezone
from django.utils.formats import localize
from django.utils.translation import gettext as _

from oscar_bitsby.accounting.matching import Match, match
from oscar_bitsby.choices import InvoiceStatus, Resolution
from oscar_bitsby.exceptions import BitsbyError, Refused
from oscar_bitsby.gateway import factory
from oscar_bitsby.models import BitsbyInvoice, BitsbyPayment
from oscar_bitsby.reconciliation import invoice_refresh, payment_sync
from oscar_bitsby.reconciliation.report import ReconcileRun
from oscar_bitsby.staff import review
from oscar_bitsby.staff.review import ActionResult
from oscar_bitsby.utils import i18n

logger = logging.getLogger("oscar_bitsby")

#: Seconds that a member of staff waits for a free slot.
STAFF_MAX_WAIT = 8.0
#: Pages of payments that are read live for one order.
MAX_PAGES = 6
#: How far back that search goes at most.
DAYS_BACK = 60
#: Where a transaction can be looked up, by the codes of chains that Bitsby is seen to use.
EXPLORERS = {
    "tron": "https://tronscan.org/#/transaction/{}",
    "ethereum": "https://etherscan.io/tx/{}",
    "bnbSmartChain": "https://bscscan.com/tx/{}",
    "bitcoin": "https://mempool.space/tx/{}",
}


def explorer_url(payment: BitsbyPayment) -> str:
    """Return where a payment's transaction can be seen, or nothing for an unknown chain."""
    pattern = EXPLORERS.get(payment.blockchain)
    return pattern.format(payment.hash) if pattern and payment.hash.isalnum() else ""


def refresh_payments(order: Any) -> str:
    """Ask Bitsby for the payments since the order was placed; return what went wrong, or nothing.

    Raises:
        RuntimeError: called inside a transaction.
    """
    start = max(order.date_placed, timezone.now() - dt.timedelta(days=DAYS_BACK))
    try:
        run = ReconcileRun(factory.for_staff(STAFF_MAX_WAIT))
        payment_sync.sync_payments(run, start, max_pages=MAX_PAGES)
    except BitsbyError as error:
        logger.info("payments not read for order %s: %s", order.number, error)
        return i18n.translate_stored(str(error))
    return ""


def candidates(order: Any) -> list[Match]:
    """Return the unbound payments that may be meant for an order, likeliest first."""
    invoices = list(order.bitsby_invoices.filter(bitsby_id__isnull=False))
    since = order.date_placed - dt.timedelta(hours=1)
    unbound = BitsbyPayment.objects.filter(
        Q(transaction_at__gte=since) | Q(transaction_at=None, seen_at__gte=since),
        bound_to=None,
        booked_at=None,
    ).exclude(resolution=Resolution.DISMISSED)
    matches = []
    for payment in unbound.order_by("-transaction_at")[:200]:
        fits = [match(payment, invoice) for invoice in invoices]
        if fits:
            matches.append(max(fits, key=lambda found: (found.score, found.invoice.pk)))
    return sorted(matches, key=lambda found: -found.score)


def bind(invoice: BitsbyInvoice, payment_id: UUID, user: Any, note: str = "") -> ActionResult:
    """Attach a payment to an invoice at Bitsby, then ask what is true and settle that.

    Args:
        invoice: one of the order's invoices that is not paid.
        payment_id: Bitsby's id of the payment.
        user: the member of staff; must hold ``oscar_bitsby.bind_payment``, which the caller checks.
        note: why.

    Raises:
        RuntimeError: called inside a transaction.
    """
    if invoice.bitsby_id is None:
        return ActionResult(
            False, _("That attempt never became an invoice at Bitsby. Choose another.")
        )
    # Written before it is asked: whatever happens then, it stands there who asked for it, and the
    # next pass looks at the invoice.
    _request_refresh(invoice)
    asked = _("asked to bind payment %s") % payment_id
    entry = review.log_admin_entry(user, invoice.order, invoice, _asked(asked, note))
    problem = ""
    try:
        factory.for_buyer(STAFF_MAX_WAIT).bind_payment(invoice.bitsby_id, payment_id)
    except Refused as error:
        problem = _("Bitsby said no: %s") % error
    except BitsbyError as error:
        problem = _("Bitsby gave no answer: %s") % i18n.translate_stored(str(error))
    # Whether or not that was answered, the API knows what is true now.
    unclear = ""
    try:
        invoice_refresh.refresh(invoice, factory.for_buyer(STAFF_MAX_WAIT))
    except BitsbyError as error:
        unclear = i18n.translate_stored(str(error))
    invoice.refresh_from_db()
    record = BitsbyPayment.objects.filter(bitsby_id=payment_id, invoice=invoice).first()
    if record is not None and record.booked_at is not None:
        review.resolve_as_bound(record.pk, user, note)
        message = _("Bound and booked: %(fiat_value)s %(currency)s for order %(number)s.") % {
            "fiat_value": localize(record.fiat_value),
            "currency": record.currency,
            "number": invoice.order_number,
        }
        result = ActionResult(True, message)
    elif record is not None and record.review_reason:
        why = record.get_review_reason_display()
        result = ActionResult(
            False,
            _("Bound, but not booked (%s). It waits in the money inbox: decide there.") % why,
        )
    elif invoice.status == InvoiceStatus.PAID:
        text = _("%s The invoice is paid, but by another payment: look at the order.")
        result = ActionResult(False, (text % (f"{problem}." if problem else "")).strip())
    elif problem:
        result = ActionResult(False, _("%s Nothing was booked.") % f"{problem}.")
    elif unclear:
        result = ActionResult(
            False,
            _(
                "Bitsby took the binding, but could not be asked what came of it (%s). The next"
                " pass books it."
            )
            % unclear,
        )
    else:
        result = ActionResult(
            False,
            _(
                "Bitsby took the binding, but does not call the invoice paid by this payment yet."
                " Nothing was booked; the next pass looks again."
            ),
        )
    _note_result(entry, result)
    logger.info(
        "bind: order=%s invoice=%s payment=%s user=%s done=%s",
        invoice.order_number,
        invoice.bitsby_id,
        payment_id,
        user.pk,
        result.done,
    )
    return result


def cancel_invoice(invoice: BitsbyInvoice, user: Any, note: str = "") -> ActionResult:
    """Cancel an invoice at Bitsby: allowed while it is unpaid and nobody has opened its page."""
    if invoice.bitsby_id is None or invoice.status != InvoiceStatus.UNPAID:
        return ActionResult(False, _("Only an unpaid invoice can be cancelled."))
    _request_refresh(invoice)
    asked = _("asked to cancel invoice %s") % invoice.bitsby_id
    entry = review.log_admin_entry(user, invoice.order, invoice, _asked(asked, note))
    problem = ""
    try:
        factory.for_buyer(STAFF_MAX_WAIT).cancel_invoice(invoice.bitsby_id)
    except BitsbyError as error:
        problem = i18n.translate_stored(str(error))
    try:
        invoice_refresh.refresh(invoice, factory.for_buyer(STAFF_MAX_WAIT))
    except BitsbyError as error:
        problem = problem or i18n.translate_stored(str(error))
    invoice.refresh_from_db()
    if invoice.status == InvoiceStatus.CANCELED:
        result = ActionResult(True, _("The invoice is canceled."))
    else:
        why = problem or _("Bitsby does not call it canceled")
        result = ActionResult(False, _("The invoice is not canceled: %s.") % why)
    _note_result(entry, result)
    return result


def _request_refresh(invoice: BitsbyInvoice) -> None:
    """Have the next pass ask about an invoice; settling what was told takes the note away."""
    BitsbyInvoice.objects.filter(pk=invoice.pk, webhook_pending_since=None).update(
        webhook_pending_since=timezone.now()
    )


def _asked(what: str, note: str) -> str:
    return f"{what}: {note}".strip(" :")


def _note_result(entry: LogEntry, result: ActionResult) -> None:
    LogEntry.objects.filter(pk=entry.pk).update(
        change_message=f"{entry.change_message} — {result.message}"
    )
