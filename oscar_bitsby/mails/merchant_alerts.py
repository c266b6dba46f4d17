"""Transactional outbox for alerts to the merchant: runs send them, as they send e-mails."""

import logging

from django.db import router, transaction

from oscar_bitsby import conf
from oscar_bitsby.choices import MailStatus
from oscar_bitsby.models import BitsbyPayment, BitsbyRefund, MerchantAlert

logger = logging.getLogger("oscar_bitsby")


def alert_key(
    code: str,
    payment: BitsbyPayment | None = None,
    refund: BitsbyRefund | None = None,
    occasion: str = "",
) -> str:
    """Return the key of an alert: it names what it is about."""
    about = f"{payment.pk if payment else ''}:{refund.pk if refund else ''}:{occasion}"
    return f"{code}:{about}"[:100]


def enqueue(
    code: str,
    *,
    payment: BitsbyPayment | None = None,
    refund: BitsbyRefund | None = None,
    order_number: str = "",
    occasion: str = "",
    **details: str,
) -> None:
    """Enqueue an alert, unless it was enqueued before or ``ALERTS`` names nobody.

    The row belongs to the caller's transaction. Never raises: a failure is logged.

    Args:
        code: an ``AlertCode``.
        payment, refund: what it is about: one alert for each, code and occasion.
        order_number: the order's number, if there is an order.
        occasion: tells apart alerts about the same matter, for example a day or a review reason.
        details: further facts for the text. Neither the key nor a buyer's address may be in them.
            ``reason``: Bitsby's own words, of a refusal. ``last_run``: the time of the last run, in
            ISO 8601. ``balance``: in USD, and ``until``: when a negative one blocks new invoices.
            ``differences``: how many an audit has found.
    """
    try:
        alerts = conf.get().alerts
        if not alerts.mail and not alerts.url:
            return
        alert = MerchantAlert(
            code=code,
            key=alert_key(code, payment, refund, occasion),
            payment=payment,
            refund=refund,
            order_number=order_number,
            details=details,
            mail_status=MailStatus.WAITING if alerts.mail else "",
            post_status=MailStatus.WAITING if alerts.url else "",
        )
        # A failed statement must not make the caller's transaction fail.
        with transaction.atomic(using=router.db_for_write(MerchantAlert)):
            MerchantAlert.objects.bulk_create([alert], ignore_conflicts=True)
    except Exception as error:
        # Without the traceback: an error report shows the variables of its frames.
        logger.error("alert not enqueued: %s: %s", code, type(error).__name__)
