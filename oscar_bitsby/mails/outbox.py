"""Transactional outbox for e-mails: a row is written in the transaction that causes the e-mail.

Nothing is sent here, and no failure here affects that transaction. Reconcile runs send the rows
(``sender``), so that no buyer, webhook delivery or worker waits for a mail server.
"""

import logging
from typing import Any

from django.conf import settings as django_settings
from django.db import router, transaction
from django.utils import translation

from oscar_bitsby import conf
from oscar_bitsby.choices import MailCode
from oscar_bitsby.models import BitsbyInvoice, BitsbyPayment, BuyerMail

logger = logging.getLogger("oscar_bitsby")


def is_enabled() -> bool:
    """Return whether the shop has switched these e-mails on."""
    return conf.get().mails


def enqueue(
    code: str,
    order: Any,
    invoice: BitsbyInvoice | None = None,
    payment: BitsbyPayment | None = None,
) -> None:
    """Enqueue an e-mail to the buyer of ``order``, unless it was enqueued before.

    Never raises: a failure is logged.

    Args:
        code: a ``MailCode``.
        order: the order; None when it was deleted, and then nothing is enqueued.
        invoice: the invoice that the e-mail is about: one e-mail for each.
        payment: the payment that the e-mail is about: one e-mail for each.
    """
    try:
        if order is None or not is_enabled():
            return
        about = f"{invoice.pk if invoice else ''}:{payment.pk if payment else ''}"
        mail = BuyerMail(
            code=code,
            key=f"{code}:{order.pk}:{about}",
            order=order,
            order_number=str(order.number),
            invoice=invoice,
            payment=payment,
            # The sender takes the language of the other e-mails from the first one.
            language=_language() if code == MailCode.PLACED else "",
        )
        # A failed statement must not make the caller's transaction fail.
        with transaction.atomic(using=router.db_for_write(BuyerMail)):
            BuyerMail.objects.bulk_create([mail], ignore_conflicts=True)
    except Exception:
        logger.exception(
            "mail not enqueued: order=%s mail=%s", getattr(order, "number", None), code
        )


def _language() -> str:
    """Return the language of the request that places an order."""
    return translation.get_language() or str(django_settings.LANGUAGE_CODE)
