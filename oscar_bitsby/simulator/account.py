"""One fake merchant account: its options and its parts."""

import hmac
from dataclasses import dataclass

from . import serializers
from .state import Clock, Invoice, Payment, State
from .traffic import Traffic
from .webhooks import WebhookSender

HOST = "127.0.0.1"
DEFAULT_PORT = 8001
# The project of seeded invoices if the options name none.
SEED_PROJECT_ID = "9deea1e2-0c08-41a3-bdc2-a34eada3892d"


@dataclass(frozen=True, kw_only=True)
class Options:
    """The options of the command line."""

    webhook_url: str | None = None
    webhooks: bool = True
    token: str | None = None
    speed: float = 1.0
    project_id: str | None = None
    page_size: int = 50


class Account:
    """The clock, state, traffic and webhooks of one simulator."""

    def __init__(self, options: Options, base_url: str = "") -> None:
        self.options = options
        self.base_url = base_url
        self.clock = Clock()
        self.traffic = Traffic()
        self.webhooks = WebhookSender(
            self.clock, options.speed, options.webhook_url, options.webhooks
        )
        self.state = State(self.clock, options.speed, self._deliver)

    def reset(self) -> None:
        """Restore the state at the start."""
        with self.state.lock:
            self.clock.offset *= 0
            self.state.reset()
        self.traffic.reset()
        self.webhooks.reset()

    def authorizes(self, header: str) -> bool:
        """Return whether an Authorization header has the right token."""
        scheme, _, token = header.partition(" ")
        if scheme != "Token" or not token:
            return False
        expected = self.options.token
        return expected is None or hmac.compare_digest(token.encode(), expected.encode())

    def page_url(self, invoice: Invoice) -> str:
        """Return the address of an invoice's payment page."""
        return f"{self.base_url}/invoices/pay/{invoice.uid}"

    def projects(self) -> list[str]:
        """Return the project ids: the one in the options, or those of the invoices."""
        if self.options.project_id is not None:
            return [self.options.project_id]
        return sorted({invoice.project_id for invoice in self.state.invoices()})

    def _deliver(self, invoice: Invoice, payment: Payment) -> None:
        self.webhooks.send(invoice.id, serializers.delivery(invoice, payment))
