"""Addresses and transaction hashes: vectors of the standards, and what people enter."""

import pytest

from oscar_bitsby.accounting.addresses import check_address, check_transaction_hash
from oscar_bitsby.exceptions import RefundRefused

EVM = ("ethereum", "bnbSmartChain")
TRON_ADDRESS = "TLa2f6VPqDgRE67v1736s7bJ8Ray5wYjU7"
BITCOIN_ADDRESS = "1BvBMSEYstWetqTFn5Au4m4GFg7xJaNVN2"
EVM_ADDRESS = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"
HASH = "0123456789abcdef" * 4


def refusal(blockchain, address, coin="usdt"):
    """Return the message with which an address is refused."""
    with pytest.raises(RefundRefused) as caught:
        check_address(blockchain, coin, address)
    return str(caught.value)


# Bitcoin

#: BIP-173 and BIP-350, "Test vectors": the valid segwit addresses of the main network.
SEGWIT = [
    "BC1QW508D6QEJXTDG4Y5R3ZARVARY0C5XW7KV8F3T4",
    "bc1pw508d6qejxtdg4y5r3zarvary0c5xw7kw508d6qejxtdg4y5r3zarvary0c5xw7kt5nd6y",
    "BC1SW50QGDZ25J",
    "bc1zw508d6qejxtdg4y5r3zarvaryvaxxpcs",
    "bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqzk5jj0",
]
#: BIP-350, "Test vectors": the invalid segwit addresses, with the reasons it names.
BAD_SEGWIT = [
    ("tc1qw508d6qejxtdg4y5r3zarvary0c5xw7kg3g4ty", "invalid human-readable part"),
    ("bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t5", "invalid checksum"),
    ("BC13W508D6QEJXTDG4Y5R3ZARVARY0C5XW7KN40WF2", "invalid witness version"),
    ("bc1rw5uspcuh", "invalid program length"),
    ("BC1QR508D6QEJXTDG4Y5R3ZARVARYV98GJ9P", "invalid program length for version 0"),
    ("tb1qrp33g0q5c5txsp9arysrx4k6zdkfs4nce4xj0gdcccefvpysxf3q0sL5k7", "mixed case"),
    ("bc1zw508d6qejxtdg4y5r3zarvaryvqyzf3du", "zero padding of more than 4 bits"),
    ("bc1gmk9yu", "empty data section"),
    (
        "bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqh2y7hd",
        "bech32 instead of bech32m",
    ),
    (
        "BC1S0XLXVLHEMJA6C4DQV22UAPCTQUPFHLXM9H8Z3K2E72Q4K9HCZ7VQ54WELL",
        "bech32 instead of bech32m",
    ),
    ("bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kemeawh", "bech32m instead of bech32"),
    (
        "bc1p38j9r5y49hruaue7wxjce0updqjuyyx0kh56v8s25huc6995vvpql3jow4",
        "invalid character in the checksum",
    ),
    ("bc1pw5dgrnzv", "program length of 1"),
    (
        "bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7v8n0nx0muaewav253zgeav",
        "program length of 41",
    ),
    (
        "tb1qqqqqp399et2xygdj5xreqhjjvcmzhxw4aywxecjdzew6hylgvsesrxh6hy",
        "the test network",
    ),
]


@pytest.mark.parametrize("address", SEGWIT)
def test_segwit_addresses_are_accepted_in_either_case(address):
    """The valid vectors of BIP-173 and BIP-350 are accepted, and stored in lower case."""
    assert check_address("bitcoin", "btc", address) == address.lower()
    assert check_address("bitcoin", "btc", address.upper()) == address.lower()


@pytest.mark.parametrize(("address", "why"), BAD_SEGWIT)
def test_bad_segwit_addresses_are_refused(address, why):
    """The invalid vectors of BIP-350 are refused."""
    assert "Bitcoin" in refusal("bitcoin", address, "btc"), why


@pytest.mark.parametrize("address", [BITCOIN_ADDRESS, "3J98t1WpEZ73CNmQviecrnyiWrnqRhWNLy"])
def test_base58_addresses_of_bitcoin_are_accepted(address):
    """P2PKH and P2SH addresses of the main network are stored as they are."""
    assert check_address("bitcoin", "btc", address) == address


@pytest.mark.parametrize(
    ("address", "text"),
    [
        # One character changed, and two swapped.
        ("1BvBMSEYstWetqTFn5Au4m4GFg7xJaNVN3", "checksum does not match"),
        ("3J98t1WpEZ73CNmQviecrnyiWrnqRhWNyL", "checksum does not match"),
        # The test network: P2PKH and P2SH.
        ("mipcBbFg9gMiCh81Kj8tqqdgoZub1ZJRfn", "This is not an address on Bitcoin."),
        ("2MzQwSSnBHWHqSAqtTVQ6v47XtaisrJa1Vc", "This is not an address on Bitcoin."),
        # Too short, and a character that base58 does not have.
        ("1BvBMSEYstWetqTFn5Au4m", "It starts with bc1, 1 or 3."),
        ("1BvBMSEYstWetqTFn5Au4m4GFg7xJaNVO0", "It starts with bc1, 1 or 3."),
        ("1", "It starts with bc1, 1 or 3."),
    ],
)
def test_bad_base58_addresses_of_bitcoin_are_refused(address, text):
    """A wrong checksum and a wrong form are told apart."""
    assert text in refusal("bitcoin", address, "btc")


