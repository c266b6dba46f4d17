"""The coins in which a buyer can pay an invoice on the shop's own page."""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from django.utils.safestring import SafeString

from oscar_bitsby.accounting.addresses import check_address
from oscar_bitsby.buyer.payment_uri import payment_uri, qr_text
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
        return qr_code(qr_text(*self.wallet))

    @property
    def wallet(self) -> tuple[str, str, str, Decimal]:
        """The arguments of ``payment_uri``."""
        return self.blockchain, self.cryptocurrency, self.address, Decimal(self.amount)


def payment_options(invoice: BitsbyInvoice) -> list[PaymentOption]:
    """Return the coins whose wallets are sound, in Bitsby's order.

    A wallet that is left out is logged, without its address. With none left the buyer pays on
    Bitsby's page.
    """
    options: dict[str, PaymentOption] = {}
    for option in _sound(invoice):
        options.setdefault(option.key, option)
    return list(options.values())


def _sound(invoice: BitsbyInvoice) -> Iterator[PaymentOption]:
    for wallet in invoice.wallets if isinstance(invoice.wallets, list) else ():
        try:
            yield _option(wallet)
        except (KeyError, TypeError, ValueError, RefundRefused) as error:
            logger.warning(
                "invoice %s: a wallet is not shown to the buyer (%s)",
                invoice.bitsby_id,
                type(error).__name__,
            )


def _option(wallet: Mapping[str, Any]) -> PaymentOption:
    """Raise an error for a wallet that must not be shown: coins sent there could be lost."""
    option = PaymentOption(
        cryptocurrency=wallet["cryptocurrency"],
        blockchain=wallet["blockchain"],
        address=wallet["address"],
        amount=wallet["amount"],
    )
    if not parse_amount(option.amount):
        raise ValueError("nothing to pay")
    # The function returns an address in the usual case. Bitsby's own is shown.
    check_address(option.blockchain, option.cryptocurrency, option.address)
    # Fails for an amount that the coin cannot have.
    payment_uri(*option.wallet)
    return option
