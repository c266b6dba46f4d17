"""The order in which transactions lock rows, read off their statements: ``settlement`` lays it
down, so that no two processes can wait for each other."""

from __future__ import annotations

import re

from django.apps import apps
from django.db import connection

#: As the docstring of ``oscar_bitsby.settlement.service`` has it.
ORDER = (
    "order.Order",
    "oscar_bitsby.BitsbyInvoice",
    "oscar_bitsby.BitsbyPayment",
    "payment.Source",
    "voucher.Voucher",
    "partner.StockRecord",
)
#: Of these another process may be inserting the same one, and it is that row that one waits for.
UNIQUE = ("oscar_bitsby.BitsbyInvoice", "oscar_bitsby.BitsbyPayment")

LOCKS = re.compile(r'(?:UPDATE|DELETE FROM) "(\w+)"|SELECT .*? FROM "(\w+)".* FOR UPDATE', re.S)
INSERTS = re.compile(r'INSERT INTO "(\w+)"')


class LockOrder:
    """Follows one process's transactions; ``problems`` says in words what was out of order.

    What counts is when a transaction locks the first row of a table. SQLite locks no rows, so
    there is nothing to see there.
    """

    def __init__(self):
        models = [apps.get_model(label) for label in ORDER]
        self.ranks = {model._meta.db_table: rank for rank, model in enumerate(models)}
        self.unique = {apps.get_model(label)._meta.db_table for label in UNIQUE}
        # Inserting a row locks the rows that it refers to against their removal.
        self.referred = {
            model._meta.db_table: {
                field.column: self.ranks[field.related_model._meta.db_table]
                for field in model._meta.concrete_fields
                if field.related_model and field.related_model._meta.db_table in self.ranks
            }
            for model in apps.get_models()
            if model not in models
        }
        self.problems = []
        self._begin()

    def _begin(self):
        self._locked = []
        #: Of these tables the transaction has rows of its own that nobody else can see.
        self._own = set()

    def before(self, set_autocommit):
        """Wrap what begins and ends each transaction."""

        def wrapped(*args, **kwargs):
            self._begin()
            return set_autocommit(*args, **kwargs)

        return wrapped

    def saw(self, sql, params, inside):
        """Note the locks of a statement; one outside of transactions lets go of them at once."""
        if not inside or connection.vendor != "postgresql":
            return
        if found := LOCKS.match(sql):
            table = found[1] or found[2]
            if table in self.ranks:
                self._lock(self.ranks[table], sql)
        elif found := INSERTS.match(sql):
            table = found[1]
            for rank in sorted(self._referred_to(table, sql, params)):
                self._lock(rank, sql)
            if table in self.unique:
                self._lock(self.ranks[table], sql)
            elif table in self.ranks:
                self._own.add(self.ranks[table])

    def _referred_to(self, table, sql, params):
        """Return the ranks of the rows that new ones refer to; NULL refers to none."""
        referred = self.referred.get(table, {})
        columns = re.findall(r'"(\w+)"', sql.split(" VALUES ")[0].split("(", 1)[1])
        if not params or len(params) % len(columns):
            return set(referred.values())
        given = {
            name
            for number, name in enumerate(columns * (len(params) // len(columns)))
            if params[number] is not None
        }
        return {rank for column, rank in referred.items() if column in given}

    def _lock(self, rank, sql):
        if rank in self._locked or rank in self._own:
            return
        if self._locked and rank < max(self._locked):
            before = ", ".join(ORDER[rank] for rank in self._locked)
            self.problems.append(f"{ORDER[rank]} is locked after {before}: {sql[:300]}")
        self._locked.append(rank)
