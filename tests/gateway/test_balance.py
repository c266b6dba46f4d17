"""The balance at Bitsby: when it is low, when a debt blocks new invoices, and what is said."""

import datetime as dt
from decimal import Decimal

import pytest
from django.utils import translation

from oscar_bitsby.gateway import balance

AUCKLAND = dt.timezone(dt.timedelta(hours=13))
UTC = dt.timezone.utc
#: 2026-12-07 is a Monday.
THIS_MONDAY = dt.datetime(2026, 12, 7, 23, 50, tzinfo=UTC)
NEXT_MONDAY = THIS_MONDAY + dt.timedelta(days=7)


@pytest.mark.parametrize(
    ("now", "until"),
    [
        (THIS_MONDAY - dt.timedelta(days=6), THIS_MONDAY),
        (THIS_MONDAY - dt.timedelta(seconds=1), THIS_MONDAY),
        (THIS_MONDAY, NEXT_MONDAY),
        (THIS_MONDAY + dt.timedelta(hours=1), NEXT_MONDAY),
        # In Auckland it is Tuesday already.
        ((THIS_MONDAY - dt.timedelta(hours=1)).astimezone(AUCKLAND), THIS_MONDAY),
    ],
)
def test_debt_blocks_on_the_next_monday_at_2350_utc(now, until):
    """The moment is the next one, whatever the time zone of the clock."""
    assert balance.blocks_at(now) == until


@pytest.mark.parametrize(
    ("amount", "at_least", "is_low"),
    [
        ("-0.01", None, True),
        ("0.00", None, False),
        ("9.99", "10", True),
        ("10.00", "10", False),
        ("-0.01", "0", True),
    ],
)
def test_negative_balance_and_one_below_the_minimum_are_low(amount, at_least, is_low):
    """A debt always counts; without ``BALANCE_MIN`` nothing else does."""
    at_least = None if at_least is None else Decimal(at_least)
    assert balance.is_low(Decimal(amount), at_least) is is_low
    assert bool(balance.warning(Decimal(amount), at_least, THIS_MONDAY)) is is_low


def test_warning_says_until_when_and_what_happens():
    """It names the balance, the day and the time, and that new invoices will be blocked."""
    now = THIS_MONDAY - dt.timedelta(days=1)
    with translation.override("en"):
        debt = balance.warning(Decimal("-3.50"), None, now)
        low = balance.warning(Decimal("4.00"), Decimal(10), now)
    for text in (debt, low):
        assert "Monday, Dec. 7, 2026, at 23:50 UTC, Bitsby blocks new invoices" in text
        assert "until the debt is paid" in text
    assert "is -3.50 USD" in debt
    assert "is 4.00 USD, less than BALANCE_MIN (10 USD)" in low