# Chains of Ethereum's type

#: EIP-55, "Test Cases".
EIP55 = [
    "0x52908400098527886E0F7030069857D2E4169EE7",
    "0x8617E340B3D01FA5F11F306F4090FD50E238070D",
    "0xde709f2102306220921060314715629080e2fb77",
    "0x27b1fdb04752bbc536007a920d24acb045561c26",
    EVM_ADDRESS,
    "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359",
    "0xdbF03B407c01E7cD3CBea99509d93f8DDDC8C6FB",
    "0xD1220A0cf47c7B9Be7A2E6BA89F429762e7b9aDb",
]


@pytest.mark.parametrize("blockchain", EVM)
@pytest.mark.parametrize("address", EIP55)
def test_evm_addresses_are_stored_with_their_checksum(blockchain, address):
    """The vectors of EIP-55 are accepted, in one case too, and stored in mixed case."""
    digits = address[2:]
    for text in (address, f"0x{digits.lower()}", f"0x{digits.upper()}"):
        assert check_address(blockchain, "eth", text) == address


@pytest.mark.parametrize(
    ("address", "text"),
    [
        ("0x5AAeb6053F3E94C9b9A09f33669435E7Ef1BeAed", "checksum does not match"),
        ("0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAEd", "checksum does not match"),
        (EVM_ADDRESS[:-1], "starts with 0x and has 42 characters"),
        (EVM_ADDRESS + "0", "starts with 0x and has 42 characters"),
        (EVM_ADDRESS[2:], "starts with 0x and has 42 characters"),
        (EVM_ADDRESS[:-1] + "g", "starts with 0x and has 42 characters"),
        (f"0X{EVM_ADDRESS[2:]}", "starts with 0x and has 42 characters"),
        ("vitalik.eth", "starts with 0x and has 42 characters"),
    ],
)
def test_bad_evm_addresses_are_refused(address, text):
    """A wrong case is a wrong checksum; anything but 20 bytes in hexadecimal has a wrong form."""
    assert text in refusal("ethereum", address)


# Tron


@pytest.mark.parametrize("address", [TRON_ADDRESS, "TR7NHqjeKQxGTCi8q8ZY4pL8otSzgjLj6t"])
def test_tron_addresses_are_accepted(address):
    """Base58 addresses with the prefix 0x41 are stored as they are."""
    assert check_address("tron", "usdt", address) == address


@pytest.mark.parametrize(
    ("address", "text"),
    [
        ("TLa2f6VPqDgRE67v1736s7bJ8Ray5wYjU8", "checksum does not match"),
        ("TLa2f6VPqDgRE67v1736s7bJ8Ray5wYjU", "starts with T and has 34 characters"),
        (TRON_ADDRESS.lower(), "starts with T and has 34 characters"),
        # The same address in hexadecimal.
        ("41a614f803b6fd780986a42c78ec9c7f77e6ded13c", "starts with T and has 34 characters"),
    ],
)
def test_bad_tron_addresses_are_refused(address, text):
    """A wrong checksum and a wrong form are told apart."""
    assert text in refusal("tron", address)


# All chains


@pytest.mark.parametrize(
    ("blockchain", "address", "text"),
    [
        ("ethereum", TRON_ADDRESS, "This is a Tron address. This refund is sent on Ethereum."),
        ("bnbSmartChain", SEGWIT[0], "This is a Bitcoin address. This refund is sent on BNB Smart"),
        ("tron", EVM_ADDRESS, "This is an Ethereum address. This refund is sent on Tron."),
        ("tron", BITCOIN_ADDRESS, "This is a Bitcoin address. This refund is sent on Tron."),
        ("bitcoin", f"{TRON_ADDRESS[:-1]}8", "This is a Tron address."),
        ("bitcoin", TRON_ADDRESS, "This is a Tron address. This refund is sent on Bitcoin."),
        ("bitcoin", EVM_ADDRESS, "This is an Ethereum address. This refund is sent on Bitcoin."),
    ],
)
def test_address_of_another_chain_is_refused_with_the_right_one(blockchain, address, text):
    """The message names the chain of the address, and the one on which the coins are."""
    assert text in refusal(blockchain, address)
    assert "Enter an address for USDT on" in refusal(blockchain, address)


