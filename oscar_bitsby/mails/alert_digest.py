"""E-mail alerts to the merchant: one e-mail for all that wait, at most every 15 minutes.

An e-mail of which nobody knows whether it has left is sent again: read twice it does no harm, and
lost it does.
"""

import datetime as dt
import logging
from collections.abc import Callable, Iterable
from itertools import groupby
from textwrap import shorten

from django.conf import settings as django_settings
from django.contrib.sites.models import Site
from django.core.mail import EmailMessage
from django.db import router, transaction
from django.db.models import F, Q
from django.utils import translation
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from oscar_bitsby import conf
from oscar_bitsby.choices import AlertCode, MailStatus
from oscar_bitsby.mails import alert_texts
from oscar_bitsby.mails.alert_retries import drop_outdated, retry_after, retry_interrupted
from oscar_bitsby.models import GatewayState, MerchantAlert
from oscar_bitsby.utils.clock import db_now

logger = logging.getLogger("oscar_bitsby")

#: The shortest time between two e-mails.
INTERVAL = dt.timedelta(minutes=15)
#: Of each kind, an e-mail describes this many alerts and only counts the others.
MAX_OF_A_KIND = 20
#: The largest number of alerts that one e-mail is about.
MAX_ALERTS = 5_000
#: A subject that names all kinds would not fit.
MAX_SUBJECT = 150


def send_due(renew_lease: Callable[[], None]) -> None:
    """E-mail the alerts that wait, if the last e-mail is old enough.

    Args:
        renew_lease: called before sending; may raise to stop it.
    """
    addresses = conf.get().alerts.mail
    if not addresses:
        return
    now = db_now()
    retry_interrupted("mail", now)
    if GatewayState.row().filter(_was_mailed_recently(now)).exists():
        return
    due = MerchantAlert.objects.due_mails(now).select_related("payment", "refund")
    alerts = drop_outdated(due.order_by("pk")[:MAX_ALERTS], "mail_status")
    if not alerts:
        return
    renew_lease()
    message = _build(alerts, addresses)
    if _claim(alerts, now):
        _send(message, alerts)


def _was_mailed_recently(now: dt.datetime) -> Q:
    # Another process may have sent one since. A time far ahead was written before the clock was put
    # back.
    return Q(alerts_mailed_at__gt=now - INTERVAL, alerts_mailed_at__lt=now + INTERVAL)


def _claim(alerts: list[MerchantAlert], now: dt.datetime) -> bool:
    """Mark the alerts as being sent; return False if the last e-mail was sent a short while ago."""
    GatewayState.ensure_exists()
    with transaction.atomic(using=router.db_for_write(MerchantAlert)):
        if not GatewayState.row().exclude(_was_mailed_recently(now)).update(alerts_mailed_at=now):
            return False
        rows = MerchantAlert.objects.filter(pk__in=[alert.pk for alert in alerts])
        rows.filter(mail_status=MailStatus.WAITING).update(
            mail_status=MailStatus.SENDING, mail_sending_since=now, mail_tries=F("mail_tries") + 1
        )
    return True


def _send(message: EmailMessage, alerts: list[MerchantAlert]) -> None:
    mine = MerchantAlert.objects.filter(pk__in=[alert.pk for alert in alerts])
    try:
        message.send()
    except Exception as error:
        # Not the text of the error: it may quote the e-mail, and the frames have its server's
        # password.
        problem = type(error).__name__
        logger.error("alerts could not be e-mailed: %s", problem)
        for tries, _alerts in groupby(sorted(alerts, key=_tries), key=_tries):
            status, after = retry_after(tries + 1)
            mine.filter(mail_tries=tries + 1).update(
                mail_status=status, try_mail_after=after, error=problem
            )
        return
    mine.update(mail_status=MailStatus.SENT, mailed_at=db_now())
    logger.info("alerts e-mailed: %s", len(alerts))


def _tries(alert: MerchantAlert) -> int:
    return alert.mail_tries


def _build(alerts: list[MerchantAlert], addresses: Iterable[str]) -> EmailMessage:
    """Return the e-mail, in the shop's language."""
    with translation.override(django_settings.LANGUAGE_CODE):
        site = Site.objects.get_current()
        titles, parts = [], []
        for code, title in AlertCode.choices:
            of_kind = _one_of_each_payment(alert for alert in alerts if alert.code == code)
            if of_kind:
                number = len(of_kind)
                titles.append(f"{title} ({number})" if number > 1 else str(title))
                parts.append(_section(code, str(title), of_kind))
        subject = f"[{site.name}] {'; '.join(titles)}"
        parts.append(
            _(
                "You get this e-mail because your address is in the setting ALERTS of %(site)s."
                " Payments that were decided in the meantime are left out."
            )
            % {"site": site.domain}
        )
    return EmailMessage(
        # It also removes line breaks, which are refused in a header.
        shorten(subject, MAX_SUBJECT, placeholder=" …"),
        "\n\n".join(parts) + "\n",
        getattr(django_settings, "OSCAR_FROM_EMAIL", None),
        list(addresses),
        # Prevents automatic replies.
        headers={"Auto-Submitted": "auto-generated"},
    )


def _one_of_each_payment(alerts: Iterable[MerchantAlert]) -> list[MerchantAlert]:
    """Return the newest alert of each payment: its text names all reasons. Others are all kept."""
    return list({alert.payment_id or f"alert {alert.pk}": alert for alert in alerts}.values())


def _section(code: str, title: str, alerts: list[MerchantAlert]) -> str:
    lines = [title, "=" * len(title)]
    for alert in alerts[:MAX_OF_A_KIND]:
        try:
            text = alert_texts.build(alert)
            lines += ["", text.text, text.url]
        except Exception as error:
            # One invalid row must not delay the others.
            logger.error("text of alert %s: %s", alert.pk, type(error).__name__)
            lines += ["", f"{title}: {alert.order_number}"]
    more = len(alerts) - MAX_OF_A_KIND
    if more > 0:
        text_of_more = ngettext("and %(number)s more:", "and %(number)s more:", more)
        lines += ["", text_of_more % {"number": more}, alert_texts.page_url(code)]
    return "\n".join(lines)
