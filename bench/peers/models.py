"""The payment model that django-payments requires of a shop."""

from payments.models import BasePayment


class Payment(BasePayment):
    """Follows the example in its documentation."""

    def get_failure_url(self):
        return "http://127.0.0.1/failure/"

    def get_success_url(self):
        return "http://127.0.0.1/success/"
