"""What a shop can listen to. All are sent after commit; a receiver that raises is logged and
stops nothing.

``invoice_created``, ``invoice_paid`` and ``invoice_expired`` carry ``invoice`` (a
``BitsbyInvoice``) and ``order``. ``payment_needs_attention`` carries ``payment`` (a
``BitsbyPayment``), ``reason`` (one of its reasons) and ``order``, which is None where no order is
known. The order's own changes of status are told by Oscar's ``order_status_changed``.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from django.db import router, transaction
from django.dispatch import Signal

invoice_created = Signal()
invoice_paid = Signal()
invoice_expired = Signal()
payment_needs_attention = Signal()


def send_after_commit(signal: Signal, sender: type[Any], **payload: Any) -> None:
    """Send ``signal`` once the current transaction is committed, or now when there is none."""
    transaction.on_commit(
        partial(signal.send_robust, sender=sender, **payload),
        using=router.db_for_write(sender),
        robust=True,
    )
