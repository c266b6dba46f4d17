"""Lock the rows of an order's money, always in the same order, so that processes cannot deadlock.

First the order, which guards all its invoices, then an invoice, then the payment, then a refund,
then ``ledger``'s rows (source, vouchers in the order of their model as Oscar locks them, offers,
stock by its key). Updates of many invoices at once skip locked rows: see ``update_unlocked``.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import router, transaction
from django.utils.translation import gettext as _
from oscar.core.loading import get_model

from oscar_bitsby.exceptions import RefundRefused
from oscar_bitsby.models import BitsbyInvoice, BitsbyPayment, BitsbyRefund

Order = get_model("order", "Order")


def lock_order_and_invoice(invoice_pk: Any, order_pk: Any) -> tuple[Any, BitsbyInvoice]:
    """Lock the order, then the invoice, and return both as they are now.

    ``order_pk`` is None if the order was deleted. It may be stale: an invoice can lose its order
    but never gets another one.
    """
    order = Order._default_manager.select_for_update().filter(pk=order_pk).first()
    invoice = BitsbyInvoice.objects.select_for_update().get(pk=invoice_pk)
    return order, invoice


@contextmanager
def lock_refund(
    refund_pk: Any, *, lock_invoices: bool = False
) -> Iterator[tuple[Any, BitsbyPayment | None, BitsbyRefund]]:
    """Lock what a refund is about, then the refund; yield the order, the payment and the refund."""
    # Both are set once; only the shop can delete the order.
    found = BitsbyRefund.objects.select_related("order", "payment").filter(pk=refund_pk).first()
    if found is None:
        raise RefundRefused(_("This refund does not exist."))
    with lock_money(found.payment, found.order, lock_invoices=lock_invoices) as rows:
        yield *rows, BitsbyRefund.objects.select_for_update().get(pk=refund_pk)


@contextmanager
def lock_money(
    payment: BitsbyPayment | None, order: Any, *, lock_invoices: bool = False
) -> Iterator[tuple[Any, BitsbyPayment | None]]:
    """Lock an order, its invoices if they are changed too, and a payment; yield order and payment.

    The order is that of the payment's invoice or, if it has none, the given one; None if there is
    none.
    """
    with transaction.atomic(using=router.db_for_write(BitsbyRefund), durable=True):
        order_pk, invoice_pk = order.pk if order is not None else None, None
        if payment is not None:
            keys = BitsbyPayment.objects.values_list("invoice_id", "invoice__order_id")
            invoice_pk, its_order_pk = keys.get(pk=payment.pk)
            order_pk = its_order_pk or order_pk
        order = Order._default_manager.select_for_update().filter(pk=order_pk).first()
        if lock_invoices and order is not None:
            list(order.bitsby_invoices.select_for_update().order_by("pk"))
        if payment is not None:
            payment = BitsbyPayment.objects.select_for_update().get(pk=payment.pk)
            if payment.invoice_id != invoice_pk:
                raise RefundRefused(_("This payment has just changed. Check it again."))
        yield order, payment
