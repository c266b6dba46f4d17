"""Noting that a buyer is to be told something: in the transaction of what happened.

Nothing here sends, and nothing here can break what it is noted with. Passes send
(``communication``): no buyer, delivery or worker waits for a mail server.
"""

from __future__ import annotations

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
    """Tell whether the shop wants these mails."""
    return conf.get().mails


def enqueue(
    code: str,
    order: Any,
    invoice: BitsbyInvoice | None = None,
    payment: BitsbyPayment | None = None,
) -> None:
    """Note that the buyer of ``order`` is to be told, unless that was noted before.

    Args:
        code: one of ``MailCode.choices``.
        order: the order; None when it is gone, and then nobody can be told.
        invoice: what it is about; with it, each invoice of the order is told of once.
        payment: the same for a payment.
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
            # Of the others it is looked up when they are sent: nobody waits for that.
            language=_language() if code == MailCode.PLACED else "",
        )
        # What fails here must not take the money's transaction with it.
        with transaction.atomic(using=router.db_for_write(BuyerMail)):
            BuyerMail.objects.bulk_create([mail], ignore_conflicts=True)
    except Exception:
        logger.exception("mail not noted: order=%s mail=%s", getattr(order, "number", None), code)


def _language() -> str:
    """Return the language of the request that places an order."""
    return translation.get_language() or str(django_settings.LANGUAGE_CODE)
