"""What a sent refund changes elsewhere: Oscar's ledger, its payment and its order.

All rows are locked by ``locks``.
"""

from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop

from oscar_bitsby import conf
from oscar_bitsby.accounting import ledger
from oscar_bitsby.choices import Resolution
from oscar_bitsby.exceptions import RefundRefused
from oscar_bitsby.models import BitsbyPayment, BitsbyRefund
from oscar_bitsby.orders import transitions
from oscar_bitsby.orders.stage import OrderStage, order_stage
from oscar_bitsby.utils import i18n
from oscar_bitsby.utils.clock import db_now


def book(refund: BitsbyRefund, order: Any) -> None:
    """Book a refund on the order that holds the money.

    Coins that were sent are never booked beyond what the order holds: staff learn about it.
    """
    if refund.amount is None:
        raise RefundRefused(
            _(
                "The payment was booked after this refund was requested. Cancel the refund, and"
                " request one with an amount."
            )
        )
    if order is None:
        # The shop deleted the order, and Oscar its sources with it.
        return
    try:
        ledger.book_refund(order, refund, ledger.lock_sources(order))
    except ValueError:
        raise RefundRefused(
            _(
                "The order holds less than this refund: somebody has refunded money of it in"
                " another way. Cancel this refund, and enter the transaction hash as the reason."
            )
        ) from None
    refund.order, refund.order_number = order, str(order.number)
    refund.save(update_fields=["order", "order_number", "is_booked"])


def resolve(payment: BitsbyPayment, user: Any, note: str) -> None:
    """Remove a payment from the payments to review."""
    payment.resolved_at, payment.resolved_by = db_now(), user
    payment.resolution, payment.resolution_note = Resolution.REFUNDED, note.strip()[:300]
    payment.save(update_fields=["resolved_at", "resolved_by", "resolution", "resolution_note"])


def cancel_order(order: Any, refund: BitsbyRefund) -> None:
    """Cancel an order, and release its stock, vouchers and offers.

    Where the pipeline forbids it, the whole step is refused: staff see why, and repeat it without
    cancelling. A recorded refund of an order that was silently not cancelled would go unnoticed.
    """
    settings = conf.get()
    if order is None:
        raise RefundRefused(
            _("The order was deleted. Record the refund as sent without cancelling the order.")
        )
    if order_stage(settings, order) is OrderStage.CANCELLED:
        return
    note = i18n.shop_text(gettext_noop("Cancelled: %(refund)s refunded."), refund=refund)
    if not transitions.change_order_status(order, settings.order_status_cancelled, note):
        raise RefundRefused(
            _(
                "The refund was not recorded: the shop's status pipeline does not allow order %s to"
                " be cancelled. Record the refund as sent without cancelling the order."
            )
            % order.number
        )
    transitions.release_order(order)
    order.bitsby_invoices.stop_awaiting_payment()
