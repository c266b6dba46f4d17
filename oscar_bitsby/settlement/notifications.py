"""Which e-mail follows from the actions of settling."""

from typing import Any

from oscar_bitsby.accounting.matching import suggest_invoices
from oscar_bitsby.choices import MailCode, MailStatus, ReviewReason
from oscar_bitsby.mails.outbox import enqueue
from oscar_bitsby.models import BitsbyInvoice, BitsbyPayment, BuyerMail
from oscar_bitsby.settlement.rules import Action, ActionType

#: An order gets at most this many e-mails about expired invoices, however many its buyer requests.
MAX_EXPIRED_MAILS = 2
#: Review reasons that the buyer gets an e-mail about. The others concern staff only.
NOTIFY_REASONS = (
    ReviewReason.SHORT,
    ReviewReason.OVER,
    ReviewReason.LATE,
    ReviewReason.CANCELLED,
    ReviewReason.SECOND,
    ReviewReason.MISMATCH,
    ReviewReason.UNKNOWN_VALUE,
    ReviewReason.NOT_PAID,
)


def enqueue_for_actions(
    actions: tuple[Action, ...], order: Any, invoice: BitsbyInvoice, payment: BitsbyPayment | None
) -> None:
    """Enqueue the e-mail to the buyer that the actions call for, one at most."""
    types = {action.type for action in actions}
    if any(action.reason in NOTIFY_REASONS for action in actions):
        enqueue(MailCode.OTHER_AMOUNT, order, payment=payment)
    elif ActionType.ASK_FOR_REST in types and payment is not None:
        enqueue_rest(order, payment)
    elif ActionType.BOOK in types:
        enqueue(MailCode.PAID, order)
    elif ActionType.EXPIRE in types and _may_mail_expiry(order):
        enqueue(MailCode.EXPIRED, order, invoice=invoice)


def enqueue_rest(order: Any, payment: BitsbyPayment) -> None:
    """Enqueue the e-mail that asks for the rest, each time that the buyer is asked."""
    asked_at = payment.resolved_at
    occasion = "" if asked_at is None else f"{asked_at:%Y%m%d%H%M%S}"
    enqueue(MailCode.REST, order, payment=payment, occasion=occasion)


def enqueue_if_second(payment: BitsbyPayment) -> None:
    """Enqueue the e-mail about an unbound payment that a paid order's buyer seems to have sent."""
    match = suggest_invoices([payment]).found.get(payment.pk)
    if match is not None and match.is_second:
        enqueue(MailCode.OTHER_AMOUNT, match.invoice.order, payment=payment)


def _may_mail_expiry(order: Any) -> bool:
    """Tell whether the locked order may get an e-mail about another expired invoice."""
    mails = BuyerMail.objects.filter(order=order, code=MailCode.EXPIRED)
    return mails.exclude(status=MailStatus.DROPPED).count() < MAX_EXPIRED_MAILS
