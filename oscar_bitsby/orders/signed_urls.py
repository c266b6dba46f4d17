"""Signed URLs of an order's pages. Anyone who has one can see and pay that order only."""

from typing import Any

from django.core import signing
from django.http import Http404
from django.urls import NoReverseMatch, reverse
from django.utils.translation import gettext as _
from oscar.core.loading import get_model

Order = get_model("order", "Order")


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
    """Return the path of Oscar's page of the order, or None if the shop has none."""
    try:
        if order.user_id is not None:
            return reverse("customer:order", args=[order.number])
        return reverse("customer:anon-order", args=[order.number, order.verification_hash()])
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
