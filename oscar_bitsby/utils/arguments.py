"""Arguments of commands."""

import datetime as dt
from argparse import ArgumentTypeError


def day(text: str) -> dt.date:
    """Return the day that an argument names.

    Raises:
        ArgumentTypeError: it is not written like ``2026-12-31``, or there is no such day.
    """
    try:
        return dt.datetime.strptime(text, "%Y-%m-%d").date()
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is not a day such as 2026-12-31") from None
