"""What an order asked for and what came in, for its pages in the dashboard and the admin."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from django.db.models import Prefetch, prefetch_related_objects
from oscar.core.loading import get_model

from oscar_bitsby import conf
from oscar_bitsby.accounting import ledger
from oscar_bitsby.models import BitsbyInvoice, BitsbyPayment

Source = get_model("payment", "Source")


@dataclass(frozen=True)
class OrderMoney:
    """An order's money, in its currency; what other payment methods received counts as well."""

    order: Any
    #: The newest first, with their payments.
    invoices: list[BitsbyInvoice]
    received: Decimal
    refunded: Decimal
    #: What the order's sources hold: see ``ledger.amount_held``.
    held: Decimal

    @property
    def missing(self) -> Decimal:
        """How much less than the total the order holds; nothing once the total was received.

        The buyer of an order that was paid does not owe what the shop has refunded.
        """
        if self.received >= self.order.total_incl_tax:
            return Decimal(0)
        missing: Decimal = self.order.total_incl_tax - self.held
        return max(missing, Decimal(0))

    @property
    def surplus(self) -> Decimal:
        """How much more than the total the order holds."""
        surplus: Decimal = self.held - self.order.total_incl_tax
        return max(surplus, Decimal(0))

    @property
    def payments(self) -> list[BitsbyPayment]:
        """The payments that are bound to the order's invoices."""
        return [payment for invoice in self.invoices for payment in invoice.payments.all()]

    @property
    def undecided(self) -> int:
        """How many of these payments need a decision by staff."""
        return sum(payment.needs_review for payment in self.payments)

    @property
    def unbooked(self) -> Decimal:
        """The known value of those that need a decision and are not booked yet."""
        waiting = (one for one in self.payments if one.needs_review and one.booked_at is None)
        return sum((payment.fiat_value or Decimal(0) for payment in waiting), Decimal(0))


def order_money(order: Any) -> OrderMoney | None:
    """Return an order's money, from three queries; None if it has nothing to do with Bitsby."""
    # Prefetched, because Oscar's own pages read them as well.
    with_type = Source._default_manager.select_related("source_type")
    prefetch_related_objects([order], Prefetch("sources", with_type))
    payments = BitsbyPayment.objects.select_related("resolved_by")
    rows = BitsbyInvoice.objects.filter(order=order).defer("reply", "wallets")
    invoices = list(rows.prefetch_related(Prefetch("payments", payments)))
    sources = list(order.sources.all())
    if not invoices and all(one.source_type.code != conf.METHOD_CODE for one in sources):
        return None
    return OrderMoney(
        order,
        invoices,
        received=sum((source.amount_debited for source in sources), Decimal(0)),
        refunded=sum((source.amount_refunded for source in sources), Decimal(0)),
        held=ledger.amount_held(sources),
    )
