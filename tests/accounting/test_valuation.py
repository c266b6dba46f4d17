"""Fiat values: at the rate that the invoice locked, in cents, or unknown."""

import uuid
from decimal import Decimal

import pytest

from oscar_bitsby.accounting import matching, valuation
from oscar_bitsby.gateway import schemas
from oscar_bitsby.models import BitsbyInvoice, BitsbyPayment

#: 10 dollars are 20 coins in the wallet "a", 40 in "b" and 5 of another coin in "c".
WALLETS = [
    {"id": "z", "cryptocurrency": "usdt", "amount": None},
    {"id": "a", "cryptocurrency": "usdt", "amount": "20"},
    {"id": "b", "cryptocurrency": "usdt", "amount": "40"},
    {"id": "c", "cryptocurrency": "dai", "amount": "5"},
    {"cryptocurrency": "eth", "amount": "1"},
    {"id": "d", "amount": "100"},
]

FIAT_VALUES = [
    ("a", "usdt", "2", "1.00"),
    ("b", "usdt", "2", "0.50"),
    ("c", "dai", "2", "4.00"),
    # By the wallet, whatever the coin is called.
    ("b", "dai", "2", "0.50"),
    ("d", "", "10", "1.00"),
    ("B", "USDT", "2", "0.50"),
    # By the coin: the first wallet of it with an amount.
    ("z", "usdt", "2", "1.00"),
    ("other", "usdt", "2", "1.00"),
    ("other", "USDT", "2", "1.00"),
    ("other", "dai", "2", "4.00"),
    ("", "eth", "2", "20.00"),
    # No rate.
    ("other", "btc", "2", None),
    ("", "", "2", None),
    ("other", "", "2", None),
    # The names that Python gives to nothing are no names of wallets or coins.
    ("none", "none", "2", None),
]


@pytest.fixture
def invoice():
    return BitsbyInvoice(amount=Decimal("10.00"), currency="USD", wallets=WALLETS)


@pytest.mark.parametrize(("wallet", "coin", "amount", "expected"), FIAT_VALUES)
def test_payment_has_the_fiat_value_of_its_locked_rate(invoice, wallet, coin, amount, expected):
    """The rate is the wallet's, else the coin's; remote and recorded payments have the same."""
    remote_wallet = schemas.Wallet(
        id=wallet, name="", blockchain="", cryptocurrency=coin, address=""
    )
    remote = schemas.Payment(uuid.uuid4(), Decimal(amount), "", None, remote_wallet)
    recorded = BitsbyPayment(amount=Decimal(amount), wallet_id=wallet, cryptocurrency=coin)

    values = (
        valuation.fiat_value_of(remote, invoice),
        matching.match(recorded, invoice).fiat_value,
    )

    assert values == ((expected and Decimal(expected)),) * 2


def test_payment_without_a_wallet_has_no_fiat_value(invoice):
    """Without the wallet no rate is known."""
    remote = schemas.Payment(uuid.uuid4(), Decimal(1), "", None)

    assert valuation.fiat_value_of(remote, invoice) is None


@pytest.mark.parametrize(
    ("amount", "reserved", "asked", "expected"),
    [
        ("3", "2", "10", "15.00"),
        ("1", "3", "10", "3.33"),
        ("2", "3", "10", "6.67"),
        # Half a cent is rounded up, less is nothing.
        ("0.005", "1", "1", "0.01"),
        ("0.004999", "1", "1", None),
        ("0", "1", "1", None),
        # The largest amount that Oscar stores.
        ("9999999999.99", "1", "1", "9999999999.99"),
        ("10000000000", "1", "1", None),
        # Below it, but not after rounding.
        ("9999999999.995", "1", "1", None),
        ("1", "0", "1", None),
        ("1", None, "1", None),
    ],
)
def test_coins_are_converted_at_the_locked_rate(amount, reserved, asked, expected):
    """Coins have their share of the asked amount, rounded to cents, if Oscar can store it."""
    value = valuation.convert_at_locked_rate(
        Decimal(amount), reserved and Decimal(reserved), Decimal(asked)
    )

    assert value == (expected and Decimal(expected))
