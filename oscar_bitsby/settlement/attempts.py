"""Attempts: rows in status ``creating``, committed before the API request, and their ends."""

import datetime as dt
from collections.abc import Iterable
from dataclasses import asdict
from itertools import takewhile
from uuid import UUID

from django.db import router, transaction
from django.utils import timezone
from django.utils.translation import gettext_noop

from oscar_bitsby import signals
from oscar_bitsby.choices import AlertCode, InvoiceStatus
from oscar_bitsby.conf import Conf
from oscar_bitsby.gateway import parsing, schemas
from oscar_bitsby.mails import merchant_alerts
from oscar_bitsby.models import BitsbyInvoice, GatewayState, log_change
from oscar_bitsby.utils.clock import db_now

#: Seconds beyond ``TIMEOUT`` after which an attempt without an answer expires. A buyer's request
#: may wait that long for a slot.
GRACE = 5
#: The failure of an attempt whose process must have died.
NO_ANSWER = gettext_noop("no answer came")
#: The pause of an order after its first failed attempt. Each further failure doubles it.
FIRST_PAUSE = dt.timedelta(seconds=10)
LONGEST_PAUSE = dt.timedelta(minutes=10)
#: The longest pause of all orders, when those of several orders fail in a row.
LONGEST_SHARED_PAUSE = dt.timedelta(minutes=1)
#: Failed attempts of an order that are kept. Fewer would shorten its pause.
KEPT_FAILURES = 8


def stale_before(settings: Conf) -> dt.datetime:
    """Return the time before which an attempt without an answer counts as failed."""
    return db_now() - dt.timedelta(seconds=settings.timeout + GRACE)


def save_created(
    attempt: BitsbyInvoice, created: schemas.CreatedInvoice, settings: Conf
) -> BitsbyInvoice:
    """Store the answer about an attempt, and return its row as it is then.

    An attempt that has expired meanwhile, and was perhaps replaced, keeps its status. Its invoice
    is watched, but no buyer is redirected to it.

    Raises:
        IntegrityError: the answer has the id of an earlier invoice.
        RuntimeError: called inside a transaction.
    """
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
        # Compare and set: the attempt may have expired meanwhile.
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


def expire_attempt(attempt: BitsbyInvoice, reason: str) -> None:
    """Expire an attempt that got no answer. If Bitsby created its invoice, no buyer has seen it."""
    rows = BitsbyInvoice.objects.filter(pk=attempt.pk, status=InvoiceStatus.CREATING)
    if rows.update(status=InvoiceStatus.EXPIRED, ended_at=db_now(), failure=reason[:300]):
        log_change("attempt expired", attempt, reason=reason)
        failed = BitsbyInvoice.objects.failed_attempts().filter(order=attempt.order_id)
        kept = failed.order_by("-pk").values_list("pk", flat=True)[:KEPT_FAILURES]
        failed.exclude(pk__in=list(kept)).delete()


def expire_stale_attempts(settings: Conf) -> int:
    """Expire all attempts whose process must have died, and return how many."""
    stale = BitsbyInvoice.objects.filter(
        status=InvoiceStatus.CREATING, created_at__lt=stale_before(settings)
    )
    attempts = list(stale[:500])
    for attempt in attempts:
        expire_attempt(attempt, NO_ANSWER)
    return len(attempts)


def pause_end(history: Iterable[tuple[str, UUID | None, dt.datetime | None]]) -> dt.datetime | None:
    """Return when the next attempt of an order may begin; None if the last one did not fail.

    Args:
        history: status, Bitsby id and end of the order's invoices, newest first.
    """
    failed = [
        ended_at
        for status, bitsby_id, ended_at in takewhile(_has_failed, history)
        if ended_at is not None
    ]
    if not failed:
        return None
    pause: dt.timedelta = min(FIRST_PAUSE * 2 ** (len(failed) - 1), LONGEST_PAUSE)
    return failed[0] + pause


def _has_failed(row: tuple[str, UUID | None, dt.datetime | None]) -> bool:
    status, bitsby_id, _ = row
    return status == InvoiceStatus.EXPIRED and bitsby_id is None


def pause_all_orders(refusal: str = "") -> None:
    """After failed attempts of several orders in a row, let all orders wait for a short time.

    The reason is then the account or Bitsby, and each further attempt would take a slot in vain.

    Args:
        refusal: Bitsby's words, if it refused the last attempt. The merchant is alerted.
    """
    newest = BitsbyInvoice.objects.exclude(status=InvoiceStatus.CREATING).order_by("-pk")
    rows = newest.values_list("order_id", "status", "bitsby_id", "ended_at")[:20]
    orders = {row[0] for row in takewhile(lambda row: _has_failed(row[1:]), rows)}
    if len(orders) > 1:
        pause = min(FIRST_PAUSE * 2 ** (len(orders) - 2), LONGEST_SHARED_PAUSE)
        now = db_now()
        with transaction.atomic(using=router.db_for_write(GatewayState)):
            GatewayState.row().update(creating_paused_until=now + pause)
            if refusal:
                merchant_alerts.enqueue(
                    AlertCode.ACCOUNT_BLOCKED, occasion=f"{now:%Y-%m-%d}", reason=refusal[:300]
                )
