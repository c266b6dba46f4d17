"""Signed links to an order's pages: whoever has one may see and pay that order, and no other."""

from __future__ import annotations

from typing import Any

from django.core import signing
from django.http import Http404
from django.urls import reverse
from oscar.core.loading import get_model

Order = get_model("order", "Order")


def token_for(order_number: str) -> str:
    """Return the token of an order, which does not expire: mails are read late."""
    # Packed, because an order's number may hold characters that a path may not.
    return signing.Signer(salt="oscar_bitsby.order").sign_object(str(order_number))


def order_url(order: Any) -> str:
    """Return the path of the order's page, where its buyer sees what to do next."""
    return reverse("oscar_bitsby:order", args=[token_for(order.number)])


def pay_url(order: Any) -> str:
    """Return the path that leads the order's buyer to the payment page."""
    return reverse("oscar_bitsby:pay", args=[token_for(order.number)])


def order_from(token: str) -> Any:
    """Return the order that a token was made for.

    Raises:
        Http404: the token is not ours, or the order is gone.
    """
    try:
        number = signing.Signer(salt="oscar_bitsby.order").unsign_object(token)
    except (signing.BadSignature, ValueError):
        raise Http404("no such order") from None
    order = Order._default_manager.filter(number=number).first()
    if order is None:
        raise Http404("no such order")
    return order
