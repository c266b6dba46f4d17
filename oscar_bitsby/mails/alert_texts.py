"""What an alert says, and whether it is still true: both are decided when it is sent."""

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from django.contrib.sites.models import Site
from django.urls import reverse
from django.utils.dateparse import parse_datetime
from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop
from oscar.templatetags.url_tags import absolute_url

from oscar_bitsby import conf
from oscar_bitsby.choices import AlertCode, AuditState, RefundState
from oscar_bitsby.gateway.balance import REMEDY, consequence
from oscar_bitsby.mails import merchant_alerts, refund_context
from oscar_bitsby.models import AuditRun, BitsbyInvoice, GatewayState, MerchantAlert
from oscar_bitsby.utils.clock import db_now
from oscar_bitsby.utils.money import plain_amount

#: An older alert that is not about a payment or refund is not sent: it is out of date.
MAX_AGE = dt.timedelta(days=1)
#: These two are sent however old they are: somebody still has to act.
_NEVER_OUTDATED = (AlertCode.PAYMENT, AlertCode.REFUND_ADDRESS)


@dataclass(frozen=True)
class AlertText:
    """An alert in words. The texts have no line breaks.

    ``amount`` is in the coin and ``value`` in the order's currency: an empty text if there is none.
    """

    title: str
    text: str
    url: str
    amount: str = ""
    coin: str = ""
    value: str = ""
    currency: str = ""


def skip_reason(alert: MerchantAlert) -> str:
    """Return why an alert must not be sent (any more), or an empty text."""
    is_old = alert.created_at <= db_now() - MAX_AGE
    if is_old and alert.code not in _NEVER_OUTDATED:
        return gettext_noop("could not be sent within a day")
    skip = _SKIP_REASONS.get(alert.code)
    return skip(alert) if skip else ""


def _skip_payment(alert: MerchantAlert) -> str:
    payment = alert.payment
    if payment is None:
        return gettext_noop("the payment was deleted")
    return "" if payment.needs_review else gettext_noop("the payment is resolved")


def _skip_refund(alert: MerchantAlert) -> str:
    refund = alert.refund
    if refund is None:
        return gettext_noop("the refund was deleted")
    state = RefundState(refund.state)
    if state != RefundState.ADDRESS_GIVEN:
        return refund_context.STATE_REASONS[state]
    is_newest = alert.key == merchant_alerts.alert_key(
        alert.code, refund=refund, occasion=str(refund.link_version)
    )
    return "" if is_newest else gettext_noop("the refund has a newer address")


def _skip_refusal(alert: MerchantAlert) -> str:
    completed = GatewayState.row().filter(last_run_at__gt=alert.created_at)
    return gettext_noop("Bitsby answers again") if completed.exists() else ""


def _skip_block(alert: MerchantAlert) -> str:
    created = BitsbyInvoice.objects.filter(created_at__gt=alert.created_at, bitsby_id__isnull=False)
    return gettext_noop("Bitsby creates invoices again") if created.exists() else ""


def _skip_balance(alert: MerchantAlert) -> str:
    balance = GatewayState.row().values_list("balance", flat=True).first()
    minimum = conf.get().balance_min or 0
    is_enough = balance is not None and balance >= max(minimum, 0)
    return gettext_noop("the balance is high enough") if is_enough else ""


def _skip_audit(alert: MerchantAlert) -> str:
    newest = AuditRun.objects.finished().first()
    is_proved = newest is not None and newest.state == AuditState.PROVED
    return gettext_noop("a later audit found no differences") if is_proved else ""


_SKIP_REASONS: dict[str, Callable[[MerchantAlert], str]] = {
    AlertCode.PAYMENT: _skip_payment,
    AlertCode.REFUND_ADDRESS: _skip_refund,
    AlertCode.KEY_REFUSED: _skip_refusal,
    AlertCode.ACCOUNT_BLOCKED: _skip_block,
    AlertCode.LOW_BALANCE: _skip_balance,
    AlertCode.AUDIT_FAILED: _skip_audit,
}


def build(alert: MerchantAlert) -> AlertText:
    """Return what an alert says, in the active language."""
    text, amounts = _TEXTS[alert.code](alert)
    title, url = str(AlertCode(alert.code).label), page_url(alert.code, alert)
    return AlertText(title, _one_line(text), url, **amounts)


def _payment_text(alert: MerchantAlert) -> tuple[str, dict[str, str]]:
    payment: Any = alert.payment
    amounts = {
        "amount": plain_amount(payment.amount),
        "coin": payment.cryptocurrency.upper(),
        "value": _plain_money(payment.fiat_value),
        "currency": payment.currency,
    }
    known = {"amount": _amount(**amounts), "reason": payment.review_text}
    if not alert.order_number:
        return _("%(amount)s, order unknown: %(reason)s.") % known, amounts
    known["order"] = alert.order_number
    return _("Order %(order)s, %(amount)s: %(reason)s.") % known, amounts


