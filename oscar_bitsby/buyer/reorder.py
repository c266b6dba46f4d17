"""Order again what a cancelled order contained: its lines go into the buyer's basket."""

from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _

from oscar_bitsby.buyer.views import OrderPageView, SeeOther
from oscar_bitsby.orders import signed_urls
from oscar_bitsby.orders.payment_status import get_payment_status


class ReorderView(OrderPageView):
    """Fill the basket of this browser with the lines of an order that cannot be paid, and show it.

    Items that are already in the basket count, so that a second click does not double them.
    """

    def post(self, request: HttpRequest, token: str) -> HttpResponse:
        order = signed_urls.order_from_token(token)
        if not get_payment_status(order).can_reorder:
            return SeeOther(signed_urls.order_url(order))
        added = [_add(request, line) for line in order.lines.all()]
        if any(added):
            messages.success(
                request, _("The available items of order %s are now in your basket.") % order.number
            )
        return redirect("basket:summary")


def _add(request: Any, line: Any) -> bool:
    """Fill the basket up to the line's quantity, or show the buyer why that is not possible.

    Return whether the basket now holds that quantity.
    """
    info = request.strategy.fetch_for_product(line.product) if line.product else None
    if info is None or info.stockrecord is None:
        messages.warning(request, _("“%s” is no longer available.") % line.title)
        return False
    options = [
        {"option": attribute.option, "value": attribute.value}
        for attribute in line.attributes.all()
        if attribute.option
    ]
    basket = request.basket
    missing = line.quantity - basket.line_quantity(line.product, info.stockrecord, options)
    if missing <= 0:
        return True
    for is_allowed, reason in (
        info.availability.is_purchase_permitted(quantity=line.quantity),
        basket.is_quantity_allowed(missing),
    ):
        if not is_allowed:
            messages.warning(request, f"{line.title}: {reason}")
            return False
    # Oscar does not accept a line in another currency than the basket's.
    if basket.currency not in (None, info.price.currency):
        messages.warning(
            request,
            _(
                "“%(title)s” costs %(currency)s, and the items in your basket cost"
                " %(basket_currency)s. Order or remove those first. Then open the page of order"
                " %(number)s again, and click “Order again”."
            )
            % {
                "title": line.title,
                "currency": info.price.currency,
                "basket_currency": basket.currency,
                "number": line.order.number,
            },
        )
        return False
    basket.add_product(line.product, missing, options)
    return True
