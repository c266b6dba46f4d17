"""The shop of the tests with a database of the harness's own and a clock that can be moved."""

import os

from tests.crash import clock
from tests.settings import *  # noqa: F403
from tests.settings import DATABASES, OSCAR_BITSBY

clock.install()

DATABASES["default"]["NAME"] = os.environ["CRASH_DATABASE"]
if os.environ.get("PGDATABASE"):
    # Whoever waits longer than this waits for ever.
    DATABASES["default"]["OPTIONS"] = {"options": "-c lock_timeout=20s -c deadlock_timeout=300ms"}

OSCAR_BITSBY = {
    **OSCAR_BITSBY,
    "API_URL": os.environ["CRASH_SIMULATOR"],
    "PAYMENT_HOSTS": ["127.0.0.1"],
}


class NoMigrations:
    """Says of each app that it has none, so that tables are made from the models: a test of its
    own proves that the two agree, and this takes a second instead of thirty."""

    def __contains__(self, app):
        return True

    def __getitem__(self, app):
        return None


MIGRATION_MODULES = NoMigrations()
# What went wrong is collected by the harness, and belongs into no log of its own.
LOGGING_CONFIG = None
