"""Checks by its statements that a transaction locks rows in the order of ``settlement.locks``.

One order for all transactions rules out deadlocks.
"""

import re

from django.apps import apps
from django.db import connection

#: As in the docstring of ``oscar_bitsby.settlement.locks``.
ORDER = (
    "order.Order",
    "oscar_bitsby.BitsbyInvoice",
    "oscar_bitsby.BitsbyPayment",
    "payment.Source",
    "voucher.Voucher",
    "offer.ConditionalOffer",
    "partner.StockRecord",
)
#: Inserting one of these can wait for another process that inserts the same one.
UNIQUE = ("oscar_bitsby.BitsbyInvoice", "oscar_bitsby.BitsbyPayment")

LOCKS = re.compile(r'(?:UPDATE|DELETE FROM) "(\w+)"|SELECT .*? FROM "(\w+)".* FOR UPDATE', re.S)
INSERTS = re.compile(r'INSERT INTO "(\w+)"')


class LockOrder:
    """Follows one process's transactions and collects ``problems`` in words.

    Only the first lock on each table counts. SQLite has no row locks, so nothing is found there.
    """

    def __init__(self):
        models = [apps.get_model(label) for label in ORDER]
        self.ranks = {model._meta.db_table: rank for rank, model in enumerate(models)}
        self.unique = {apps.get_model(label)._meta.db_table for label in UNIQUE}
        # Inserting a row locks the rows that it refers to, so that they cannot be deleted.
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
        #: Tables with rows that this transaction inserted and no other one can see.
        self._own = set()

    def before(self, set_autocommit):
        """Wrap the function that begins and ends transactions."""

        def wrapped(*args, **kwargs):
            self._begin()
            return set_autocommit(*args, **kwargs)

        return wrapped

    def on_statement(self, sql, params, inside):
        """Register the locks of a statement; outside a transaction they do not last."""
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
        """Return the ranks of the tables that inserted rows refer to; NULL refers to none."""
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
