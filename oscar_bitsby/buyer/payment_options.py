"""The coins in which a buyer can pay an invoice on the shop's own page."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from django.utils.safestring import SafeString

from oscar_bitsby.accounting.addresses import check_address
from oscar_bitsby.buyer.payment_uri import payment_uri, qr_parts
from oscar_bitsby.exceptions import RefundRefused
from oscar_bitsby.models import BitsbyInvoice
from oscar_bitsby.utils.blockchains import network_name
from oscar_bitsby.utils.money import parse_amount
from oscar_bitsby.utils.qr import qr_code

logger = logging.getLogger("oscar_bitsby")


@dataclass(frozen=True)
class PaymentOption:
    """A coin on a network, with the address to pay to and the exact amount."""

    #: Bitsby's codes.
    cryptocurrency: str
    blockchain: str
    #: As Bitsby wrote it, to the byte.
    address: str
    #: In the coin, with the digits that Bitsby wrote: a text, so that no language changes it.
    amount: str

    @property
    def key(self) -> str:
        """Names it in URLs and in the buyer's cookie."""
        return f"{self.cryptocurrency}-{self.blockchain}".lower()

    @property
    def coin(self) -> str:
        """The coin as wallets name it, like "USDT"."""
        return self.cryptocurrency.upper()

    @property
    def network(self) -> str:
        """The network as wallets name it, like "Tron (TRC-20)"."""
        return network_name(self.blockchain, self.cryptocurrency)

    @property
    def address_groups(self) -> list[str]:
        """The address in groups of four characters, to compare it by eye."""
        return [self.address[start : start + 4] for start in range(0, len(self.address), 4)]

    @property
    def uri(self) -> str:
        """The URI that opens a wallet, or nothing."""
        return payment_uri(*self.wallet)

    @property
    def qr(self) -> SafeString:
        """An SVG image of the QR code."""
        return qr_code(*qr_parts(*self.wallet))

    @property
    def wallet(self) -> tuple[str, str, str, Decimal]:
        """The arguments of ``payment_uri``."""
        return self.blockchain, self.cryptocurrency, self.address, Decimal(self.amount)


def payment_options(invoice: BitsbyInvoice) -> list[PaymentOption]:
    """Return the coins whose wallets are sound, in Bitsby's order.

    With none the buyer pays on Bitsby's page.
    """
    options: dict[str, PaymentOption] = {}
    for wallet in _wallets(invoice):
        option = _option(wallet)
        if isinstance(option, PaymentOption):
            # Which of two wallets for the same coin and network counts, only Bitsby knows.
            options.setdefault(option.key, option)
    return list(options.values())


def log_unsound_wallets(invoice: BitsbyInvoice) -> None:
    """Log which wallets of an invoice its buyer is not shown, and why; no address is logged."""
    for number, wallet in enumerate(_wallets(invoice), start=1):
        problem = _option(wallet)
        if isinstance(problem, str):
            logger.warning(
                "wallet %s of invoice %s is not shown to its buyer: %s",
                *(number, invoice.bitsby_id, problem),
            )


def _wallets(invoice: BitsbyInvoice) -> list[Any]:
    return invoice.wallets if isinstance(invoice.wallets, list) else []


def _option(wallet: Any) -> PaymentOption | str:
    """Return what to show of a wallet, or why coins that are sent there could be lost."""
    if not isinstance(wallet, Mapping):
        return "it is not an object"
    values = [wallet.get(name) for name in ("cryptocurrency", "blockchain", "address", "amount")]
    texts = [value for value in values if isinstance(value, str) and value]
    if len(texts) < len(values):
        return "its coin, network, address or amount is missing"
    option = PaymentOption(*texts)
    try:
        amount = parse_amount(option.amount)
        # Fails for an amount that the coin cannot have.
        payment_uri(option.blockchain, option.cryptocurrency, option.address, amount)
    except ValueError as error:
        return f"its amount cannot be paid: {error}"
    # Other ways to write a number, such as an exponent, are not for people.
    if not amount or f"{amount:f}" != option.amount:
        return "its amount cannot be paid"
    try:
        # The function returns an address in the usual case. Bitsby's own is shown.
        check_address(option.blockchain, option.cryptocurrency, option.address)
    except RefundRefused:
        return "its address has a wrong checksum or form"
    return option
