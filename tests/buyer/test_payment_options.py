"""Which wallets of an invoice its buyer can be shown, whatever Bitsby has answered."""

import copy
import re

import pytest

from oscar_bitsby.buyer.payment_options import log_unsound_wallets, payment_options
from oscar_bitsby.models import BitsbyInvoice
from tests.support import bitsby

BITCOIN = "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4"
EVM = "0xfb6916095ca1df60bb79Ce92ce3ea74c37c5d359"


def wallet(**values):
    """Return a sound wallet with other values, as it is stored."""
    sound = {
        "id": "1",
        "name": "usdt",
        "blockchain": "tron",
        "cryptocurrency": "usdt",
        "address": "TKbstUwMzLrfTAGL4erYb7gc7ghmHQ9zG7",
        "amount": "11.45000000",
    }
    return sound | values


def options_of(*wallets):
    return payment_options(BitsbyInvoice(wallets=list(wallets)))


def test_options_are_the_wallets_of_the_invoice():
    """Each coin on each network, in Bitsby's order, with its name, address and amount."""
    stored = bitsby.stored_wallets("10.00")
    shown = payment_options(BitsbyInvoice(wallets=copy.deepcopy(stored)))
    assert [(option.address, option.amount) for option in shown] == [
        (one["address"], one["amount"]) for one in stored
    ]
    assert f"{shown[0].coin} on {shown[0].network}" == "USDT on Tron (TRC-20)"


@pytest.mark.parametrize(
    "values",
    [
        {"address": "TKbstUwMzLrfTAGL4erYb7gc7ghmHQ9zG8"},
        {"address": BITCOIN},
        {"blockchain": "bitcoin", "cryptocurrency": "btc", "address": BITCOIN[:-1] + "5"},
        {"blockchain": "ethereum", "address": EVM.replace("Ce", "cE")},
        {"blockchain": "ethereum", "address": "0x" + "0" * 40},
        {"blockchain": "other", "address": "<b>address</b>"},
        {"blockchain": "other", "address": "two words"},
        {"blockchain": "other", "address": "x" * 2000},
        {"address": ""},
        {"address": None},
        {"address": 5},
        {"blockchain": ""},
        {"cryptocurrency": ["usdt"]},
        *(
            {"amount": amount}
            for amount in ("", None, 5, "0", "0.00", "-1", "1e3", "1,5", "NaN", " 1")
        ),
        {
            "blockchain": "bitcoin",
            "cryptocurrency": "btc",
            "address": BITCOIN,
            "amount": "0.000000001",
        },
    ],
)
def test_unsound_wallet_is_left_out_and_logged_without_its_address(values, caplog):
    """Coins that are sent there could be lost; the other wallets stay."""
    unsound, sound = wallet(**values), wallet(cryptocurrency="trx")
    row = BitsbyInvoice(wallets=[unsound, sound])

    assert [option.coin for option in payment_options(row)] == ["TRX"]
    assert caplog.text == ""
    log_unsound_wallets(row)

    (record,) = caplog.records
    assert record.getMessage().startswith(
        "wallet 1 of invoice None is not shown to its buyer: its "
    )
    assert not re.search("TKb|bc1|0x|xx|address>|two words", record.getMessage())


@pytest.mark.parametrize("wallets", [None, {}, "text", 5, [None, 5, "text", []]])
def test_rubbish_instead_of_wallets_is_no_option(wallets):
    """Nothing is shown, and nothing fails."""
    row = BitsbyInvoice(wallets=wallets)
    log_unsound_wallets(row)
    assert payment_options(row) == []


def test_unknown_network_is_shown_by_its_code_without_a_link():
    """Its addresses cannot be checked, and no URI is known."""
    (option,) = options_of(wallet(blockchain="newChain", cryptocurrency="new", address="abc-123"))
    assert (option.coin, option.network, option.uri) == ("NEW", "newChain", "")


def test_first_of_two_wallets_for_a_coin_and_network_is_shown():
    """The key of an option names it in links, so it is unique."""
    (option,) = options_of(wallet(), wallet(amount="12.00000000"))
    assert option.amount == "11.45000000"
