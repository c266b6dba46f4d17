"""Settings of the sandbox shop. NEVER use them for a real shop.

The secret key and the passwords are public, DEBUG is on, and the money comes from a simulator.
ALLOWED_HOSTS is loopback only, so a server put on the network by accident answers nobody.
"""

import os
from datetime import timedelta
from pathlib import Path

from oscar import INSTALLED_APPS as OSCAR_APPS
from oscar.defaults import *  # noqa: F403

HERE = Path(__file__).resolve().parent
# Everything the shop writes: deleting this folder is a fresh start.
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

# oscar_bitsby comes after Oscar's own apps. "shop" holds this sandbox's goods and pictures.
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
            # A transaction takes the write lock at once: SQLite cannot upgrade a read lock
            # while another process writes, and the reconcile loop is another process.
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
# Six products need no filters beside them.
OSCAR_SEARCH_FACETS = {"fields": {}, "queries": {}}
OSCAR_THUMBNAILER = "shop.thumbnails.PillowThumbnailer"

OSCAR_INITIAL_ORDER_STATUS = "Pending"
OSCAR_INITIAL_LINE_STATUS = "Pending"
OSCAR_ORDER_STATUS_PIPELINE = {
    "Pending": ("Being processed", "Cancelled"),
    "Being processed": ("Complete", "Cancelled"),
    "Complete": (),
    "Cancelled": (),
}
OSCAR_LINE_STATUS_PIPELINE = OSCAR_ORDER_STATUS_PIPELINE
OSCAR_ORDER_STATUS_CASCADE = {
    "Being processed": "Being processed",
    "Complete": "Complete",
    "Cancelled": "Cancelled",
}

# What a shop sets for Bitsby. The key and the project are made up: the simulator takes any.
OSCAR_BITSBY = {
    "API_KEY": os.environ.get("SANDBOX_API_KEY") or "6d1f0c52-7b38-4e0a-9c41-2f8ab5e3d790",
    "PROJECT_ID": os.environ.get("SANDBOX_PROJECT_ID") or "c3a94e17-05d2-4f6b-8e1c-b7702d9f4a68",
    "API_URL": os.environ.get("SANDBOX_API_URL") or SIMULATOR_URL,
    "PAYMENT_HOSTS": (os.environ.get("SANDBOX_PAYMENT_HOSTS") or "127.0.0.1").split(","),
    "WEBHOOK_TOKEN": os.environ.get("SANDBOX_WEBHOOK_TOKEN") or "driftwood",
    # Short, so that a cancelled order can be watched.
    "CANCEL_AFTER": timedelta(minutes=2),
    "OTHER_METHODS": [("cod", "Pay on delivery")],
}


NOT_WORTH_A_LINE = (
    "/static/",
    "/media/",
    "/state/",
    "/jsi18n/",
    "favicon",
    "Broken pipe",
    # The webhook's way of saying "come again"; the server's line has it anyway.
    "Service Unavailable: /bitsby/webhook/",
)


def worth_a_line(record):
    """Keep pictures, style sheets and what repeats itself out of the terminal."""
    message = record.getMessage()
    return not any(part in message for part in NOT_WORTH_A_LINE)


LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "filters": {
        "worth_a_line": {"()": "django.utils.log.CallbackFilter", "callback": worth_a_line}
    },
    "formatters": {"short": {"format": "%(levelname)s %(name)s: %(message)s"}},
    "handlers": {
        "console": {
            "class": "logging.StreamHandler",
            "filters": ["worth_a_line"],
            "formatter": "short",
        },
        "requests": {"class": "logging.StreamHandler", "filters": ["worth_a_line"]},
    },
    "root": {"handlers": ["console"], "level": "WARNING"},
    "loggers": {
        "django": {"handlers": [], "level": "INFO", "propagate": True},
        "django.request": {"level": "ERROR"},
        "django.server": {"handlers": ["requests"], "level": "INFO", "propagate": False},
        "oscar_bitsby": {"level": "INFO"},
    },
}
