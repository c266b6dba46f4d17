"""The dashboard's page that binds a payment."""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.views.generic import View

from oscar_bitsby.staff import bind_flow, permissions
from oscar_bitsby.staff.dashboard.access import DashboardMixin, order_page, orders_for


class BindView(DashboardMixin, View):
    """Bind a payment to an invoice of one order."""

    # The list shows payments that may belong to any order.
    require_permission = staticmethod(permissions.require_money_permission)

    def get(self, request: HttpRequest, order_pk: int) -> HttpResponse:
        order = get_object_or_404(orders_for(request.user), pk=order_pk)
        page = order_page(request.user, order.number)
        template = "oscar_bitsby/dashboard/bind.html"
        return bind_flow.bind_view(request, order, template, {"order_page": page}, page)

    post = get
