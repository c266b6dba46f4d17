"""Months of UTC, as people choose them."""

import datetime as dt

import pytest

from oscar_bitsby.utils.months import Month


def test_month_knows_its_days_and_neighbours():
    """Its days end before the next month, also in December and in a leap year."""
    december, february = Month.parse("2026-12"), Month.parse("2028-02")

    assert (len(december.days), len(february.days)) == (31, 29)
    assert (str(december.previous), str(december.next)) == ("2026-11", "2027-01")
    assert december.end_day == dt.date(2027, 1, 1)
    assert december.start == dt.datetime(2026, 12, 1, tzinfo=dt.timezone.utc)
    assert Month(2000, 1).previous is Month(2199, 12).next is None


@pytest.mark.parametrize(
    "text", ["0000-00", "9999-99", "2026-13", "1999-12", "2200-01", "2026-1", "٢٠٢٦-١٢", "rubbish"]
)
def test_other_texts_are_refused(text):
    """Only a year from 2000 to 2199, a hyphen and a month are one."""
    with pytest.raises(ValueError, match="not a month"):
        Month.parse(text)


def test_current_month_is_that_of_utc(stop_time, settings):
    """On the first of a month in UTC it has begun, even where it is still the last day."""
    settings.TIME_ZONE = "America/New_York"
    stop_time(dt.datetime(2026, 12, 1, 1, tzinfo=dt.timezone.utc))

    assert str(Month.current()) == "2026-12"
