"""What an unbound payment is probably meant for, with the reasons, and whether it is dust."""

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from django.db.models import Prefetch, Q, prefetch_related_objects
from django.utils import timezone
from django.utils.formats import number_format
from django.utils.functional import Promise, lazy
from django.utils.text import format_lazy
from django.utils.translation import gettext_lazy as _
from oscar.core.loading import get_model

from oscar_bitsby.accounting.offers import (
    LATE_WINDOW,
    MAX_INVOICE_AGE,
    MAX_INVOICES,
    newest_offers,
)
from oscar_bitsby.accounting.valuation import ReservedAmounts
from oscar_bitsby.choices import InvoiceStatus
from oscar_bitsby.gateway import schemas
from oscar_bitsby.models import BitsbyInvoice, BitsbyPayment
from oscar_bitsby.utils.clock import CLOCK_SKEW
from oscar_bitsby.utils.money import MAX_AMOUNT

Order = get_model("order", "Order")

#: A payment with less than half or more than double of the amount is not meant for an invoice.
PLAUSIBLE_FACTOR = Decimal(2)
#: A payment of less than this part of the smallest invoice is dust: spam, not a wrong amount.
DUST_SHARE = Decimal("0.01")
#: A payment that deviates more than this from an invoice is probably not meant for it.
LIKELY_PERCENT = 50
#: The score of a deviation up to so many percent; a larger one has -2.
DEVIATION_SCORES = ((2, 4), (20, 2), (50, 0))

SAME_WALLET = _("same wallet as reserved")
SAME_COIN = _("same coin, another wallet")
EXACT = _("exactly what this paid invoice asked for")
IN_TIME = _("inside the invoice's time")
AFTER_TIME = _("after the invoice's time")
BEFORE_TIME = _("older than the invoice")
AS_ASKED = _("as much as asked")
MORE = _("{percent} % more than asked")
# Without the next line gettext takes "% l" for a placeholder.
# xgettext: no-python-format
LESS = _("{percent} % less than asked")


def _unsigned(number: Decimal) -> str:
    return number_format(round(abs(number), 1), decimal_pos=1)


_percentage = lazy(_unsigned, str)


@dataclass(frozen=True)
class Match:
    """How well a payment fits an invoice: a score for sorting, and reasons for staff."""

    payment: BitsbyPayment
    invoice: BitsbyInvoice
    fiat_value: Decimal | None
    deviation_percent: Decimal | None
    score: int
    #: What was compared, in words, without the deviation.
    clues: tuple[Promise, ...]
    #: The invoice is paid, and reserved exactly these coins: the buyer has paid twice.
    is_second: bool = False

    @property
    def is_likely(self) -> bool:
        """Tell whether the payment is probably meant for this invoice."""
        deviation = self.deviation_percent
        # The times last: most matches on a page differ too much anyway.
        return deviation is not None and abs(deviation) <= LIKELY_PERCENT and self._is_in_time

    @property
    def _is_in_time(self) -> bool:
        """Whether it was sent after the invoice's creation, and not long after its expiry."""
        invoice, payment = self.invoice, self.payment
        until = (invoice.expires_at or invoice.created_at) + LATE_WINDOW
        at = payment.paid_at
        return invoice.created_at - CLOCK_SKEW <= at <= until

    @property
    def rank(self) -> tuple[bool, bool, int, Decimal, int]:
        """What matches of one payment are compared by; of equal ones the newest invoice wins."""
        closeness = MAX_AMOUNT if self.deviation_percent is None else abs(self.deviation_percent)
        return self.is_second, self.is_likely, self.score, -closeness, self.invoice.pk

    @property
    def reasons(self) -> tuple[str | Promise, ...]:
        """Why it fits, as text for staff. Built when asked for: most matches are only compared."""
        if self.deviation_percent is None or self.is_second:
            return self.clues
        if not round(self.deviation_percent, 1):
            return (*self.clues, AS_ASKED)
        text = MORE if self.deviation_percent >= 0 else LESS
        return (*self.clues, format_lazy(text, percent=_percentage(self.deviation_percent)))

    @property
    def difference(self) -> Decimal | None:
        """Return the fiat value minus the invoice's amount, in its currency."""
        return None if self.fiat_value is None else self.fiat_value - self.invoice.amount


def match(payment: BitsbyPayment, invoice: BitsbyInvoice) -> Match:
    """Return how well a payment fits an invoice, whatever other invoices there are."""
    return _match(payment, ReservedAmounts(invoice))


def _match(payment: BitsbyPayment, reserved: ReservedAmounts) -> Match:
    invoice, score = reserved.invoice, 0
    clues: list[Promise] = []
    wallet_id, coin = payment.wallet_id, payment.cryptocurrency
    if wallet_id and wallet_id.lower() in reserved.wallets:
        score += 2
        clues.append(SAME_WALLET)
    elif coin.lower() in reserved.coins:
        score += 1
        clues.append(SAME_COIN)
    is_second = _is_second(payment, reserved)
    if is_second:
        clues.append(EXACT)
    at = payment.transaction_at
    if at is not None and invoice.expires_at is not None:
        if invoice.created_at - CLOCK_SKEW <= at <= invoice.expires_at:
            score += 3
            clues.append(IN_TIME)
        elif invoice.expires_at < at <= invoice.expires_at + LATE_WINDOW:
            score += 1
            clues.append(AFTER_TIME)
        elif at < invoice.created_at - CLOCK_SKEW:
            score -= 5
            clues.append(BEFORE_TIME)
    fiat_value = reserved.fiat_value_of(payment.amount, wallet_id, coin)
    deviation_percent = None
    if fiat_value is not None and invoice.amount:
        deviation_percent = (fiat_value - invoice.amount) / invoice.amount * 100
        deviation = abs(deviation_percent)
        score += next((points for limit, points in DEVIATION_SCORES if deviation <= limit), -2)
    return Match(payment, invoice, fiat_value, deviation_percent, score, tuple(clues), is_second)


