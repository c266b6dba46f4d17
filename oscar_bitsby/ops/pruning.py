"""Delete old rows that accounting does not need, and erase the addresses of old refunds.

Bitsby's invoices, our payments and all refunds are kept.
"""

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.db import models, router, transaction
from django.utils import timezone
from oscar.core.loading import get_model

from oscar_bitsby import conf
from oscar_bitsby.choices import MailCode, MailStatus, Resolution
from oscar_bitsby.models import (
    AuditRun,
    BitsbyInvoice,
    BitsbyPayment,
    BitsbyRefund,
    BuyerMail,
    MerchantAlert,
    WebhookDelivery,
)
from oscar_bitsby.reconciliation import audit_lists
from oscar_bitsby.staff.binding import DAYS_BACK
from oscar_bitsby.utils.plurals import plural

Order = get_model("order", "Order")

#: The largest number of rows in one transaction, so that others do not wait for locks.
BATCH = 1000
#: The default age in days of deliveries to delete.
DELIVERY_DAYS = 90
#: The default age in days of e-mails to delete.
MAIL_DAYS = 180
#: The age in days of alerts to delete.
ALERT_DAYS = 90
#: The age in days of records of audits to delete.
AUDIT_DAYS = 90
#: Days added to the reach of all syncs, for the margin of their date filters and clock differences.
MARGIN_DAYS = 7
#: A hundred years; much larger ages overflow a date.
MAX_DAYS = 36500


class CannotPrune(ValueError):
    """An age would delete too much or is too large; the message says why."""


@dataclass
class Pruned:
    """The numbers of deleted rows and erased addresses, or of those that a dry run found."""

    deliveries: int = 0
    mails: int = 0
    foreign: int = 0
    dismissed: int = 0
    attempts: int = 0
    alerts: int = 0
    audits: int = 0
    addresses: int = 0

    def __str__(self) -> str:
        return (
            f"{plural(self.deliveries, 'delivery', 'deliveries')},"
            f" {plural(self.mails, 'e-mail')},"
            f" {plural(self.foreign, 'payment')} of other projects,"
            f" {plural(self.dismissed, 'dismissed payment')},"
            f" {plural(self.attempts, 'failed attempt')},"
            f" {plural(self.alerts, 'alert')},"
            f" {plural(self.audits, 'audit')},"
            f" {plural(self.addresses, 'address', 'addresses')} of refunds"
        )


def min_payment_days() -> int:
    """Return the age in days at which no sync imports a deleted payment again."""
    return max(conf.get().watch_days, DAYS_BACK) + MARGIN_DAYS


