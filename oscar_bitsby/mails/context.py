"""The context of an e-mail's templates, and whether the e-mail is still true when it is sent."""

import datetime as dt
from typing import Any

from django.conf import settings as django_settings
from django.contrib.sites.models import Site
from django.utils import timezone, translation
from django.utils.translation import gettext_noop
from oscar.core.loading import get_class
from oscar.templatetags.url_tags import absolute_url

from oscar_bitsby import conf
from oscar_bitsby.accounting import ledger
from oscar_bitsby.accounting.refundable import open_refunds
from oscar_bitsby.choices import MailCode, Resolution
from oscar_bitsby.mails import refund_context
from oscar_bitsby.models import BuyerMail
from oscar_bitsby.orders import payment_status as status
from oscar_bitsby.orders import signed_urls, stage
from oscar_bitsby.orders.payment_status import PaymentStatus

Dispatcher = get_class("communication.utils", "Dispatcher")

#: With less time left than this, no e-mail asks the buyer to pay.
MIN_TIME_LEFT = dt.timedelta(minutes=5)


def skip_reason(mail: BuyerMail) -> str:
    """Return why an e-mail must not be sent (any more), or an empty text."""
    order: Any = mail.order
    if order is None:
        return gettext_noop("the order was deleted")
    if not conf.get().mails:
        return gettext_noop("e-mails are switched off")
    if not order.email:
        return gettext_noop("the buyer has no e-mail address")
    if mail.code in refund_context.VALID_STATES:
        return refund_context.skip_reason(mail)
    now = status.get_payment_status(order)
    if mail.code == MailCode.OTHER_AMOUNT:
        is_open = mail.payment is not None and mail.payment.needs_review
        return "" if is_open else gettext_noop("the payment is resolved")
    if mail.code == MailCode.REST:
        return _skip_rest_reason(mail)
    if now.state not in VALID_STATUSES[mail.code]:
        return STATUS_REASONS[now.state]
    if mail.code == MailCode.PLACED and now.hold_ended:
        return gettext_noop("too little time is left to pay")
    if mail.code in (MailCode.PLACED, MailCode.CANCELLED) and (
        ledger.has_money(order) or ledger.has_unbooked_money(order)
    ):
        # One asks for the total, perhaps beside an e-mail that asks for the rest; the other says
        # that nothing was paid.
        return gettext_noop("money has arrived")
    if mail.code in (MailCode.REMINDER, MailCode.EXPIRED):
        return _skip_payment_reason(mail, now)
    return ""


VALID_STATUSES: dict[str, tuple[str, ...]] = {
    MailCode.PLACED: (status.NEW, status.WAITING, status.POSSIBLE_MISMATCH),
    MailCode.PAID: (status.PAID,),
    MailCode.REMINDER: (status.WAITING,),
    MailCode.EXPIRED: (status.EXPIRED, status.POSSIBLE_MISMATCH),
    MailCode.CANCELLED: (status.CANCELLED,),
}

STATUS_REASONS = {
    status.NEW: gettext_noop("no payment has been started"),
    status.WAITING: gettext_noop("the order is waiting for payment"),
    status.POSSIBLE_MISMATCH: gettext_noop("a payment that may belong to the order needs review"),
    status.UNDER_REVIEW: gettext_noop("a payment of the order is under review"),
    status.PAID: gettext_noop("the order is paid"),
    status.EXPIRED: gettext_noop("the payment window has closed"),
    status.CANCELLED: gettext_noop("the order is cancelled"),
    status.OTHER: gettext_noop("the shop handles the order in another way"),
}


def _skip_payment_reason(mail: BuyerMail, now: PaymentStatus) -> str:
    """Return why the buyer must not be asked to pay, or to pay again, or an empty text."""
    invoice = now.invoice
    if invoice is None or mail.invoice_id != invoice.pk:
        return gettext_noop("there is a newer invoice")
    if now.state == status.POSSIBLE_MISMATCH:
        # It asks to wait for the shop, not to pay.
        return ""
    deadline = now.until if mail.code == MailCode.REMINDER else _kept_until(mail.order, now)
    if deadline is not None and deadline - timezone.now() < MIN_TIME_LEFT:
        return gettext_noop("too little time is left to pay")
    return ""


