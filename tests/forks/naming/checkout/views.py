"""The fork's own views."""

from oscar.apps.checkout import views


class OwnPaymentMethodView(views.PaymentMethodView):
    """As Oscar's."""


class OwnPaymentDetailsView(views.PaymentDetailsView):
    """As Oscar's."""
