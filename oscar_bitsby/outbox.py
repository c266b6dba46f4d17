"""Noting that a buyer is to be told something: in the transaction of what happened.

Nothing here sends, and nothing here can break what it is noted with. ``communication`` sends.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any

from django.conf import settings as django_settings
from django.db import router, transaction
from django.utils import timezone, translation

from oscar_bitsby import conf
from oscar_bitsby.decisions import Action, Do
from oscar_bitsby.mail_models import BuyerMail
from oscar_bitsby.models import BitsbyInvoice, BitsbyPayment

logger = logging.getLogger("oscar_bitsby")

#: Reasons of the money inbox that the buyer should know of. The others concern staff alone.
TOLD_REASONS = (
    BitsbyPayment.SHORT,
    BitsbyPayment.OVER,
    BitsbyPayment.LATE,
    BitsbyPayment.SECOND,
    BitsbyPayment.MISMATCH,
    BitsbyPayment.UNKNOWN_WORTH,
    BitsbyPayment.ENDED,
)
#: Sent by whoever noted them, once committed; when an order is placed, the checkout does that. The
#: others are left to the next pass: a moment later they may not be true any more, because staff
#: knew of the amount, or the buyer is paying again.
AT_ONCE = (BuyerMail.PAID,)

_left: ContextVar[bool] = ContextVar("bitsby_mails_left_for_later", default=False)


@contextmanager
def left_for_later() -> Iterator[None]:
    """Send nothing in the block: a slow mail server must not hold up a pass that settles money."""
    before = _left.set(True)
    try:
        yield
    finally:
        _left.reset(before)


def are_on() -> bool:
    """Tell whether the shop wants these mails."""
    return conf.get().mails


def note(
    code: str,
    order: Any,
    invoice: BitsbyInvoice | None = None,
    payment: BitsbyPayment | None = None,
) -> None:
    """Note that the buyer of ``order`` is to be told, unless that was noted before.

    Args:
        code: one of ``BuyerMail.CODES``.
        order: the order; None when it is gone, and then nobody can be told.
        invoice: what it is about; with it, each invoice of the order is told of once.
        payment: the same for a payment.
    """
    try:
        if order is None or not are_on():
            return
        about = f"{invoice.pk if invoice else ''}:{payment.pk if payment else ''}"
        # What fails here must not take the money's transaction with it.
        with transaction.atomic(using=router.db_for_write(BuyerMail)):
            mail, is_new = BuyerMail.objects.get_or_create(
                key=f"{code}:{order.pk}:{about}",
                defaults={
                    "code": code,
                    "order": order,
                    "order_number": str(order.number),
                    "invoice": invoice,
                    "payment": payment,
                    "language": _language_of(order, code),
                    "created_at": timezone.now(),
                    "try_after": timezone.now(),
                },
            )
        if is_new and code in AT_ONCE:
            send_after_commit(mail)
    except Exception:
        logger.exception("mail not noted: order=%s mail=%s", getattr(order, "number", None), code)


def send_after_commit(mail: BuyerMail) -> None:
    """Send a mail once the current transaction is committed, or now when there is none."""
    if not _left.get():
        transaction.on_commit(
            partial(_send, mail.pk), using=router.db_for_write(BuyerMail), robust=True
        )


def send_placed(order: Any) -> None:
    """Send the mail that was noted when the order was placed: now, or when it is committed."""
    mail = BuyerMail.objects.filter(order=order, code=BuyerMail.PLACED).first()
    if mail is not None:
        send_after_commit(mail)


def _send(mail_pk: Any) -> None:
    # It knows where orders stand, which rests on what notes mails: imported when all is loaded.
    from oscar_bitsby import communication

    communication.send(mail_pk)


def _language_of(order: Any, code: str) -> str:
    """Return the buyer's language: that of the request which placed the order."""
    if code == BuyerMail.PLACED:
        return translation.get_language() or str(django_settings.LANGUAGE_CODE)
    first = order.bitsby_mails.order_by("pk").first()
    return first.language if first is not None else str(django_settings.LANGUAGE_CODE)


def note_settled(
    actions: tuple[Action, ...],
    order: Any,
    invoice: BitsbyInvoice,
    payment: BitsbyPayment | None,
) -> None:
    """Note what the buyer is to be told of what settling did, one mail at most."""
    did = {action.do for action in actions}
    if any(action.do is Do.FLAG and action.reason in TOLD_REASONS for action in actions):
        if payment is not None:
            note(BuyerMail.AMOUNT, order, payment=payment)
    elif Do.BOOK in did:
        note(BuyerMail.PAID, order)
    elif Do.EXPIRE in did:
        note(BuyerMail.EXPIRED, order, invoice=invoice)
