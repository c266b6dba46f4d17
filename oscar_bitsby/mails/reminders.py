"""Remind buyers that their invoice is about to expire."""

import datetime as dt

from django.db.models import F

from oscar_bitsby import conf
from oscar_bitsby.choices import InvoiceStatus, MailCode
from oscar_bitsby.mails import outbox
from oscar_bitsby.models import BitsbyInvoice
from oscar_bitsby.utils.clock import CLOCK_SKEW, db_now

REMINDERS_PER_RUN = 500
#: Invoices that can be paid for less time than this get no reminder.
MIN_TIME_TO_PAY = dt.timedelta(hours=3)
#: The reminder is sent this long before the invoice expires, but not before the last quarter.
REMIND_BEFORE = dt.timedelta(hours=1)


def enqueue_reminders() -> None:
    """Enqueue a reminder for each invoice that is about to expire."""
    if not conf.get().mails:
        return
    now = db_now()
    expiring = (
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
    for invoice in expiring.order_by("expires_at")[:REMINDERS_PER_RUN]:
        if invoice.expires_at is None:
            continue
        left, whole = invoice.expires_at - now, invoice.expires_at - invoice.created_at
        if left <= whole / 4:
            outbox.enqueue(MailCode.REMINDER, invoice.order, invoice=invoice)
