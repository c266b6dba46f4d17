"""The app's models; import them from here."""

from oscar_bitsby.models.delivery import WebhookDelivery
from oscar_bitsby.models.gateway_state import EPOCH, GatewayState
from oscar_bitsby.models.invoice import NAMELESS, BitsbyInvoice, InvoiceQuerySet, log_change
from oscar_bitsby.models.mail import KEPT_FOR, BuyerMail
from oscar_bitsby.models.payment import BitsbyPayment, PaymentQuerySet

__all__ = [
    "EPOCH",
    "KEPT_FOR",
    "NAMELESS",
    "BitsbyInvoice",
    "BitsbyPayment",
    "BuyerMail",
    "GatewayState",
    "InvoiceQuerySet",
    "PaymentQuerySet",
    "WebhookDelivery",
    "log_change",
]
