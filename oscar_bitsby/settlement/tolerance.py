"""Short payments that staff have booked: asking the buyer for the rest."""

from typing import Any

from oscar_bitsby.models import BitsbyPayment


def why_not_ask(payment: BitsbyPayment) -> str:
    """Return why the buyer cannot be asked for the rest of a payment, for staff; else nothing."""
    raise NotImplementedError


def ask_for_rest(payment_pk: Any, user: Any, note: str) -> BitsbyPayment:
    """Ask the buyer for the rest of a payment that is booked and short.

    Args:
        payment_pk: the primary key of the payment.
        user: the member of staff. The caller checks the permission ``oscar_bitsby.bind_payment``.
        note: the reason.

    Raises:
        NotPayable: the rest cannot be asked for; nothing was changed. The message is for staff.
        RuntimeError: called inside a transaction.
    """
    raise NotImplementedError
