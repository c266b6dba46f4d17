"""Snapshots of the shop's database, taken once and restored before every point."""

import os
import shutil
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory


class SQLite:
    """Snapshots are copies of the file."""

    vendor = "sqlite"

    def __init__(self, folder):
        self.folder = Path(folder)
        self.name = str(self.folder / "shop.sqlite3")

    def save(self, stage):
        shutil.copyfile(self.name, self.folder / stage)

    def restore(self, stage):
        for rest in ("-journal", "-wal", "-shm"):
            # The journal of a killed process would be applied to the copy.
            with suppress(FileNotFoundError):
                os.unlink(self.name + rest)
        shutil.copyfile(self.folder / stage, self.name)


class PostgreSQL:
    """Snapshots are copies of the rows in schemas of the same database.

    A database as a template would be simpler, and takes a second instead of 50 ms.
    """

    vendor = "postgresql"

    def __init__(self):
        import psycopg

        self.name = f"crash_{os.getpid()}"
        self._server = psycopg.connect(dbname="postgres", autocommit=True)
        self._server.execute(f"CREATE DATABASE {self.name}")
        self._rows = psycopg.connect(dbname=self.name, autocommit=True)
        self._restoring = {}

    def save(self, stage):
        find = self._rows.execute
        tables = find("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
        counters = find("SELECT sequencename, last_value FROM pg_sequences").fetchall()
        # Without the checks of foreign keys, rows can be restored in any order.
        steps = ["SET session_replication_role = replica", "BEGIN"]
        find(f"CREATE SCHEMA {stage}")
        for (table,) in tables:
            find(f'CREATE TABLE {stage}."{table}" AS SELECT * FROM public."{table}"')
            steps.append(f'DELETE FROM public."{table}"')
            if find(f'SELECT 1 FROM {stage}."{table}" LIMIT 1').fetchone():
                steps.append(f'INSERT INTO public."{table}" SELECT * FROM {stage}."{table}"')
        for counter, value in counters:
            steps.append(
                f"SELECT setval('public.\"{counter}\"', {value or 1}, {value is not None})"
            )
        self._restoring[stage] = ";".join([*steps, "COMMIT"])

    def restore(self, stage):
        # A killed process's session may not have noticed yet.
        self._rows.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            " AND backend_type = 'client backend'"
        )
        self._rows.execute(self._restoring[stage])

    def drop(self):
        self._rows.close()
        self._server.execute(f"DROP DATABASE {self.name} WITH (FORCE)")
        self._server.close()


@contextmanager
def temporary():
    """Yield an empty database of the vendor that the environment names, and remove it."""
    if os.environ.get("PGDATABASE"):
        database = PostgreSQL()
        try:
            yield database
        finally:
            database.drop()
    else:
        memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        with TemporaryDirectory(prefix="bitsby-crash-", dir=memory) as folder:
            yield SQLite(folder)
