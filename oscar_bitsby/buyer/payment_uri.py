"""Payment URIs: links that open a wallet with the address and the amount filled in.

BIP 21 describes those of Bitcoin, ERC-681 those of Ether. Wallets do not agree about any others:
some would send a token's amount in the coin of its chain. There, only the bare address is safe.
"""

from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction

#: Bitcoin's smallest unit is 10 ** -8, Ether's is 10 ** -18.
_BITCOIN_PLACES, _ETHER_PLACES = 8, 18


def payment_uri(blockchain: str, cryptocurrency: str, address: str, amount: Decimal) -> str:
    """Return the URI that asks a wallet for a payment; empty where no standard is sound.

    Args:
        blockchain: Bitsby's code of the chain.
        cryptocurrency: Bitsby's code of the coin.
        address: as Bitsby wrote it.
        amount: in the coin.

    Raises:
        ValueError: the chain has no unit that small.
    """
    write = _URIS.get((blockchain, cryptocurrency.lower()))
    return write(address, amount) if write else ""


def qr_parts(blockchain: str, cryptocurrency: str, address: str, amount: Decimal) -> list[str]:
    """Return the parts of a QR code's text: the payment URI or, without one, the bare address.

    As BIP 173 recommends, a Bech32 address is in upper case there, and only there: as a part of
    its own it makes the code smaller. Arguments and errors are those of ``payment_uri``.
    """
    uri = payment_uri(blockchain, cryptocurrency, address, amount)
    if uri and address.lower().startswith("bc1"):
        before, after = uri.split(address)
        return [before, address.upper(), after]
    return [uri or address]


def _bitcoin(address: str, amount: Decimal) -> str:
    _units(amount, _BITCOIN_PLACES)
    return f"bitcoin:{address}?amount={amount:f}"


def _ether(address: str, amount: Decimal) -> str:
    # 1 is the id of Ethereum's main network.
    return f"ethereum:{address}@1?value={_units(amount, _ETHER_PLACES)}"


def _units(amount: Decimal, places: int) -> int:
    """Return an amount as a number of the coin's smallest units."""
    # Decimals would be rounded to the precision of their context.
    units = Fraction(amount) * Fraction(f"1e{places}")
    if units.denominator != 1:
        raise ValueError(f"more than {places} decimals")
    return units.numerator


#: By Bitsby's codes of chain and coin.
_URIS: dict[tuple[str, str], Callable[[str, Decimal], str]] = {
    ("bitcoin", "btc"): _bitcoin,
    ("ethereum", "eth"): _ether,
}
