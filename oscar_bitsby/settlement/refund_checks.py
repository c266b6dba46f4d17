"""What a refund must not be: too much, to the shop's own wallet, or with a hash that is known.

Every ``check_...`` raises ``RefundRefused`` with a message for the person.
"""

from decimal import Decimal
from typing import Any

from django.db import router
from django.db.models import Q
from django.utils.formats import localize
from django.utils.translation import gettext as _

from oscar_bitsby.accounting.refundable import Refundable, is_in_ledger
from oscar_bitsby.accounting.valuation import MAX_FIAT_VALUE
from oscar_bitsby.choices import RefundState
from oscar_bitsby.exceptions import RefundRefused
from oscar_bitsby.models import BitsbyInvoice, BitsbyPayment, BitsbyRefund
from oscar_bitsby.utils.money import CRYPTO_PLACES, plain_amount, to_cents

#: Staff may send up to this many times the proposed coins, because rates change. Less than ten, so
#: that a shifted decimal point is noticed.
MAX_FACTOR = 5
#: Coins have fewer than 13 digits before the decimal point, as in the database column.
MAX_COINS = Decimal(10) ** 12
#: The wallets of this many newest invoices are taken for the shop's own.
RECENT_INVOICES = 50


def check_reason(note: str) -> None:
    """Refuse an empty reason."""
    if not note.strip():
        raise RefundRefused(_("Enter a reason: others may need it later."))


def check_newest(newest_seen: int | None, payment: BitsbyPayment | None, order: Any) -> None:
    """Refuse another refund if one was requested that the member of staff has not seen."""
    if newest_seen is not None and newest_seen != newest_refund(payment, order):
        raise RefundRefused(
            _("A refund was requested meanwhile, perhaps by a second click. No other was.")
        )


def newest_refund(payment: BitsbyPayment | None, order: Any) -> int:
    """Return the primary key of the newest refund of a payment or order; 0 if there is none."""
    rows = BitsbyRefund.objects.using(router.db_for_write(BitsbyRefund))
    rows = rows.filter(order=order) if payment is None else rows.filter(payment=payment)
    return rows.order_by("-pk").values_list("pk", flat=True).first() or 0


def check_state(refund: BitsbyRefund, *allowed: RefundState) -> None:
    """Refuse a refund in a state that a step is not meant for."""
    if refund.state not in allowed:
        raise RefundRefused(
            _("This is not possible now: the refund is “%(state)s”. Reload the page.")
            % {"state": refund.get_state_display()}
        )


def check_left(payment: BitsbyPayment | None, left: Refundable) -> None:
    """Refuse a refund of what is refunded already."""
    is_booked = payment is None or is_in_ledger(payment)
    if (left.amount if is_booked else left.coin_amount) == 0:
        raise RefundRefused(_("Nothing is left to refund: all of it is refunded or about to be."))


def check_amount(amount: Decimal | None, payment: BitsbyPayment | None, left: Refundable) -> None:
    """Refuse an amount that is missing or more than what is left."""
    if amount is None:
        if payment is None or is_in_ledger(payment):
            raise RefundRefused(_("Enter the amount to refund."))
        return
    if not amount.is_finite() or not 0 < amount < MAX_FIAT_VALUE or amount != to_cents(amount):
        raise RefundRefused(_places_message(2))
    if left.amount is not None and amount > left.amount:
        raise RefundRefused(
            _("At most %(amount)s %(currency)s can still be refunded. Enter a smaller amount.")
            % {"amount": localize(left.amount), "currency": left.currency}
        )


def _places_message(places: int) -> str:
    return _("Enter an amount above zero with at most %(places)s decimals.") % {"places": places}


def check_coins(
    coins: Decimal | None, proposed: Decimal | None, payment: BitsbyPayment | None, left: Refundable
) -> Decimal:
    """Return coins to send; refuse them if they are missing, or too many.

    Of money that was never booked the coins are the limit. Booked money is limited by its amount:
    its coins may be more than were received if their rate has fallen.
    """
    if coins is None:
        raise RefundRefused(_("Enter how many coins to send: no exchange rate is known."))
    exponent = coins.as_tuple().exponent
    if not isinstance(exponent, int) or -exponent > CRYPTO_PLACES or not 0 < coins < MAX_COINS:
        raise RefundRefused(_places_message(CRYPTO_PLACES))
    limit = None
    if payment is not None and not is_in_ledger(payment):
        limit = left.coin_amount
    elif proposed is not None:
        limit = proposed * MAX_FACTOR
    if limit is not None and coins > limit:
        raise RefundRefused(
            _("At most %(amount)s of the coin can be sent. Check the decimal point.")
            % {"amount": plain_amount(limit)}
        )
    return coins


def check_own_wallets(
    address: str, order: Any, payment: BitsbyPayment | None, *, by_buyer: bool
) -> None:
    """Refuse an address at which the shop receives payments."""
    if _is_own_wallet(address, order, payment):
        raise RefundRefused(
            _("This is an address of the shop. Enter an address from your own wallet.")
            if by_buyer
            else _("This is an address of the shop. Enter an address of the buyer.")
        )


def _is_own_wallet(address: str, order: Any, payment: BitsbyPayment | None) -> bool:
    invoices = Q(pk=payment.invoice_id if payment else None)
    if order is not None:
        invoices |= Q(order=order)
    wallets = list(BitsbyInvoice.objects.filter(invoices).values_list("wallets", flat=True))
    newest = BitsbyInvoice.objects.order_by("-pk").values_list("wallets", flat=True)
    wallets += newest[:RECENT_INVOICES]
    # Chains of Ethereum's type do not distinguish case, and no two addresses differ only by it.
    own = {str(wallet.get("address", "")).casefold() for found in wallets for wallet in found}
    received = BitsbyPayment.objects.filter(address__iexact=address)
    return address.casefold() in own or received.exists()


def check_new_hash(refund: BitsbyRefund) -> None:
    """Refuse a transaction hash that another refund has, or a payment that came in."""
    known = refund.transaction_hash
    others = BitsbyRefund.objects.filter(blockchain=refund.blockchain, transaction_hash=known)
    if others.exclude(pk=refund.pk).exists():
        raise RefundRefused(known_hash())
    # Bitsby may write it in another way. Each way uses the index.
    bare = known.removeprefix("0x")
    ways = {text for one in (bare, bare.upper()) for text in (one, f"0x{one}")} | {known}
    if BitsbyPayment.objects.filter(blockchain=refund.blockchain, hash__in=ways).exists():
        raise RefundRefused(
            _(
                "This is the transaction of a payment that the shop received. Enter the hash of the"
                " transaction by which you sent the coins."
            )
        )


def known_hash() -> str:
    """Return the message about a hash that another refund has."""
    return _(
        "This transaction hash was already entered for another refund. Enter the hash of the"
        " transaction by which you sent these coins."
    )
