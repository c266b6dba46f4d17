"""Which invoice an unbound payment is likely meant for: a rank, and the reasons in words."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from django.db.models import Q, prefetch_related_objects
from django.utils.formats import number_format
from django.utils.functional import Promise, lazy
from django.utils.text import format_lazy
from django.utils.translation import gettext_lazy as _

from oscar_bitsby.accounting.valuation import convert_at_locked_rate, fiat_value_of_recorded
from oscar_bitsby.choices import InvoiceStatus
from oscar_bitsby.models import BitsbyInvoice, BitsbyPayment
from oscar_bitsby.utils.clock import CLOCK_SKEW

#: How long after its time an invoice is still likely what a payment was meant for.
LATE_WINDOW = dt.timedelta(days=2)
#: An unbound payment worth less than half or more than double was hardly meant for an invoice.
PLAUSIBLE_FACTOR = Decimal(2)
#: Invoices that the payments on a page of the inbox are compared with: the newest that they can be
#: meant for. A page for binding compares with all of its order.
MAX_INVOICES = 150
#: From an invoice's creation to the last payment that is likely meant for it.
MAX_INVOICE_AGE = LATE_WINDOW + dt.timedelta(hours=12)
#: Unbound payments that an invoice is compared with at most, newest first.
MAX_PAYMENTS = 200


def _signed(number: Decimal) -> str:
    return ("+" if number >= 0 else "") + number_format(round(number, 1), decimal_pos=1)


_percentage = lazy(_signed, str)


@dataclass(frozen=True)
class Match:
    """How well a payment fits an invoice; ``score`` only ranks, ``reasons`` say why to people."""

    payment: BitsbyPayment
    invoice: BitsbyInvoice
    fiat_value: Decimal | None
    deviation_percent: Decimal | None
    score: int
    reasons: tuple[str | Promise, ...]

    @property
    def difference(self) -> Decimal | None:
        """Worth less what was asked, in the invoice's currency."""
        return None if self.fiat_value is None else self.fiat_value - self.invoice.amount


class ReservedAmounts:
    """What an invoice has reserved, made ready once: it may be compared with many payments."""

    def __init__(self, invoice: BitsbyInvoice) -> None:
        self.invoice = invoice
        self.wallets: dict[str, Decimal | None] = {}
        self.coins: dict[str, Decimal | None] = {}
        for wallet in invoice.wallets:
            amount = Decimal(wallet["amount"]) if wallet.get("amount") else None
            for found, key in ((self.wallets, "id"), (self.coins, "cryptocurrency")):
                name = str(wallet.get(key, "")).lower()
                # Of several the first with an amount: that is the one whose rate counts.
                if found.get(name) is None:
                    found[name] = amount

    def match(self, payment: BitsbyPayment) -> Match:
        """Say how well a payment fits."""
        invoice, reasons, score = self.invoice, [], 0
        wallet, coin = payment.wallet_id.lower(), payment.cryptocurrency.lower()
        if wallet and wallet in self.wallets:
            score += 2
            reasons.append(_("same wallet as reserved"))
        elif coin in self.coins:
            score += 1
            reasons.append(_("same coin, another wallet"))
        at = payment.transaction_at
        if at is not None and invoice.expires_at is not None:
            if invoice.created_at <= at <= invoice.expires_at:
                score += 3
                reasons.append(_("inside the invoice's time"))
            elif invoice.expires_at < at <= invoice.expires_at + LATE_WINDOW:
                score += 1
                reasons.append(_("after the invoice's time"))
            elif at < invoice.created_at:
                score -= 5
                reasons.append(_("older than the invoice"))
        reserved = (wallet and self.wallets.get(wallet)) or (coin and self.coins.get(coin))
        fiat_value = convert_at_locked_rate(payment.amount, reserved or None, invoice.amount)
        deviation_percent = None
        if fiat_value is not None and invoice.amount:
            deviation_percent = (fiat_value - invoice.amount) / invoice.amount * 100
            score += (
                4
                if abs(deviation_percent) <= 2
                else 2
                if abs(deviation_percent) <= 20
                else 0
                if abs(deviation_percent) <= 50
                else -2
            )
            # Put into words only where it is shown.
            reasons.append(
                format_lazy(_("amount off by {off} %"), off=_percentage(deviation_percent))
            )
        return Match(payment, invoice, fiat_value, deviation_percent, score, tuple(reasons))


