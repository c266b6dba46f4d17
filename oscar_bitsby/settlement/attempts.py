"""Attempts: rows in status ``creating``, committed before Bitsby is asked, and when they fail."""

from __future__ import annotations

import datetime as dt

from django.utils.translation import gettext_noop

from oscar_bitsby.choices import InvoiceStatus
from oscar_bitsby.conf import Conf
from oscar_bitsby.models import BitsbyInvoice, log_change
from oscar_bitsby.utils.clock import db_now

#: Seconds beyond ``TIMEOUT`` after which an attempt without an answer is given up: a buyer waits
#: up to ``gateway.BUYER_PATIENCE`` of them for a slot.
GRACE = 5
#: What is noted of an attempt whose process must have died.
NO_ANSWER = gettext_noop("no answer came")


def stale_before(settings: Conf) -> dt.datetime:
    """Return the moment before which an attempt must have begun to count as failed."""
    return db_now() - dt.timedelta(seconds=settings.timeout + GRACE)


def expire_attempt(attempt: BitsbyInvoice, reason: str) -> None:
    """End an attempt that got no invoice; what Bitsby may have made of it, nobody has seen."""
    changed = BitsbyInvoice.objects.filter(pk=attempt.pk, status=InvoiceStatus.CREATING).update(
        status=InvoiceStatus.EXPIRED, ended_at=db_now(), failure=reason[:300]
    )
    if changed:
        log_change("attempt given up", attempt, reason=reason)


def expire_stale_attempts(settings: Conf) -> int:
    """Give up all attempts whose process must have died; return how many."""
    stale = BitsbyInvoice.objects.filter(
        status=InvoiceStatus.CREATING, created_at__lt=stale_before(settings)
    )
    attempts = list(stale[:500])
    for attempt in attempts:
        expire_attempt(attempt, NO_ANSWER)
    return len(attempts)
