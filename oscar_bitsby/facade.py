"""``start_payment`` returns the live invoice of an order, or creates one. Nothing else does."""

import datetime as dt
import json
import logging
from typing import Any
from uuid import UUID

from django.db import IntegrityError, InterfaceError, OperationalError, router, transaction
from django.utils import timezone
from django.utils.translation import gettext, gettext_noop
from oscar.core.loading import get_model

from oscar_bitsby import conf
from oscar_bitsby.accounting import ledger
from oscar_bitsby.choices import InvoiceStatus
from oscar_bitsby.exceptions import (
    BitsbyError,
    HoldEnded,
    NotPayable,
    PaymentInProgress,
    PaymentPaused,
    RateLimited,
    Refused,
    ReplyNotUnderstood,
)
from oscar_bitsby.gateway import factory, schemas
from oscar_bitsby.gateway.buyer_queue import Turn
from oscar_bitsby.gateway.client import BitsbyClient
from oscar_bitsby.gateway.payment_page import payment_page
from oscar_bitsby.models import BitsbyInvoice, log_change
from oscar_bitsby.orders.stage import hold_deadline
from oscar_bitsby.reconciliation import invoice_refresh
from oscar_bitsby.settlement import attempts, rests, short_payments
from oscar_bitsby.settlement.rests import Due
from oscar_bitsby.utils.clock import db_now

logger = logging.getLogger("oscar_bitsby")

__all__ = ["payment_page", "seconds_until_retry", "start_payment"]

Order = get_model("order", "Order")

#: An invoice that Bitsby still calls unpaid is not replaced until this long after it expired.
EXPIRY_GRACE = dt.timedelta(minutes=1)
#: After a failure the buyer's page waits at least this long.
MIN_RETRY_SECONDS = 5.0


def start_payment(order: Any) -> BitsbyInvoice:
    """Return an invoice that the buyer of ``order`` can pay now.

    The live invoice is reused while it asks for what is due: the order's total or, after a short
    payment, the rest that its buyer was asked for. Otherwise an attempt is committed before Bitsby
    is asked to create an invoice: even after a crash the order never has two live invoices.

    Args:
        order: an Oscar order or its number. It is read again under a lock.

    Raises:
        Order.DoesNotExist: there is no such order.
        NotPayable: the order is not waiting for a payment.
        HoldEnded: it has no invoice that can be paid, and gets none any more.
        PaymentInProgress: another request is creating its invoice at this moment.
        PaymentPaused: its last attempt failed a short while ago.
        Queued: other buyers come first. The page should return at its turn.
        GatewayError: Bitsby could not be asked, or did not create one; the order is unharmed.
        ConfigurationError: the settings are incomplete or wrong.
        RuntimeError: called inside a transaction.
    """
    turn = Turn(order if isinstance(order, str) else order.number)
    try:
        invoice = _start_payment(order, factory.for_buyer(turn))
    except RateLimited:
        # The buyer keeps the place in the queue.
        raise
    except BaseException:
        turn.leave()
        raise
    turn.leave()
    return invoice


def _start_payment(order: Any, client: BitsbyClient) -> BitsbyInvoice:
    settings = conf.get()
    for _ in range(2):
        found, due = _reuse_or_begin(order, settings)
        if found.status == InvoiceStatus.CREATING:
            return _create(found, client, settings)
        if found.fits(found.order, due.amount) and not found.is_over(db_now()):
            return found
        # It has expired or the order has changed: check it at Bitsby before replacing it.
        _check_hold(found.order, due, settings)
        _replace_invoice(found, client)
    raise PaymentInProgress("the order's invoice was replaced meanwhile; try again")


def seconds_until_retry(order: Any) -> float:
    """Return after how many seconds the buyer's page should try again after a failure."""
    end = attempts.pause_end(_history(order))
    now = db_now()
    return max((end - now).total_seconds() if end else 0.0, MIN_RETRY_SECONDS)


