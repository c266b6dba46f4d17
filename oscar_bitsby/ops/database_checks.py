"""System checks of the database: decisions under a lock must see what others have committed."""

from collections.abc import Iterator
from typing import Any

from django.core.checks import CheckMessage, Error, Warning
from django.db import connections, router

from oscar_bitsby.models import BitsbyInvoice
from oscar_bitsby.utils import requirements

#: Isolation levels whose transactions do not see later commits, even after waiting for a lock.
FROZEN = ("REPEATABLE READ", "SERIALIZABLE")


def check_databases() -> Iterator[CheckMessage]:
    """Find databases without the locks that the app needs, and settings that weaken them."""
    vendors = requirements.unsupported_vendors()
    if vendors:
        yield Error(
            f"The database {', '.join(vendors)} is not supported: payments could not be"
            " settled there, so Bitsby is not offered.",
            hint="Use PostgreSQL, as Oscar recommends, or SQLite for development.",
            id="oscar_bitsby.E016",
        )
        return
    written = router.db_for_write(BitsbyInvoice)
    read = _read_in_transaction(written)
    if read != written:
        yield Warning(
            f"A router reads invoices from the database {read!r} and writes them to {written!r}."
            " A replica may lag behind, so that settling, cancelling and Oscar's stock would use"
            " outdated rows.",
            hint=f"Let the router read from {written!r}, at least while"
            f" connections[{written!r}].in_atomic_block is true.",
            id="oscar_bitsby.W005",
        )
    level = _isolation_level(written)
    if level in FROZEN:
        yield Warning(
            f"The database's isolation level is {level}: a transaction that waited for an order's"
            " lock does not see what was committed meanwhile, so a buyer may be asked to pay"
            " twice.",
            hint="Remove isolation_level from the database's OPTIONS: Django's default, READ"
            " COMMITTED, is right.",
            id="oscar_bitsby.W006",
        )


def _read_in_transaction(written: str) -> str:
    """Return the database that invoices are read from inside a transaction."""
    connection: Any = connections[written]
    before = connection.in_atomic_block
    # A real transaction would connect to the database, which a check must not do.
    connection.in_atomic_block = True
    try:
        return str(router.db_for_read(BitsbyInvoice))
    finally:
        connection.in_atomic_block = before


def _isolation_level(alias: str) -> str:
    """Return the isolation level in the settings, as SQL spells it, or an empty text."""
    connection: Any = connections[alias]
    level = connection.settings_dict["OPTIONS"].get("isolation_level")
    if level is None or connection.vendor != "postgresql":
        return ""
    from django.db.backends.postgresql.psycopg_any import IsolationLevel

    try:
        return IsolationLevel(level).name.replace("_", " ")
    except ValueError:
        # Django refuses it itself.
        return ""
