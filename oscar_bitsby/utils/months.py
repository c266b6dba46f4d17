"""Months of UTC, as people choose them."""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass

from django.utils import timezone

from oscar_bitsby.utils.days import FIRST_DAY, LAST_DAY, midnight

FIRST_YEAR, LAST_YEAR = FIRST_DAY.year, LAST_DAY.year - 1


@dataclass(frozen=True, order=True)
class Month:
    """A month in UTC, from ``FIRST_YEAR`` to ``LAST_YEAR``."""

    year: int
    number: int

    @classmethod
    def parse(cls, text: str) -> Month:
        """Return the month that a text like ``2026-12`` names.

        Raises:
            ValueError: it names none.
        """
        match = re.fullmatch(r"([0-9]{4})-([0-9]{2})", text)
        year, number = map(int, match.groups()) if match else (0, 0)
        if not (FIRST_YEAR <= year <= LAST_YEAR and 1 <= number <= 12):
            raise ValueError("not a month")
        return cls(year, number)

    @classmethod
    def current(cls) -> Month:
        """Return the month that it is now in UTC."""
        now = timezone.now().astimezone(dt.timezone.utc)
        return cls(now.year, now.month)

    def __str__(self) -> str:
        return f"{self.year:04}-{self.number:02}"

    @property
    def first_day(self) -> dt.date:
        return dt.date(self.year, self.number, 1)

    @property
    def end_day(self) -> dt.date:
        """The first day that does not belong to it any more."""
        return dt.date(self.year + self.number // 12, self.number % 12 + 1, 1)

    @property
    def start(self) -> dt.datetime:
        return midnight(self.first_day)

    @property
    def end(self) -> dt.datetime:
        """The first moment that does not belong to it any more."""
        return midnight(self.end_day)

    @property
    def days(self) -> list[dt.date]:
        count = (self.end_day - self.first_day).days
        return [self.first_day + dt.timedelta(days=number) for number in range(count)]

    @property
    def previous(self) -> Month | None:
        """The month before, or None if that is out of range."""
        day = self.first_day - dt.timedelta(days=1)
        return Month(day.year, day.month) if day.year >= FIRST_YEAR else None

    @property
    def next(self) -> Month | None:
        """The month after, or None if that is out of range."""
        day = self.end_day
        return Month(day.year, day.month) if day.year <= LAST_YEAR else None
