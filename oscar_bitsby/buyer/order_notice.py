"""Show the payment status, and the link to its page, on Oscar's own pages of an order."""

import logging
from functools import cached_property
from typing import Any

from django.template.loader import select_template

from oscar_bitsby import conf
from oscar_bitsby.orders import signed_urls
from oscar_bitsby.orders.payment_status import get_payment_status
from oscar_bitsby.utils.patching import AnyBase, extend_view

logger = logging.getLogger("oscar_bitsby")

#: Oscar's apps and the attributes of their configs that hold the views of an order.
VIEWS = (
    ("customer", "order_detail_view"),
    ("customer", "anon_order_detail_view"),
    ("checkout", "thankyou_view"),
)


class OrderNoticeMixin(AnyBase):  # type: ignore[misc]
    """A view of Oscar that shows an order to its buyer, with the payment status on top."""

    def get_template_names(self) -> list[str]:
        names: list[str] = super().get_template_names()
        return ["oscar_bitsby/buyer/order.html", *names] if self._bitsby_notice else names

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        context: dict[str, Any] = super().get_context_data(**kwargs)
        if self._bitsby_notice:
            context["bitsby"] = self._bitsby_notice
            context["bitsby_extends"] = select_template(super().get_template_names())
        return context

    @cached_property
    def _bitsby_notice(self) -> dict[str, Any] | None:
        """The notice's context; None for orders that are not paid by Bitsby."""
        order = self.object
        sources = order.sources.filter(source_type__code=conf.METHOD_CODE)
        if not conf.is_configured() or not sources.exists():
            return None
        try:
            status = get_payment_status(order)
            return {"payment_status": status, "url": signed_urls.order_url(order)}
        except Exception:
            # The shop's own page must not fail because of the notice.
            logger.exception("payment notice could not be shown: order=%s", order.number)
            return None


def extend_buyer_pages() -> None:
    """Put the mixin in front of the shop's views of an order; repeated calls do no harm."""
    for label, attribute in VIEWS:
        extend_view(label, attribute, OrderNoticeMixin)