def _history(order: Any) -> list[tuple[str, UUID | None, dt.datetime | None]]:
    """Return status, Bitsby id and end of an order's invoices, newest first.

    They are read from the database that holds the lock: a replica may be behind it.
    """
    rows = order.bitsby_invoices.using(router.db_for_write(BitsbyInvoice)).order_by("-pk")
    return list(rows.values_list("status", "bitsby_id", "ended_at"))


class _NoFurtherRest(NotPayable):
    """No further invoice asks for the rest: staff decide."""

    def __init__(self, order: Any, reason: str) -> None:
        super().__init__(f"order {order.number}: {reason}")
        self.order_pk = order.pk


def _reuse_or_begin(order_or_number: Any, settings: conf.Conf) -> tuple[BitsbyInvoice, Due]:
    """Return the live invoice, or a new attempt in status ``creating``, and what is due.

    If no further invoice may ask for the rest, staff see the payment in the payments to review.
    """
    try:
        return _lock_and_begin(order_or_number, settings)
    except _NoFurtherRest as error:
        # The transaction was rolled back.
        short_payments.flag_missing_rest(error.order_pk)
        raise


def _lock_and_begin(order_or_number: Any, settings: conf.Conf) -> tuple[BitsbyInvoice, Due]:
    by_number = isinstance(order_or_number, str)
    key = {"number": order_or_number} if by_number else {"pk": order_or_number.pk}
    try:
        with transaction.atomic(using=router.db_for_write(BitsbyInvoice), durable=True):
            order = Order._default_manager.select_for_update().get(**key)
            live, due = _live_invoice(order, settings)
            if live is not None and live.status == InvoiceStatus.CREATING:
                if live.created_at >= attempts.stale_before(settings):
                    raise PaymentInProgress(f"order {order.number}: an invoice is being created")
                _check_hold(order, due, settings)
                attempts.expire_attempt(live, attempts.NO_ANSWER)
                live = None
            return live or _begin(order, due, settings), due
    except IntegrityError:
        # Without row locks (SQLite) the constraint stops the second of two requests.
        raise PaymentInProgress("another request has just begun") from None


def _begin(order: Any, due: Due, settings: conf.Conf) -> BitsbyInvoice:
    """Create an attempt of the locked order.

    Raises:
        _NoFurtherRest: it would be for a rest that cannot be asked for.
    """
    is_for_rest = due.rest_asked_at is not None
    problem = rests.why_not(order, due.amount, settings) if is_for_rest else ""
    if problem:
        raise _NoFurtherRest(order, problem)
    return BitsbyInvoice.objects.create(
        order=order,
        order_number=order.number,
        amount=due.amount,
        currency=order.currency,
        project_id=settings.project_id,
        is_for_rest=is_for_rest,
        # If the order owes more meanwhile, a part does not pay it either.
        asks_for_rest=is_for_rest,
        # Other machines compare this to tell whether the attempt is stale.
        created_at=db_now(),
    )


def _live_invoice(order: Any, settings: conf.Conf) -> tuple[BitsbyInvoice | None, Due]:
    """Return the locked order's live invoice, locked, or None; and what is due.

    Raises:
        NotPayable: the order does not wait for a payment, or staff have to decide about one.
        HoldEnded: it has no live invoice, and gets none any more.
        PaymentPaused: its last attempt failed.
    """
    if order.status != settings.order_status_pending:
        raise NotPayable(f"order {order.number} is not waiting for a payment")
    history = _history(order)
    statuses = {row[0] for row in history}
    due = rests.amount_due(order, statuses)
    if due is None:
        raise NotPayable(f"order {order.number} has a payment under review")
    if not statuses & set(BitsbyInvoice.LIVE):
        _check_hold(order, due, settings)
        paused_until = attempts.pause_end(history)
        if paused_until is not None and db_now() < paused_until:
            raise PaymentPaused(f"order {order.number}: its last attempt failed")
        return None, due
    rows = order.bitsby_invoices.using(router.db_for_write(BitsbyInvoice))
    live: BitsbyInvoice | None = rows.live().select_for_update().first()
    return live, due


