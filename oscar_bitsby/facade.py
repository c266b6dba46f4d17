"""``start_payment`` returns the live invoice of an order, or creates one. Nothing else does."""

import datetime as dt
import json
import logging
import re
from dataclasses import asdict
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from django.db import IntegrityError, InterfaceError, OperationalError, router, transaction
from django.utils import timezone
from django.utils.translation import gettext, gettext_noop
from oscar.core.loading import get_model

from oscar_bitsby import conf, signals
from oscar_bitsby.accounting import ledger
from oscar_bitsby.choices import InvoiceStatus
from oscar_bitsby.exceptions import (
    BitsbyError,
    HoldEnded,
    NotPayable,
    PaymentInProgress,
    PaymentPageRefused,
    PaymentPaused,
    RateLimited,
    ReplyNotUnderstood,
)
from oscar_bitsby.gateway import factory, parsing, schemas
from oscar_bitsby.gateway.buyer_queue import Turn
from oscar_bitsby.gateway.client import BitsbyClient
from oscar_bitsby.models import BitsbyInvoice, log_change
from oscar_bitsby.orders.stage import hold_deadline
from oscar_bitsby.reconciliation import invoice_refresh
from oscar_bitsby.settlement import attempts
from oscar_bitsby.utils.clock import db_now

logger = logging.getLogger("oscar_bitsby")

Order = get_model("order", "Order")

#: An invoice that Bitsby still calls unpaid is not replaced until this long after it expired.
EXPIRY_GRACE = dt.timedelta(minutes=1)
#: After a failure the buyer's page waits at least this long.
MIN_RETRY_SECONDS = 5.0


