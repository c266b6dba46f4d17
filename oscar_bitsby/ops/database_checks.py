"""System checks of what the app expects of its database: locks that end what others began."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.core.checks import CheckMessage, Warning
from django.db import connections, router

from oscar_bitsby import conf
from oscar_bitsby.models import BitsbyInvoice

#: Levels at which a transaction goes by what was true when it began, even behind a lock.
FROZEN = ("REPEATABLE READ", "SERIALIZABLE", "SNAPSHOT")


def check_databases(settings: conf.Conf) -> Iterator[CheckMessage]:
    """Warn where what is decided under a lock may be decided by what is no longer true."""
    written = router.db_for_write(BitsbyInvoice)
    read = _read_in_transaction(written)
    if read != written:
        yield Warning(
            f"A router reads invoices from the database {read!r} and writes them to {written!r}:"
            " a copy may be behind, and settling, cancelling and Oscar's own stock would be"
            " decided by it.",
            hint=f"Let the router send reads to {written!r} at least while"
            f" connections[{written!r}].in_atomic_block is true.",
            id="oscar_bitsby.W005",
        )
    level = _isolation_level(written)
    if level in FROZEN:
        yield Warning(
            f"The database's isolation level is {level}: whoever has waited for an order's lock"
            " goes by what was true before, so a buyer may be asked to pay what was paid"
            " meanwhile.",
            hint="Leave isolation_level out of the database's OPTIONS: READ COMMITTED, Django's"
            " default, is right.",
            id="oscar_bitsby.W006",
        )


def _read_in_transaction(written: str) -> str:
    """Return which database a router reads invoices from inside a transaction."""
    connection: Any = connections[written]
    before = connection.in_atomic_block
    # Opening a transaction would need the database, which a check must do without.
    connection.in_atomic_block = True
    try:
        return str(router.db_for_read(BitsbyInvoice))
    finally:
        connection.in_atomic_block = before


def _isolation_level(alias: str) -> str:
    """Return the level that the settings ask for, in the words of SQL; empty if in none."""
    connection: Any = connections[alias]
    level = connection.settings_dict["OPTIONS"].get("isolation_level")
    if level is None:
        return ""
    if connection.vendor == "postgresql":
        from django.db.backends.postgresql.psycopg_any import IsolationLevel

        try:
            level = IsolationLevel(level).name
        except ValueError:
            # Django itself refuses it.
            return ""
    return str(level).replace("_", " ").upper()
