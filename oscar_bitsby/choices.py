"""The enumerations of the app's models; rules may use them without importing a model."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _


class InvoiceStatus(models.TextChoices):
    """``creating`` is ours: the row is committed, the API has not answered yet. The others are
    Bitsby's words."""

    CREATING = "creating", _("being created")
    UNPAID = "unpaid", _("waiting for payment")
    PAID = "paid", _("paid")
    EXPIRED = "expired", _("expired")
    CANCELED = "canceled", _("canceled")


class ReviewReason(models.TextChoices):
    """Why a payment needs a decision by staff."""

    UNMATCHED = "unmatched", _("bound to no invoice: its amount fits none")
    SHORT = "short", _("less than the order's total")
    OVER = "over", _("more than the order's total")
    LATE = "late", _("came after the order was cancelled")
    SECOND = "second", _("the order was already paid")
    MISMATCH = "mismatch", _("the invoice at Bitsby is not what was asked for")
    UNKNOWN_INVOICE = "unknown", _("bound to an invoice that this shop does not know")
    UNKNOWN_VALUE = "unknown_value", _("its worth is not known: no rate was locked for its wallet")
    ORDER_GONE = "gone", _("its order was deleted")
    NOT_PAID = "ended", _("bound to an invoice that Bitsby does not call paid")
    REBOUND = "rebound", _("Bitsby has it on another invoice than the one it was booked for")
    STATUS = "status", _("the order's status could not be changed")


class Resolution(models.TextChoices):
    """What staff decided about a payment."""

    BOUND = "bound", _("bound to an invoice")
    ACCEPTED = "accepted", _("accepted as it is")
    REINSTATED = "reinstated", _("settled its order again")
    DISMISSED = "dismissed", _("dismissed")


class MailCode(models.TextChoices):
    """The codes of Oscar's communication event types, with what staff read there."""

    PLACED = "BITSBY_ORDER_PLACED", _("Bitsby: order placed, waiting for the payment")
    PAID = "BITSBY_PAYMENT_RECEIVED", _("Bitsby: payment received")
    OTHER_AMOUNT = "BITSBY_OTHER_AMOUNT", _("Bitsby: another amount received")
    REMINDER = "BITSBY_ABOUT_TO_EXPIRE", _("Bitsby: the time to pay is about to end")
    EXPIRED = "BITSBY_EXPIRED", _("Bitsby: the time to pay is over")
    CANCELLED = "BITSBY_CANCELLED", _("Bitsby: order cancelled for want of payment")


class MailStatus(models.TextChoices):
    """What became of an e-mail."""

    WAITING = "waiting", _("to be sent")
    SENDING = "sending", _("being sent")
    SENT = "sent", _("sent")
    DROPPED = "dropped", _("not sent: nothing to tell any more")
    FAILED = "failed", _("not sent: given up")
