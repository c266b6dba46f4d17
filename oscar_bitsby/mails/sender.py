"""Send the outbox through Oscar's dispatcher: each e-mail once, and only while it is true."""

import datetime as dt
import logging
import time
from collections.abc import Callable
from smtplib import SMTPServerDisconnected
from typing import Any

from django.core.mail import EmailMessage
from django.db.models import F, QuerySet
from django.utils.translation import gettext_noop
from oscar.core.loading import get_class

from oscar_bitsby import conf
from oscar_bitsby.choices import MailStatus
from oscar_bitsby.exceptions import BitsbyError
from oscar_bitsby.mails import context, event_types
from oscar_bitsby.models import MAX_AGE, BuyerMail
from oscar_bitsby.utils.clock import db_now

logger = logging.getLogger("oscar_bitsby")

OrderDispatcher = get_class("order.utils", "OrderDispatcher")

#: How long to wait after each failed try. After the last one the e-mail counts as failed.
RETRY_AFTER = tuple(dt.timedelta(minutes=minutes) for minutes in (0, 10, 60, 360))
#: A process that has been sending one e-mail for longer than this counts as dead.
MAX_SENDING_TIME = dt.timedelta(minutes=15)
#: Limits of one run, so that sending does not delay settling.
MAILS_PER_RUN = 500
SECONDS_PER_RUN = 20.0


class _MailConnection:
    """The connection that Oscar's dispatcher uses; it knows whether an e-mail has left."""

    has_left = False

    def send_messages(self, messages: list[EmailMessage]) -> int:
        for message in messages:
            message.send()
            self.has_left = True
        return len(messages)


def send(mail_pk: Any) -> bool:
    """Send one e-mail if it still waits and is still true; return whether it was sent.

    Never raises: an error is logged and stored in the row, and a later run tries again.
    """
    try:
        mails = BuyerMail.objects.select_related("order__user", "invoice", "payment")
        mail = mails.filter(pk=mail_pk, status=MailStatus.WAITING).first()
        return mail is not None and _send(mail)
    except Exception:
        logger.exception("mail not sent: mail=%s", mail_pk)
        return False


def _send(mail: BuyerMail) -> bool:
    waiting = BuyerMail.objects.filter(pk=mail.pk, status=MailStatus.WAITING, tries=mail.tries)
    try:
        reason = context.skip_reason(mail)
        mail.language = context.language_of(mail)
        messages = {} if reason else context.render(mail)
    except Exception as error:
        # A template that staff have just edited, for example.
        logger.exception("mail could not be rendered: order=%s", mail.order_number)
        _schedule_retry(waiting, mail, error)
        return False
    if not reason and not (messages["subject"] and (messages["body"] or messages["html"])):
        reason = gettext_noop("the e-mail template is empty")
    if reason:
        waiting.update(status=MailStatus.DROPPED, error=reason[:300])
        logger.info("mail dropped: order=%s mail=%s: %s", mail.order_number, mail.code, reason)
        return False
    # One statement claims the row, so that two processes never both send it. If this one dies now,
    # the e-mail may have left: it is not sent again.
    claimed = waiting.update(
        status=MailStatus.SENDING,
        sending_since=db_now(),
        tries=F("tries") + 1,
        language=mail.language,
    )
    return bool(claimed) and _dispatch(mail, messages)


def _dispatch(mail: BuyerMail, messages: dict[str, str]) -> bool:
    mine = BuyerMail.objects.filter(pk=mail.pk)
    connection = _MailConnection()
    try:
        event_types.ensure_exists(mail.code)
        dispatcher = OrderDispatcher(mail_connection=connection)
        dispatcher.dispatch_order_messages(mail.order, messages, mail.code)
    except Exception as error:
        logger.exception("sending failed: order=%s mail=%s", mail.order_number, mail.code)
        if not connection.has_left:
            if isinstance(error, SMTPServerDisconnected):
                mine.update(status=MailStatus.FAILED, error=_text(error, "may have been sent"))
            else:
                _schedule_retry(mine, mail, error)
            return False
        # The e-mail has left; only storing it in Oscar's tables failed. It is not sent again.
    mine.update(status=MailStatus.SENT, sent_at=db_now(), error="")
    logger.info("mail sent: order=%s mail=%s", mail.order_number, mail.code)
    return True


def _schedule_retry(rows: QuerySet[BuyerMail], mail: BuyerMail, error: Exception) -> None:
    tries = mail.tries + 1
    is_last = tries > len(RETRY_AFTER)
    rows.update(
        status=MailStatus.FAILED if is_last else MailStatus.WAITING,
        tries=tries,
        try_after=db_now() + (dt.timedelta() if is_last else RETRY_AFTER[tries - 1]),
        error=_text(error),
    )


def _text(error: Exception, prefix: str = "") -> str:
    text = f"{prefix + ': ' if prefix else ''}{type(error).__name__}: {error}"
    # A mail server's answer may hold anything, and PostgreSQL refuses NUL in texts.
    return conf.get().api_key.redact(text).replace("\x00", "")[:300]


def send_pending(renew_lease: Callable[[], None] = lambda: None) -> int:
    """Send the waiting e-mails, within limits; return how many were sent.

    Args:
        renew_lease: called before each e-mail to keep the run's lease; may raise to stop sending.
    """
    now = db_now()
    rows = BuyerMail.objects
    rows.filter(status=MailStatus.WAITING, created_at__lte=now - MAX_AGE).update(
        status=MailStatus.FAILED, error=gettext_noop("could not be sent within a day")
    )
    rows.filter(status=MailStatus.SENDING, sending_since__lte=now - MAX_SENDING_TIME).update(
        status=MailStatus.FAILED,
        error=gettext_noop("sending was interrupted; the e-mail may have been sent"),
    )
    sent, start = 0, time.monotonic()
    waiting = rows.waiting(now).order_by("tries", "pk").values_list("pk", flat=True)
    for mail_pk in list(waiting[:MAILS_PER_RUN]):
        if time.monotonic() - start > SECONDS_PER_RUN:
            logger.warning("sending mails takes long; the next run continues")
            break
        renew_lease()
        sent += send(mail_pk)
    return sent


def send_pending_safely(renew_lease: Callable[[], None]) -> int:
    """Send the waiting e-mails as the last step of a run; an error does not fail the run."""
    try:
        return send_pending(renew_lease)
    except BitsbyError as error:
        logger.info("mails are left to the next run: %s", error)
    except Exception:
        logger.exception("mails not sent; the next run tries again")
    return 0