def _refund_text(alert: MerchantAlert) -> tuple[str, dict[str, str]]:
    refund: Any = alert.refund
    amounts = {
        "amount": plain_amount(refund.coin_amount),
        "coin": refund.cryptocurrency.upper(),
        "value": _plain_money(refund.amount),
        "currency": refund.currency,
    }
    known = {"amount": _amount(**amounts), "order": alert.order_number}
    if not alert.order_number:
        return _("The address for a refund of %(amount)s was given.") % known, amounts
    text = _("Order %(order)s: the address for a refund of %(amount)s was given.")
    return text % known, amounts


def _refusal_text(alert: MerchantAlert) -> tuple[str, dict[str, str]]:
    text = _(
        "Bitsby refuses the shop's requests, so payments are not found. Check the API key and the"
        " project, or sign in at Bitsby."
    )
    return f"{text} {_answer_text(alert)}", {}


def _block_text(alert: MerchantAlert) -> tuple[str, dict[str, str]]:
    text = _(
        "Bitsby refuses new invoices, so buyers cannot pay. Sign in at Bitsby: the balance may be"
        " negative, or the account may be blocked."
    )
    return f"{text} {_answer_text(alert)}", {}


def _answer_text(alert: MerchantAlert) -> str:
    return _("Bitsby's answer: %(reason)s") % {"reason": alert.details.get("reason") or "–"}


def _balance_text(alert: MerchantAlert) -> tuple[str, dict[str, str]]:
    balance = str(alert.details.get("balance", ""))
    amounts = {"value": balance, "currency": "USD"}
    minimum = conf.get().balance_min or Decimal(0)
    text = consequence(Decimal(balance or 0), minimum, alert.created_at)
    return f"{text} {_(REMEDY)}", amounts


def _overdue_text(alert: MerchantAlert) -> tuple[str, dict[str, str]]:
    last = parse_datetime(str(alert.details.get("last_run", "")))
    when = f"{last:%Y-%m-%d %H:%M} UTC" if last else "–"
    if GatewayState.row().filter(last_run_at__gt=alert.created_at).exists():
        text = _(
            "No run of bitsby_reconcile completed for some time after %(when)s, so payments were"
            " not checked. Runs complete again. Find out why they stopped: see the log, and cron or"
            " the service."
        )
    else:
        text = _(
            "No run of bitsby_reconcile has completed since %(when)s, so payments may be missing."
            " Either the command is not running, or Bitsby does not answer. Run bitsby_doctor to"
            " find out."
        )
    return text % {"when": when}, {}


def _audit_text(alert: MerchantAlert) -> tuple[str, dict[str, str]]:
    text = _(
        "The audit found differences between Bitsby's lists and the shop's records: %(number)s."
        " Run bitsby_audit again: it names each difference and says what to do."
    )
    return text % {"number": alert.details.get("differences") or "–"}, {}


_TEXTS: dict[str, Callable[[MerchantAlert], tuple[str, dict[str, str]]]] = {
    AlertCode.PAYMENT: _payment_text,
    AlertCode.REFUND_ADDRESS: _refund_text,
    AlertCode.KEY_REFUSED: _refusal_text,
    AlertCode.ACCOUNT_BLOCKED: _block_text,
    AlertCode.LOW_BALANCE: _balance_text,
    AlertCode.RUNS_OVERDUE: _overdue_text,
    AlertCode.AUDIT_FAILED: _audit_text,
}


def page_url(code: str, alert: MerchantAlert | None = None) -> str:
    """Return the complete address of the page about an alert, or about all alerts of a code."""
    name, query = "dashboard-inbox", ""
    args: list[Any] = []
    if code == AlertCode.REFUND_ADDRESS:
        name = "dashboard-refunds"
        if alert is not None and alert.refund is not None:
            name, args = "dashboard-refund", [alert.refund.pk]
    elif code == AlertCode.PAYMENT and alert is not None and alert.payment is not None:
        query = f"?q={alert.payment.bitsby_id}"
    elif code == AlertCode.ACCOUNT_BLOCKED:
        name = "dashboard-invoices"
    elif code == AlertCode.AUDIT_FAILED:
        name = "dashboard-overview"
    path = reverse(f"oscar_bitsby:{name}", args=args) + query
    return str(absolute_url(Site.objects.get_current().domain, path))


def _amount(amount: str, coin: str, value: str, currency: str) -> str:
    coins = f"{amount} {coin}".strip()
    return f"{coins} ({value} {currency})" if value else coins


def _plain_money(amount: Any) -> str:
    return "" if amount is None else f"{amount:.2f}"


def _one_line(text: str) -> str:
    """Return a text without line breaks: Bitsby's words may hold anything."""
    return " ".join(text.split())
