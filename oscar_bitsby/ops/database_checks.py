"""System checks of the database: decisions under a lock must see what others have committed."""

from collections.abc import Iterator
from typing import Any

from django.core.checks import CheckMessage, Warning
from django.db import connections, router

from oscar_bitsby.models import BitsbyInvoice

#: Isolation levels whose transactions do not see later commits, even after waiting for a lock.
FROZEN = ("REPEATABLE READ", "SERIALIZABLE", "SNAPSHOT")


def check_databases() -> Iterator[CheckMessage]:
    """Warn of settings with which a decision under a lock may be based on outdated rows."""
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
    if level is None:
        return ""
    if connection.vendor == "postgresql":
        from django.db.backends.postgresql.psycopg_any import IsolationLevel

        try:
            level = IsolationLevel(level).name
        except ValueError:
            # Django refuses it itself.
            return ""
    return str(level).replace("_", " ").upper()
