"""Check addresses and transaction hashes that people enter, by the rules of the blockchain.

Of a chain that is not known here only the syntax is checked. Nothing here asks a network: an
address with the right checksum can still belong to somebody else.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from Cryptodome.Hash import keccak
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from embit import base58, bech32

from oscar_bitsby.exceptions import RefundRefused
from oscar_bitsby.utils.blockchains import BLOCKCHAINS, address_hint

#: The longest address and the longest transaction hash, as the columns are.
MAX_LENGTH = 200
#: Printable ASCII, without what markup needs.
_PLAIN = re.compile(r"""[!-~]+""")
_MARKUP = frozenset("<>\"'&`\\")
_BASE58 = re.compile(r"[1-9A-HJ-NP-Za-km-z]+")
_HEX_HASH, _EVM_HASH = re.compile(r"[0-9a-f]{64}"), re.compile(r"0x[0-9a-f]{64}")
_OTHER_HASH = re.compile(r"[0-9A-Za-z]{8,200}")
#: The first byte of a base58 address, and the length of what it stands for: version and hash.
_BITCOIN_VERSIONS, _TRON_VERSION, _BASE58_BYTES = (0x00, 0x05), 0x41, 21


class _WrongChecksum(ValueError):
    """It has the form of an address, but its checksum is wrong."""


@dataclass(frozen=True)
class _Kind:
    """How a kind of blockchains writes addresses and hashes.

    ``parse`` returns the normalised address and the bytes that it stands for, and raises
    ``ValueError``. ``form`` matches a text that is meant as such an address.
    """

    form: re.Pattern[str]
    parse: Callable[[str], tuple[str, bytes]]
    hash: re.Pattern[str]
    is_one: Any
    hash_hint: Any


def check_address(blockchain: str, cryptocurrency: str, address: str) -> str:
    """Return an address as it is stored: without surrounding spaces, in the chain's usual case.

    Args:
        blockchain: Bitsby's code of the chain.
        cryptocurrency: Bitsby's code of the coin, for the message.
        address: what somebody entered.

    Raises:
        RefundRefused: coins must not be sent there. The message says what to do.
    """
    text = address.strip()
    if not text:
        raise RefundRefused(_("Enter an address."))
    if len(text) > MAX_LENGTH:
        raise RefundRefused(_("This is not an address. Copy only the address from the wallet."))
    if not _PLAIN.fullmatch(text) or _MARKUP.intersection(text):
        raise RefundRefused(
            _(
                "An address has neither spaces nor special characters. Copy only the address from"
                " the wallet."
            )
        )
    kind = _KINDS.get(blockchain)
    if kind is None:
        return text
    try:
        normalised, payload = kind.parse(text)
    except ValueError as error:
        raise RefundRefused(_why_refused(text, blockchain, cryptocurrency, error)) from None
    if not any(payload):
        raise RefundRefused(
            _("Nobody owns this address: coins sent to it are lost. Enter another address.")
        )
    return normalised


def check_transaction_hash(blockchain: str, text: str) -> str:
    """Return a transaction hash as it is stored: trimmed, and in lower case on known chains.

    Args:
        blockchain: Bitsby's code of the chain.
        text: what somebody entered.

    Raises:
        RefundRefused: it cannot be a hash on that chain. The message says what one looks like.
    """
    text = text.strip()
    if not text:
        raise RefundRefused(_("Enter the transaction hash: your wallet shows it after sending."))
    kind = _KINDS.get(blockchain)
    if kind is None:
        # Elsewhere, hashes can be case-sensitive.
        if not _OTHER_HASH.fullmatch(text):
            raise RefundRefused(
                _(
                    "A transaction hash has 8 to 200 letters and digits. Copy only the hash, not a"
                    " link."
                )
            )
        return text
    text = text.lower()
    if not kind.hash.fullmatch(text):
        raise RefundRefused(
            _("This is not a transaction hash on %(chain)s. %(hint)s Copy only the hash.")
            % {"chain": chain_name(blockchain), "hint": kind.hash_hint}
        )
    return text


def chain_name(blockchain: str) -> str:
    """Return the name of a blockchain for people; that of an unknown one is its code."""
    known = BLOCKCHAINS.get(blockchain)
    return known.name if known else blockchain


def _why_refused(text: str, blockchain: str, cryptocurrency: str, error: ValueError) -> str:
    kind, values = _KINDS[blockchain], {"chain": chain_name(blockchain)}
    if kind.form.fullmatch(text) and isinstance(error, _WrongChecksum):
        return (
            _(
                "There is a mistake in this %(chain)s address: its checksum does not match. Copy it"
                " from the wallet again."
            )
            % values
        )
    for other in (_BITCOIN, _EVM, _TRON):
        if other is not kind and other.form.fullmatch(text):
            needed = _(
                "This refund is sent on %(chain)s. Enter an address for %(coin)s on %(chain)s."
            ) % {**values, "coin": cryptocurrency.upper()}
            return f"{other.is_one} {needed}"
    return _("This is not an address on %(chain)s. %(hint)s") % {
        **values,
        "hint": address_hint(blockchain),
    }


def _parse_bitcoin(text: str) -> tuple[str, bytes]:
    if text[:3].lower() == "bc1":
        version, program = bech32.decode("bc", text)
        if version is None:
            raise _WrongChecksum
        return text.lower(), bytes(program)
    payload = _decode_base58(text)
    if payload[0] not in _BITCOIN_VERSIONS:
        raise ValueError("not an address of Bitcoin's main network")
    return text, payload[1:]


def _parse_tron(text: str) -> tuple[str, bytes]:
    if not _TRON.form.fullmatch(text):
        raise ValueError("not 34 characters of base58")
    payload = _decode_base58(text)
    if payload[0] != _TRON_VERSION:
        raise ValueError("not an address of Tron's main network")
    return text, payload[1:]


def _decode_base58(text: str) -> bytes:
    if not _BASE58.fullmatch(text):
        raise ValueError("not base58")
    # The checksum has 4 bytes.
    if len(base58.decode(text)) != _BASE58_BYTES + 4:
        raise ValueError("another length")
    try:
        payload: bytes = base58.decode_check(text)
    except ValueError:
        raise _WrongChecksum from None
    return payload


def _parse_evm(text: str) -> tuple[str, bytes]:
    if not _EVM.form.fullmatch(text):
        raise ValueError("not 20 bytes in hexadecimal")
    digits = text[2:]
    with_checksum = _eip55(digits.lower())
    # Without mixed case there is no checksum.
    if digits not in (digits.lower(), digits.upper(), with_checksum):
        raise _WrongChecksum
    return f"0x{with_checksum}", bytes.fromhex(digits)


def _eip55(digits: str) -> str:
    """Return the 40 digits of an address in the mixed case that is its checksum."""
    digest = keccak.new(digest_bits=256, data=digits.encode()).hexdigest()
    return "".join(
        digit.upper() if int(nibble, 16) >= 8 else digit
        for digit, nibble in zip(digits, digest, strict=False)
    )


_BITCOIN = _Kind(
    form=re.compile(r"(?i:bc1[0-9a-z]{6,87})|[13][1-9A-HJ-NP-Za-km-z]{25,34}"),
    parse=_parse_bitcoin,
    hash=_HEX_HASH,
    is_one=gettext_lazy("This is a Bitcoin address."),
    hash_hint=gettext_lazy("It has 64 characters, from 0 to 9 and a to f."),
)
_EVM = _Kind(
    form=re.compile(r"0x[0-9a-fA-F]{40}"),
    parse=_parse_evm,
    hash=_EVM_HASH,
    is_one=gettext_lazy("This is an Ethereum address."),
    hash_hint=gettext_lazy("It starts with 0x and has 66 characters, from 0 to 9 and a to f."),
)
_TRON = _Kind(
    form=re.compile(r"T[1-9A-HJ-NP-Za-km-z]{33}"),
    parse=_parse_tron,
    hash=_HEX_HASH,
    is_one=gettext_lazy("This is a Tron address."),
    hash_hint=_BITCOIN.hash_hint,
)
#: By Bitsby's codes.
_KINDS = {"bitcoin": _BITCOIN, "ethereum": _EVM, "bnbSmartChain": _EVM, "tron": _TRON}
