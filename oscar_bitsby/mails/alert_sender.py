"""Send the alerts that wait: by e-mail, and as POSTs to a URL."""

import json
import logging
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from django.conf import settings as django_settings
from django.db.models import F
from django.utils import translation

from oscar_bitsby import conf
from oscar_bitsby.choices import MailStatus
from oscar_bitsby.exceptions import BitsbyError
from oscar_bitsby.mails import alert_digest, alert_texts
from oscar_bitsby.mails.alert_retries import drop_outdated, retry_after, retry_interrupted
from oscar_bitsby.models import MerchantAlert
from oscar_bitsby.utils.clock import db_now

logger = logging.getLogger("oscar_bitsby")

#: Limits of one run, so that posting does not delay settling.
POSTS_PER_RUN = 20
SECONDS_PER_RUN = 15.0


def send_pending_safely(renew_lease: Callable[[], None]) -> None:
    """Send the waiting alerts as the last step of a run; an error does not fail the run.

    Args:
        renew_lease: called before each e-mail and POST to keep the run's lease; may raise to stop.
    """
    for send in (alert_digest.send_due, post_due):
        try:
            send(renew_lease)
        except BitsbyError as error:
            logger.info("alerts are left to the next run: %s", error)
        except Exception as error:
            # Without the traceback: an error report shows the variables of its frames.
            logger.error("alerts not sent; the next run tries again: %s", type(error).__name__)


def post_due(renew_lease: Callable[[], None]) -> None:
    """Post the alerts that wait to the URL, within limits; the first failure ends it.

    A POST whose process died is repeated: the receiver knows the alert by its id.
    """
    alerts = conf.get().alerts
    if not alerts.url:
        return
    now, start = db_now(), time.monotonic()
    retry_interrupted("post", now)
    due = MerchantAlert.objects.due_posts(now).select_related("payment", "refund")
    for alert in drop_outdated(due.order_by("post_tries", "pk")[:POSTS_PER_RUN], "post_status"):
        if time.monotonic() - start > SECONDS_PER_RUN:
            break
        renew_lease()
        if not _post(alerts, alert):
            # The others wait for the next run: a URL that does not answer takes seconds each time.
            break


def _post(alerts: conf.Alerts, alert: MerchantAlert) -> bool:
    mine = MerchantAlert.objects.filter(
        pk=alert.pk, post_status=MailStatus.WAITING, post_tries=alert.post_tries
    )
    now = db_now()
    # One statement claims the row, so that two processes never both post it.
    if not mine.update(
        post_status=MailStatus.SENDING, post_sending_since=now, post_tries=F("post_tries") + 1
    ):
        return True
    problem = _try(alerts, alert)
    mine = MerchantAlert.objects.filter(pk=alert.pk)
    if problem:
        status, after = retry_after(alert.post_tries + 1)
        mine.update(post_status=status, try_post_after=after, error=problem[:300])
        logger.warning("alert %s could not be posted: %s", alert.pk, problem)
        return False
    mine.update(post_status=MailStatus.SENT, posted_at=db_now())
    logger.info("alert posted: %s order=%s", alert.code, alert.order_number)
    return True


def _try(alerts: conf.Alerts, alert: MerchantAlert) -> str:
    try:
        # It needs the libraries of the extra "alerts".
        from oscar_bitsby.mails import alert_post

        return alert_post.post(alerts, str(alert.uid), build_body(alert))
    except Exception as error:
        return type(error).__name__


def build_body(alert: MerchantAlert) -> str:
    """Return the JSON of a POST, in the shop's language."""
    with translation.override(django_settings.LANGUAGE_CODE):
        text = asdict(alert_texts.build(alert))
    data: dict[str, Any] = {"id": str(alert.uid), "order_number": alert.order_number} | text
    return json.dumps(
        {
            "type": f"bitsby.{alert.code}",
            "timestamp": alert.created_at.isoformat(),
            "data": data,
        }
    )
