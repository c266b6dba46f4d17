"""Django settings of the simulator: request parsing and templates, without apps and database."""

from pathlib import Path

ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "oscar_bitsby.simulator.urls"
MIDDLEWARE = [
    # Sets Content-Length; without it the server closes the connection after each answer.
    "django.middleware.common.CommonMiddleware",
    "oscar_bitsby.simulator.views.refuse_other_sites",
]
APPEND_SLASH = False
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [Path(__file__).parent / "templates"],
        # An error in a template names its line.
        "OPTIONS": {"debug": True},
    }
]
TIME_ZONE = "UTC"
USE_I18N = False
# Requests are listed in the state that tests read; stderr is for errors of the simulator itself.
LOGGING_CONFIG = None
DEBUG_PROPAGATE_EXCEPTIONS = True
