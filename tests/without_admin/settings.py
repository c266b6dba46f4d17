"""The shop of ``tests.settings`` without the Django admin, in a database in memory."""

from typing import Any

from tests.settings import *  # noqa: F403
from tests.settings import INSTALLED_APPS as STOCK_APPS

ROOT_URLCONF = "tests.without_admin.urls"
DATABASES: dict[str, Any] = {
    "default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}
}
INSTALLED_APPS = [entry for entry in STOCK_APPS if entry != "django.contrib.admin"]
