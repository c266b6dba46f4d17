"""What the buyer sees of a refund: its state, the coins and their network, and the links."""

from dataclasses import dataclass
from typing import Any

from oscar_bitsby.choices import RefundState
from oscar_bitsby.models import BitsbyRefund
from oscar_bitsby.orders import signed_urls
from oscar_bitsby.utils import blockchains
from oscar_bitsby.utils.money import plain_amount


@dataclass(frozen=True)
class RefundStatus:
    """A refund in the words of its buyer."""

    refund: BitsbyRefund

    @property
    def state(self) -> str:
        """A ``RefundState``."""
        return str(self.refund.state)

    @property
    def needs_address(self) -> bool:
        return self.state == RefundState.REQUESTED

    @property
    def coin(self) -> str:
        """The coin as wallets name it, like "USDT"."""
        return self.refund.cryptocurrency.upper()

    @property
    def coins(self) -> str:
        """The amount in the coin, written the same in every language, since buyers compare it."""
        return f"{plain_amount(self.refund.coin_amount)} {self.coin}".strip()

    @property
    def network(self) -> str:
        """The blockchain as wallets name it, like "Tron (TRC-20)"."""
        return blockchains.network_name(self.refund.blockchain, self.refund.cryptocurrency)

    @property
    def address_hint(self) -> str:
        """How an address on the network looks, or nothing."""
        return blockchains.address_hint(self.refund.blockchain)

    @property
    def explorer_url(self) -> str:
        """The address of its transaction in a block explorer, or nothing."""
        return blockchains.transaction_url(self.refund.blockchain, self.refund.transaction_hash)

    @property
    def url(self) -> str:
        """The path of the page where the buyer gives the address."""
        return signed_urls.refund_url(self.refund)


def refunds_of(order: Any) -> list[RefundStatus]:
    """Return the refunds of an order, the newest first."""
    return [RefundStatus(refund) for refund in order.bitsby_refunds.all()]