def match(payment: BitsbyPayment, invoice: BitsbyInvoice) -> Match:
    """Say how well a payment fits an invoice."""
    return ReservedAmounts(invoice).match(payment)


def best_match(payment: BitsbyPayment, offers: Iterable[ReservedAmounts]) -> Match | None:
    """Return the invoice that a payment fits best; None when it fits none at all."""
    at = payment.transaction_at
    # Nobody pays what does not exist yet.
    older = (one for one in offers if at is None or one.invoice.created_at <= at + CLOCK_SKEW)
    matches = (offer.match(payment) for offer in older)
    best = max(matches, key=lambda found: (found.score, found.invoice.pk), default=None)
    return best if best is not None and best.score > 0 else None


@dataclass(frozen=True)
class Suggestions:
    """The invoices that unbound payments fit best, by the payments' keys.

    ``since`` is how far back invoices were compared; None where none was left out.
    """

    found: dict[Any, Match]
    since: dt.datetime | None = None

    def is_exhaustive(self, payment: BitsbyPayment) -> bool:
        """Tell whether every invoice was compared that the payment can be meant for."""
        at = payment.transaction_at
        return self.since is None or (at is not None and at - MAX_INVOICE_AGE >= self.since)


def suggest_invoices(payments: list[BitsbyPayment]) -> Suggestions:
    """Compare all unbound payments with the same invoices, by one query."""
    unbound = [row for row in payments if row.bound_to is None and row.transaction_at]
    if not unbound:
        return Suggestions({})
    times = [row.transaction_at for row in unbound if row.transaction_at]
    invoices = (
        BitsbyInvoice.objects.filter(
            bitsby_id__isnull=False,
            order__isnull=False,
            created_at__range=(min(times) - MAX_INVOICE_AGE, max(times) + CLOCK_SKEW),
        )
        .exclude(status=InvoiceStatus.PAID)
        .defer("reply")
        .order_by("-created_at", "-pk")[:MAX_INVOICES]
    )
    offers = [ReservedAmounts(invoice) for invoice in invoices]
    best = ((row.pk, best_match(row, offers)) for row in unbound)
    found = {pk: match for pk, match in best if match is not None}
    # Orders are read for the few that are shown, and not for all that were compared. One that has
    # been deleted in between is no suggestion.
    prefetch_related_objects([match.invoice for match in found.values()], "order")
    found = {pk: match for pk, match in found.items() if match.invoice.order is not None}
    return Suggestions(
        found, offers[-1].invoice.created_at if len(offers) == MAX_INVOICES else None
    )


def has_plausible_unmatched_payment(invoice: BitsbyInvoice) -> bool:
    """Tell whether a payment that Bitsby bound to nothing may be this buyer's wrong amount.

    Bitsby does not say whose it is, so it may be somebody else's as well.
    """
    since = invoice.created_at - CLOCK_SKEW
    until = (invoice.expires_at or invoice.created_at) + LATE_WINDOW
    unbound = BitsbyPayment.objects.needs_review().filter(
        Q(transaction_at__range=(since, until)) | Q(transaction_at=None, seen_at__lte=until),
        bound_to=None,
        booked_at=None,
        seen_at__gte=since,
    )
    worths = (fiat_value_of_recorded(payment, invoice) for payment in unbound[:MAX_PAYMENTS])
    return any(
        fiat_value is not None
        and invoice.amount / PLAUSIBLE_FACTOR <= fiat_value <= invoice.amount * PLAUSIBLE_FACTOR
        for fiat_value in worths
    )
