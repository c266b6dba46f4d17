"""Bind payments from the admin page of an order."""

from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.loader import select_template
from django.urls import path, reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from oscar.core.loading import get_model

from oscar_bitsby import conf
from oscar_bitsby.staff import bind_flow, permissions
from oscar_bitsby.utils.patching import AnyBase, prepend_mixin

Order = get_model("order", "Order")

BIND_URL_NAME = "oscar_bitsby_bind"


class OrderAdminMixin(AnyBase):  # type: ignore[misc]
    """Add binding to the admin class that the shop uses for its orders."""

    def has_bind_bitsby_permission(self, request: HttpRequest) -> bool:
        """Return who is offered the action; Django derives the name from its permission."""
        return conf.is_configured() and permissions.may_move_money(request.user)

    def get_urls(self) -> list[Any]:
        # The view sends API requests, which must not happen inside a transaction.
        view = transaction.non_atomic_requests(self.admin_site.admin_view(self.bind_view))
        own = path("<path:object_id>/bitsby/", view, name=BIND_URL_NAME)
        return [own, *super().get_urls()]

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
        response: HttpResponse = super().render_change_form(request, context, *args, **kwargs)
        return response

    @property
    def change_form_template(self) -> str:
        return "admin/oscar_bitsby/order_change_form.html"

    def bind_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Bind a payment to one order."""
        permissions.require_money_permission(request.user)
        try:
            order = Order._default_manager.filter(pk=object_id).first()
        except (ValueError, ValidationError):
            order = None
        if order is None:
            raise Http404(_("There is no such order."))
        change_url = reverse("admin:order_order_change", args=[order.pk])
        context = {
            **self.admin_site.each_context(request),
            "title": _("Bind a Bitsby payment to order %s") % order.number,
            "opts": self.opts,
            "changelist_url": reverse("admin:order_order_changelist"),
            "change_url": change_url,
        }
        return bind_flow.bind_view(
            request, order, "admin/oscar_bitsby/bind.html", context, change_url
        )


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
