"""Cancelling an order for want of payment: settlement's last step, under the same locks."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from django.db import router, transaction
from django.utils.translation import gettext_noop
from oscar.core.loading import get_model

from oscar_bitsby import conf
from oscar_bitsby.accounting import ledger
from oscar_bitsby.accounting.ledger import has_unbooked_money
from oscar_bitsby.choices import InvoiceStatus, MailCode, Resolution
from oscar_bitsby.gateway import schemas
from oscar_bitsby.mails import outbox
from oscar_bitsby.models import BitsbyInvoice
from oscar_bitsby.orders import transitions
from oscar_bitsby.orders.stage import OrderStage, cancellation_deadline, order_stage
from oscar_bitsby.settlement.rules import Action, ActionType, SettlementInput, decide
from oscar_bitsby.utils import i18n
from oscar_bitsby.utils.clock import db_now

logger = logging.getLogger("oscar_bitsby")

Order = get_model("order", "Order")


def cancel_unpaid_order(
    order_pk: Any, remote: Mapping[UUID, schemas.Invoice], *, dry_run: bool = False
) -> bool:
    """Cancel an unpaid order, if everything that speaks for it still holds under the lock.

    Args:
        order_pk: the order's key.
        told: what Bitsby has just said of each of the order's invoices, by Bitsby's id.
        dry_run: decide, write nothing.

    Returns:
        whether the order was cancelled, or with ``dry_run`` would be. Stock and vouchers are then
        given back.
    """
    settings = conf.get()
    if settings.cancel_after is None:
        return False
    with transaction.atomic(using=router.db_for_write(BitsbyInvoice), durable=True):
        order = Order._default_manager.select_for_update().filter(pk=order_pk).first()
        if order is None:
            return False
        invoices = list(order.bitsby_invoices.select_for_update().order_by("pk"))
        last = invoices[-1] if invoices else None
        has_money = ledger.has_money(order)
        facts = SettlementInput(
            remote_status=schemas.EXPIRED,
            order=order_stage(settings, order),
            is_live=False,
            paid_otherwise=has_money or has_unbooked_money(order),
            others_open=any(_can_be_open(invoice, remote) for invoice in invoices),
            time_is_up=cancellation_deadline(order, invoices, settings) <= db_now(),
        )
        if (facts.order is not OrderStage.PENDING or has_money) and not dry_run:
            # Money or staff decided; there is nothing left to wait for.
            order.bitsby_invoices.filter(order_awaits_payment=True).update(
                order_awaits_payment=False
            )
        if Action(ActionType.CANCEL_ORDER) not in decide(facts):
            return False
        if dry_run:
            return True
        note = i18n.shop_text(
            gettext_noop(
                "Cancelled: Bitsby has just said that none of its invoices is paid or can be."
            )
        )
        if not transitions.change_order_status(order, settings.order_status_cancelled, note):
            return False
        transitions.release_order(order)
        outbox.enqueue(MailCode.CANCELLED, order)
        order.bitsby_invoices.filter(order_awaits_payment=True).update(order_awaits_payment=False)
        logger.info(
            "order cancelled: order=%s invoice=%s", order.number, last.bitsby_id if last else None
        )
        return True


def _can_be_open(invoice: BitsbyInvoice, remote: Mapping[UUID, schemas.Invoice]) -> bool:
    if invoice.status in (*BitsbyInvoice.LIVE, InvoiceStatus.PAID):
        return True
    if invoice.bitsby_id is None:
        # The attempt got no answer: nobody was ever shown that invoice.
        return False
    word = remote.get(invoice.bitsby_id)
    if word is not None and word.project_id not in ("", invoice.project_id):
        # An answer about another project says nothing about our invoice.
        return True
    if word is not None and word.status == schemas.PAID:
        # Unless staff have sent that money back.
        return not invoice.payments.filter(
            resolution=Resolution.DISMISSED, booked_at__isnull=True
        ).exists()
    return word is None or word.status not in (schemas.EXPIRED, schemas.CANCELED)
