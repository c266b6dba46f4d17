"""The tests' settings with a database of the harness's own and a clock that can be moved."""

import os

from tests.crash import clock
from tests.settings import *  # noqa: F403
from tests.settings import DATABASES, OSCAR_BITSBY
from tests.support.no_migrations import NoMigrations

clock.install()

DATABASES["default"]["NAME"] = os.environ["CRASH_DATABASE"]
if os.environ.get("PGDATABASE"):
    # A longer wait is a deadlock.
    DATABASES["default"]["OPTIONS"] = {"options": "-c lock_timeout=20s -c deadlock_timeout=300ms"}

OSCAR_BITSBY = {
    **OSCAR_BITSBY,
    "API_URL": os.environ["CRASH_SIMULATOR"],
    "PAYMENT_HOSTS": ["127.0.0.1"],
}


# Tables from the models take a second instead of thirty; another test proves that they agree.
MIGRATION_MODULES = NoMigrations()
# The harness collects log messages itself.
LOGGING_CONFIG = None
