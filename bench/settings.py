"""The shop that is measured: the one of the tests, on PostgreSQL, as a server would run it.

``BENCH_DATABASE`` names the database. ``BENCH_APPS`` says what is installed: ``shop`` (Oscar and
the app), ``plain`` (Oscar alone) or ``peers`` (the shop, and other projects' webhooks beside it).
"""

import os

from tests.settings import *  # noqa: F403
from tests.settings import DATABASES, INSTALLED_APPS, MIDDLEWARE, OSCAR_BITSBY, TEMPLATES

APPS = os.environ.get("BENCH_APPS", "shop")

DATABASES["default"]["NAME"] = os.environ.get("BENCH_DATABASE") or os.environ["PGDATABASE"]
# Connecting for each request takes longer than most of what is measured, and would hide it.
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
}

if APPS == "plain":
    INSTALLED_APPS = [name for name in INSTALLED_APPS if name != "oscar_bitsby"]
if APPS == "peers":
    INSTALLED_APPS = [*INSTALLED_APPS, "djstripe", "payments", "bench.peers"]
    # As their READMEs say; every key and secret is made up.
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
            # Its check of signatures fails with the stripe that dj-stripe needs: what that gives
            # is no dict any more. Leaving it out is in its favour.
            {"api_key": "sk_test_made_up", "secure_endpoint": False},
        ),
    }

if os.environ.get("BENCH_COUNT"):
    MIDDLEWARE = ["bench.counting.CountQueries", *MIDDLEWARE]


class NoMigrations:
    """Says of each app that it has none: tables made from the models are the same ones."""

    def __contains__(self, app):
        return True

    def __getitem__(self, app):
        return None


MIGRATION_MODULES = NoMigrations()
