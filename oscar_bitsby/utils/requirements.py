"""What the app needs of the project around it; without this, payments cannot be processed."""

from django.conf import settings as django_settings
from django.db import connections, router
from oscar.core.loading import get_model

from oscar_bitsby.exceptions import ConfigurationError
from oscar_bitsby.models import BitsbyInvoice

#: The databases that Oscar supports, by Django's names of their vendors.
VENDORS = ("postgresql", "sqlite")


def unsupported_vendors() -> list[str]:
    """Return the vendors of the databases of orders and invoices that the app does not support."""
    aliases = map(router.db_for_write, (BitsbyInvoice, get_model("order", "Order")))
    return sorted({connections[alias].vendor for alias in aliases} - set(VENDORS))


def ensure_met() -> None:
    """Raise an error unless payments can be processed in this project.

    Raises:
        ConfigurationError: the database is not supported, or ``USE_TZ`` is False.
    """
    vendors = unsupported_vendors()
    if vendors:
        raise ConfigurationError(f"the database {vendors[0]} is not supported")
    if not django_settings.USE_TZ:
        raise ConfigurationError("settings.USE_TZ is False")
