"""The pauses that must follow attempts to create an invoice that Bitsby did not answer usably."""

import datetime as dt
from dataclasses import dataclass, field

SECOND = dt.timedelta(seconds=1)
#: The pause of an order after its first failed attempt; it doubles up to the longest one.
FIRST_PAUSE, LONGEST_PAUSE = 10 * SECOND, 600 * SECOND
#: The longest pause of all orders after failed attempts of several.
LONGEST_SHARED_PAUSE = 60 * SECOND
#: So many of the newest failures are certainly still stored.
REMEMBERED = 8

SENT_IN_PAUSE = "an invoice was requested in the pause of its order"
SENT_IN_SHARED_PAUSE = "an invoice was requested in the pause of all orders"


@dataclass
class Pauses:
    """What is known of the attempts from their requests alone.

    Attributes:
        failures: the failed attempts in a row of each order, by its number.
        failed_at: when the last failed request of each order was sent.
        recent: the orders of the failed attempts in a row of all orders, the newest last.
    """

    failures: dict[str, int] = field(default_factory=dict)
    failed_at: dict[str, dt.datetime] = field(default_factory=dict)
    recent: list[str] = field(default_factory=list)

    def violated_by(self, order, now):
        """Return which promise a request for an order breaks now, or None.

        A pause counts from the end of a request. Here it counts from its beginning, so that a
        pause may seem longer than promised and never shorter.
        """
        number = self.failures.get(order, 0)
        if number and now - self.failed_at[order] < min(
            FIRST_PAUSE * 2 ** (number - 1), LONGEST_PAUSE
        ):
            return SENT_IN_PAUSE
        orders = len(set(self.recent))
        if orders > 1:
            since = now - self.failed_at[self.recent[-1]]
            if since < min(FIRST_PAUSE * 2 ** (orders - 2), LONGEST_SHARED_PAUSE):
                return SENT_IN_SHARED_PAUSE
        return None

    def remember(self, order, sent_at, *, is_answered, is_alone):
        """Remember how a request for an order ended.

        Args:
            is_alone: no other request was sent meanwhile, so that it is the newest attempt.
        """
        if is_answered:
            self.failures[order] = 0
        else:
            self.failures[order] = self.failures.get(order, 0) + 1
            self.failed_at[order] = max(sent_at, self.failed_at.get(order, sent_at))
        if is_answered or not is_alone:
            self.recent.clear()
        else:
            self.recent = [*self.recent, order][-REMEMBERED:]
