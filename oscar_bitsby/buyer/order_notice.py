"""Show the payment status, and the link to its page, on Oscar's own pages of an order: in the
account, for guests, and on the thank-you page."""

import logging
from typing import Any

from django.template.loader import select_template

from oscar_bitsby import conf
from oscar_bitsby.conf import METHOD_CODE
from oscar_bitsby.orders import signed_urls
from oscar_bitsby.orders.payment_status import PaymentStatus, get_payment_status
from oscar_bitsby.utils.patching import extend_view

logger = logging.getLogger("oscar_bitsby")

#: Oscar's apps and the attributes of their configs that hold the views of an order.
VIEWS = (
    ("customer", "order_detail_view"),
    ("customer", "anon_order_detail_view"),
    ("checkout", "thankyou_view"),
)


class OrderNoticeMixin:
    """A view of Oscar that shows an order to its buyer, with the payment status on top."""

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
        """Return the notice's context; None for orders that are not paid by Bitsby."""
        if not hasattr(self, "_bitsby_context"):
            self._bitsby_context = _notice(self.object)
        return self._bitsby_context


def _notice(order: Any) -> dict[str, Any] | None:
    if not conf.is_configured() or not order.sources.filter(source_type__code=METHOD_CODE).exists():
        return None
    try:
        status: PaymentStatus = get_payment_status(order)
        return {"payment_status": status, "url": signed_urls.order_url(order)}
    except Exception:
        # The shop's own page must not fail because of the notice.
        logger.exception("payment notice could not be shown: order=%s", order.number)
        return None


def extend_buyer_pages() -> None:
    """Put the mixin in front of the shop's views of an order; repeated calls do no harm."""
    for label, attribute in VIEWS:
        extend_view(label, attribute, OrderNoticeMixin)
