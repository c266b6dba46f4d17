"""Puts the payment's state, and the link to its page, on Oscar's own pages of an order: in the
account, for guests, and the page that says thank you."""

from __future__ import annotations

import logging
from typing import Any

from django.apps import apps
from django.template.loader import select_template

from oscar_bitsby import conf
from oscar_bitsby.conf import METHOD_CODE
from oscar_bitsby.orders import signed_urls
from oscar_bitsby.orders.payment_status import PaymentStatus, get_payment_status

logger = logging.getLogger("oscar_bitsby")

#: Oscar's apps and the attributes of their configs that hold the views of an order.
VIEWS = (
    ("customer", "order_detail_view"),
    ("customer", "anon_order_detail_view"),
    ("checkout", "thankyou_view"),
)


class OrderNoticeMixin:
    """Goes in front of a view that shows an order to its buyer."""

    object: Any

    def get_template_names(self) -> list[str]:
        names: list[str] = super().get_template_names()  # type: ignore[misc]
        return ["oscar_bitsby/buyer/order.html", *names] if self._bitsby_notice() else names

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        parent: Any = super()
        context: dict[str, Any] = parent.get_context_data(**kwargs)
        notice = self._bitsby_notice()
        if notice:
            context["bitsby"] = notice
            context["bitsby_extends"] = select_template(parent.get_template_names())
        return context

    def _bitsby_notice(self) -> dict[str, Any] | None:
        """Return what the notice says; None for orders that are not paid by Bitsby."""
        if not hasattr(self, "_bitsby_said"):
            self._bitsby_said = _notice(self.object)
        return self._bitsby_said


def _notice(order: Any) -> dict[str, Any] | None:
    if not conf.is_configured() or not order.sources.filter(source_type__code=METHOD_CODE).exists():
        return None
    try:
        status: PaymentStatus = get_payment_status(order)
        return {"payment_status": status, "url": signed_urls.order_url(order)}
    except Exception:
        # The shop's own page does not depend on us.
        logger.exception("no notice on the page of order %s", order.number)
        return None


def extend_buyer_pages() -> None:
    """Put the mixin in front of the shop's views, stock or forked; harmless when done twice."""
    for label, attribute in VIEWS:
        try:
            config: Any = apps.get_app_config(label)
        except LookupError:
            continue
        view = getattr(config, attribute, None)
        if view is None or issubclass(view, OrderNoticeMixin):
            continue
        origin = {"__module__": view.__module__, "__doc__": view.__doc__}
        setattr(config, attribute, type(view.__name__, (OrderNoticeMixin, view), origin))
