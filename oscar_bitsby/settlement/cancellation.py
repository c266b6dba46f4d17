"""Cancelling an unpaid order, under the same locks as settling."""

import datetime as dt
import logging
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from django.db import router, transaction
from django.db.models import Exists, OuterRef, Q
from django.utils.translation import gettext_lazy, gettext_noop
from oscar.core.loading import get_model

from oscar_bitsby import conf
from oscar_bitsby.accounting import ledger
from oscar_bitsby.accounting.matching import Match
from oscar_bitsby.accounting.unmatched import likely_matches
from oscar_bitsby.choices import InvoiceStatus, MailCode, Resolution
from oscar_bitsby.gateway import schemas
from oscar_bitsby.mails import outbox
from oscar_bitsby.models import BitsbyInvoice, BitsbyPayment
from oscar_bitsby.orders import transitions
from oscar_bitsby.orders.stage import OrderStage, cancellation_deadline, order_stage
from oscar_bitsby.settlement.attempts import NO_ANSWER
from oscar_bitsby.settlement.rules import Action, ActionType, SettlementInput, decide
from oscar_bitsby.utils import i18n
from oscar_bitsby.utils.clock import db_now

logger = logging.getLogger("oscar_bitsby")

Order = get_model("order", "Order")

#: How long after ``HOLD_ORDER_FOR`` staff can decide about a payment that may be for an order.
TIME_TO_DECIDE = dt.timedelta(days=1)

#: The failures of an invoice that Bitsby calls paid, but whose money the order does not hold.
DISMISSED = gettext_noop("its payment was dismissed by staff")
SENT_BACK = gettext_noop("its payment was refunded")
#: Decisions after which an unbooked payment no longer keeps its order from being cancelled.
WITHOUT_MONEY = (Resolution.DISMISSED, Resolution.REFUNDED)


def cancel_unpaid_order(
    order_pk: Any, remote_invoices: Mapping[UUID, schemas.Invoice], *, dry_run: bool = False
) -> bool:
    """Cancel an unpaid order if its time is up and none of its invoices can be paid.

    An unbound payment that is probably meant for it keeps it until staff decide, or until
    ``TIME_TO_DECIDE`` after its hold. Stock and vouchers are released. Call it only when the API
    has answered in this run.
    ``remote_invoices`` are the order's invoices as the API has just answered, by their Bitsby ids.

    Returns:
        whether the order was cancelled, or in a dry run, which writes nothing, would be.
    """
    settings = conf.get()
    with transaction.atomic(using=router.db_for_write(BitsbyInvoice), durable=True):
        order = Order._default_manager.select_for_update().filter(pk=order_pk).first()
        if order is None:
            return False
        invoices = list(order.bitsby_invoices.select_for_update().order_by("pk"))
        has_money = ledger.has_money(order)
        deadline, now = cancellation_deadline(order, invoices, settings), db_now()
        time_is_up = deadline is not None and deadline <= now
        likely = likely_matches(order, invoices) if time_is_up and not has_money else []
        facts = SettlementInput(
            remote_status=schemas.EXPIRED,
            order=order_stage(settings, order),
            paid_otherwise=has_money or ledger.has_unbooked_money(order),
            others_open=any(_can_be_open(invoice, remote_invoices) for invoice in invoices),
            time_is_up=time_is_up and not (likely and _can_be_decided(order, settings, now)),
        )
        can_cancel = Action(ActionType.CANCEL_ORDER) in decide(facts)
        if dry_run:
            return can_cancel
        if facts.order is not OrderStage.PENDING or has_money:
            # Staff or another payment decided: the order does not wait for an invoice.
            order.bitsby_invoices.stop_awaiting_payment()
        return can_cancel and _cancel(order, invoices, likely, settings)


