"""The tree of errors that this package raises.

::

    BitsbyError
    ├── ConfigurationError        the settings are missing or wrong
    ├── NotPayable                the order needs no payment, or may have none
    ├── PaymentInProgress         another request is creating this order's invoice right now
    └── GatewayError              a request to Bitsby did not succeed
        ├── ConnectionFailed      no answer came: refused, timed out, broken off
        ├── RateLimited           Bitsby's one request a second is used up
        │   └── RateLimitTimeout      our own rate limit had no slot in time; nothing was sent
        ├── Refused               Bitsby said no
        └── ReplyNotUnderstood    Bitsby answered something that is not documented
            └── PaymentPageRefused    the invoice's page is on a host that is not allowed

Whoever catches ``BitsbyError`` catches all of them. No error carries the API key: texts that come
from outside are cleaned of it before they get here.
"""

from __future__ import annotations

from oscar.apps.payment import exceptions as oscar_exceptions


class BitsbyError(oscar_exceptions.PaymentError):  # type: ignore[misc]  # Oscar has no types
    """Base of all errors here; a ``PaymentError``, so that Oscar's own views can handle it."""


class ConfigurationError(BitsbyError):
    """``settings.OSCAR_BITSBY`` is missing, incomplete or wrong."""


class NotPayable(BitsbyError):
    """The order is paid, cancelled, or otherwise not waiting for a payment."""


class PaymentInProgress(BitsbyError):
    """Another request is creating this order's invoice at this moment."""


class GatewayError(BitsbyError):
    """A request to Bitsby did not succeed.

    Attributes:
        status: the HTTP status of the answer, or None when there was none.
        body: the beginning of the answer's text, cleaned of the API key.
        may_retry: whether the same request may succeed later without anybody changing anything.
    """

    may_retry = False

    def __init__(self, message: str, *, status: int | None = None, body: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.body = body


class ConnectionFailed(GatewayError):
    """No complete answer came. Whether Bitsby did what was asked is not known."""

    may_retry = True


class RateLimited(GatewayError):
    """Bitsby refused the request for coming less than a second after another. Nothing was done."""

    may_retry = True


class RateLimitTimeout(RateLimited):
    """The account's next free moment is later than the caller wanted to wait. Nothing was sent."""


class Refused(GatewayError):
    """Bitsby understood the request and said no; the message is its text."""


class ReplyNotUnderstood(GatewayError):
    """The answer has not the documented shape. Whether Bitsby did what was asked is not known."""

    may_retry = True


class PaymentPageRefused(ReplyNotUnderstood):
    """The invoice's payment page is not on one of the hosts in ``PAYMENT_HOSTS``."""

    may_retry = False
