"""Binds payments of a wrong amount that fit exactly one invoice, as the shop's rules allow.

``TOLERANCE`` allows it for a small difference, ``SHORT_PAYMENTS = "ask"`` for a short payment: its
buyer is then asked for the rest. Everything else is for staff to bind.
"""

import datetime as dt
import logging
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from oscar_bitsby import conf
from oscar_bitsby.accounting.matching import PLAUSIBLE_FACTOR
from oscar_bitsby.accounting.valuation import ReservedAmounts
from oscar_bitsby.choices import InvoiceStatus, ReviewReason
from oscar_bitsby.exceptions import GatewayError, RateLimited, Refused
from oscar_bitsby.gateway import schemas
from oscar_bitsby.models import BitsbyInvoice, BitsbyPayment
from oscar_bitsby.reconciliation import invoice_refresh
from oscar_bitsby.reconciliation.report import ReconcileRun
from oscar_bitsby.settlement import rests
from oscar_bitsby.utils.clock import CLOCK_SKEW, db_now

logger = logging.getLogger("oscar_bitsby")

#: Payments that one run binds. Each takes two or three slots.
MAX_PER_RUN = 3
#: The newest payments that one run considers, and the invoices that it compares them with at most.
MAX_CONSIDERED, MAX_COMPARED = 50, 2000
#: Payments are bound for so long, and a payment may be meant for an invoice that expired so long
#: before it.
RECENT = dt.timedelta(days=2)
#: How long after an invoice expired a payment still fits it.
EXPIRY_MARGIN = CLOCK_SKEW
#: The time after which a payment is tried again. It doubles with each failure.
FIRST_BACKOFF = dt.timedelta(minutes=10)


@dataclass(frozen=True)
class Fit:
    """The one invoice that a payment fits; ``is_short``: its buyer is asked for the rest."""

    invoice: BitsbyInvoice
    is_short: bool


def bind_fitting_payments(run: ReconcileRun) -> None:
    """Bind unmatched payments that fit exactly one invoice at Bitsby, and settle the result.

    With the default settings this does nothing.
    """
    settings = run.settings
    if settings.tolerance.percent <= 0 and settings.short_payments != conf.ASK:
        return
    payments = _candidates()
    offers = _offers(payments)
    tried = 0
    for payment in payments:
        with run.isolate_errors(payment.bitsby_id):
            fit = _find_fit(payment, offers, settings)
            if fit is not None and fit.is_short and _has_rival(payment, payments, fit.invoice):
                continue
            if fit is not None:
                tried += 1
                run.progress(f"binding payment {payment.bitsby_id}")
                _bind(run, payment, fit)
        if tried == MAX_PER_RUN:
            return


def _candidates() -> list[BitsbyPayment]:
    """Return the recent unmatched payments without a decision, newest first."""
    now = db_now()
    unmatched = (
        BitsbyPayment.objects.needs_review()
        .without_refund()
        .filter(
            review_reason=ReviewReason.UNMATCHED,
            bound_to=None,
            booked_at=None,
            is_dust=False,
            is_foreign=False,
            transaction_at__gte=now - RECENT,
        )
        .exclude(wallet_id="")
    )
    return [row for row in unmatched.order_by("-pk")[:MAX_CONSIDERED] if _may_try(row, now)]


def _may_try(payment: BitsbyPayment, now: dt.datetime) -> bool:
    """Tell whether binding it has not just failed."""
    if payment.binding_asked_at is None:
        return True
    pause: dt.timedelta = FIRST_BACKOFF * 2 ** min(payment.failed_bindings - 1, 10)
    return payment.binding_asked_at + pause <= now


def _offers(payments: list[BitsbyPayment]) -> list[ReservedAmounts]:
    """Return all invoices that one of the payments may be meant for; none if they are too many."""
    times = [payment.transaction_at for payment in payments if payment.transaction_at is not None]
    if not times:
        return []
    invoices = BitsbyInvoice.objects.filter(
        bitsby_id__isnull=False,
        created_at__lte=max(times) + CLOCK_SKEW,
        expires_at__gte=min(times) - RECENT,
    )
    rows = list(invoices.defer("reply").select_related("order")[: MAX_COMPARED + 1])
    return [ReservedAmounts(invoice) for invoice in rows] if len(rows) <= MAX_COMPARED else []


def _find_fit(
    payment: BitsbyPayment, offers: list[ReservedAmounts], settings: conf.Conf
) -> Fit | None:
    """Return the invoice that the shop's rules allow to bind a payment to; None for staff."""
    tolerated, short = [], []
    for offer in offers:
        value, invoice = _fiat_value(payment, offer), offer.invoice
        if value is None or not _is_in_time(payment, invoice):
            continue
        allowed = settings.tolerance.of(invoice.amount, invoice.currency)
        if allowed > 0 and abs(value - invoice.amount) <= allowed:
            tolerated.append(Fit(invoice, is_short=False))
        elif _is_short(value, invoice):
            short.append(Fit(invoice, is_short=True))
    fits = tolerated or (short if settings.short_payments == conf.ASK else [])
    if len(fits) != 1 or not _can_be_bound(payment, fits[0], settings):
        return None
    others = (one for one in offers if one.invoice.order_id != fits[0].invoice.order_id)
    return None if any(_is_plausible(payment, other) for other in others) else fits[0]


