"""The payment model that django-payments asks a shop for."""

from payments.models import BasePayment


class Payment(BasePayment):
    """As its documentation shows it."""

    def get_failure_url(self):
        return "http://127.0.0.1/failure/"

    def get_success_url(self):
        return "http://127.0.0.1/success/"
