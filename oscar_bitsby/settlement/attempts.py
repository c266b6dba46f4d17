"""Attempts: rows in status ``creating``, committed before the API request, and how they expire."""

import datetime as dt

from django.utils.translation import gettext_noop

from oscar_bitsby.choices import InvoiceStatus
from oscar_bitsby.conf import Conf
from oscar_bitsby.models import BitsbyInvoice, log_change
from oscar_bitsby.utils.clock import db_now

#: Seconds beyond ``TIMEOUT`` after which an attempt without an answer expires. A buyer's request
#: may wait that long for a slot.
GRACE = 5
#: The failure of an attempt whose process must have died.
NO_ANSWER = gettext_noop("no answer came")


def stale_before(settings: Conf) -> dt.datetime:
    """Return the time before which an attempt without an answer counts as failed."""
    return db_now() - dt.timedelta(seconds=settings.timeout + GRACE)


def expire_attempt(attempt: BitsbyInvoice, reason: str) -> None:
    """Expire an attempt that got no answer. If Bitsby created its invoice, no buyer has seen it."""
    rows = BitsbyInvoice.objects.filter(pk=attempt.pk, status=InvoiceStatus.CREATING)
    if rows.update(status=InvoiceStatus.EXPIRED, ended_at=db_now(), failure=reason[:300]):
        log_change("attempt expired", attempt, reason=reason)


def expire_stale_attempts(settings: Conf) -> int:
    """Expire all attempts whose process must have died, and return how many."""
    stale = BitsbyInvoice.objects.filter(
        status=InvoiceStatus.CREATING, created_at__lt=stale_before(settings)
    )
    attempts = list(stale[:500])
    for attempt in attempts:
        expire_attempt(attempt, NO_ANSWER)
    return len(attempts)
