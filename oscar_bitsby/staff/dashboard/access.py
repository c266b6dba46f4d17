"""Who may see which orders' money in the dashboard: staff all, partners their own."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from django.contrib.auth.mixins import AccessMixin
from django.db import transaction
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.urls import reverse
from django.utils.decorators import method_decorator
from oscar.core.loading import get_class, get_model

Order = get_model("order", "Order")

PARTNER_PERMISSION = "partner.dashboard_access"


def may_see_all(user: Any) -> bool:
    """Tell whether a user sees everybody's money."""
    return bool(user.is_active and user.is_staff)


def may_see(user: Any) -> bool:
    """Tell whether a user has any business here: staff, and the users of partners."""
    return may_see_all(user) or bool(user.is_active and user.has_perm(PARTNER_PERMISSION))


def orders_for(user: Any) -> Any:
    """Return the orders that a user may see; Oscar's own rule."""
    return get_class("dashboard.orders.views", "queryset_orders_for_user")(user)


def may_open_orders(user: Any) -> bool:
    """Tell whether Oscar shows a user the pages of orders, which is a permission of its own."""
    return any(map(user.has_perm, ("order.view_order", PARTNER_PERMISSION)))


def order_page(user: Any, number: str) -> str:
    """Return where a user reads about an order's money: its page, at our tab, or our own list."""
    if may_open_orders(user):
        return reverse("dashboard:order-detail", kwargs={"number": number}) + "#bitsby"
    return reverse("oscar_bitsby:dashboard-invoices") + f"?{urlencode({'q': number})}"


def only_visible(queryset: Any, user: Any, order_path: str) -> Any:
    """Leave in ``queryset`` what belongs to orders that a user may see."""
    if user.is_staff:
        return queryset
    orders = orders_for(user).order_by().values("pk")
    return queryset.filter(**{f"{order_path}__in": orders})


# Some of these views ask Bitsby, and none of them may do so inside a request's transaction.
@method_decorator(transaction.non_atomic_requests, name="dispatch")
class DashboardMixin(AccessMixin):
    """Asks for a login, and refuses who has no business here."""

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if not may_see(request.user):
            return self.handle_no_permission()
        parent: Any = super()
        response: HttpResponseBase = parent.dispatch(request, *args, **kwargs)
        return response

    def get_login_url(self) -> str:
        return reverse("dashboard:login")
