"""The databases: a prepared template, a fresh copy for each benchmark, rows in bulk."""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

import psycopg

TEMPLATE = "bench_template"
#: More than any benchmark sells.
STOCK = 1_000_000


def _admin(statement: str) -> None:
    with psycopg.connect(dbname="postgres", autocommit=True) as connection:
        connection.execute(statement)  # type: ignore[arg-type]  # names of our own


def server_version() -> str:
    """Return the version of the PostgreSQL server."""
    with psycopg.connect(dbname="postgres") as connection:
        row = connection.execute("SHOW server_version").fetchone()
    return str(row[0]) if row else "unknown"


@contextmanager
def template(name: str) -> Iterator[str]:
    """Create an empty database, and drop it after the block."""
    _admin(f"CREATE DATABASE {name}")
    try:
        yield name
    finally:
        _admin(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


@contextmanager
def copy_of(source: str, name: str) -> Iterator[str]:
    """Copy a database, and drop the copy after the block; the source must have no connections."""
    _admin(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
    _admin(f"CREATE DATABASE {name} TEMPLATE {source}")
    try:
        yield name
    finally:
        _admin(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


def prepare() -> None:
    """Create the tables, one product, a shipping country and a member of staff."""
    from django.contrib.auth import get_user_model
    from django.core.management import call_command
    from oscar.core.loading import get_model
    from oscar.test import factories

    # The tests' search engine warns that it cannot be updated.
    warnings.filterwarnings("ignore", message=".*is not implemented in this backend")
    call_command("migrate", run_syncdb=True, verbosity=0)
    get_model("address", "Country").objects.create(
        iso_3166_1_a2="DE", iso_3166_1_a3="DEU", printable_name="Germany", is_shipping_country=True
    )
    factories.create_product(
        title="Mug", price=Decimal("10.00"), num_in_stock=STOCK, partner_name="Shop"
    )
    get_user_model().objects.create_superuser("staff", "staff@example.com", "staff")


def fill(model: Any, count: int, **expressions: str) -> None:
    """Insert ``count`` rows with one statement.

    Args:
        model: the model; columns without an expression get the field's default.
        expressions: SQL for columns, in which ``n`` runs from 1 to ``count``.
    """
    from django.db import connection

    columns, sources, parameters = [], [], []
    for field in model._meta.concrete_fields:
        if field.primary_key and field.column not in expressions:
            continue
        columns.append(f'"{field.column}"')
        if field.column in expressions:
            sources.append(expressions[field.column].replace("%", "%%"))
            continue
        value = field.get_db_prep_save(field.get_default(), connection)
        if value is None and not field.null:
            raise ValueError(f"{field} needs a value")
        sources.append("%s")
        parameters.append(value)
    table = model._meta.db_table
    with connection.cursor() as cursor:
        cursor.execute(
            f'INSERT INTO "{table}" ({", ".join(columns)})'
            f" SELECT {', '.join(sources)} FROM generate_series(1, {count}) AS n",
            parameters,
        )
        if model._meta.pk.column in expressions:
            cursor.execute(
                f"SELECT setval(pg_get_serial_sequence('\"{table}\"', '{model._meta.pk.column}'),"
                f' (SELECT max("{model._meta.pk.column}") FROM "{table}"))'
            )
        cursor.execute(f'ANALYZE "{table}"')


def environment(database: str, apps: str = "shop", **more: str) -> dict[str, str]:
    """Return the environment of a process that serves or measures this database."""
    return {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "bench.settings",
        "BENCH_DATABASE": database,
        "BENCH_APPS": apps,
        **more,
    }
