"""The coins that buyers can pay with, as far as Bitsby's last answer says."""

from dataclasses import dataclass, field

from oscar_bitsby.buyer.payment_options import payment_options
from oscar_bitsby.models import BitsbyInvoice
from oscar_bitsby.utils.blockchains import COIN_ICONS


@dataclass
class AcceptedCoin:
    """A coin, a character as its icon, and the networks on which it can be sent."""

    name: str
    icon: str
    networks: list[str] = field(default_factory=list)


def accepted_coins() -> list[AcceptedCoin]:
    """Return the coins of the newest invoice; none before the first one.

    A wallet that the merchant has added or removed at Bitsby since is seen with the next invoice.
    """
    created = BitsbyInvoice.objects.filter(bitsby_id__isnull=False).order_by("-pk")
    newest = created.only("wallets", "bitsby_id").first()
    coins: dict[str, AcceptedCoin] = {}
    for option in payment_options(newest) if newest is not None else ():
        icon = COIN_ICONS.get(option.cryptocurrency.lower(), "")
        coin = coins.setdefault(option.coin, AcceptedCoin(option.coin, icon))
        coin.networks.append(option.network)
    return list(coins.values())
