"""The shop's clock: real time plus an offset, which operations move instead of sleeping."""

import datetime as dt

from django.utils import timezone

offset = dt.timedelta()
_real = timezone.now


def now():
    return _real() + offset


def move(**delta):
    """Move the shop's clock forward, in this process and those forked from it later."""
    global offset
    offset += dt.timedelta(**delta)


def install():
    """Replace Django's clock; before models are loaded, since their defaults keep the function."""
    timezone.now = now
