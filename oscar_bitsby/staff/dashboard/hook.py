"""Add a Bitsby entry to the dashboard's navigation, and a Bitsby tab to the order's page."""

from typing import Any

from django.conf import settings
from django.template.loader import select_template
from django.utils.functional import lazy
from django.utils.translation import gettext_lazy, pgettext_lazy

from oscar_bitsby import conf
from oscar_bitsby.models import BitsbyPayment
from oscar_bitsby.staff import permissions
from oscar_bitsby.staff.dashboard import order_tab
from oscar_bitsby.staff.dashboard.access import may_see, may_see_all
from oscar_bitsby.utils.patching import AnyBase, extend_view

REFUNDS = {"label": gettext_lazy("Refunds"), "url_name": "oscar_bitsby:dashboard-refunds"}
#: The pages with the amounts of all partners.
MONEY_PAGES = (
    (pgettext_lazy("bitsby", "Overview"), "oscar_bitsby:dashboard-overview"),
    (pgettext_lazy("page", "Export"), "oscar_bitsby:dashboard-export"),
)

#: The navigation counts up to this number, and shows "99+" for more.
MAX_COUNT = 99


def extend_dashboard() -> None:
    """Extend the navigation and the order's page; idempotent."""
    _extend_navigation()
    extend_view("orders_dashboard", "order_detail_view", OrderPageMixin)


def _label() -> str:
    try:
        counted = BitsbyPayment.objects.needs_review().filter(is_dust=False)
        waiting = len(counted.values_list("pk")[: MAX_COUNT + 1])
    except Exception:
        # The navigation is on every page of the dashboard: a failure here must not break them.
        waiting = 0
    if not waiting:
        return "Bitsby"
    return f"Bitsby ({MAX_COUNT}+)" if waiting > MAX_COUNT else f"Bitsby ({waiting})"


# Oscar passes further arguments. Without ``OSCAR_BITSBY`` the navigation stays unchanged.
def shown_to_staff(user: Any, *args: Any) -> bool:
    """Return whether a user gets the entry with the number of payments to review."""
    return conf.is_configured() and may_see_all(user)


def shown_to_partners(user: Any, *args: Any) -> bool:
    """Return whether a user gets the entry without the number, which covers all partners."""
    return conf.is_configured() and may_see(user) and not may_see_all(user)


def shown_to_refunders(user: Any, *args: Any) -> bool:
    """Return whether a user gets the entry of the refunds, which opens only for them."""
    return conf.is_configured() and permissions.may_refund(user)


def shown_to_bookkeepers(user: Any, *args: Any) -> bool:
    """Return whether a user gets the entries of overview and export, which open only for them."""
    return conf.is_configured() and permissions.may_see_money(user)


def _extend_navigation() -> None:
    navigation = getattr(settings, "OSCAR_DASHBOARD_NAVIGATION", None)
    if not isinstance(navigation, list) or any(
        item.get("access_fn") is shown_to_staff for item in navigation
    ):
        return
    pages = (
        (gettext_lazy("Payments to review"), "oscar_bitsby:dashboard-inbox"),
        (gettext_lazy("Invoices"), "oscar_bitsby:dashboard-invoices"),
    )
    for label, access in ((lazy(_label, str)(), shown_to_staff), ("Bitsby", shown_to_partners)):
        children = [{"label": text, "url_name": url, "access_fn": access} for text, url in pages]
        entry = {"label": label, "icon": "fas fa-coins", "access_fn": access}
        children.append({**REFUNDS, "access_fn": shown_to_refunders})
        children += [
            {"label": text, "url_name": url, "access_fn": shown_to_bookkeepers}
            for text, url in MONEY_PAGES
        ]
        navigation.append({**entry, "children": children})


class OrderPageMixin(AnyBase):  # type: ignore[misc]
    """Add our tab to the shop's view of the order's page."""

    def get_template_names(self) -> list[str]:
        return ["oscar_bitsby/dashboard/order_detail.html"]

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        context: dict[str, Any] = super().get_context_data(**kwargs)
        context["bitsby_extends"] = select_template(super().get_template_names())
        context["bitsby"] = order_tab.tab_context(self.object, self.request)
        return context
