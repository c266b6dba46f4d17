"""When alerts are tried again, and which are dropped: the same for e-mails and POSTs."""

import datetime as dt
import logging
from collections.abc import Iterable

from django.utils.translation import gettext_noop

from oscar_bitsby.choices import MailStatus
from oscar_bitsby.mails import alert_texts
from oscar_bitsby.models import MerchantAlert
from oscar_bitsby.utils.clock import db_now

logger = logging.getLogger("oscar_bitsby")

#: How long to wait after each failed try. After the last one of a day the alert counts as failed.
RETRY_AFTER = tuple(dt.timedelta(minutes=minutes) for minutes in (5, 30, 120, 480))
MAX_TRIES = len(RETRY_AFTER) + 1
#: A process that has been sending for longer than this counts as dead.
MAX_SENDING_TIME = dt.timedelta(minutes=15)


def retry_after(tries: int) -> tuple[str, dt.datetime]:
    """Return the status of an alert after that many failed tries, and when the next one is due."""
    now = db_now()
    if tries >= MAX_TRIES:
        return MailStatus.FAILED, now
    return MailStatus.WAITING, now + RETRY_AFTER[tries - 1]


def retry_interrupted(way: str, now: dt.datetime) -> None:
    """Let alerts wait again whose process died while it sent them, unless that was the last try.

    They may have left already. The merchant then gets them twice, which is better than never.

    Args:
        way: ``mail`` or ``post``, with which the names of the columns begin.
    """
    died = MerchantAlert.objects.filter(
        **{
            f"{way}_status": MailStatus.SENDING,
            f"{way}_sending_since__lte": now - MAX_SENDING_TIME,
        }
    )
    error = gettext_noop("sending was interrupted; the alert may have been sent")
    died.filter(**{f"{way}_tries__gte": MAX_TRIES}).update(
        **{f"{way}_status": MailStatus.FAILED}, error=error
    )
    died.update(**{f"{way}_status": MailStatus.WAITING}, error=error)


def drop_outdated(alerts: Iterable[MerchantAlert], status: str) -> list[MerchantAlert]:
    """Return the alerts that are still true, and mark the others as dropped.

    Args:
        status: the name of the column with the status.
    """
    true = []
    for alert in alerts:
        reason = alert_texts.skip_reason(alert)
        if not reason:
            true.append(alert)
            continue
        waiting = MerchantAlert.objects.filter(pk=alert.pk, **{status: MailStatus.WAITING})
        waiting.update(**{status: MailStatus.DROPPED}, error=reason[:300])
        logger.info("alert dropped: %s order=%s: %s", alert.code, alert.order_number, reason)
    return true
