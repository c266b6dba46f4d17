"""The app's models; import them from here."""

from oscar_bitsby.models.alert import MerchantAlert
from oscar_bitsby.models.audit import AuditedItem, AuditRun
from oscar_bitsby.models.delivery import WebhookDelivery
from oscar_bitsby.models.gateway_state import EPOCH, GatewayState, QueuedBuyer
from oscar_bitsby.models.invoice import PAID_WITHOUT_PAYMENT, BitsbyInvoice, log_change
from oscar_bitsby.models.mail import MAX_AGE, BuyerMail
from oscar_bitsby.models.payment import PAYMENT_TIME, BitsbyPayment, PaymentQuerySet
from oscar_bitsby.models.refund import BitsbyRefund

__all__ = [
    "EPOCH",
    "MAX_AGE",
    "PAID_WITHOUT_PAYMENT",
    "PAYMENT_TIME",
    "AuditRun",
    "AuditedItem",
    "BitsbyInvoice",
    "BitsbyPayment",
    "BitsbyRefund",
    "BuyerMail",
    "GatewayState",
    "MerchantAlert",
    "PaymentQuerySet",
    "QueuedBuyer",
    "WebhookDelivery",
    "log_change",
]
