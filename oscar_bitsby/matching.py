"""Which invoice an unbound payment is likely meant for: a rank, and the reasons in words."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

from django.utils.formats import number_format
from django.utils.functional import Promise, lazy
from django.utils.text import format_lazy
from django.utils.translation import gettext_lazy as _

from oscar_bitsby.models import BitsbyInvoice, BitsbyPayment
from oscar_bitsby.records import share_worth, worth_of_row

#: How long after its time an invoice is still likely what a payment was meant for.
LATE = dt.timedelta(days=2)
#: An unbound payment worth less than half or more than double was hardly meant for an invoice.
NEARLY = Decimal(2)
#: Unbound payments that an invoice is compared with at most, newest first.
MOST_COMPARED = 200


def _signed(number: Decimal) -> str:
    return ("+" if number >= 0 else "") + number_format(round(number, 1), decimal_pos=1)


_percentage = lazy(_signed, str)


@dataclass(frozen=True)
class Match:
    """How well a payment fits an invoice; ``score`` only ranks, ``reasons`` say why to people."""

    payment: BitsbyPayment
    invoice: BitsbyInvoice
    worth: Decimal | None
    off: Decimal | None
    score: int
    reasons: tuple[str | Promise, ...]

    @property
    def difference(self) -> Decimal | None:
        """Worth less what was asked, in the invoice's currency."""
        return None if self.worth is None else self.worth - self.invoice.amount


class Reservations:
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
            elif invoice.expires_at < at <= invoice.expires_at + LATE:
                score += 1
                reasons.append(_("after the invoice's time"))
            elif at < invoice.created_at:
                score -= 5
                reasons.append(_("older than the invoice"))
        reserved = (wallet and self.wallets.get(wallet)) or (coin and self.coins.get(coin))
        worth = share_worth(payment.amount, reserved or None, invoice.amount)
        off = None
        if worth is not None and invoice.amount:
            off = (worth - invoice.amount) / invoice.amount * 100
            score += 4 if abs(off) <= 2 else 2 if abs(off) <= 20 else 0 if abs(off) <= 50 else -2
            # Put into words only where it is shown.
            reasons.append(format_lazy(_("amount off by {off} %"), off=_percentage(off)))
        return Match(payment, invoice, worth, off, score, tuple(reasons))


def match(payment: BitsbyPayment, invoice: BitsbyInvoice) -> Match:
    """Say how well a payment fits an invoice."""
    return Reservations(invoice).match(payment)


def best_match(payment: BitsbyPayment, offers: Iterable[Reservations]) -> Match | None:
    """Return the invoice that a payment fits best; None when it fits none at all."""
    matches = (offer.match(payment) for offer in offers)
    best = max(matches, key=lambda found: (found.score, found.invoice.pk), default=None)
    return best if best is not None and best.score > 0 else None


def may_be_paid_wrongly(invoice: BitsbyInvoice) -> bool:
    """Tell whether a payment that Bitsby bound to nothing may be this buyer's wrong amount.

    Bitsby does not say whose it is, so it may be somebody else's as well.
    """
    unbound = BitsbyPayment.objects.in_inbox().filter(
        bound_to=None, booked_at=None, seen_at__gte=invoice.created_at
    )
    worths = (worth_of_row(payment, invoice) for payment in unbound[:MOST_COMPARED])
    return any(
        worth is not None and invoice.amount / NEARLY <= worth <= invoice.amount * NEARLY
        for worth in worths
    )
