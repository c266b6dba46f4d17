"""What staff read before they confirm a binding: the two sides, the effects, and warnings."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from django.utils.formats import date_format, localize, number_format
from django.utils.timezone import localtime
from django.utils.translation import gettext as _
from oscar.templatetags.currency_filters import currency

from oscar_bitsby import conf
from oscar_bitsby.accounting import ledger
from oscar_bitsby.accounting.matching import LIKELY_PERCENT, Match, suggest_invoices
from oscar_bitsby.models import BitsbyInvoice, BitsbyPayment
from oscar_bitsby.orders.stage import OrderStage, order_stage
from oscar_bitsby.settlement import rests
from oscar_bitsby.utils.blockchains import network_name, transaction_url


@dataclass(frozen=True)
class Effects:
    """What binding does: for each button a sentence, and whether the second one is offered.

    ``ask`` is empty if the payment is not short, or if the buyer cannot be asked for the rest;
    ``why_not_ask`` says why.
    """

    confirm: str
    ask: str = ""
    why_not_ask: str = ""


def difference_of(match: Match) -> str:
    """Return the difference from what the invoice asked for, as an amount and in percent."""
    if match.difference is None or match.deviation_percent is None:
        return _("unknown")
    percent = number_format(round(match.deviation_percent, 1), decimal_pos=1)
    sign = "+" if match.difference > 0 else ""
    amount = f"{sign}{currency(match.difference, match.invoice.currency)}"
    return _("%(amount)s (%(percent)s %%)") % {"amount": amount, "percent": f"{sign}{percent}"}


def effects_of(order: Any, match: Match | None, invoice: BitsbyInvoice) -> Effects:
    """Return what will happen when the payment is bound to the invoice of the order."""
    value = match.fiat_value if match is not None else None
    if value is None:
        return Effects(
            _(
                "The value of this payment is not known yet. After binding, the payment is booked"
                " at the value that Bitsby reports, or it appears in Payments to review."
            )
        )
    settings = conf.get()
    stage, total = order_stage(settings, order), order.total_incl_tax
    held = ledger.amount_held(list(order.sources.all()))
    missing = total - held - value
    words = {"value": currency(value, order.currency)}
    words["difference"] = currency(abs(missing), order.currency)
    if stage is OrderStage.CANCELLED:
        text = _(
            "%(value)s will be booked. The order stays cancelled, and the payment waits in Payments"
            " to review until you reinstate the order or refund the payment."
        )
    elif held > 0 and held >= total:
        text = _(
            "%(value)s will be booked. The order is paid already, so the payment waits in Payments"
            " to review until you refund it."
        )
    elif abs(missing) <= settings.tolerance.of(invoice.amount, invoice.currency):
        text = _("%(value)s will be booked, and the order becomes paid if it is still pending.")
    elif missing < 0:
        text = _(
            "%(value)s will be booked, and the order becomes paid if it is still pending. The"
            " payment waits in Payments to review, because it is %(difference)s more than the order"
            " needs, until you refund the surplus or accept the payment."
        )
    else:
        text = _(
            "%(value)s will be booked, and the order becomes paid if it is still pending, although"
            " %(difference)s is missing. The payment waits in Payments to review until you accept"
            " or refund it."
        )
        return _effects_if_short(text, words, order, missing)
    return Effects(text % words)


def _effects_if_short(text: str, words: dict[str, str], order: Any, missing: Decimal) -> Effects:
    settings = conf.get()
    if order_stage(settings, order) is not OrderStage.PENDING:
        return Effects(text % words, why_not_ask=_("The order is not pending."))
    if why_not := rests.why_not(order, missing, settings):
        return Effects(text % words, why_not_ask=why_not)
    ask = _(
        "%(value)s will be booked, the order stays pending, and its buyer is asked for the"
        " rest of %(difference)s by e-mail."
    )
    return Effects(text % words, ask % words)


def warnings_of(order: Any, match: Match | None) -> list[str]:
    """Return why this binding may be wrong, for staff."""
    warnings = []
    if order_stage(conf.get(), order) is OrderStage.CANCELLED:
        warnings.append(_("The order is cancelled."))
    if match is None:
        return warnings
    deviation, payment = match.deviation_percent, match.payment
    if deviation is not None and abs(deviation) > LIKELY_PERCENT:
        text = _("The payment differs by more than %(percent)s %% from what was asked.")
        warnings.append(text % {"percent": LIKELY_PERCENT})
    created = match.invoice.created_at
    if payment.transaction_at is not None and payment.transaction_at < created:
        text = _("The payment is older than the invoice, which was created %(created)s.")
        at = date_format(localtime(created), "SHORT_DATETIME_FORMAT")
        warnings.append(text % {"created": at})
    warnings.extend(_other_order(order, match))
    return warnings


def _other_order(order: Any, match: Match) -> list[str]:
    """Return the warning that the payment fits another order better, if it does."""
    best = suggest_invoices([match.payment]).found.get(match.payment.pk)
    if best is None:
        return []
    words = {"number": best.invoice.order_number, "asked": localize(best.invoice.amount)}
    words["currency"] = best.invoice.currency
    if best.is_second:
        text = _("It looks like a second payment for order %(number)s. Refund it instead.")
        return [text % words]
    is_better = (best.is_likely, best.score) > (match.is_likely, match.score)
    if best.invoice.order_id == order.pk or not is_better:
        return []
    text = _("The payment fits order %(number)s better, which asked for %(asked)s %(currency)s.")
    return [text % words]


def coins_of(payment: BitsbyPayment) -> str:
    """Return the amount and the coin of a payment, with the network's name."""
    network = network_name(payment.blockchain, payment.cryptocurrency)
    return f"{payment}, {network}" if network else str(payment)


def explorer_url(payment: BitsbyPayment | None) -> str:
    """Return the address of a payment's transaction in a block explorer, or nothing."""
    return transaction_url(payment.blockchain, payment.hash) if payment is not None else ""
