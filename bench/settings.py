"""Settings of the measured shop: those of the tests, on PostgreSQL, as for a real server.

``BENCH_DATABASE`` names the database. ``BENCH_APPS`` says what is installed: ``shop`` (Oscar and
the app), ``plain`` (Oscar alone) or ``peers`` (the shop, and other projects' webhooks beside it).
"""

import os

from tests.settings import *  # noqa: F403
from tests.settings import DATABASES, INSTALLED_APPS, MIDDLEWARE, OSCAR_BITSBY, TEMPLATES

APPS = os.environ.get("BENCH_APPS", "shop")

DATABASES["default"]["NAME"] = os.environ.get("BENCH_DATABASE") or os.environ["PGDATABASE"]
# A new connection for each request would take longer than most of what is measured.
DATABASES["default"]["CONN_MAX_AGE"] = None
TEMPLATES[0]["OPTIONS"]["debug"] = False
TEMPLATES[0]["OPTIONS"]["context_processors"].remove("django.template.context_processors.debug")
EMAIL_BACKEND = "django.core.mail.backends.dummy.EmailBackend"
ROOT_URLCONF = "bench.urls"
LOGGING_CONFIG = None
STATIC_ROOT = None

OSCAR_BITSBY = {
    **OSCAR_BITSBY,
    "API_URL": os.environ.get("BENCH_SIMULATOR", "http://127.0.0.1:9"),
    "PAYMENT_HOSTS": ["127.0.0.1"],
    "PAYMENT_PAGE": os.environ.get("BENCH_PAYMENT_PAGE", "hosted"),
}

if APPS == "plain":
    INSTALLED_APPS = [name for name in INSTALLED_APPS if name != "oscar_bitsby"]
if APPS == "peers":
    INSTALLED_APPS = [*INSTALLED_APPS, "djstripe", "payments", "bench.peers"]
    # As in their READMEs; all keys and secrets are made up.
    STRIPE_TEST_SECRET_KEY = "sk_test_made_up"
    STRIPE_LIVE_MODE = False
    DJSTRIPE_FOREIGN_KEY_TO_FIELD = "id"
    PAYMENT_HOST = "127.0.0.1"
    PAYMENT_USES_SSL = False
    PAYMENT_MODEL = "peers.Payment"
    PAYMENT_VARIANTS = {
        "default": ("payments.dummy.DummyProvider", {}),
        "stripe": (
            "payments.stripe.StripeProviderV3",
            # Its signature check does not work with the version of stripe that dj-stripe needs.
            # Without the check it is faster, so the comparison favours it.
            {"api_key": "sk_test_made_up", "secure_endpoint": False},
        ),
    }

if os.environ.get("BENCH_COUNT"):
    MIDDLEWARE = ["bench.counting.CountQueries", *MIDDLEWARE]


class NoMigrations:
    """Create tables from the models instead of by migrations; the result is the same."""

    def __contains__(self, app):
        return True

    def __getitem__(self, app):
        return None


MIGRATION_MODULES = NoMigrations()
