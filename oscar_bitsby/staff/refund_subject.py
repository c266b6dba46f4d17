"""What a refund is requested of: a payment or an order's money, and why it may not be possible."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from django.utils.translation import gettext as _

from oscar_bitsby.accounting.refundable import coins_worth, is_in_ledger
from oscar_bitsby.models import BitsbyPayment, BitsbyRefund
from oscar_bitsby.settlement import refunds
from oscar_bitsby.settlement.refund_checks import newest_refund
from oscar_bitsby.settlement.refunds import Refundable


@dataclass(frozen=True)
class RefundSubject:
    """What is refunded: a payment, or without one an order's money."""

    payment: BitsbyPayment | None
    order: Any
    left: Refundable
    coins: dict[str, dict[str, Any]]

    def newest(self) -> int:
        """Return the number of the newest refund, 0 without one."""
        return newest_refund(self.payment, self.order)

    def propose(self, amount: Decimal | None, coin: str = "") -> Decimal | None:
        """Return the coins worth an amount at the locked rate; all that are left without one."""
        if self.payment is None:
            rate = self.coins.get(coin)
            if amount is None or rate is None:
                return None
            return coins_worth(amount, rate["cryptocurrency"], rate["reserved"], rate["asked"])
        if amount is None:
            return self.left.coin_amount
        return refunds.propose_coin_amount(self.payment, amount)


def payments_of(order: Any) -> Any:
    """Return the payments that are bound to an order's invoices."""
    payments = BitsbyPayment.objects.filter(invoice__order=order).select_related("invoice__order")
    return payments.order_by("pk")


def open_refund(payment: BitsbyPayment) -> BitsbyRefund | None:
    """Return the refund of a payment that is not sent or cancelled yet, or None."""
    found: BitsbyRefund | None = payment.refunds.open().first()
    return found


def refund_error(payment: BitsbyPayment | None, order: Any) -> str:
    """Return why no refund can be requested now, or an empty string."""
    if payment is not None and open_refund(payment) is not None:
        return _("A refund of this payment is open. First send its coins or cancel it.")
    left = refunds.refundable(payment, order)
    if payment is None and not reserved_coins(order):
        return _("No invoice of this order reserved a coin that could be sent back.")
    # Of booked money the amount is what counts: more coins can go back than came in.
    coins_count = payment is not None and not is_in_ledger(payment)
    if left.coin_amount == 0 if coins_count else not left.amount:
        if payment is None:
            return _("This order holds no money from Bitsby that could be refunded.")
        return _("Nothing is left to refund: all of it is refunded or about to be.")
    return ""


def order_refund_error(order: Any) -> str:
    """Return why neither an order nor one of its payments can be refunded, or an empty string."""
    problem = ""
    for payment in list(payments_of(order)) or [None]:
        problem = refund_error(payment, order)
        if not problem:
            break
    return problem


def reserved_coins(order: Any) -> dict[str, dict[str, Any]]:
    """Return the coins that an order's invoices reserved, by a key for forms, newest first.

    The amount reserved for the invoice's amount is the rate; it is None if there is none.
    """
    coins: dict[str, dict[str, Any]] = {}
    for invoice in order.bitsby_invoices.order_by("-pk"):
        for wallet in invoice.wallets:
            coin, chain = wallet.get("cryptocurrency", ""), wallet.get("blockchain", "")
            if coin and chain:
                found = {"cryptocurrency": coin, "blockchain": chain, "asked": invoice.amount}
                reserved = Decimal(wallet["amount"]) if wallet.get("amount") else None
                coins.setdefault(f"{coin}/{chain}", {**found, "reserved": reserved})
    return coins
