"""Signed links to an order's pages: whoever has one may see and pay that order, and no other."""

from __future__ import annotations

from typing import Any

from django.core import signing
from django.http import Http404
from django.urls import NoReverseMatch, reverse
from django.utils.translation import gettext as _
from oscar.core.loading import get_model

Order = get_model("order", "Order")


def sign_order_number(order_number: str) -> str:
    """Return the token of an order, which does not expire: mails are read late."""
    # Packed, because an order's number may hold characters that a path may not.
    return signing.Signer(salt="oscar_bitsby.order").sign_object(str(order_number))


def order_url(order: Any) -> str:
    """Return the path of the order's page, where its buyer sees what to do next."""
    return reverse("oscar_bitsby:order", args=[sign_order_number(order.number)])


def pay_url(order: Any) -> str:
    """Return the path that leads the order's buyer to the payment page."""
    return reverse("oscar_bitsby:pay", args=[sign_order_number(order.number)])


def state_url(order: Any) -> str:
    """Return the path where the order's page asks whether anything has changed."""
    return reverse("oscar_bitsby:state", args=[sign_order_number(order.number)])


def reorder_url(order: Any) -> str:
    """Return the path that fills the buyer's basket with the order's lines."""
    return reverse("oscar_bitsby:again", args=[sign_order_number(order.number)])


def shop_url(order: Any) -> str | None:
    """Return the path of the shop's own page of the order, or None where the shop has none."""
    try:
        if order.user_id is not None:
            return reverse("customer:order", args=[order.number])
        return reverse("customer:anon-order", args=[order.number, order.verification_hash()])
    except NoReverseMatch:
        return None


def order_number_from_token(token: str) -> str:
    """Return the number of the order that a token was made for.

    Raises:
        Http404: the token is not ours.
    """
    try:
        return str(signing.Signer(salt="oscar_bitsby.order").unsign_object(token))
    except (signing.BadSignature, ValueError):
        raise Http404(_("There is no such order.")) from None


def order_of(number: str) -> Any:
    """Return the order of that number.

    Raises:
        Http404: the order is gone.
    """
    order = Order._default_manager.filter(number=number).first()
    if order is None:
        raise Http404(_("There is no such order."))
    return order


def order_from_token(token: str) -> Any:
    """Return the order that a token was made for.

    Raises:
        Http404: the token is not ours, or the order is gone.
    """
    return order_of(order_number_from_token(token))
