"""Which buyers are reminded that their time to pay is about to end."""

from __future__ import annotations

import datetime as dt

from django.db.models import F
from django.utils import timezone

from oscar_bitsby.choices import InvoiceStatus, MailCode
from oscar_bitsby.mails import outbox
from oscar_bitsby.models import BitsbyInvoice
from oscar_bitsby.utils.clock import CLOCK_SKEW

REMINDERS_PER_RUN = 500

#: Whoever has less time to pay than this needs no reminder.
MIN_TIME_TO_PAY = dt.timedelta(hours=3)

#: The reminder comes so long before the end, but not before the last quarter.
REMIND_BEFORE = dt.timedelta(hours=1)


def enqueue_reminders() -> None:
    """Note a reminder for every invoice whose long time to pay is about to end."""
    if not outbox.is_enabled():
        return
    now = timezone.now()
    ending = (
        BitsbyInvoice.objects.filter(
            status=InvoiceStatus.UNPAID,
            expires_at__gt=now + CLOCK_SKEW,
            expires_at__lte=now + REMIND_BEFORE,
            created_at__lte=F("expires_at") - MIN_TIME_TO_PAY + CLOCK_SKEW,
            order__isnull=False,
        )
        .exclude(mails__code=MailCode.REMINDER)
        .select_related("order")
    )
    for invoice in ending.order_by("expires_at")[:REMINDERS_PER_RUN]:
        if invoice.expires_at is None:
            continue
        left, whole = invoice.expires_at - now, invoice.expires_at - invoice.created_at
        if left <= whole / 4:
            outbox.enqueue(MailCode.REMINDER, invoice.order, invoice=invoice)
