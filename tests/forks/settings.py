"""The shop of ``tests.settings`` with the fork that FORK names, in a database in memory."""

import os
from typing import Any

from tests.settings import *  # noqa: F403
from tests.settings import INSTALLED_APPS as STOCK_APPS
from tests.support.no_migrations import NoMigrations

DATABASES: dict[str, Any] = {
    "default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}
}

# Such as "checkout=tests.forks.overriding.checkout.apps.CheckoutConfig".
LABEL, CONFIG = os.environ["FORK"].split("=")
INSTALLED_APPS = [
    CONFIG if entry.startswith(f"oscar.apps.{LABEL}.apps.") else entry for entry in STOCK_APPS
]
if LABEL == "checkout":
    MIGRATION_MODULES: Any = NoMigrations()

OSCAR_BITSBY = {
    "API_KEY": "5f2b9c1e-8d5c-4a6e-9f37-0c4f2d1b7a90",
    "PROJECT_ID": "9deea1e2-0c08-41a3-bdc2-a34eada3892d",
    "OTHER_METHODS": [("cod", "Pay on delivery")],
}