def _is_second(payment: BitsbyPayment, reserved: ReservedAmounts) -> bool:
    """Tell whether the payment is exactly what a paid invoice reserved in its wallet."""
    if reserved.invoice.status != InvoiceStatus.PAID:
        return False
    by_name = reserved.wallets if payment.wallet_id else reserved.coins
    name = payment.wallet_id or payment.cryptocurrency
    at = payment.paid_at
    return (
        bool(payment.amount)
        and by_name.get(name.lower()) == payment.amount
        and reserved.invoice.created_at <= at + CLOCK_SKEW
    )


def best_match(payment: BitsbyPayment, offers: Iterable[ReservedAmounts]) -> Match | None:
    """Return the match with the invoice that a payment fits best; None if it fits none.

    Of the paid invoices, only one that reserved exactly these coins fits, and it comes first.
    """
    at = payment.transaction_at
    # Newer invoices did not exist when it was paid.
    older = (one for one in offers if at is None or one.invoice.created_at <= at + CLOCK_SKEW)
    matches = [
        _match(payment, offer)
        for offer in older
        if offer.invoice.status != InvoiceStatus.PAID or _is_second(payment, offer)
    ]
    best = max(matches, key=lambda found: found.rank, default=None)
    return best if best is not None and best.score > 0 else None


@dataclass(frozen=True)
class Suggestions:
    """The best matches of unbound payments, by the payments' keys.

    ``since`` is the creation time of the oldest compared invoice; None if all were compared.
    """

    found: dict[Any, Match]
    since: dt.datetime | None = None

    def is_exhaustive(self, payment: BitsbyPayment) -> bool:
        """Tell whether all invoices were compared that the payment can be meant for."""
        at = payment.transaction_at
        return self.since is None or (at is not None and at - MAX_INVOICE_AGE >= self.since)


def suggest_invoices(payments: list[BitsbyPayment]) -> Suggestions:
    """Return suggestions for the unbound ones of these payments, with one query of invoices."""
    unbound = [row for row in payments if row.bound_to is None and row.transaction_at]
    if not unbound:
        return Suggestions({})
    times = [row.transaction_at for row in unbound if row.transaction_at]
    offers = newest_offers(min(times), max(times))
    best = ((row.pk, best_match(row, offers.all)) for row in unbound)
    found = {pk: match for pk, match in best if match is not None}
    # Only the orders that are shown are read. One that was deleted meanwhile is not suggested.
    orders = Prefetch("order", Order.objects.select_related("user"))
    prefetch_related_objects([match.invoice for match in found.values()], orders)
    found = {pk: match for pk, match in found.items() if match.invoice.order is not None}
    return Suggestions(found, offers.since)


def plausible_amount(invoices: Iterable[BitsbyInvoice]) -> Q:
    """Return the condition that a payment's amount is plausible for one of these invoices.

    The database filters by it, so that no number of other payments hides one that fits.
    """
    wallets: dict[str, list[Decimal]] = {}
    coins: dict[str, list[Decimal]] = {}
    for invoice in invoices:
        reserved = ReservedAmounts(invoice)
        for found, amounts in ((wallets, reserved.wallets), (coins, reserved.coins)):
            for name, amount in amounts.items():
                if name and amount:
                    found.setdefault(name, []).append(amount)
    # Matches nothing, as long as no rate is known.
    plausible = Q(amount__lt=0)
    for wallet, reserved_there in wallets.items():
        plausible |= Q(wallet_id=wallet, amount__range=_plausible_range(reserved_there))
    # A wallet's own amount counts before that of its coin.
    in_other_wallet = ~Q(wallet_id__in=list(wallets))
    for coin, reserved_in_it in coins.items():
        in_coin = Q(cryptocurrency__iexact=coin, amount__range=_plausible_range(reserved_in_it))
        plausible |= in_other_wallet & in_coin
    return plausible


def _plausible_range(reserved: list[Decimal]) -> tuple[Decimal, Decimal]:
    return min(reserved) / PLAUSIBLE_FACTOR, min(max(reserved) * PLAUSIBLE_FACTOR, MAX_AMOUNT)


def is_dust(payment: schemas.Payment) -> bool:
    """Tell whether an unbound remote payment is worth too little to be meant for any invoice.

    It is compared with the invoices that it can be meant for and, if none of them reserved its
    coin, with the newest ones before it. With nothing to compare, it is not dust.
    """
    wallet, at = payment.wallet, payment.transaction_at or timezone.now()
    if wallet is None:
        return False
    older = BitsbyInvoice.objects.filter(
        bitsby_id__isnull=False, created_at__lte=at + CLOCK_SKEW
    ).only("wallets")
    recent = older.filter(created_at__gte=at - MAX_INVOICE_AGE)
    for invoices in (recent.order_by("amount"), older.order_by("-created_at")):
        reserved = (ReservedAmounts(invoice) for invoice in invoices[:MAX_INVOICES])
        amounts = [one.amount_in(wallet.id, wallet.cryptocurrency) for one in reserved]
        known = [amount for amount in amounts if amount is not None]
        if known:
            return payment.amount < min(known) * DUST_SHARE
    return False
