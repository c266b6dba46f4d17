"""Amounts and times of the API: which are valid, and that they are parsed exactly."""

import datetime as dt
import random
from decimal import ROUND_HALF_UP, Decimal

import pytest

from oscar_bitsby.gateway.parsing import parse_time
from oscar_bitsby.utils.money import CRYPTO_PLACES, MAX_AMOUNT, parse_amount, to_cents

UTC = dt.timezone.utc
MOMENT = dt.datetime(2024, 2, 29, 15, 20, 24, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "amount"),
    [
        ("10.55", "10.55"),
        ("11.45000000", "11.45000000"),
        (" 12.00 ", "12.00"),
        ("0", "0"),
        ("0.00", "0.00"),
        (10, "10"),
        (10.55, "10.55"),
        (Decimal("0.00018186"), "0.00018186"),
        ("1E+2", "1E+2"),
        ("0." + "0" * 17 + "1", "0." + "0" * 17 + "1"),
        ("100000000000", "100000000000"),
    ],
)
def test_amounts_are_exact(value, amount):
    """A text or a number becomes a Decimal with the same digits."""
    assert str(parse_amount(value)) == str(Decimal(amount))


@pytest.mark.parametrize(
    "value",
    [
        *("", " ", "ten", "1,5", "1.5 USD", "0x10", "-1", "-0.01", -1),
        *("NaN", "sNaN", "Infinity", "-Infinity", float("nan"), float("inf"), Decimal("NaN")),
        *("100000000000.01", "1E+12", "1E+999999999999999999", "1E+99999999999999999999999"),
        *("0." + "0" * 18 + "1", "1E-19", 1e-20, "1" * 65, "0." + "0" * 63),
        *(None, True, False, [], {}, b"10"),
    ],
)
def test_invalid_amount_is_refused(value):
    """Anything but a number from zero to ``MAX_AMOUNT`` raises ``ValueError``."""
    with pytest.raises(ValueError, match="an amount"):
        parse_amount(value)


def test_refused_amount_is_not_repeated():
    """The error does not repeat the refused value."""
    with pytest.raises(ValueError, match="amount") as caught:
        parse_amount("something secret")
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_no_digit_of_an_amount_is_lost():
    """Amounts of up to 18 decimals and 11 places come through exactly, as texts and as they are."""
    chance = random.Random(1)
    for _ in range(500):
        places = chance.randrange(CRYPTO_PLACES + 1)
        amount = Decimal(chance.randrange(10**11)) + Decimal(
            f"0.{chance.randrange(10**places):0{places}d}" if places else "0"
        )
        assert str(parse_amount(str(amount))) == str(amount)
        assert parse_amount(amount) == amount
        assert 0 <= parse_amount(amount) <= MAX_AMOUNT


@pytest.mark.parametrize(
    "text",
    [
        "2024-02-29 15:20:24",
        "2024-02-29T15:20:24",
        " 2024-02-29 15:20:24\n",
        "2024-02-29T15:20:24Z",
        "2024-02-29T15:20:24z",
        "2024-02-29T15:20:24+00:00",
        "2024-02-29 16:20:24+01:00",
        "2024-02-29T05:20:24-10:00",
        "2024-02-29T15:20:24.000000+00:00",
    ],
)
def test_times_are_utc_unless_they_say_otherwise(text):
    """The documented form is UTC, ISO 8601 with a zone is converted, the result is aware UTC."""
    moment = parse_time(text)
    assert moment == MOMENT
    assert moment.utcoffset() == dt.timedelta()


@pytest.mark.parametrize(
    "value",
    [
        *("", "yesterday", "29.02.2024 15:20:24", "2024-02-29 15:20:24" + " " * 30),
        *("2024-02-30 10:00:00", "2024-02-29 25:00:00", "0000-00-00 00:00:00"),
        *("1999-12-31 23:59:59", "2201-01-01 00:00:00"),
        *("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"),
        *(1709220024, None, MOMENT),
    ],
)
def test_invalid_time_is_refused(value):
    """Anything but a text with a time from 2000 to 2200 raises ``ValueError``."""
    with pytest.raises(ValueError, match=r"time|isoformat|day|month|hour|year"):
        parse_time(value)


def test_times_are_exact():
    """A time in the documented format keeps all its parts."""
    chance = random.Random(2)
    for _ in range(200):
        moment = dt.datetime(2000, 1, 1) + dt.timedelta(seconds=chance.randrange(200 * 365 * 86400))
        written = moment.strftime("%Y-%m-%d %H:%M:%S")
        assert parse_time(written).strftime("%Y-%m-%d %H:%M:%S") == written


@pytest.mark.parametrize(
    ("amount", "cents"),
    [
        ("10", "10.00"),
        ("10.004", "10.00"),
        ("10.005", "10.01"),
        ("10.015", "10.02"),
        ("0.0049999", "0.00"),
        ("99999999999.995", "100000000000.00"),
    ],
)
def test_cents_are_rounded_half_up(amount, cents):
    """Fiat amounts get exactly two decimals; half a cent goes up, never to the even one."""
    assert str(to_cents(Decimal(amount))) == cents


def test_rounding_moves_an_amount_by_half_a_cent_at_most():
    """A rounded amount is the nearest one that has two decimals."""
    chance = random.Random(3)
    for _ in range(300):
        amount = Decimal(chance.randrange(10**15)).scaleb(-6)
        assert abs(to_cents(amount) - amount) <= Decimal("0.005")
        assert to_cents(amount) == (amount * 100).to_integral_value(ROUND_HALF_UP) / 100
