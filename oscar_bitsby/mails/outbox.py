"""Transactional outbox for e-mails: runs send them, so that no request waits for a mail server."""

import logging
from typing import Any

from django.conf import settings as django_settings
from django.db import router, transaction
from django.utils import translation

from oscar_bitsby import conf
from oscar_bitsby.choices import MailCode
from oscar_bitsby.models import BitsbyInvoice, BitsbyPayment, BitsbyRefund, BuyerMail

logger = logging.getLogger("oscar_bitsby")


def mail_key(
    code: str,
    order: Any,
    invoice: BitsbyInvoice | None = None,
    payment: BitsbyPayment | None = None,
    refund: BitsbyRefund | None = None,
    occasion: str = "",
) -> str:
    """Return the key of an e-mail: it names what it is about, and the link of a refund."""
    about = f"{invoice.pk if invoice else ''}:{payment.pk if payment else ''}"
    if refund is not None:
        about += f":{refund.pk}.{refund.link_version}"
    if occasion:
        about += f":{occasion}"
    return f"{code}:{order.pk}:{about}"


def enqueue(
    code: str,
    order: Any,
    invoice: BitsbyInvoice | None = None,
    payment: BitsbyPayment | None = None,
    refund: BitsbyRefund | None = None,
    occasion: str = "",
) -> None:
    """Enqueue an e-mail to the buyer of ``order``, unless it was enqueued before.

    The row belongs to the caller's transaction. Never raises: a failure is logged.

    Args:
        code: a ``MailCode``.
        order: the order; None when it was deleted, and then nothing is enqueued.
        invoice, payment, refund: what the e-mail is about: one e-mail for each, and for each link
            of a refund.
        occasion: tells apart e-mails about the same matter that are sent again on purpose.
    """
    try:
        if order is None or not conf.get().mails:
            return
        language = translation.get_language() or str(django_settings.LANGUAGE_CODE)
        mail = BuyerMail(
            code=code,
            key=mail_key(code, order, invoice, payment, refund, occasion),
            order=order,
            order_number=str(order.number),
            invoice=invoice,
            payment=payment,
            refund=refund,
            # The e-mail of placing the order stores the language of the buyer's request, and the
            # sender takes that of the other e-mails from it.
            language=language if code == MailCode.PLACED else "",
        )
        # A failed statement must not make the caller's transaction fail.
        with transaction.atomic(using=router.db_for_write(BuyerMail)):
            BuyerMail.objects.bulk_create([mail], ignore_conflicts=True)
    except Exception:
        logger.exception(
            "mail not enqueued: order=%s mail=%s", getattr(order, "number", None), code
        )
