"""The tests' settings with a database of the harness's own and a clock that can be moved."""

import os

from tests.crash import clock
from tests.settings import *  # noqa: F403
from tests.settings import DATABASES, OSCAR_BITSBY

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


class NoMigrations:
    """Tells Django that no app has migrations, so that tables are made from the models, which takes
    a second instead of thirty. Another test proves that models and migrations agree."""

    def __contains__(self, app):
        return True

    def __getitem__(self, app):
        return None


MIGRATION_MODULES = NoMigrations()
# The harness collects log messages itself.
LOGGING_CONFIG = None
