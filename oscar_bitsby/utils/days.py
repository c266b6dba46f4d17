"""Days of UTC, as people enter them."""

import datetime as dt

#: Days outside are typing errors, and some have no midnight in some time zones.
FIRST_DAY, LAST_DAY = dt.date(2000, 1, 1), dt.date(2200, 1, 1)


def midnight(day: dt.date) -> dt.datetime:
    """Return the moment at which a day begins in UTC."""
    return dt.datetime.combine(day, dt.time.min, dt.timezone.utc)
