"""Signals for the shop. They are sent after commit; errors of receivers are logged only.

``invoice_created``, ``invoice_paid`` and ``invoice_expired`` send ``invoice`` (a
``BitsbyInvoice``) and ``order``. ``payment_needs_attention`` sends ``payment`` (a
``BitsbyPayment``), ``reason`` (a ``ReviewReason``) and ``order``, which is None if the order is not
known. ``refund_requested`` and ``refund_sent`` send ``refund`` (a ``BitsbyRefund``) and ``order``,
which is None likewise. For changes of an order's status use Oscar's ``order_status_changed``.
"""

from functools import partial
from typing import Any

from django.db import router, transaction
from django.dispatch import Signal

invoice_created = Signal()
invoice_paid = Signal()
invoice_expired = Signal()
payment_needs_attention = Signal()
refund_requested = Signal()
refund_sent = Signal()


def send_after_commit(signal: Signal, sender: type[Any], **payload: Any) -> None:
    """Send ``signal`` after the current transaction is committed, or now if there is none."""
    transaction.on_commit(
        partial(signal.send_robust, sender=sender, **payload),
        using=router.db_for_write(sender),
        robust=True,
    )
