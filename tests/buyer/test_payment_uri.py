"""Payment URIs by BIP 21 and ERC-681, and the contents of QR codes."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oscar_bitsby.buyer.payment_uri import payment_uri, qr_parts
from oscar_bitsby.utils.qr import qr_code
from tests.support.qr import read_qr_code

#: From BIP 21, BIP 173 and ERC-681.
LEGACY = "175tWpb8K1S7NmH4Zx6rewF9WQrcZv245W"
BECH32 = "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4"
ETHER = "0xfb6916095ca1df60bb79Ce92ce3ea74c37c5d359"
TRON = "TKbstUwMzLrfTAGL4erYb7gc7ghmHQ9zG7"


@pytest.mark.parametrize(
    ("chain", "coin", "address", "amount", "uri"),
    [
        ("bitcoin", "btc", LEGACY, "20.3", f"bitcoin:{LEGACY}?amount=20.3"),
        ("bitcoin", "btc", LEGACY, "50.00", f"bitcoin:{LEGACY}?amount=50.00"),
        ("bitcoin", "BTC", BECH32, "0.00000001", f"bitcoin:{BECH32}?amount=0.00000001"),
        ("bitcoin", "btc", BECH32, "1E-8", f"bitcoin:{BECH32}?amount=0.00000001"),
        ("ethereum", "eth", ETHER, "2.014", f"ethereum:{ETHER}@1?value=2014000000000000000"),
        ("ethereum", "eth", ETHER, "0.00329601", f"ethereum:{ETHER}@1?value=3296010000000000"),
        ("ethereum", "eth", ETHER, "1E-18", f"ethereum:{ETHER}@1?value=1"),
        # Wallets disagree about these, and some would send the chain's own coin.
        ("ethereum", "usdt", ETHER, "11.45", ""),
        ("bnbSmartChain", "bnb", ETHER, "11.45", ""),
        ("tron", "trx", TRON, "11.45", ""),
        ("tron", "usdt", TRON, "11.45", ""),
        ("lightning", "btc", BECH32, "0.1", ""),
    ],
)
def test_payment_uri_by_chain_and_coin(chain, coin, address, amount, uri):
    """Bitcoin and Ether have a URI with the exact amount; everything else has none."""
    assert payment_uri(chain, coin, address, Decimal(amount)) == uri


@pytest.mark.parametrize(
    ("chain", "coin", "places"), [("bitcoin", "btc", 8), ("ethereum", "eth", 18)]
)
def test_amount_smaller_than_the_coins_unit_is_refused(chain, coin, places):
    """It could only be paid rounded."""
    amount = Decimal(1) + Decimal(10) ** -(places + 1)
    with pytest.raises(ValueError, match=f"more than {places} decimals"):
        payment_uri(chain, coin, LEGACY, amount)


@given(amount=st.decimals(min_value=0, max_value=10**11, places=18))
def test_wei_are_exact(amount):
    """No amount is rounded, however many digits it has."""
    uri = payment_uri("ethereum", "eth", ETHER, amount)
    value = uri.removeprefix(f"ethereum:{ETHER}@1?value=")
    assert value.isdigit()
    assert value == str(int("".join(map(str, amount.as_tuple().digits))))


@given(amount=st.decimals(min_value=0, max_value=10**11, places=8))
def test_bitcoins_are_exact(amount):
    """The amount has the same digits, without exponent or groups."""
    uri = payment_uri("bitcoin", "btc", LEGACY, amount)
    assert uri == f"bitcoin:{LEGACY}?amount={amount:.8f}"


@pytest.mark.parametrize(
    ("chain", "coin", "address", "amount", "text"),
    [
        ("bitcoin", "btc", BECH32, "0.00018186", f"bitcoin:{BECH32.upper()}?amount=0.00018186"),
        ("bitcoin", "btc", LEGACY, "0.00018186", f"bitcoin:{LEGACY}?amount=0.00018186"),
        ("ethereum", "eth", ETHER, "2.5", f"ethereum:{ETHER}@1?value=2500000000000000000"),
        ("tron", "usdt", TRON, "11.45", TRON),
    ],
)
def test_qr_code_contains_the_uri_or_the_bare_address(chain, coin, address, amount, text):
    """Only Bech32 addresses are in upper case, where they make the code smaller."""
    assert read_qr_code(qr_code(*qr_parts(chain, coin, address, Decimal(amount)))) == text
