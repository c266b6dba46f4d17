"""Mixins for Oscar's checkout views: choose a payment method, place an order that is paid later.

``patching`` puts them in front of the shop's own views. A shop that sets ``EXTEND_CHECKOUT`` to
False uses them in its own views itself.
"""

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
from oscar_bitsby.checkout.forms import PaymentMethodForm
from oscar_bitsby.checkout.methods import Method, methods_for
from oscar_bitsby.checkout.placement import OrderPlacementMixin
from oscar_bitsby.conf import METHOD_CODE
from oscar_bitsby.orders.signed_urls import order_url, pay_url

logger = logging.getLogger("oscar_bitsby")

Order = get_model("order", "Order")


class ChoiceMixin:
    """The offered payment methods and the chosen one, for both steps.

    ``patched_by_app`` is set on views that ``patching`` made; they are inactive when the shop
    extends its checkout itself.
    """

    patched_by_app = False
    request: HttpRequest
    checkout_session: Any

    def bitsby_is_active(self) -> bool:
        if self.patched_by_app:
            return conf.extends_checkout()
        return conf.is_configured()

    def offered_methods(self) -> list[Method]:
        """Return the methods for the present total; none when nothing has to be paid."""
        total = self.build_submission()["order_total"]  # type: ignore[attr-defined]
        if total is None or total.incl_tax <= 0:
            return []
        return methods_for(total.currency, total.incl_tax)

    def chosen_method(self, methods: list[Method]) -> Method | None:
        code = self.checkout_session.payment_method()
        return next((method for method in methods if method.code == code), None)

    def is_payment_due(self) -> bool:
        total = self.build_submission()["order_total"]  # type: ignore[attr-defined]
        return total is not None and total.incl_tax > 0


class PaymentMethodMixin(ChoiceMixin):
    """The payment step: shows a form when there is a choice, and skips it otherwise."""

    template_name = "oscar_bitsby/checkout/payment_method.html"

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if not self.bitsby_is_active() or not self.is_payment_due():
            return self._default_response(request, *args, **kwargs)
        methods = self.offered_methods()
        if len(methods) == 1:
            return self._choose(methods[0], request, *args, **kwargs)
        chosen = self.chosen_method(methods)
        initial = {"method": chosen.code if chosen else ""}
        return self._render_form(PaymentMethodForm(methods=methods, initial=initial))

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if not self.bitsby_is_active():
            parent: Any = super()
            handler = getattr(parent, "post", None) or parent.http_method_not_allowed
            response: HttpResponse = handler(request, *args, **kwargs)
            return response
        methods = self.offered_methods()
        form = PaymentMethodForm(request.POST, methods=methods)
        if not methods or not form.is_valid():
            return self._render_form(form)
        code = form.cleaned_data["method"]
        chosen = next(method for method in methods if method.code == code)
        return self._choose(chosen, request, *args, **kwargs)

    def _choose(
        self, method: Method, request: HttpRequest, *args: Any, **kwargs: Any
    ) -> HttpResponse:
        self.checkout_session.pay_by(method.code)
        if method.is_bitsby:
            return redirect("checkout:preview")
        return self._default_response(request, *args, **kwargs)

    def _default_response(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Return the response of the shop's own step; Oscar's only redirects."""
        response: HttpResponse = super().get(request, *args, **kwargs)  # type: ignore[misc]
        return response

    def _render_form(self, form: PaymentMethodForm) -> HttpResponse:
        context = self.build_submission()  # type: ignore[attr-defined]
        return render(self.request, self.template_name, {**context, "form": form})


class PaymentDetailsMixin(OrderPlacementMixin, ChoiceMixin):
    """The preview: shows the chosen method, and places the order."""

    preview: bool
    template_name_preview: str

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        parent: Any = super()
        response: HttpResponse = parent.dispatch(request, *args, **kwargs)
        if self.bitsby_is_active():
            # The back button leads here from Bitsby. A cached page would show the button to place
            # the order again; a new request redirects to the order.
            add_never_cache_headers(response)
        return response

    def get_pre_conditions(self, request: HttpRequest) -> list[str]:
        conditions: list[str] = super().get_pre_conditions(request)  # type: ignore[misc]
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
        order = Order._default_manager.filter(
            pk=order_id, sources__source_type__code=METHOD_CODE
        ).first()
        if order is not None:
            url = pay_url(order) if request.method == "POST" else order_url(order)
            raise exceptions.FailedPreCondition(url=url)

    def check_payment_method_is_chosen(self, request: HttpRequest) -> None:
        if not self.is_payment_due():
            return
        if self.chosen_method(self.offered_methods()) is None:
            raise exceptions.FailedPreCondition(
                url=reverse("checkout:payment-method"),
                message=_("Please choose a payment method."),
            )

    def get_skip_conditions(self, request: HttpRequest) -> list[str]:
        conditions: list[str] = list(super().get_skip_conditions(request))  # type: ignore[misc]
        if self.bitsby_is_active() and not self.preview:
            conditions.append("skip_details_when_paid_by_bitsby")
        return conditions

    def skip_details_when_paid_by_bitsby(self, request: HttpRequest) -> None:
        """Skip the payment details: Bitsby's payment page asks for them."""
        if self.checkout_session.payment_method() == METHOD_CODE:
            raise exceptions.PassedSkipCondition(url=reverse("checkout:preview"))

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        context: dict[str, Any] = super().get_context_data(**kwargs)  # type: ignore[misc]
        if self.bitsby_is_active():
            total = context.get("order_total")
            if total is not None and total.incl_tax > 0:
                methods = methods_for(total.currency, total.incl_tax)
                context["payment_method"] = self.chosen_method(methods)
            parent: Any = super()
            context["bitsby_extends"] = select_template(parent.get_template_names())
        return context

    def get_template_names(self) -> list[str]:
        names: list[str] = super().get_template_names()  # type: ignore[misc]
        if self.preview and self.bitsby_is_active():
            return ["oscar_bitsby/checkout/preview.html", *names]
        return names

    def pays_by_bitsby(self, order_total: Any) -> bool:
        if not self.bitsby_is_active() or order_total is None:
            return False
        methods = methods_for(order_total.currency, order_total.incl_tax)
        chosen = self.chosen_method(methods)
        return chosen is not None and chosen.is_bitsby
