"""The shop of the tests, on the database, simulator and broker that the environment names."""

import os

from tests.settings import *  # noqa: F403
from tests.settings import DATABASES, OSCAR_BITSBY

DATABASES["default"]["NAME"] = os.environ["SHOP_DATABASE"]

OSCAR_BITSBY = {**OSCAR_BITSBY, "API_URL": os.environ["SHOP_SIMULATOR"], "CELERY": True}

CELERY_BROKER_URL = os.environ["SHOP_BROKER"]
CELERY_BEAT_SCHEDULE = {
    "bitsby": {
        "task": "oscar_bitsby.tasks.reconcile",
        "schedule": 2.0,
        "options": {"expires": 2.0},
    },
}
