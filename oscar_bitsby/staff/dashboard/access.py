"""Check who may see which payments in the dashboard: staff all, partners their own."""

from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

from django.contrib.auth.mixins import AccessMixin
from django.db import transaction
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.urls import reverse
from django.utils.decorators import method_decorator
from oscar.core.loading import get_class

PARTNER_PERMISSION = "partner.dashboard_access"


def may_see_all(user: Any) -> bool:
    """Return whether a user sees the payments of all orders."""
    return bool(user.is_active and user.is_staff)


def may_see(user: Any) -> bool:
    """Return whether a user may open our pages: staff, and the users of partners."""
    return may_see_all(user) or bool(user.is_active and user.has_perm(PARTNER_PERMISSION))


def orders_for(user: Any) -> Any:
    """Return the orders that a user may see, by Oscar's own rule."""
    return get_class("dashboard.orders.views", "queryset_orders_for_user")(user)


def may_open_orders(user: Any) -> bool:
    """Return whether a user may open Oscar's pages of orders, which needs its own permission."""
    return any(map(user.has_perm, ("order.view_order", PARTNER_PERMISSION)))


def order_page(user: Any, number: str) -> str:
    """Return the URL of an order's Bitsby tab, or of our list if the user may not open orders."""
    if may_open_orders(user):
        return reverse("dashboard:order-detail", kwargs={"number": number}) + "#bitsby"
    return reverse("oscar_bitsby:dashboard-invoices") + f"?{urlencode({'q': number})}"


def only_visible(queryset: Any, user: Any, order_path: str) -> Any:
    """Restrict a queryset, whose ``order_path`` looks up an order, to what a user may see."""
    if user.is_staff:
        return queryset
    orders = orders_for(user).order_by().values("pk")
    return queryset.filter(**{f"{order_path}__in": orders})


# Some of these views send API requests, which must not happen inside a transaction.
@method_decorator(transaction.non_atomic_requests, name="dispatch")
class DashboardMixin(AccessMixin):
    """Require a login, and refuse users who may not open our pages, or not this one."""

    #: Raises ``PermissionDenied`` for users who may see the lists, but not open this page.
    require_permission: Callable[[Any], None] = staticmethod(lambda user: None)

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if not may_see(request.user):
            return self.handle_no_permission()
        self.require_permission(request.user)
        parent: Any = super()
        response: HttpResponseBase = parent.dispatch(request, *args, **kwargs)
        return response

    def get_login_url(self) -> str:
        return reverse("dashboard:login")
