"""Paying on the order's page, where ``PAYMENT_PAGE`` says so: the coins and addresses it shows."""

import logging
from dataclasses import dataclass, field
from typing import Any

from django.http import HttpRequest, HttpResponse

from oscar_bitsby import conf
from oscar_bitsby.buyer.payment_options import PaymentOption, payment_options
from oscar_bitsby.exceptions import BitsbyError
from oscar_bitsby.facade import payment_page
from oscar_bitsby.models import BitsbyInvoice
from oscar_bitsby.orders.payment_status import POSSIBLE_MISMATCH, WAITING, PaymentStatus

logger = logging.getLogger("oscar_bitsby")

#: Parameters of the page's URL: the chosen coin, and "1" where the buyer says that a payment of
#: another amount is not theirs.
COIN, UNPAID = "coin", "unpaid"
#: Remembers the coin that the buyer has chosen last, for a year.
COOKIE, COOKIE_MAX_AGE = "bitsby_coin", 365 * 24 * 60 * 60


@dataclass(frozen=True)
class PayHere:
    """What the order's page shows to pay on it; nothing by default."""

    #: The coins to choose from.
    options: list[PaymentOption] = field(default_factory=list)
    #: The coin whose address is shown; None until the buyer has chosen one of several.
    chosen: PaymentOption | None = None
    #: Bitsby's page of the invoice; None where nothing is to be paid, or the page is refused.
    hosted_url: str | None = None
    #: The invoice waits for its payment, but may be cancelled at any moment.
    is_withheld: bool = False


def pay_here(request: HttpRequest, order: Any, status: PaymentStatus) -> PayHere:
    """Return what the order's page shows to pay on it, and record when that is an address.

    Args:
        status: the order's payment status, read for this request.
    """
    invoice = status.invoice
    if invoice is None or not conf.get().pays_in_shop or not _can_be_paid(request, order, status):
        return PayHere()
    options = payment_options(invoice)
    if not options:
        return PayHere(hosted_url=_hosted_url(invoice))
    chosen = _chosen_option(request, options)
    if status.is_being_cancelled or (chosen is not None and not invoice.show_addresses()):
        return PayHere(is_withheld=True)
    return PayHere(options, chosen, _hosted_url(invoice))


def remember_coin(request: HttpRequest, response: HttpResponse, shown: PayHere) -> None:
    """Set the cookie of the chosen coin, if this request has chosen it."""
    if shown.chosen is not None and request.GET.get(COIN) == shown.chosen.key:
        response.set_cookie(
            COOKIE,
            shown.chosen.key,
            max_age=COOKIE_MAX_AGE,
            secure=request.is_secure(),
            httponly=True,
            samesite="Lax",
        )


def _can_be_paid(request: HttpRequest, order: Any, status: PaymentStatus) -> bool:
    """Tell whether the newest invoice is live, asks for what is owed, and should be paid now."""
    if status.state == POSSIBLE_MISMATCH:
        # Many buyers have paid then, and must not pay again without a thought.
        is_asked_for = request.GET.get(UNPAID) == "1" and status.until is not None
    else:
        is_asked_for = status.state == WAITING
    invoice = status.invoice
    return is_asked_for and invoice is not None and invoice.fits(order, status.to_pay)


def _chosen_option(request: HttpRequest, options: list[PaymentOption]) -> PaymentOption | None:
    if len(options) == 1:
        return options[0]
    by_key = {option.key: option for option in options}
    return by_key.get(request.GET.get(COIN, "")) or by_key.get(request.COOKIES.get(COOKIE, ""))


def _hosted_url(invoice: BitsbyInvoice) -> str | None:
    try:
        return payment_page(invoice)
    except BitsbyError as error:
        logger.error("order %s: %s", invoice.order_number, error)
        return None
