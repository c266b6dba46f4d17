"""What can still be refunded of a payment or an order, and how many coins that is."""

from dataclasses import dataclass
from decimal import ROUND_DOWN, Decimal, localcontext
from typing import Any

from django.db import router
from django.db.models import Q, Sum

from oscar_bitsby.accounting import ledger
from oscar_bitsby.models import BitsbyPayment, BitsbyRefund

#: The decimals of the coins that are sent with fewer than Bitsby reports.
_PLACES = {"usdt": 6, "usdc": 6}
#: Bitsby reports amounts with this many.
_DEFAULT_PLACES = 8
_ZERO = Decimal(0)


@dataclass(frozen=True)
class Refundable:
    """What can still be refunded.

    ``amount`` is in the order's currency, None where no value is known; ``surplus`` the part of it
    above the order's total; ``coin_amount`` what of a payment's coins was not refunded yet, None
    without a payment.
    """

    amount: Decimal | None
    surplus: Decimal
    coin_amount: Decimal | None
    currency: str


def refundable(payment: BitsbyPayment | None, order: Any) -> Refundable:
    """Return what can still be refunded of a payment or, without one, of an order's money.

    It reads the database that is written to. Only under the order's lock is it true for long.
    """
    if payment is None:
        return Refundable(*_left_of(order), None, order.currency)
    before = _refunds().counted().filter(payment=payment)
    sums = before.aggregate(amount=Sum("amount"), coins=Sum("coin_amount"))
    coins = max(payment.amount - (sums["coins"] or _ZERO), _ZERO)
    value = payment.fiat_value
    left = None if value is None else max(value - (sums["amount"] or _ZERO), _ZERO)
    if not is_in_ledger(payment):
        return Refundable(left, _ZERO, coins, payment.currency)
    order = payment.invoice.order  # type: ignore[union-attr]
    return Refundable(*_left_of(order, left or _ZERO), coins, payment.currency)


def is_in_ledger(payment: BitsbyPayment) -> bool:
    """Tell whether a payment is booked, and the order that holds it was not deleted."""
    invoice = payment.invoice
    return payment.booked_at is not None and invoice is not None and invoice.order_id is not None


def propose_coin_amount(payment: BitsbyPayment, amount: Decimal) -> Decimal | None:
    """Return the coins worth an amount at the rate that the invoice locked, rounded down.

    None if no rate is known, or if the amount is less than the smallest amount of the coin.
    """
    return coins_worth(amount, payment.cryptocurrency, payment.amount, payment.fiat_value)


def coins_worth(
    amount: Decimal, cryptocurrency: str, coins: Decimal | None, value: Decimal | None
) -> Decimal | None:
    """Return the coins worth an amount, rounded down, where ``coins`` of them are worth ``value``.

    None if no rate is known, or if the amount is less than the smallest amount of the coin.
    """
    if not coins or not value:
        return None
    places = _PLACES.get(cryptocurrency.lower(), _DEFAULT_PLACES)
    with localcontext() as context:
        context.prec = 60
        worth = coins * amount / value
        return worth.quantize(Decimal(1).scaleb(-places), rounding=ROUND_DOWN) or None


def _refunds() -> Any:
    return BitsbyRefund.objects.using(router.db_for_write(BitsbyRefund))


def open_refunds(order: Any) -> Decimal:
    """Return what the open refunds of an order will take from its booked money."""
    without_payment = Q(payment=None, order=order)
    of_booked = Q(payment__invoice__order=order, payment__booked_at__isnull=False)
    found = _refunds().open().filter(without_payment | of_booked)
    waiting: Decimal | None = found.aggregate(amount=Sum("amount"))["amount"]
    return waiting or _ZERO


def _left_of(order: Any, most: Decimal | None = None) -> tuple[Decimal, Decimal]:
    """Return what Bitsby's source of an order holds and no open refund will take, and the surplus.

    ``most`` limits both: what is left of one payment.
    """
    source, waiting = ledger.bitsby_source(order), open_refunds(order)
    held = _ZERO if source is None else ledger.amount_held([source])
    left = max(held - waiting, _ZERO)
    if most is not None:
        left = min(left, most)
    surplus = min(ledger.total_held(order) - waiting - order.total_incl_tax, left)
    return left, max(surplus, _ZERO)