def prune(
    *,
    delivery_days: int = DELIVERY_DAYS,
    mail_days: int = MAIL_DAYS,
    dismissed_days: int | None = None,
    dry_run: bool = False,
) -> Pruned:
    """Delete old rows, and erase old addresses, in short transactions.

    Invoices that Bitsby knows, refunds, and payments that are booked, bound, refunded or waiting
    for review, are never deleted. The address of a refund is erased ``REFUND_ADDRESS_DAYS`` after
    that was sent or cancelled. It can run beside any other work of the shop, and can be
    interrupted.

    Args:
        delivery_days: delete webhook deliveries that are older.
        mail_days: delete records of e-mails to buyers that are older. They prevent that an e-mail
            is sent twice.
        dismissed_days: delete payments that staff dismissed earlier; None keeps all.
        dry_run: only count the rows.

    Raises:
        CannotPrune: an age is too small or too large.
        ConfigurationError: the settings, which say how long payments are watched, are not valid.
    """
    settings, min_days = conf.get(), min_payment_days()
    _check_days("deliveries", delivery_days, 1, "today's are still in use")
    _check_days("e-mails", mail_days, min_days, "a buyer could get an e-mail twice")
    if dismissed_days is not None:
        _check_days(
            "dismissed payments",
            dismissed_days,
            min_days,
            "a later one would be imported from Bitsby again and need a review again",
        )
    now = timezone.now()
    old = _is_unused_before(now - dt.timedelta(days=min_days))
    received_before = now - dt.timedelta(days=delivery_days)
    deliveries = WebhookDelivery.objects.filter(received_at__lt=received_before)
    # Kept for good: the first e-mail of an order has the buyer's language, and the one about the
    # payment prevents a second one. Kept for now: e-mails about payments to review, because the
    # decision sends the buyer one e-mail.
    mails = (
        BuyerMail.objects.filter(
            created_at__lt=now - dt.timedelta(days=mail_days),
            status__in=(MailStatus.SENT, MailStatus.DROPPED, MailStatus.FAILED),
        )
        .exclude(code__in=(MailCode.PLACED, MailCode.PAID))
        .exclude(payment__in=BitsbyPayment.objects.needs_review())
    )
    foreign = BitsbyPayment.objects.filter(old, is_foreign=True, review_reason="", resolution="")
    # No buyer has seen these. A pending order needs them for its pause and the note when it is
    # cancelled.
    is_pending = Order._default_manager.filter(
        pk=models.OuterRef("order_id"), status=settings.order_status_pending
    )
    attempts = BitsbyInvoice.objects.failed_attempts().filter(
        ~models.Exists(is_pending),
        ~models.Exists(BitsbyPayment.objects.filter(invoice=models.OuterRef("pk"))),
        ended_at__lt=now - dt.timedelta(days=settings.watch_days),
    )
    closed_before = now - dt.timedelta(days=settings.refund_address_days)
    with_address = BitsbyRefund.objects.filter(closed_at__lt=closed_before).exclude(address="")
    if not dry_run:
        audit_lists.abandon(now)
    # The newest one is kept: it is the last audit, however old.
    newest = AuditRun.objects.order_by("-pk").values("pk")[:1]
    audits = AuditRun.objects.filter(started_at__lt=now - dt.timedelta(days=AUDIT_DAYS)).exclude(
        pk__in=list(newest.values_list("pk", flat=True))
    )
    pruned = Pruned(
        # Ordered like the index on received_at.
        deliveries=_delete(deliveries.order_by("received_at", "pk"), dry_run, by_key=False),
        mails=_delete(mails, dry_run),
        foreign=_delete(foreign, dry_run),
        attempts=_delete(attempts, dry_run),
        audits=_delete(audits, dry_run),
        addresses=_process(with_address, dry_run, _erase_addresses),
        alerts=_delete(_old_alerts(now), dry_run),
    )
    if dismissed_days is not None:
        since = now - dt.timedelta(days=dismissed_days)
        dismissed = BitsbyPayment.objects.filter(
            old, _is_unused_before(since), resolution=Resolution.DISMISSED, resolved_at__lt=since
        )
        pruned.dismissed = _delete(dismissed, dry_run)
    return pruned


def _old_alerts(now: dt.datetime) -> models.QuerySet[MerchantAlert]:
    since = now - dt.timedelta(days=ALERT_DAYS)
    return MerchantAlert.objects.filter(created_at__lt=since)


def _check_days(what: str, days: int, min_days: int, why: str) -> None:
    if days < min_days:
        age = plural(min_days, "day")
        raise CannotPrune(f"{what} must be at least {age} old to be deleted: {why}")
    if days > MAX_DAYS:
        raise CannotPrune(f"{what}: {days} days are more than a hundred years")


def _is_unused_before(moment: dt.datetime) -> models.Q:
    """Select payments from before ``moment`` that no invoice or refund has, and not booked.

    Payments without a transaction time are kept, because syncs filter by it.
    """
    ours = BitsbyInvoice.objects.filter(bitsby_id=models.OuterRef("bound_to"))
    return models.Q(
        ~models.Exists(ours),
        ~models.Exists(BitsbyRefund.objects.filter(payment=models.OuterRef("pk"))),
        transaction_at__lt=moment,
        seen_at__lt=moment,
        invoice__isnull=True,
        booked_at__isnull=True,
    )


def _delete(rows: models.QuerySet[Any], dry_run: bool, *, by_key: bool = True) -> int:
    """Delete the rows, or count them, and return how many."""
    return _process(rows, dry_run, lambda found: found.delete(), by_key=by_key)


def _erase_addresses(refunds: models.QuerySet[Any]) -> None:
    refunds.update(address="")


def _process(
    rows: models.QuerySet[Any],
    dry_run: bool,
    process: Callable[[models.QuerySet[Any]], Any],
    *,
    by_key: bool = True,
) -> int:
    """Process the rows in batches, or count them, and return how many.

    By default the order is that of the primary keys, so that the table is read only once: another
    index would slow down every new payment for a weekly job.
    """
    if dry_run:
        return rows.count()
    processed, rest = 0, rows.order_by("pk") if by_key else rows
    while True:
        with transaction.atomic(using=router.db_for_write(rows.model)):
            # Rows that are locked by other work are left for the next run.
            locked = rest.select_for_update(skip_locked=True)
            found = list(locked.values_list("pk", flat=True)[:BATCH])
            process(rows.model._default_manager.filter(pk__in=found))
        processed += len(found)
        if len(found) < BATCH:
            return processed
        if by_key:
            rest = rows.filter(pk__gt=found[-1]).order_by("pk")
