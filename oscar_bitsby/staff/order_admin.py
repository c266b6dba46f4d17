"""Bind payments and refund them from the admin page of an order."""

from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db import transaction
from django.forms import Media
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.loader import select_template
from django.urls import path, reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from oscar.core.loading import get_model

from oscar_bitsby import conf
from oscar_bitsby.models import BitsbyPayment, BitsbyRefund
from oscar_bitsby.orders.refund_status import RefundStatus
from oscar_bitsby.staff import bind_flow, permissions, refund_flow, refund_page
from oscar_bitsby.staff.order_money import order_money
from oscar_bitsby.staff.refund_subject import order_refund_error
from oscar_bitsby.utils.patching import AnyBase, prepend_mixin

Order = get_model("order", "Order")

BIND_URL_NAME = "oscar_bitsby_bind"
REFUND_REQUEST_URL_NAME = "oscar_bitsby_refund_request"
REFUND_URL_NAME = "oscar_bitsby_refund"


class OrderAdminMixin(AnyBase):  # type: ignore[misc]
    """Add binding to the admin class that the shop uses for its orders."""

    def has_bind_bitsby_permission(self, request: HttpRequest) -> bool:
        """Return who is offered the action; Django derives the name from its permission."""
        return conf.is_configured() and permissions.may_move_money(request.user)

    def get_urls(self) -> list[Any]:
        # The view sends API requests, which must not happen inside a transaction.
        view = transaction.non_atomic_requests(self.admin_site.admin_view(self.bind_view))
        own = [path("<path:object_id>/bitsby/", view, name=BIND_URL_NAME)]
        for name, route, page in (
            (REFUND_REQUEST_URL_NAME, "", self.refund_request_view),
            (REFUND_URL_NAME, "<int:refund_pk>/", self.refund_view),
        ):
            view = transaction.non_atomic_requests(self.admin_site.admin_view(page))
            own.append(path(f"<path:object_id>/bitsby/refund/{route}", view, name=name))
        return [*own, *super().get_urls()]

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        # Our template extends the one that the shop's page would use without this app.
        folders = (f"{self.opts.app_label}/{self.opts.model_name}/", f"{self.opts.app_label}/", "")
        templates = [f"admin/{folder}change_form.html" for folder in folders]
        context["bitsby_extends"] = super().change_form_template or select_template(templates)
        order = context.get("original")
        if (
            order is not None
            and self.has_bind_bitsby_permission(request)
            and bind_flow.should_offer_binding(order)
        ):
            context["bitsby_bind_url"] = reverse(f"admin:{BIND_URL_NAME}", args=[order.pk])
        if order is not None and conf.is_configured():
            context["bitsby"] = order_money(order)
            context["media"] += self._bitsby_media
            if permissions.may_refund(request.user):
                context |= self._refund_context(order)
        response: HttpResponse = super().render_change_form(request, context, *args, **kwargs)
        return response

    _bitsby_media = Media(css={"all": ["oscar_bitsby/admin.css"]})

    @property
    def change_form_template(self) -> str:
        return "admin/oscar_bitsby/order_change_form.html"

    def _refund_context(self, order: Any) -> dict[str, Any]:
        """Return the links to the order's refunds, and to request one if it has money of ours."""
        context: dict[str, Any] = {"bitsby_refunds": refund_flow.refunds_of(order, _refund_url)}
        if not order_refund_error(order):
            context["bitsby_refund_url"] = _request_url(order)
        return context

    def bind_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Bind a payment to one order."""
        permissions.require_money_permission(request.user)
        order = _get_order(object_id)
        title = _("Bind a Bitsby payment to order %s") % order.number
        context = self._page_context(request, order, title)
        return bind_flow.bind_view(
            request, order, "admin/oscar_bitsby/bind.html", context, context["change_url"]
        )

    def refund_request_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Request a refund of an order; the parameter ``payment`` chooses one of its payments."""
        permissions.require_refund_permission(request.user)
        order = _get_order(object_id)
        title = _("Request a refund for order %s") % order.number
        chosen = request.GET.get("payment", "")
        payment = None
        if chosen.isdecimal():
            payments = BitsbyPayment.objects.select_related("invoice__order")
            payment = payments.filter(pk=chosen[:18], invoice__order=order).first()
        frame = self._refund_frame(request, order, title)
        return refund_flow.request_view(request, frame, order=order, payment=payment)

    def refund_view(self, request: HttpRequest, object_id: str, refund_pk: int) -> HttpResponse:
        """Show one refund of an order, and carry out its steps."""
        permissions.require_refund_permission(request.user)
        order = _get_order(object_id)
        refunds = BitsbyRefund.objects.select_related("order__user", "payment__invoice")
        refund = refunds.filter(pk=refund_pk, order=order).first()
        if refund is None:
            raise Http404(_("This order has no such refund."))
        title = _("Refund of %(coins)s for order %(number)s") % {
            "coins": RefundStatus(refund).coins,
            "number": order.number,
        }
        return refund_page.refund_view(request, self._refund_frame(request, order, title), refund)

    def _refund_frame(self, request: HttpRequest, order: Any, title: str) -> refund_flow.Frame:
        context = self._page_context(request, order, title)
        return refund_flow.Frame(
            request_template="admin/oscar_bitsby/refund.html",
            page_template="admin/oscar_bitsby/refund.html",
            refund_url=_refund_url,
            payment_url=lambda payment: f"{_request_url(order)}?payment={payment.pk}",
            back=context["change_url"],
            context=context,
        )

    def _page_context(self, request: HttpRequest, order: Any, title: str) -> dict[str, Any]:
        return {
            **self.admin_site.each_context(request),
            "title": title,
            "opts": self.opts,
            "changelist_url": reverse("admin:order_order_changelist"),
            "change_url": reverse("admin:order_order_change", args=[order.pk]),
        }


def _get_order(object_id: str) -> Any:
    try:
        order = Order._default_manager.filter(pk=object_id).first()
    except (ValueError, ValidationError):
        order = None
    if order is None:
        raise Http404(_("There is no such order."))
    return order


def _request_url(order: Any) -> str:
    return reverse(f"admin:{REFUND_REQUEST_URL_NAME}", args=[order.pk])


def _refund_url(refund: BitsbyRefund) -> str:
    return reverse(f"admin:{REFUND_URL_NAME}", args=[refund.order_id, refund.pk])


@admin.action(description=gettext_lazy("Bind a Bitsby payment"), permissions=["bind_bitsby"])
def bind_bitsby_payment(
    modeladmin: Any, request: HttpRequest, queryset: Any
) -> HttpResponse | None:
    """Open the binding page of the selected order."""
    orders = list(queryset[:2])
    if len(orders) == 1:
        reason = bind_flow.binding_error(orders[0])
    else:
        reason = _("Select exactly one order to bind a payment to.")
    if reason:
        modeladmin.message_user(request, reason, level=messages.ERROR)
        return None
    return HttpResponseRedirect(reverse(f"admin:{BIND_URL_NAME}", args=[orders[0].pk]))


def extend_order_admin() -> None:
    """Put the mixin in front of the admin that the shop registered for its orders, if any."""
    # The shop's own admin may not have been registered yet.
    admin.autodiscover()
    registered = admin.site._registry.get(Order)
    if registered is None or isinstance(registered, OrderAdminMixin):
        return
    current = type(registered)
    actions = [*(current.actions or ()), bind_bitsby_payment]
    admin.site.unregister(Order)
    admin.site.register(Order, prepend_mixin(current, OrderAdminMixin, actions=actions))