def _skip_rest_reason(mail: BuyerMail) -> str:
    """Return why the buyer must not be asked for the rest (any more), or an empty text."""
    order: Any = mail.order
    settings, payment = conf.get(), mail.payment
    is_asked = payment is not None and payment.resolution == Resolution.ASKED
    is_pending = stage.order_stage(settings, order) is stage.OrderStage.PENDING
    is_due = ledger.amount_to_pay(order) > 0 and not open_refunds(order)
    if not is_asked or not is_pending or not is_due:
        return gettext_noop("the rest is no longer asked for")
    until = _rest_until(order)
    if until is not None and until - timezone.now() < MIN_TIME_LEFT:
        return gettext_noop("too little time is left to pay")
    return ""


def _rest_until(order: Any) -> dt.datetime | None:
    """Return until when the rest of an order can be paid; None if the buyer has no limit."""
    asked_at = ledger.rest_asked_at(order)
    return None if asked_at is None else stage.hold_deadline(order, conf.get(), asked_at)


def language_of(mail: BuyerMail) -> str:
    """Return the language that the order was placed in, or the shop's if it is not available."""
    others = BuyerMail.objects.filter(order=mail.order).exclude(language="")
    language = mail.language or others.order_by("pk").values_list("language", flat=True).first()
    if language and translation.check_for_language(language):
        return str(language)
    return str(django_settings.LANGUAGE_CODE)


def render(mail: BuyerMail) -> dict[str, str]:
    """Return subject, body and html, in the mail's language and the shop's time zone."""
    zone = timezone.get_default_timezone()
    with translation.override(mail.language), timezone.override(zone):
        messages: dict[str, str] = Dispatcher().get_messages(mail.code, build_context(mail))
        # A lazy text would be translated again outside of this language.
        return {name: str(text) for name, text in messages.items()}


def build_context(mail: BuyerMail) -> dict[str, Any]:
    """Return what an e-mail's templates get in addition to Oscar's ``site``.

    ``received`` is money in the order's currency, ``coins`` the amount of the transfer in its
    coin, ``reason`` a ``ReviewReason``, ``until`` when an invoice can be paid, ``kept_until`` when
    an unpaid order is cancelled, or None, and ``time_zone`` that of all times. ``missing`` is what
    can be paid now in the order's currency, and ``rest_until`` until when a rest can be paid.
    ``is_on_shop_page`` is true where the order is paid on its page in the shop.
    """
    order: Any = mail.order
    now = status.get_payment_status(order)
    payment = mail.payment
    return {
        "order": order,
        "payment_status": now,
        "user": order.user,
        "order_url": absolute_url(Site.objects.get_current().domain, signed_urls.order_url(order)),
        "received": (
            payment.fiat_value if payment else ledger.amount_held(list(order.sources.all()))
        ),
        "coins": str(payment).upper() if payment else "",
        "reason": payment.review_reason if payment else "",
        "until": now.until,
        "missing": ledger.amount_to_pay(order),
        "rest_until": _rest_until(order),
        "kept_until": _kept_until(order, now),
        "time_zone": timezone.get_current_timezone_name(),
        "is_on_shop_page": conf.get().pays_in_shop,
        "invoice": mail.invoice or now.invoice,
        "payment": payment,
        **refund_context.build_context(mail),
    }


def _kept_until(order: Any, now: PaymentStatus) -> dt.datetime | None:
    """Return until when an order without a live invoice can be paid, or None if there is no end.

    Then the unpaid order is cancelled. One that is paid in part is not: staff decide about it.
    """
    settings = conf.get()
    unpaid = (status.NEW, status.POSSIBLE_MISMATCH, status.EXPIRED)
    # While an invoice is live the time is unknown: the buyer may request another one after it.
    if now.state not in unpaid or now.until is not None:
        return None
    if now.missing:
        return _rest_until(order)
    return stage.cancellation_deadline(order, order.bitsby_invoices.all(), settings)
