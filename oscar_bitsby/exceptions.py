"""The errors that this package raises.

::

    BitsbyError
    ├── ConfigurationError        the settings are missing or invalid
    ├── NotPayable                the order is not waiting for a payment
    │   └── HoldEnded                 the time in which it could be paid is over
    ├── PaymentInProgress         another request is creating this order's invoice right now
    ├── PaymentPaused             the order's last attempt failed a short while ago
    ├── RefundRefused             a refund, its address or its hash is not acceptable
    └── GatewayError              a request to Bitsby failed
        ├── ConnectionFailed      no complete answer: refused, timed out, connection lost
        ├── RateLimited           Bitsby's rate limit refused the request
        │   └── RateLimitTimeout      our own rate limit had no slot in time; nothing was sent
        │       └── Queued                it is not this buyer's turn yet
        ├── Refused               Bitsby refused the request
        └── ReplyNotUnderstood    the answer is not as documented
            └── PaymentPageRefused    the invoice's page is on a host that is not allowed

``except BitsbyError`` catches all of them. No error contains the API key: it is redacted from the
texts of answers.
"""

from oscar.apps.payment import exceptions as oscar_exceptions


class BitsbyError(oscar_exceptions.PaymentError):  # type: ignore[misc]  # Oscar has no types
    """Base class of all errors; Oscar's own views handle it as a ``PaymentError``."""


class ConfigurationError(BitsbyError):
    """``settings.OSCAR_BITSBY`` is missing, incomplete or invalid."""


class NotPayable(BitsbyError):
    """The order is paid, cancelled, or otherwise not waiting for a payment."""


class HoldEnded(NotPayable):
    """``HOLD_ORDER_FOR`` is over: no invoice is created for the order any more."""


class PaymentInProgress(BitsbyError):
    """Another request is creating this order's invoice right now."""


class PaymentPaused(BitsbyError):
    """The order's last attempt to get an invoice failed a short while ago."""


class RefundRefused(BitsbyError):
    """A step of a refund was refused and changed nothing. The message is for the person."""


class GatewayError(BitsbyError):
    """A request to Bitsby failed.

    Attributes:
        status: the HTTP status of the answer, or None if there was none.
        body: the first characters of the answer, with the API key redacted.
        may_retry: whether the same request may succeed later without a change.
    """

    may_retry = False

    def __init__(self, message: str, *, status: int | None = None, body: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.body = body


class ConnectionFailed(GatewayError):
    """No complete answer came. Bitsby may or may not have processed the request."""

    may_retry = True


class RateLimited(GatewayError):
    """Bitsby's rate limit refused the request, which was not processed."""

    may_retry = True


class RateLimitTimeout(RateLimited):
    """No slot of our own rate limit came free within the caller's time. Nothing was sent."""


class Queued(RateLimitTimeout):
    """It is not this buyer's turn yet. Nothing was sent, and the buyer has a place in the queue.

    Attributes:
        ahead: how many buyers come before.
        seconds: when the buyer's page should return.
        wait: the estimated seconds until the buyer's turn.
    """

    def __init__(
        self, message: str, *, ahead: int = 0, seconds: float = 0.0, wait: float = 0.0
    ) -> None:
        super().__init__(message)
        self.ahead = ahead
        self.seconds = seconds
        self.wait = wait


class Refused(GatewayError):
    """Bitsby refused the request; the message contains its reason."""


class ReplyNotUnderstood(GatewayError):
    """The answer is not as documented. Bitsby may or may not have processed the request."""

    may_retry = True


class PaymentPageRefused(ReplyNotUnderstood):
    """The host of the invoice's payment page is not in ``PAYMENT_HOSTS``."""

    may_retry = False


#: Bitsby has answered, and the answer cannot be used. If the request was about one invoice, this
#: concerns that invoice alone; all other errors concern every request.
UNUSABLE_ANSWERS = (Refused, ReplyNotUnderstood)
