"""The fiat value of a payment: in its invoice's currency, at the rate that the invoice locked.

That rate is the invoice's amount against the amount of a coin that Bitsby reserved in a wallet.
"""

from decimal import Decimal

from oscar_bitsby.gateway import schemas
from oscar_bitsby.models import BitsbyInvoice
from oscar_bitsby.utils.money import to_cents

#: Oscar's columns hold amounts below this one.
MAX_FIAT_VALUE = Decimal(10) ** 10

#: The column holds rates below this one.
MAX_LOCKED_RATE = Decimal(10) ** 18


class ReservedAmounts:
    """The amounts that an invoice reserved, parsed once for many payments.

    ``wallets`` and ``coins`` have them by the wallets' ids and by the coins, in lower case.
    """

    def __init__(self, invoice: BitsbyInvoice) -> None:
        self.invoice = invoice
        self.wallets: dict[str, Decimal | None] = {}
        self.coins: dict[str, Decimal | None] = {}
        for wallet in invoice.wallets:
            amount = Decimal(wallet["amount"]) if wallet.get("amount") else None
            for found, key in ((self.wallets, "id"), (self.coins, "cryptocurrency")):
                name = str(wallet.get(key, "")).lower()
                # Of several the first one with an amount, whose rate counts.
                if found.get(name) is None:
                    found[name] = amount

    def fiat_value_of(self, amount: Decimal, wallet_id: str, coin: str) -> Decimal | None:
        """Return the fiat value of coins that arrived in a wallet; None if no rate is known."""
        return convert_at_locked_rate(amount, self.amount_in(wallet_id, coin), self.invoice.amount)

    def amount_in(self, wallet_id: str, coin: str) -> Decimal | None:
        """Return the amount reserved in a wallet or, without one there, in its coin; or None."""
        wallet_id, coin = wallet_id.lower(), coin.lower()
        # A wallet without a reserved amount has no rate, but its coin in another wallet has one.
        reserved = (wallet_id and self.wallets.get(wallet_id)) or (coin and self.coins.get(coin))
        return reserved or None


def fiat_value_of(payment: schemas.Payment, invoice: BitsbyInvoice) -> Decimal | None:
    """Return the fiat value of a remote payment, in cents; None if no rate is known."""
    wallet = payment.wallet
    if wallet is None:
        return None
    reserved = ReservedAmounts(invoice)
    return reserved.fiat_value_of(payment.amount, wallet.id, wallet.cryptocurrency)


def locked_rate_of(payment: schemas.Payment, invoice: BitsbyInvoice) -> Decimal | None:
    """Return the fiat amount of one coin of a remote payment; None if no rate is known."""
    wallet = payment.wallet
    reserved = wallet and ReservedAmounts(invoice).amount_in(wallet.id, wallet.cryptocurrency)
    rate = invoice.amount / reserved if reserved else None
    return rate if rate is not None and rate < MAX_LOCKED_RATE else None


def convert_at_locked_rate(
    amount: Decimal, reserved: Decimal | None, asked: Decimal
) -> Decimal | None:
    """Return the fiat value of an amount of coins, in cents.

    Args:
        amount: the coins that arrived.
        reserved: the coins that the invoice reserved for ``asked``; None or 0 if it has no rate.
        asked: the invoice's amount.

    Returns:
        None if no rate is known, and for values that Oscar cannot store or that are below half a
        cent: staff decide about those.
    """
    if not reserved:
        return None
    value = asked * amount / reserved
    # Rounding can make it too large or zero.
    cents = to_cents(value) if value < MAX_FIAT_VALUE else MAX_FIAT_VALUE
    return cents if 0 < cents < MAX_FIAT_VALUE else None
