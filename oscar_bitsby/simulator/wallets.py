"""The merchant's wallets and the invented exchange rates."""

from collections.abc import Container
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal

CENT = Decimal("0.01")
SATOSHI = Decimal("0.00000001")


@dataclass(frozen=True)
class Coin:
    """A cryptocurrency: its invented price in USD and the smallest amount that can be sent."""

    usd: Decimal
    step: Decimal


@dataclass(frozen=True)
class Wallet:
    """An address of the merchant for one coin on one chain."""

    id: str
    name: str
    blockchain: str
    cryptocurrency: str
    address: str

    @property
    def chain_name(self) -> str:
        """The name of the blockchain for people."""
        return "BNB Smart Chain" if self.blockchain == "bnbSmartChain" else self.blockchain.title()


FIAT_IN_USD = {"USD": Decimal("1"), "EUR": Decimal("1.08"), "RUB": Decimal("0.011")}

COINS = {
    # On most chains a usdt has six decimals: a finer amount cannot be sent.
    "usdt": Coin(usd=Decimal("1"), step=Decimal("0.000001")),
    "eth": Coin(usd=Decimal("3400"), step=SATOSHI),
    "btc": Coin(usd=Decimal("62500"), step=SATOSHI),
}

_EVM = "0x1427ca2c71bCa28f0B619b70E3F112065D5411aC"
_TRON = "TKbstUwMzLrfTAGL4erYb7gc7ghmHQ9zG7"
_BITCOIN = "bc1qd9hs6dal8k2x0l8zhsgywqyvn9tpj3mrkk430t"

# id, name, blockchain, cryptocurrency, address
WALLETS = (
    Wallet("c27b0847-40c9-4f1e-87f5-9c3d4999dfc1", "usdt-bnb", "bnbSmartChain", "usdt", _EVM),
    Wallet("a4c9e2ee-9a03-43e5-a1a1-00caf679d16a", "usdt-ethereum", "ethereum", "usdt", _EVM),
    Wallet("47aa71e2-07a0-482e-9172-7114d7376ba0", "usdt-tron", "tron", "usdt", _TRON),
    Wallet("d7169f3a-f354-4f84-b85e-cf63e0a53367", "ethereum", "ethereum", "eth", _EVM),
    Wallet("dee35e92-a2e2-4b12-be8c-e5505c62f1d6", "btc", "bitcoin", "btc", _BITCOIN),
)

WALLETS_BY_ID = {wallet.id: wallet for wallet in WALLETS}


def in_usd(amount: Decimal, currency: str) -> Decimal:
    """Return what ``amount`` of a fiat currency is worth in USD, to the cent."""
    return (amount * FIAT_IN_USD[currency]).quantize(CENT, ROUND_HALF_UP)


def worth(amount: Decimal, wallet: Wallet, currency: str) -> Decimal:
    """Return what a crypto amount in ``wallet`` is worth in a fiat currency, to the cent."""
    value = amount * COINS[wallet.cryptocurrency].usd / FIAT_IN_USD[currency]
    return value.quantize(CENT, ROUND_HALF_UP)


def amount_to_reserve(
    amount: Decimal, currency: str, wallet: Wallet, taken: Container[tuple[str, Decimal]]
) -> Decimal:
    """Return the crypto amount that an invoice asks for on ``wallet``.

    ``taken`` holds the (wallet id, amount) pairs of unpaid invoices. The amount is raised until it
    is free, because only the exact amount identifies the invoice of a payment.
    """
    coin = COINS[wallet.cryptocurrency]
    price = (amount * FIAT_IN_USD[currency] / coin.usd).quantize(coin.step, ROUND_HALF_UP)
    price = max(price, coin.step)
    while (wallet.id, price) in taken:
        price += coin.step
    return price
