"""System checks of ``ALERTS``: who could not be alerted, and why. They never show the URL."""

import base64
import binascii
import importlib.util
from collections.abc import Iterator
from urllib.parse import urlsplit

from django.core.checks import CheckMessage, Error
from django.core.exceptions import ValidationError
from django.core.validators import validate_email

from oscar_bitsby import conf

#: Standard Webhooks ask for this many random bytes at least.
MIN_SECRET_BYTES = 24
#: The modules of the libraries of the extra ``alerts``.
LIBRARIES = ("standardwebhooks", "requests_hardened")
REMEDY = (
    "Set it to 24 to 64 random bytes in base64, such as openssl rand -base64 32 prints, and give it"
    " to the receiver."
)


def check_alerts(settings: conf.Conf) -> Iterator[CheckMessage]:
    """Find addresses, a URL or a secret that cannot be used, and missing libraries."""
    alerts = settings.alerts
    wrong = [address for address in alerts.mail if not _is_email(address)]
    if wrong:
        yield Error(
            "OSCAR_BITSBY['ALERTS']['MAIL'] has what is not an e-mail address:"
            f" {', '.join(map(repr, wrong))}.",
            hint="List plain addresses only, such as 'shop@example.com'.",
            id="oscar_bitsby.E018",
        )
    if not alerts.url:
        return
    if not _is_https(alerts.url):
        yield Error(
            "OSCAR_BITSBY['ALERTS']['URL'] is not an https URL, so nothing is posted to it.",
            hint="Set it to a URL that begins with https://, or remove it.",
            id="oscar_bitsby.E018",
        )
    if not alerts.secret:
        yield Error(
            "OSCAR_BITSBY['ALERTS'] has a URL but no SECRET, so nothing is posted to it.",
            hint=REMEDY,
            id="oscar_bitsby.E018",
        )
    elif not _is_strong(alerts.secret):
        yield Error(
            "OSCAR_BITSBY['ALERTS']['SECRET'] is not base64, or shorter than"
            f" {MIN_SECRET_BYTES} bytes.",
            hint=REMEDY,
            id="oscar_bitsby.E018",
        )
    if any(importlib.util.find_spec(library) is None for library in LIBRARIES):
        yield Error(
            "OSCAR_BITSBY['ALERTS'] has a URL, but standardwebhooks or requests-hardened is not"
            " installed, so nothing is posted to it.",
            hint="Run pip install 'django-oscar-bitsby[alerts]', or remove the URL.",
            id="oscar_bitsby.E019",
        )


def _is_email(address: str) -> bool:
    try:
        validate_email(address)
    except ValidationError:
        return False
    return True


def _is_https(url: conf.Secret) -> bool:
    try:
        parts = urlsplit(url.reveal())
        return parts.scheme == "https" and bool(parts.hostname)
    except ValueError:
        return False


def _is_strong(secret: conf.Secret) -> bool:
    try:
        key = base64.b64decode(secret.reveal().removeprefix("whsec_"), validate=True)
    except (binascii.Error, ValueError):
        return False
    return len(key) >= MIN_SECRET_BYTES
