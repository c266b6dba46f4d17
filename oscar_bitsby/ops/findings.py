"""What a check of ``bitsby_doctor`` finds."""

import datetime as dt
from dataclasses import dataclass

from oscar_bitsby.utils.plurals import plural

OK, WARNING, PROBLEM = "ok", "hint", "problem"
#: The age of the webhook deliveries and e-mails that are checked.
RECENT = dt.timedelta(days=7)


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    ``state`` is ``OK``, ``WARNING`` or ``PROBLEM``, ``remedy`` what to do unless it is ``OK``.
    """

    state: str
    text: str
    remedy: str = ""


def ago(time: dt.timedelta) -> str:
    """Return a time in the past in words."""
    minutes = round(time.total_seconds() / 60)
    if minutes < 120:
        return f"{plural(minutes, 'minute')} ago"
    return f"{minutes // 60} hours ago" if minutes < 48 * 60 else f"{minutes // 1440} days ago"