@pytest.mark.parametrize(
    ("blockchain", "address"),
    [
        ("ethereum", f"0x{'0' * 40}"),
        ("bnbSmartChain", f"0x{'0' * 40}"),
        ("tron", "T9yD14Nj9j7xAB4dbGeiX9h8unkKHxuWwb"),
        ("bitcoin", "1111111111111111111114oLvT2"),
    ],
)
def test_zero_addresses_are_refused(blockchain, address):
    """Nobody has the key of an address that stands for zero."""
    assert "Nobody owns this address" in refusal(blockchain, address)


@pytest.mark.parametrize("blockchain", ["bitcoin", "tron", "ethereum", "solana", ""])
@pytest.mark.parametrize(
    ("address", "text"),
    [
        ("", "Enter an address."),
        (" \n\t ", "Enter an address."),
        ("a" * 201, "This is not an address."),
        (f"{TRON_ADDRESS} {TRON_ADDRESS}", "neither spaces nor special characters"),
        (f"{TRON_ADDRESS}\n{TRON_ADDRESS}", "neither spaces nor special characters"),
        (f"<b>{TRON_ADDRESS}</b>", "neither spaces nor special characters"),
        (f'{TRON_ADDRESS}"', "neither spaces nor special characters"),
        (f"{TRON_ADDRESS}\x00", "neither spaces nor special characters"),
        (f"{TRON_ADDRESS}\u200b", "neither spaces nor special characters"),
        # Letters of other alphabets that look the same.
        ("\u0422La2f6VPqDgRE67v1736s7bJ8Ray5wYjU7", "neither spaces nor special characters"),
        ("\uff10x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed", "special characters"),
    ],
)
def test_text_that_is_no_address_is_refused_on_every_chain(blockchain, address, text):
    """Nothing, too much, spaces, markup, control characters and look-alikes are refused."""
    assert text in refusal(blockchain, address)


@pytest.mark.parametrize(
    ("blockchain", "address"),
    [
        ("solana", "7EcDhSYGxXyscszYEp35KHN8vvw3svAuLKTzXwCFLtV"),
        ("ton", "EQDtFpEwcFAEcRe5mLVh2N6C0x-_hJEM7W61_JLnSF74p4q2"),
        ("new", "a" * 200),
    ],
)
def test_address_on_an_unknown_chain_is_stored_as_it_is(blockchain, address):
    """Of a chain without rules here only the syntax is checked."""
    assert check_address(blockchain, "coin", address) == address


@pytest.mark.parametrize("blockchain", ["tron", "new"])
def test_spaces_around_an_address_are_removed(blockchain):
    """An address that was copied with spaces or line breaks is accepted."""
    assert check_address(blockchain, "usdt", f" \n{TRON_ADDRESS}\t\r\n") == TRON_ADDRESS


# Transaction hashes


@pytest.mark.parametrize(
    ("blockchain", "text", "stored"),
    [
        ("bitcoin", HASH, HASH),
        ("tron", f" {HASH.upper()}\n", HASH),
        ("ethereum", f"0x{HASH}", f"0x{HASH}"),
        ("bnbSmartChain", f"0X{HASH.upper()}", f"0x{HASH}"),
        ("solana", "5VERv8NMvzbJMEkV8xnrLkEaWRtSz9CosKDYjCJjBRnb", None),
        ("new", "a" * 8, None),
        ("new", "a" * 200, None),
    ],
)
def test_transaction_hashes_are_normalised(blockchain, text, stored):
    """Hexadecimal hashes are stored in lower case; others keep their case."""
    assert check_transaction_hash(blockchain, text) == (stored or text)


@pytest.mark.parametrize(
    ("blockchain", "text", "message"),
    [
        ("tron", " ", "Enter the transaction hash"),
        ("tron", HASH[:-1], "not a transaction hash on Tron. It has 64 characters"),
        ("tron", f"{HASH}0", "It has 64 characters"),
        ("tron", f"0x{HASH}", "It has 64 characters"),
        ("bitcoin", f"{HASH[:-1]}g", "not a transaction hash on Bitcoin"),
        ("bitcoin", BITCOIN_ADDRESS, "not a transaction hash on Bitcoin"),
        ("ethereum", HASH, "It starts with 0x and has 66 characters"),
        ("ethereum", EVM_ADDRESS, "It starts with 0x and has 66 characters"),
        ("bnbSmartChain", f"0x{HASH}<", "not a transaction hash on BNB Smart Chain"),
        ("tron", f"https://tronscan.org/#/transaction/{HASH}", "Copy only the hash"),
        ("new", "a" * 7, "8 to 200 letters and digits"),
        ("new", "a" * 201, "8 to 200 letters and digits"),
        ("new", "aaaa aaaa", "8 to 200 letters and digits"),
        ("new", "aaaa<aaaa", "8 to 200 letters and digits"),
        ("new", "\u0430" * 10, "8 to 200 letters and digits"),
    ],
)
def test_text_that_is_no_transaction_hash_is_refused(blockchain, text, message):
    """The message says what a hash on that chain looks like."""
    with pytest.raises(RefundRefused, match=message):
        check_transaction_hash(blockchain, text)
