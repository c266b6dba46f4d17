"""The enumerations of the app's models. They are below the models, so that rules can use them."""

from django.db import models
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy


class InvoiceStatus(models.TextChoices):
    """The status of an invoice: ours until the API has answered, then one of Bitsby's."""

    CREATING = "creating", _("being created")
    UNPAID = "unpaid", _("waiting for payment")
    PAID = "paid", _("paid")
    EXPIRED = "expired", _("expired")
    CANCELED = "canceled", _("cancelled")


class ReviewReason(models.TextChoices):
    """Why a payment needs a decision by staff."""

    UNMATCHED = "unmatched", _("Unmatched payment")
    SHORT = "short", _("less than the order's total")
    OVER = "over", _("more than the order's total")
    LATE = "late", _("arrived after the order was cancelled")
    CANCELLED = "cancelled", _("arrived in time, but the order is cancelled")
    SECOND = "second", _("the order was already paid: this is a duplicate payment")
    MISMATCH = "mismatch", _("the invoice at Bitsby has another amount, currency or project")
    UNKNOWN_INVOICE = "unknown_invoice", _("bound to an invoice that this shop does not know")
    UNKNOWN_VALUE = "unknown_value", _("unknown value: the invoice locked no rate for this coin")
    ORDER_GONE = "order_gone", _("the order was deleted")
    NOT_PAID = "not_paid", _("the invoice is not paid at Bitsby")
    REBOUND = "rebound", _("bound to another invoice at Bitsby after it was booked")
    STATUS = "status", _("the order's status could not be changed")
    REST_MISSING = "rest_missing", _("the rest was asked for and has not arrived")


class Resolution(models.TextChoices):
    """What staff decided about a payment."""

    ACCEPTED = "accepted", _("accepted as it is")
    REINSTATED = "reinstated", _("order reinstated")
    DISMISSED = "dismissed", _("dismissed")
    ASKED = "asked", _("booked, and the buyer is asked for the rest")
    TOLERATED = "tolerated", _("accepted within the tolerance")
    REFUNDED = "refunded", _("refunded")


class RefundState(models.TextChoices):
    """How far a refund is."""

    REQUESTED = "requested", _("waiting for an address")
    ADDRESS_GIVEN = "address_given", _("to be sent")
    SENT = "sent", pgettext_lazy("of a refund", "sent")
    CANCELLED = "cancelled", pgettext_lazy("of a refund", "cancelled")


#: States of a refund whose coins are not sent yet.
OPEN_REFUND = (RefundState.REQUESTED, RefundState.ADDRESS_GIVEN)
#: States of a refund that reduces what can still be refunded.
COUNTED_REFUND = (*OPEN_REFUND, RefundState.SENT)


class MailCode(models.TextChoices):
    """The codes of Oscar's communication event types, with their names for staff."""

    PLACED = "BITSBY_ORDER_PLACED", _("Bitsby: order placed, waiting for payment")
    PAID = "BITSBY_PAYMENT_RECEIVED", _("Bitsby: payment received")
    OTHER_AMOUNT = "BITSBY_OTHER_AMOUNT", _("Bitsby: payment under review")
    REMINDER = "BITSBY_ABOUT_TO_EXPIRE", _("Bitsby: payment window closes soon")
    EXPIRED = "BITSBY_EXPIRED", _("Bitsby: payment window closed")
    CANCELLED = "BITSBY_CANCELLED", _("Bitsby: unpaid order cancelled")
    REST = "BITSBY_REST", _("Bitsby: the rest is missing")
    REFUND_REQUESTED = "BITSBY_REFUND_REQUESTED", _("Bitsby: address for a refund needed")
    REFUND_ADDRESS = "BITSBY_REFUND_ADDRESS", _("Bitsby: address for a refund received")
    REFUND_SENT = "BITSBY_REFUND_SENT", _("Bitsby: refund sent")


class AlertCode(models.TextChoices):
    """What the merchant is alerted about."""

    PAYMENT = "payment", _("A payment needs a decision")
    REFUND_ADDRESS = "refund_address", _("A refund can be sent")
    KEY_REFUSED = "key_refused", _("Bitsby refuses the shop's requests")
    ACCOUNT_BLOCKED = "account_blocked", _("Bitsby refuses new invoices")
    LOW_BALANCE = "low_balance", _("The balance at Bitsby is low")
    RUNS_OVERDUE = "runs_overdue", _("Payments were not checked")
    AUDIT_FAILED = "audit_failed", _("The audit has found differences")


class AuditState(models.TextChoices):
    """How far an audit is, and what it has found."""

    RUNNING = "running", _("not finished")
    PROVED = "proved", _("no differences")
    DIFFERENT = "different", _("differences found")
    UNPROVED = "unproved", _("could not be completed")


class DifferenceKind(models.TextChoices):
    """In what Bitsby's lists, our rows and Oscar's ledger differ."""

    PAYMENT_ONLY_THERE = "payment_only_there", _("Payment only at Bitsby")
    PAYMENT_ONLY_HERE = "payment_only_here", _("Payment only in the shop")
    INVOICE_ONLY_THERE = "invoice_only_there", _("Invoice only at Bitsby")
    INVOICE_ONLY_HERE = "invoice_only_here", _("Invoice only in the shop")
    AMOUNT = "amount", _("Different amount")
    HASH = "hash", _("Different transaction hash")
    BINDING = "binding", _("Different binding")
    STATUS = "status", _("Different status")
    UNDECIDED = "undecided", _("Payment neither booked nor to review")
    NOT_IN_LEDGER = "not_in_ledger", _("Booked without a transaction")
    BOOKED_TWICE = "booked_twice", _("Booked more than once")
    TRANSACTION_ONLY = "transaction_only", _("Transaction without a payment or refund")
    REFUND_NOT_IN_LEDGER = "refund_not_in_ledger", _("Refund without a transaction")
    SOURCE_SUM = "source_sum", _("Source that differs from its transactions")
    WALLET_SUM = "wallet_sum", _("Wallet whose sums differ")


class MailStatus(models.TextChoices):
    """The status of an e-mail."""

    WAITING = "waiting", _("waiting")
    SENDING = "sending", _("being sent")
    SENT = "sent", _("sent")
    DROPPED = "dropped", _("not sent: no longer true")
    FAILED = "failed", _("not sent: delivery failed")
