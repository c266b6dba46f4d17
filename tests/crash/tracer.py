"""Counts the effects of an operation, and kills the process after the n-th of them."""

from contextlib import contextmanager
from unittest import mock

import requests
from django.core.mail import EmailMessage
from django.db import connections

from tests.crash.lock_order import LockOrder

WRITES = ("INSERT", "UPDATE", "DELETE", "REPLACE")


class Tracer:
    """Intercepts every effect of the shop: on the database, Bitsby and mail.

    The points are before the first effect and after each one. Between two effects nothing changes,
    so a point after one and a point before the next would be the same.

    Args:
        crash_at: the number of the point at which the process is killed; 0 for never.
        crash: kills the process.
    """

    def __init__(self, crash_at, crash):
        self.crash_at = crash_at
        self.crash = crash
        self.points = []
        self.locks = LockOrder()

    def point(self, text):
        self.points.append(text)
        if len(self.points) == self.crash_at:
            self.crash(f"point {len(self.points)}: {text}")

    def on_statement(self, execute, sql, params, many, context):
        inside = context["connection"].in_atomic_block
        self.locks.on_statement(sql, params, inside)
        result = execute(sql, params, many, context)
        if sql.lstrip().upper().startswith(WRITES):
            held = "in a transaction" if inside else "committed at once"
            self.point(f"after {' '.join(sql.split())[:400]} ({held})")
        return result

    def after(self, original, name):
        def traced(*args, **kwargs):
            result = original(*args, **kwargs)
            self.point(f"after {name(*args)}")
            return result

        return traced

    @contextmanager
    def watching(self):
        """Count in the block."""
        connection = connections["default"]
        connection.ensure_connection()
        commit = self.after(connection._commit, lambda: "COMMIT")
        begin = self.locks.before(connection.set_autocommit)
        send = self.after(requests.Session.send, lambda session, request: f"POST {request.url}")
        mail = self.after(EmailMessage.send, lambda message, *rest: f"mail {message.subject}")
        self.point("before the first effect")
        with (
            connection.execute_wrapper(self.on_statement),
            mock.patch.object(connection, "_commit", commit),
            mock.patch.object(connection, "set_autocommit", begin),
            mock.patch.object(requests.Session, "send", send),
            mock.patch.object(EmailMessage, "send", mail),
        ):
            yield
