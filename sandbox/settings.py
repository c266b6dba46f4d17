"""Settings of the sandbox shop. NEVER use them for a real shop.

The secret key and the passwords are public, DEBUG is on, and a simulator confirms the payments.
ALLOWED_HOSTS allows loopback only, in case the server is opened to a network by accident.
"""

import os
from datetime import timedelta
from pathlib import Path

from oscar import INSTALLED_APPS as OSCAR_APPS
from oscar.defaults import *  # noqa: F403

HERE = Path(__file__).resolve().parent
# The shop writes to this folder only. Delete it to start again with an empty shop.
VAR = Path(os.environ.get("SANDBOX_VAR") or HERE / "var").resolve()
VAR.mkdir(parents=True, exist_ok=True)

SHOP_PORT = int(os.environ.get("SHOP_PORT") or 8000)
SIMULATOR_PORT = int(os.environ.get("SIMULATOR_PORT") or 8001)
SIMULATOR_URL = f"http://127.0.0.1:{SIMULATOR_PORT}"

SECRET_KEY = "only for the sandbox"
DEBUG = True
ALLOWED_HOSTS = ["127.0.0.1", "localhost", "[::1]"]
SITE_ID = 1
ROOT_URLCONF = "urls"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# oscar_bitsby comes after Oscar's own apps. "shop" adds the sandbox's products and pictures.
INSTALLED_APPS = [*OSCAR_APPS, "oscar_bitsby", "shop"]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.contrib.flatpages.middleware.FlatpageFallbackMiddleware",
    "oscar.apps.basket.middleware.BasketMiddleware",
]

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [HERE / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.debug",
                "django.template.context_processors.request",
                "django.template.context_processors.i18n",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "oscar.apps.search.context_processors.search_form",
                "oscar.apps.checkout.context_processors.checkout",
                "oscar.apps.communication.notifications.context_processors.notifications",
                "oscar.core.context_processors.metadata",
                "shop.context_processors.simulator",
            ],
        },
    }
]

AUTHENTICATION_BACKENDS = [
    "oscar.apps.customer.auth_backends.EmailBackend",
    "django.contrib.auth.backends.ModelBackend",
]

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": VAR / "db.sqlite3",
        "ATOMIC_REQUESTS": True,
        "OPTIONS": {
            # A transaction takes the write lock at its start: SQLite cannot upgrade a read lock
            # while another process writes, such as the reconcile loop.
            "transaction_mode": "IMMEDIATE",
            "timeout": 20,
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL",
        },
    }
}

HAYSTACK_CONNECTIONS = {
    "default": {
        "ENGINE": "haystack.backends.whoosh_backend.WhooshEngine",
        "PATH": str(VAR / "whoosh"),
    }
}

EMAIL_BACKEND = "django.core.mail.backends.filebased.EmailBackend"
EMAIL_FILE_PATH = VAR / "mails"

USE_TZ = True
TIME_ZONE = "UTC"
LANGUAGE_CODE = "en"
LANGUAGES = [("en", "English"), ("ru", "Русский"), ("de", "Deutsch"), ("es", "Español")]

STATIC_URL = "/static/"
MEDIA_URL = "/media/"
MEDIA_ROOT = VAR / "media"

OSCAR_SHOP_NAME = "Driftwood Goods"
OSCAR_SHOP_TAGLINE = "a sandbox shop"
OSCAR_FROM_EMAIL = "shop@example.com"
OSCAR_DEFAULT_CURRENCY = "USD"
OSCAR_ALLOW_ANON_CHECKOUT = True
# Six products need no filters.
OSCAR_SEARCH_FACETS = {"fields": {}, "queries": {}}
OSCAR_THUMBNAILER = "shop.thumbnails.PillowThumbnailer"

OSCAR_INITIAL_ORDER_STATUS = "Pending"
OSCAR_INITIAL_LINE_STATUS = "Pending"
OSCAR_ORDER_STATUS_PIPELINE = {
    "Pending": ("Being processed", "Cancelled"),
    "Being processed": ("Complete", "Cancelled"),
    "Complete": (),
    "Cancelled": ("Being processed",),
}
OSCAR_LINE_STATUS_PIPELINE = OSCAR_ORDER_STATUS_PIPELINE
OSCAR_ORDER_STATUS_CASCADE = {
    "Being processed": "Being processed",
    "Complete": "Complete",
    "Cancelled": "Cancelled",
}

# The settings of the app. The simulator accepts any key and any project.
OSCAR_BITSBY = {
    "API_KEY": os.environ.get("SANDBOX_API_KEY") or "6d1f0c52-7b38-4e0a-9c41-2f8ab5e3d790",
    "PROJECT_ID": os.environ.get("SANDBOX_PROJECT_ID") or "c3a94e17-05d2-4f6b-8e1c-b7702d9f4a68",
    "API_URL": os.environ.get("SANDBOX_API_URL") or SIMULATOR_URL,
    "PAYMENT_HOSTS": (os.environ.get("SANDBOX_PAYMENT_HOSTS") or "127.0.0.1").split(","),
    "PAYMENT_PAGE": os.environ.get("PAYMENT_PAGE") or "hosted",
    "WEBHOOK_TOKEN": os.environ.get("SANDBOX_WEBHOOK_TOKEN") or "driftwood",
    # Short, so that you can see an order being cancelled.
    "CANCEL_AFTER": timedelta(minutes=2),
    "OTHER_METHODS": [("cod", "Pay on delivery")],
}


HIDDEN_LINES = (
    "/static/",
    "/media/",
    "/state/",
    "/jsi18n/",
    "favicon",
    "Broken pipe",
    # The webhook asks for another delivery. The line of the server shows that as well.
    "Service Unavailable: /bitsby/webhook/",
)


def is_interesting(record):
    """Return False for requests of static files and other frequent lines."""
    message = record.getMessage()
    return not any(part in message for part in HIDDEN_LINES)


LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "filters": {
        "is_interesting": {"()": "django.utils.log.CallbackFilter", "callback": is_interesting}
    },
    "formatters": {"short": {"format": "%(levelname)s %(name)s: %(message)s"}},
    "handlers": {
        "console": {
            "class": "logging.StreamHandler",
            "filters": ["is_interesting"],
            "formatter": "short",
        },
        "requests": {"class": "logging.StreamHandler", "filters": ["is_interesting"]},
    },
    "root": {"handlers": ["console"], "level": "WARNING"},
    "loggers": {
        "django": {"handlers": [], "level": "INFO", "propagate": True},
        "django.request": {"level": "ERROR"},
        "django.server": {"handlers": ["requests"], "level": "INFO", "propagate": False},
        "oscar_bitsby": {"level": "INFO"},
    },
}
