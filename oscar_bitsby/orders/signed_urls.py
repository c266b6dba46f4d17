"""Signed URLs of the pages of an order and of a refund.

Anyone who has the URL of an order can see and pay that order only. The URL of a refund opens that
refund only. It expires, since it decides where money goes.
"""

import datetime as dt
from typing import Any

from django.conf import settings
from django.core import signing
from django.http import Http404
from django.urls import NoReverseMatch, reverse
from django.utils.translation import gettext as _
from oscar.core.loading import get_model

from oscar_bitsby.models import BitsbyRefund

Order = get_model("order", "Order")

#: How long the URL of a refund is valid.
REFUND_URL_MAX_AGE = dt.timedelta(days=30)


class LinkExpired(Http404):
    """The URL of a refund is authentic, but too old, or replaced by a newer one."""


def sign_order_number(order_number: str) -> str:
    """Return the token of an order. It does not expire, since e-mails are read late."""
    # sign_object encodes it: an order's number can have characters that a path cannot.
    return signing.Signer(salt="oscar_bitsby.order").sign_object(str(order_number))


def order_url(order: Any) -> str:
    """Return the path of the order's page for its buyer."""
    return reverse("oscar_bitsby:order", args=[sign_order_number(order.number)])


def pay_url(order: Any) -> str:
    """Return the path that redirects the buyer to the payment page."""
    return reverse("oscar_bitsby:pay", args=[sign_order_number(order.number)])


def state_url(order: Any) -> str:
    """Return the path that the order's page polls for its payment status."""
    return reverse("oscar_bitsby:state", args=[sign_order_number(order.number)])


def reorder_url(order: Any) -> str:
    """Return the path that adds the order's lines to the buyer's basket."""
    return reverse("oscar_bitsby:again", args=[sign_order_number(order.number)])


def shop_url(order: Any) -> str | None:
    """Return the path of Oscar's page of the order in an account, or None if there is none.

    Oscar's page of a guest's order first asks each browser for the e-mail address.
    """
    if order.user_id is None:
        return None
    try:
        return reverse("customer:order", args=[order.number])
    except NoReverseMatch:
        return None


def home_url() -> str | None:
    """Return the path of the shop's homepage, or None if the shop has none."""
    try:
        return str(getattr(settings, "OSCAR_HOMEPAGE", "")) or None
    except NoReverseMatch:
        return None


def order_number_from_token(token: str) -> str:
    """Return the order number in a token.

    Raises:
        Http404: the signature is not valid.
    """
    try:
        return str(signing.Signer(salt="oscar_bitsby.order").unsign_object(token))
    except (signing.BadSignature, ValueError):
        raise Http404(_("There is no such order.")) from None


def order_of(number: str) -> Any:
    """Return the order with this number.

    Raises:
        Http404: there is no such order.
    """
    order = Order._default_manager.filter(number=number).first()
    if order is None:
        raise Http404(_("There is no such order."))
    return order


def order_from_token(token: str) -> Any:
    """Return the order of a token.

    Raises:
        Http404: the signature is not valid, or there is no such order.
    """
    return order_of(order_number_from_token(token))


def refund_url(refund: BitsbyRefund) -> str:
    """Return the path of the page where the buyer gives the address for a refund.

    It is valid for ``REFUND_URL_MAX_AGE``, and until the refund has another ``link_version``.
    """
    token = _refund_signer().sign_object([refund.pk, refund.link_version])
    return reverse("oscar_bitsby:refund", args=[token])


def refund_from_token(token: str) -> BitsbyRefund:
    """Return the refund of a token.

    Raises:
        LinkExpired: the token is too old, or the refund has a newer link.
        Http404: the signature is not valid, or there is no such refund.
    """
    message = _("This link is not valid.")
    try:
        pk, link_version = _refund_signer().unsign_object(token, max_age=REFUND_URL_MAX_AGE)
        refund = BitsbyRefund.objects.select_related("order").filter(pk=pk).first()
    except signing.SignatureExpired:
        raise LinkExpired(message) from None
    except (signing.BadSignature, ValueError, TypeError):
        raise Http404(message) from None
    if refund is None:
        raise Http404(message)
    if refund.link_version != link_version:
        raise LinkExpired(message)
    return refund


def _refund_signer() -> signing.TimestampSigner:
    return signing.TimestampSigner(salt="oscar_bitsby.refund")
