"""The database server's clock, for moments that several machines of a shop compare."""

import datetime as dt

from django.db import connections, router
from django.utils import timezone

from oscar_bitsby.models import GatewayState

#: By how much the clocks of Bitsby, of a blockchain and of this shop may differ.
CLOCK_SKEW = dt.timedelta(minutes=5)


def db_now() -> dt.datetime:
    """Return the current time of the database server, as an aware datetime.

    Use it for every moment that one machine stores and another one compares: the clocks of the
    machines may differ. It costs a query on PostgreSQL, so use Django's clock for moments that only
    people read and for ages of days. SQLite has no server, so there this machine's clock counts.
    """
    alias = router.db_for_write(GatewayState)
    return _server_time(alias) if connections[alias].vendor == "postgresql" else timezone.now()


def _server_time(alias: str) -> dt.datetime:
    with connections[alias].cursor() as cursor:
        # now() would be the start of the transaction, which may have waited for a lock since.
        cursor.execute("SELECT clock_timestamp()")
        moment: dt.datetime = cursor.fetchone()[0]
        return moment
