"""Mixins for Oscar's checkout views, put there by ``patching`` or, without it, by the shop."""

import logging
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.template.loader import select_template
from django.urls import reverse
from django.utils.cache import add_never_cache_headers
from django.utils.translation import gettext as _
from oscar.apps.checkout import exceptions
from oscar.core.loading import get_model

from oscar_bitsby import conf
from oscar_bitsby.checkout.coins import accepted_coins
from oscar_bitsby.checkout.forms import PaymentMethodForm
from oscar_bitsby.checkout.methods import Method, methods_for
from oscar_bitsby.checkout.pending_orders import PendingOrders, find_pending_orders
from oscar_bitsby.checkout.placement import OrderPlacementMixin
from oscar_bitsby.orders.signed_urls import order_url, pay_url
from oscar_bitsby.utils.patching import AnyBase

logger = logging.getLogger("oscar_bitsby")

Order = get_model("order", "Order")


class ChoiceMixin(AnyBase):  # type: ignore[misc]
    """The offered payment methods and the chosen one, for both steps.

    ``patched_by_app`` is set on views that ``patching`` made; they are inactive when the shop
    extends its checkout itself.
    """

    patched_by_app = False

    def bitsby_is_active(self) -> bool:
        if self.patched_by_app:
            return conf.extends_checkout()
        return conf.is_configured()

    def order_total(self) -> Any:
        """Return the present total, or None when nothing has to be paid."""
        total = self.build_submission()["order_total"]
        return total if total is not None and total.incl_tax > 0 else None

    def chosen_method(self, total: Any) -> Method | None:
        """Return the method that the buyer chose, if it is offered for this total."""
        methods = methods_for(total.currency, total.incl_tax)
        code = self.checkout_session.payment_method()
        return next((method for method in methods if method.code == code), None)


class PaymentMethodMixin(ChoiceMixin):
    """The payment step: shows a form when there is a choice, and skips it otherwise."""

    template_name = "oscar_bitsby/checkout/payment_method.html"
    #: Set when Bitsby is not offered because the buyer has too many unpaid orders.
    pending_orders: PendingOrders | None = None

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        total = self.order_total() if self.bitsby_is_active() else None
        if total is None:
            return self._default_response(request, *args, **kwargs)
        methods = self.offered_methods(total)
        # With a reason to show, the step is not skipped.
        if len(methods) == 1 and self.pending_orders is None:
            return self._choose(methods[0], request, *args, **kwargs)
        initial = {"method": self.checkout_session.payment_method()}
        return self._render_form(PaymentMethodForm(methods=methods, initial=initial))

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if not self.bitsby_is_active():
            handler = getattr(super(), "post", None) or super().http_method_not_allowed
            response: HttpResponse = handler(request, *args, **kwargs)
            return response
        total = self.order_total()
        methods = [] if total is None else self.offered_methods(total)
        form = PaymentMethodForm(request.POST, methods=methods)
        if not form.is_valid():
            return self._render_form(form)
        code = form.cleaned_data["method"]
        chosen = next(method for method in methods if method.code == code)
        return self._choose(chosen, request, *args, **kwargs)

    def offered_methods(self, total: Any) -> list[Method]:
        """Return the methods for this total, without Bitsby if the buyer's limit is reached."""
        methods = methods_for(total.currency, total.incl_tax)
        if any(method.is_bitsby for method in methods):
            email = self.checkout_session.get_guest_email()
            pending = find_pending_orders(self.request, email)
            if pending is not None and pending.is_limit_reached:
                self.pending_orders = pending
                return [method for method in methods if not method.is_bitsby]
        return methods

    def _choose(
        self, method: Method, request: HttpRequest, *args: Any, **kwargs: Any
    ) -> HttpResponse:
        self.checkout_session.pay_by(method.code)
        if method.is_bitsby:
            return redirect("checkout:preview")
        return self._default_response(request, *args, **kwargs)

    def _default_response(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Return the response of the shop's own step; Oscar's only redirects."""
        response: HttpResponse = super().get(request, *args, **kwargs)
        return response

    def _render_form(self, form: PaymentMethodForm) -> HttpResponse:
        context = self.build_submission()
        context |= {
            "form": form,
            "pending_orders": self.pending_orders,
            # Called by the template.
            "accepted_coins": accepted_coins,
        }
        return render(self.request, self.template_name, context)


class PaymentDetailsMixin(OrderPlacementMixin, ChoiceMixin):
    """The preview: shows the chosen method, and places the order."""

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        response: HttpResponse = super().dispatch(request, *args, **kwargs)
        if self.bitsby_is_active():
            # The back button leads here from Bitsby. A cached page would show the button to place
            # the order again; a new request redirects to the order.
            add_never_cache_headers(response)
        return response

    def get_pre_conditions(self, request: HttpRequest) -> list[str]:
        conditions: list[str] = super().get_pre_conditions(request)
        if not self.bitsby_is_active():
            return conditions
        return ["check_order_is_not_placed", *conditions, "check_payment_method_is_chosen"]

    def check_order_is_not_placed(self, request: HttpRequest) -> None:
        """Redirect a second click to the payment, and the back button to the order's page.

        If the back button led to the payment page again, the buyer could never leave it.
        """
        order_id = request.session.get("checkout_order_id")
        if order_id is None or not request.basket.is_empty:  # type: ignore[attr-defined]
            return
        ours = Order._default_manager.filter(sources__source_type__code=conf.METHOD_CODE)
        order = ours.filter(pk=order_id).first()
        if order is not None:
            url = pay_url(order) if request.method == "POST" else order_url(order)
            raise exceptions.FailedPreCondition(url=url)

    def check_payment_method_is_chosen(self, request: HttpRequest) -> None:
        total = self.order_total()
        if total is not None and self.chosen_method(total) is None:
            raise exceptions.FailedPreCondition(
                url=reverse("checkout:payment-method"),
                message=_("Please choose a payment method."),
            )

    def get_skip_conditions(self, request: HttpRequest) -> list[str]:
        conditions: list[str] = list(super().get_skip_conditions(request))
        if self.bitsby_is_active() and not self.preview:
            conditions.append("skip_details_when_paid_by_bitsby")
        return conditions

    def skip_details_when_paid_by_bitsby(self, request: HttpRequest) -> None:
        """Skip the payment details: a payment by Bitsby needs none."""
        if self.checkout_session.payment_method() == conf.METHOD_CODE:
            raise exceptions.PassedSkipCondition(url=reverse("checkout:preview"))

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        context: dict[str, Any] = super().get_context_data(**kwargs)
        if self.bitsby_is_active():
            total = context.get("order_total")
            if total is not None and total.incl_tax > 0:
                context["payment_method"] = method = self.chosen_method(total)
                if method is not None and method.is_bitsby:
                    settings = conf.get()
                    context |= {
                        "time_to_pay": settings.time_to_pay,
                        "is_mailed": settings.mails,
                        "is_on_shop_page": settings.pays_in_shop,
                        "accepted_coins": accepted_coins,
                    }
            context["bitsby_extends"] = select_template(super().get_template_names())
        return context

    def get_template_names(self) -> list[str]:
        names: list[str] = super().get_template_names()
        if self.preview and self.bitsby_is_active():
            return ["oscar_bitsby/checkout/preview.html", *names]
        return names

    def pays_by_bitsby(self, order_total: Any) -> bool:
        if not self.bitsby_is_active() or order_total is None:
            return False
        chosen = self.chosen_method(order_total)
        return chosen is not None and chosen.is_bitsby