def _is_short(value: Decimal, invoice: BitsbyInvoice) -> bool:
    """Tell whether a value is a plausible part of what an invoice asks for.

    Binding ends the invoice: a stranger's few coins must not take it from the buyer who opened it.
    """
    is_open = invoice.status != InvoiceStatus.PAID
    return is_open and invoice.amount / PLAUSIBLE_FACTOR <= value < invoice.amount


def _has_rival(
    payment: BitsbyPayment, payments: list[BitsbyPayment], invoice: BitsbyInvoice
) -> bool:
    """Tell whether another payment may be for the same invoice: together they may be the total."""
    offer = ReservedAmounts(invoice)
    others = (one for one in payments if one.pk != payment.pk and _is_in_time(one, invoice))
    return any(_fiat_value(one, offer) is not None for one in others)


def _is_in_time(payment: BitsbyPayment, invoice: BitsbyInvoice) -> bool:
    at, expires_at = payment.transaction_at, invoice.expires_at
    if at is None or expires_at is None:
        return False
    return invoice.created_at <= at <= expires_at + EXPIRY_MARGIN


def _fiat_value(payment: BitsbyPayment, offer: ReservedAmounts) -> Decimal | None:
    """Return the payment's value if it came into a wallet in which the invoice has an amount."""
    wallet_id, coin = payment.wallet_id.lower(), payment.cryptocurrency.lower()
    if not offer.wallets.get(wallet_id) or coin not in offer.coins:
        return None
    return offer.fiat_value_of(payment.amount, wallet_id, coin)


def _is_plausible(payment: BitsbyPayment, offer: ReservedAmounts) -> bool:
    """Tell whether the payment may be meant for this invoice, even if that is paid."""
    at, expires_at = payment.transaction_at, offer.invoice.expires_at
    reserved = offer.amount_in(payment.wallet_id, payment.cryptocurrency)
    if at is None or expires_at is None or reserved is None:
        return False
    is_recent = offer.invoice.created_at - CLOCK_SKEW <= at <= expires_at + RECENT
    low, high = reserved / PLAUSIBLE_FACTOR, reserved * PLAUSIBLE_FACTOR
    return is_recent and low <= payment.amount <= high


def _can_be_bound(payment: BitsbyPayment, fit: Fit, settings: conf.Conf) -> bool:
    """Tell whether the invoice asks for what its pending order owes, and a rest can be asked."""
    invoice = fit.invoice
    order: Any = invoice.order
    if invoice.status not in (InvoiceStatus.UNPAID, InvoiceStatus.EXPIRED) or order is None:
        return False
    if order.status != settings.order_status_pending:
        return False
    statuses = set(order.bitsby_invoices.values_list("status", flat=True))
    due = rests.amount_due(order, statuses)
    if due is None or not invoice.fits(order, due.amount):
        return False
    missing = due.amount - (_fiat_value(payment, ReservedAmounts(invoice)) or 0)
    return not fit.is_short or not rests.why_not(order, missing, settings)


def _bind(run: ReconcileRun, payment: BitsbyPayment, fit: Fit) -> None:
    """Bind a payment at Bitsby, then fetch its invoice and settle it.

    All is written before Bitsby is asked: if the answer is lost, the next run settles what came
    of it, and does not ask again at once.
    """
    invoice, now = fit.invoice, db_now()
    if invoice.bitsby_id is None:
        return
    BitsbyPayment.objects.filter(pk=payment.pk).update(
        binding_asked_at=now, failed_bindings=payment.failed_bindings + 1
    )
    rows = BitsbyInvoice.objects.filter(pk=invoice.pk)
    rows.update(asks_for_rest=fit.is_short)
    rows.filter(webhook_pending_since=None).update(webhook_pending_since=now)
    answer, was_refused = "bound", False
    try:
        run.client.bind_payment(invoice.bitsby_id, payment.bitsby_id)
    except RateLimited:
        raise
    except GatewayError as error:
        answer, was_refused = str(error), isinstance(error, Refused)
    logger.info(
        "payment fits one invoice: payment=%s order=%s invoice=%s short=%s answer=%s",
        payment.bitsby_id,
        invoice.order_number,
        invoice.bitsby_id,
        fit.is_short,
        answer,
    )
    # Whatever was answered, only the API's list says what is true now.
    remote = invoice_refresh.fetch_invoice(run.client, invoice)
    if remote is not None:
        outcome = invoice_refresh.settle_fetched(run.client, invoice, remote)
        run.report.count(outcome, invoice.order_number)
        if remote.status != schemas.PAID and was_refused:
            # Staff decide anew about a payment of this invoice. After a lost answer Bitsby may
            # still bind it, and so little must not pay the order.
            rows.exclude(status=InvoiceStatus.PAID).update(asks_for_rest=invoice.is_for_rest)