def _check_hold(order: Any, due: Due, settings: conf.Conf) -> None:
    """Raise ``HoldEnded`` if no invoice may be created for the order any more."""
    end = hold_deadline(order, settings, due.rest_asked_at)
    if end is not None and end <= timezone.now():
        raise HoldEnded(f"order {order.number}: the time in which it could be paid is over")


def _replace_invoice(invoice: BitsbyInvoice, client: BitsbyClient) -> None:
    """Check an invoice that no longer fits at Bitsby, and cancel it here to make room for another.

    Raises:
        NotPayable: it is paid.
        PaymentInProgress: it was checked a moment ago.
    """
    outcome = invoice_refresh.refresh_before_replacing(invoice, client)
    invoice.refresh_from_db()
    if invoice.status == InvoiceStatus.PAID or (outcome and outcome.remote_status == schemas.PAID):
        raise NotPayable(f"order {invoice.order_number} is paid")
    if invoice.status == InvoiceStatus.UNPAID:
        now = db_now()
        fits = invoice.fits(invoice.order, ledger.amount_to_pay(invoice.order))
        if fits and not invoice.is_over(now - EXPIRY_GRACE):
            raise PaymentInProgress("the invoice is about to expire; try again")
        # It can still be paid at Bitsby, so it stays watched and money on it will be found.
        rows = BitsbyInvoice.objects.filter(pk=invoice.pk, status=InvoiceStatus.UNPAID)
        failure = gettext_noop("replaced by a newer invoice")
        if rows.update(status=InvoiceStatus.CANCELED, ended_at=now, failure=failure):
            log_change("invoice replaced", invoice)


def _create(attempt: BitsbyInvoice, client: BitsbyClient, settings: conf.Conf) -> BitsbyInvoice:
    order: Any = attempt.order
    try:
        created = client.create_invoice(
            project_id=attempt.project_id,
            amount=attempt.amount,
            currency=attempt.currency,
            time_to_pay=settings.time_to_pay,
            description=describe(settings, order),
            service_data=service_data(order),
        )
    except RateLimited:
        # No request was processed, so no attempt remains.
        attempt.delete()
        raise
    except BitsbyError as error:
        attempts.expire_attempt(attempt, str(error))
        attempts.pause_all_orders(str(error) if isinstance(error, Refused) else "")
        # A traceback would add nothing.
        logger.error("no invoice for order %s: %s", order.number, error)
        if attempt.is_for_rest and isinstance(error, Refused):
            # Perhaps it is too small for Bitsby. The buyer cannot change that, but staff can.
            short_payments.flag_missing_rest(order.pk)
            raise NotPayable(f"order {order.number}: Bitsby refuses the rest") from error
        raise
    try:
        try:
            invoice = attempts.save_created(attempt, created, settings)
        except (InterfaceError, OperationalError):
            # The database connection was lost while Bitsby answered. Leaving the transaction has
            # closed it, so this opens a new one and stores the answer after all.
            invoice = attempts.save_created(attempt, created, settings)
    except IntegrityError:
        failure = gettext_noop("Bitsby answered with the id of an earlier invoice")
        attempts.expire_attempt(attempt, failure)
        raise ReplyNotUnderstood(f"invoice {created.id} exists already") from None
    if invoice.status != InvoiceStatus.UNPAID:
        raise PaymentInProgress("the answer came too late; another attempt may have begun")
    return invoice


def describe(settings: conf.Conf, order: Any) -> str:
    """Return the shop's ``DESCRIPTION``, translated if a catalogue has that text."""
    return gettext(settings.description).replace("{number}", str(order.number))[:500]


def service_data(order: Any) -> str:
    """Return the compact JSON that Bitsby returns in lists and deliveries."""
    data = {"orderId": str(order.number), "userId": order.user_id}
    return json.dumps(data, separators=(",", ":"), default=str)
