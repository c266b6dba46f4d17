"""Names and block explorers of blockchains, by Bitsby's codes; unknown ones keep their code."""

from dataclasses import dataclass

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _


@dataclass(frozen=True)
class Blockchain:
    """A blockchain: its name, its own coin, and the standard of all other coins on it."""

    name: str
    own_coin: str
    #: By this name wallets and exchanges distinguish networks. Empty if there are no other coins.
    token_standard: str
    #: The address of a transaction in a block explorer, with ``{}`` for the hash.
    explorer: str
    #: How to recognise an address.
    address_hint: str | Promise


_EVM_HINT = _("It starts with 0x and has 42 characters.")

BLOCKCHAINS = {
    "tron": Blockchain(
        "Tron",
        "trx",
        "TRC-20",
        "https://tronscan.org/#/transaction/{}",
        _("It starts with T and has 34 characters."),
    ),
    "ethereum": Blockchain("Ethereum", "eth", "ERC-20", "https://etherscan.io/tx/{}", _EVM_HINT),
    "bnbSmartChain": Blockchain(
        "BNB Smart Chain", "bnb", "BEP-20", "https://bscscan.com/tx/{}", _EVM_HINT
    ),
    "bitcoin": Blockchain(
        "Bitcoin",
        "btc",
        "",
        "https://mempool.space/tx/{}",
        _("It starts with bc1, 1 or 3."),
    ),
}

#: A character for each known coin. Buyers who do not know it read the name beside it.
COIN_ICONS = {"btc": "₿", "eth": "Ξ", "usdt": "₮", "ltc": "Ł", "doge": "Ð"}


def network_name(blockchain: str, cryptocurrency: str) -> str:
    """Return the name by which wallets and exchanges offer the network, like "Tron (TRC-20)"."""
    known = BLOCKCHAINS.get(blockchain)
    if known is None:
        return blockchain
    is_token = known.token_standard and cryptocurrency.lower() != known.own_coin
    return f"{known.name} ({known.token_standard})" if is_token else known.name


def address_hint(blockchain: str) -> str:
    """Return how an address on the blockchain looks, or nothing if that is not known."""
    known = BLOCKCHAINS.get(blockchain)
    return str(known.address_hint) if known else ""


def transaction_url(blockchain: str, transaction_hash: str) -> str:
    """Return the address of a transaction in a block explorer, or nothing."""
    known = BLOCKCHAINS.get(blockchain)
    return known.explorer.format(transaction_hash) if known and transaction_hash.isalnum() else ""
