"""Values of invoices for tests."""

import datetime as dt

from django.utils import timezone


def expired_ago(**delta):
    """Return the values of an invoice that expired so long ago."""
    at = timezone.now() - dt.timedelta(**delta)
    return {
        "status": "expired",
        "expires_at": at,
        "ended_at": at,
        "created_at": at - dt.timedelta(hours=1),
    }
