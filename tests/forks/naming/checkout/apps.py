"""A config whose URLs name the fork's views, so that the app cannot replace them."""

from django.urls import path
from oscar.apps.checkout import apps


class CheckoutConfig(apps.CheckoutConfig):
    name = "tests.forks.naming.checkout"

    def get_urls(self):
        from tests.forks.naming.checkout import views

        own = [
            path("payment-method/", views.OwnPaymentMethodView.as_view(), name="payment-method"),
            path("preview/", views.OwnPaymentDetailsView.as_view(preview=True), name="preview"),
        ]
        return self.post_process_urls(own) + super().get_urls()
