"""The value of a payment in the shop's currency, as far as it is known."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from django.utils.translation import gettext as _
from oscar.templatetags.currency_filters import currency

from oscar_bitsby.accounting.matching import Match
from oscar_bitsby.models import BitsbyPayment


@dataclass(frozen=True)
class PaymentValue:
    """A fiat value: of the payment itself or, as an estimate, at the rate of its best match."""

    amount: Decimal
    currency: str
    is_estimate: bool = False

    @classmethod
    def of(cls, payment: BitsbyPayment, match: Match | None) -> PaymentValue | None:
        """Return the value of a payment; None if no rate is known."""
        if payment.fiat_value is not None:
            return cls(payment.fiat_value, payment.currency)
        if match is None or match.fiat_value is None:
            return None
        return cls(match.fiat_value, match.invoice.currency, is_estimate=True)

    def __str__(self) -> str:
        text = str(currency(self.amount, self.currency))
        return _("about %(fiat_value)s") % {"fiat_value": text} if self.is_estimate else text
