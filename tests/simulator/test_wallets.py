from decimal import Decimal

from oscar_bitsby.simulator.wallets import WALLETS, amount_to_reserve, in_usd, worth

USDT, _, _, ETH, BTC = WALLETS


def test_prices_follow_the_fixed_rates():
    """An amount costs the same in each coin every time."""
    assert amount_to_reserve(Decimal("11.45"), "USD", USDT, set()) == Decimal("11.45")
    assert amount_to_reserve(Decimal("11.45"), "EUR", USDT, set()) == Decimal("12.366")
    assert amount_to_reserve(Decimal("34"), "USD", ETH, set()) == Decimal("0.01")
    assert amount_to_reserve(Decimal("625"), "USD", BTC, set()) == Decimal("0.01")


def test_taken_amounts_are_skipped():
    """An amount that another invoice reserved is raised by the smallest step until it is free."""
    taken = {(USDT.id, Decimal("5")), (USDT.id, Decimal("5.000001"))}
    assert amount_to_reserve(Decimal("5"), "USD", USDT, taken) == Decimal("5.000002")
    assert amount_to_reserve(Decimal("5"), "USD", WALLETS[1], taken) == Decimal("5")


def test_the_smallest_price_is_above_zero():
    """Even a kopeck costs something in every coin."""
    assert amount_to_reserve(Decimal("0.01"), "RUB", BTC, set()) == Decimal("0.00000001")


def test_worth_is_rounded_to_the_cent():
    """A payment has a worth in the invoice's currency, and an invoice one in USD."""
    assert worth(Decimal("10.8"), USDT, "EUR") == Decimal("10.00")
    assert worth(Decimal("0.01"), BTC, "USD") == Decimal("625.00")
    assert in_usd(Decimal("10"), "EUR") == Decimal("10.80")
