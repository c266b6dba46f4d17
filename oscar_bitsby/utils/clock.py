"""The clock that counts where machines of a shop compare moments: the database's."""

from __future__ import annotations

import datetime as dt
import time

from django.db import connections, router
from django.utils import timezone

from oscar_bitsby.models import GatewayState


def db_now() -> dt.datetime:
    """Return the present moment as all machines of the shop would, however far theirs are off.

    For moments that one machine stores and another one compares. It costs a small query, so what
    only people read, or what is measured in days, goes by the machine's own clock.
    """
    if connections[router.db_for_write(GatewayState)].vendor != "postgresql":
        # Without a server there is one machine, and its clock is the one that counts.
        return timezone.now()
    # Added to Django's clock and not taken itself, so that whoever moves that one moves both.
    return timezone.now() + _behind()


def _behind() -> dt.timedelta:
    """Return how far this machine's clock is behind the database's."""
    before = time.time()
    theirs = database_now()
    ours = dt.datetime.fromtimestamp((before + time.time()) / 2, dt.timezone.utc)
    return theirs - ours


def database_now() -> dt.datetime:
    """Return the database's time, which all machines of a shop share; they may differ themselves.

    SQLite has no server, so there this machine's clock is the one that all share.
    """
    connection = connections[router.db_for_write(GatewayState)]
    if connection.vendor != "postgresql":
        return timezone.now()
    with connection.cursor() as cursor:
        # Not now(): that is when the transaction began, and a wait for the row's lock comes after.
        cursor.execute("SELECT clock_timestamp()")
        moment: dt.datetime = cursor.fetchone()[0]
        return moment
