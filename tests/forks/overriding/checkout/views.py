"""The fork's own views, which Oscar finds through ``get_class``."""

from django.shortcuts import redirect
from oscar.apps.checkout import views


class PaymentMethodView(views.PaymentMethodView):
    """Redirects to the shop's own page."""

    def get(self, request, *args, **kwargs):
        return redirect("/the-shops-own-payment/")


class PaymentDetailsView(views.PaymentDetailsView):
    """Stores the order's number in the session, and shows a text of its own."""

    def get_context_data(self, **kwargs):
        return {**super().get_context_data(**kwargs), "shop_name": "The forked shop"}

    def handle_successful_order(self, order):
        response = super().handle_successful_order(order)
        self.request.session["fork_handled"] = str(order.number)
        return response