def start_payment(order: Any) -> BitsbyInvoice:
    """Return an invoice that the buyer of ``order`` can pay now.

    The live invoice is reused while it asks for the order's total in its currency. Otherwise an
    attempt is committed before Bitsby is asked to create an invoice: even after a crash the order
    never has two live invoices.

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
        found = _reuse_or_begin(order, settings)
        if found.status == InvoiceStatus.CREATING:
            return _create(found, client, settings)
        if found.fits(found.order) and not found.is_over(db_now()):
            return found
        # It has expired or the order has changed: check it at Bitsby before replacing it.
        _check_hold(found.order, settings)
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


def _reuse_or_begin(order_or_number: Any, settings: conf.Conf) -> BitsbyInvoice:
    """Return the live invoice, or a new attempt in status ``creating``."""
    by_number = isinstance(order_or_number, str)
    key = {"number": order_or_number} if by_number else {"pk": order_or_number.pk}
    try:
        with transaction.atomic(using=router.db_for_write(BitsbyInvoice), durable=True):
            order = Order._default_manager.select_for_update().get(**key)
            live = _live_invoice(order, settings)
            if live is not None and live.status == InvoiceStatus.CREATING:
                if live.created_at >= attempts.stale_before(settings):
                    raise PaymentInProgress(f"order {order.number}: an invoice is being created")
                _check_hold(order, settings)
                attempts.expire_attempt(live, attempts.NO_ANSWER)
                live = None
            return live or BitsbyInvoice.objects.create(
                order=order,
                order_number=order.number,
                amount=order.total_incl_tax,
                currency=order.currency,
                project_id=settings.project_id,
                # Other machines compare this to tell whether the attempt is stale.
                created_at=db_now(),
            )
    except IntegrityError:
        # Without row locks (SQLite) the constraint stops the second of two requests.
        raise PaymentInProgress("another request has just begun") from None


def _live_invoice(order: Any, settings: conf.Conf) -> BitsbyInvoice | None:
    """Return the locked order's live invoice, locked, or None.

    Raises:
        NotPayable: the order does not wait for a payment, or holds money already.
        HoldEnded: it has no live invoice, and gets none any more.
        PaymentPaused: its last attempt failed.
    """
    if order.status != settings.order_status_pending:
        raise NotPayable(f"order {order.number} is not waiting for a payment")
    history = _history(order)
    statuses = {row[0] for row in history}
    # Unbooked money belongs to an order by its invoice: without invoices there is none.
    has_money = ledger.has_money(order) or (statuses and ledger.has_unbooked_money(order))
    if InvoiceStatus.PAID in statuses or has_money:
        raise NotPayable(f"order {order.number} has a payment under review")
    if not statuses & set(BitsbyInvoice.LIVE):
        _check_hold(order, settings)
        paused_until = attempts.pause_end(history)
        if paused_until is not None and db_now() < paused_until:
            raise PaymentPaused(f"order {order.number}: its last attempt failed")
        return None
    rows = order.bitsby_invoices.using(router.db_for_write(BitsbyInvoice))
    live: BitsbyInvoice | None = rows.live().select_for_update().first()
    return live


def _check_hold(order: Any, settings: conf.Conf) -> None:
    """Raise ``HoldEnded`` if no invoice may be created for the order any more."""
    end = hold_deadline(order, settings)
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
        if invoice.fits(invoice.order) and not invoice.is_over(now - EXPIRY_GRACE):
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
        attempts.pause_all_orders()
        # A traceback would add nothing.
        logger.error("no invoice for order %s: %s", order.number, error)
        raise
    try:
        try:
            invoice = _save_created(attempt, created, settings)
        except (InterfaceError, OperationalError):
            # The database connection was lost while Bitsby answered. Leaving the transaction has
            # closed it, so this opens a new one and stores the answer after all.
            invoice = _save_created(attempt, created, settings)
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


def _save_created(
    attempt: BitsbyInvoice, created: schemas.CreatedInvoice, settings: conf.Conf
) -> BitsbyInvoice:
    now = timezone.now()
    hours = dt.timedelta(hours=float(settings.time_to_pay))
    values = {
        "bitsby_id": created.id,
        "uid": created.uid[:64],
        "url": created.url,
        "wallets": [
            asdict(wallet) | {"amount": "" if wallet.amount is None else format(wallet.amount, "f")}
            for wallet in created.wallets
        ],
        "reply": parsing.storable_json(created.raw),
        "created_at": created.created_at or now,
        "expires_at": created.expires_at or now + hours,
    }
    rows = BitsbyInvoice.objects.filter(pk=attempt.pk)
    with transaction.atomic(using=router.db_for_write(BitsbyInvoice), durable=True):
        # Compare and set: an attempt that has expired meanwhile, and was perhaps replaced, keeps
        # its status. Its invoice is stored and watched, but no buyer is redirected to it.
        is_ours = rows.filter(status=InvoiceStatus.CREATING).update(
            **values, status=InvoiceStatus.UNPAID
        )
        if not is_ours:
            rows.update(**values)
        elif signals.invoice_created.has_listeners(BitsbyInvoice):
            invoice = rows.get()
            signals.send_after_commit(
                signals.invoice_created, BitsbyInvoice, invoice=invoice, order=invoice.order
            )
    if is_ours:
        for name, value in (values | {"status": InvoiceStatus.UNPAID}).items():
            setattr(attempt, name, value)
    else:
        attempt.refresh_from_db()
    log_change("invoice created", attempt, amount=attempt.amount, currency=attempt.currency)
    return attempt


def payment_page(invoice: BitsbyInvoice) -> str:
    """Return the address of the invoice's payment page at Bitsby.

    Raises:
        PaymentPageRefused: it leads to a host that is not in ``PAYMENT_HOSTS``, or is not https
            while the API is.
    """
    settings = conf.get()
    subject = f"invoice {invoice.bitsby_id}: its payment page is"
    try:
        parts = urlsplit(invoice.url)
    except ValueError:
        raise PaymentPageRefused(f"{subject} not an address") from None
    schemes = {"https", urlsplit(settings.api_url).scheme}
    host = (parts.hostname or "").lower()
    allowed = host in settings.payment_hosts or parts.netloc.lower() in settings.payment_hosts
    # Browsers and URL parsers interpret these differently.
    strange = re.search(r"[\x00-\x20\x7f\\]", invoice.url) or "@" in parts.netloc
    if parts.scheme in schemes and allowed and not strange:
        return invoice.url
    raise PaymentPageRefused(
        f"{subject} on {host[:100]!r}, which is not in OSCAR_BITSBY['PAYMENT_HOSTS']"
    )