def await_payment_again(order: Any, failure: str) -> bool:
    """Let a locked pending order be paid or cancelled again after its money was sent back.

    An invoice that Bitsby calls paid keeps its order from both. Here it counts as canceled once
    staff have decided about its payments and the order holds none of their money.

    Args:
        failure: what is shown about these invoices.

    Returns:
        whether the order is pending and holds no money.
    """
    if order_stage(conf.get(), order) is not OrderStage.PENDING:
        return False
    has_money = ledger.has_money(order)
    counts = ~Q(review_reason="") & Q(resolved_at=None)
    if has_money:
        counts |= Q(booked_at__isnull=False)
    else:
        # The rest of money that was sent back is no longer due.
        asked = BitsbyPayment.objects.filter(invoice__order=order, resolution=Resolution.ASKED)
        asked.update(resolution=Resolution.REFUNDED)
    known = BitsbyPayment.objects.filter(invoice=OuterRef("pk"))
    paid = order.bitsby_invoices.filter(Exists(known), status=InvoiceStatus.PAID)
    keys = list(paid.exclude(Exists(known.filter(counts))).values_list("pk", flat=True))
    BitsbyInvoice.objects.filter(pk__in=keys).update(
        status=InvoiceStatus.CANCELED,
        ended_at=db_now(),
        order_awaits_payment=True,
        failure=failure,
    )
    return not has_money


def _can_be_decided(order: Any, settings: conf.Conf, now: dt.datetime) -> bool:
    """Tell whether an order still waits for a decision about an unbound payment."""
    hold = settings.hold_order_for
    return hold is None or now < order.date_placed + hold + TIME_TO_DECIDE


def _cancel(
    order: Any, invoices: list[BitsbyInvoice], likely: list[Match], settings: conf.Conf
) -> bool:
    note, status = _note(invoices, likely), settings.order_status_cancelled
    if not transitions.change_order_status(order, status, note):
        return False
    transitions.release_order(order)
    outbox.enqueue(MailCode.CANCELLED, order)
    order.bitsby_invoices.stop_awaiting_payment()
    last_id = invoices[-1].bitsby_id if invoices else None
    logger.info("order cancelled: order=%s invoice=%s", order.number, last_id)
    return True


def _note(invoices: list[BitsbyInvoice], likely: list[Match]) -> str:
    """Return what is known about an order that is cancelled, for staff."""
    if likely:
        return i18n.shop_text(
            gettext_noop(
                "Cancelled: its time is over. A payment of another amount has been seen that may be"
                " for this order: %(payments)s. It is in Payments to review."
            ),
            payments=", ".join(str(found.payment) for found in likely),
        )
    if any(invoice.failure in (DISMISSED, SENT_BACK) for invoice in invoices):
        return i18n.shop_text(
            gettext_noop(
                "Cancelled: its payment was refunded or dismissed, and no other has arrived in"
                " time."
            )
        )
    if any(invoice.bitsby_id is not None for invoice in invoices):
        return i18n.shop_text(
            gettext_noop(
                "Cancelled: Bitsby reports that none of its invoices is paid or can still be."
            )
        )
    if invoices:
        return i18n.shop_text(
            gettext_noop(
                "Cancelled: it was not paid in time. No invoice could be created for it at Bitsby."
                " The last attempt failed: %(failure)s"
            ),
            # Lazy, so that it is translated into the same language.
            failure=gettext_lazy(invoices[-1].failure or NO_ANSWER),
        )
    return i18n.shop_text(
        gettext_noop("Cancelled: it was not paid in time. It never had an invoice at Bitsby.")
    )


def _can_be_open(invoice: BitsbyInvoice, remote_invoices: Mapping[UUID, schemas.Invoice]) -> bool:
    """Tell whether the invoice is paid or can still be paid, as far as is known."""
    if invoice.status in (*BitsbyInvoice.LIVE, InvoiceStatus.PAID):
        return True
    if invoice.bitsby_id is None:
        # The attempt got no answer, so no buyer has seen that invoice.
        return False
    remote = remote_invoices.get(invoice.bitsby_id)
    if remote is None or remote.project_id not in ("", invoice.project_id):
        # An answer about another project says nothing about our invoice.
        return True
    if remote.status == schemas.PAID:
        # Money that was dismissed or sent back no longer counts. Booked money that the order still
        # holds keeps it anyway.
        is_returned = Q(resolution__in=WITHOUT_MONEY) | Q(booked_at__isnull=False)
        return not invoice.payments.filter(is_returned).exists()
    return remote.status not in (schemas.EXPIRED, schemas.CANCELED)
