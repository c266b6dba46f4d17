"""Fetches the account's balance once an hour, and alerts the merchant when it is low."""

import datetime as dt
import logging
from decimal import Decimal

from django.db import router, transaction

from oscar_bitsby.choices import AlertCode
from oscar_bitsby.exceptions import BitsbyError
from oscar_bitsby.gateway import balance
from oscar_bitsby.mails import merchant_alerts
from oscar_bitsby.models import EPOCH, BitsbyInvoice, GatewayState
from oscar_bitsby.reconciliation.report import ReconcileRun
from oscar_bitsby.utils.clock import db_now

logger = logging.getLogger("oscar_bitsby")

#: How often the balance is asked for. A failed try counts, so that it is not repeated before.
INTERVAL = dt.timedelta(hours=1)


def check_balance(run: ReconcileRun) -> None:
    """Fetch and store the balance if that is due, and some invoice is watched.

    Never fails: settling does not depend on the balance. A dry run does not ask for it.

    Raises:
        LeaseLost: another run has taken over.
    """
    if run.dry_run:
        return
    run.renew_lease()
    try:
        now = db_now()
        if _is_due(run, now):
            run.progress("balance")
            GatewayState.row().update(balance_asked_at=now)
            _store(run.client.balances().internal, run.settings.balance_min)
    except BitsbyError as error:
        logger.warning("the balance was not fetched: %s", error)
    except Exception:
        logger.exception("the balance was not stored")


def _is_due(run: ReconcileRun, now: dt.datetime) -> bool:
    asked_at = GatewayState.row().values_list("balance_asked_at", flat=True).first() or EPOCH
    # A time ahead was written before the clock was put back.
    if now - asked_at < INTERVAL and asked_at <= now:
        return False
    since = now - dt.timedelta(days=run.settings.watch_days)
    return BitsbyInvoice.objects.watched(since).exists()


def _store(amount: Decimal, minimum: Decimal | None) -> None:
    now = db_now()
    with transaction.atomic(using=router.db_for_write(GatewayState)):
        GatewayState.row().update(balance=amount, balance_fetched_at=now)
        if balance.is_low(amount, minimum):
            until = balance.blocks_at(now)
            # A debt is urgent, so the merchant is alerted once a day. Otherwise once a week.
            merchant_alerts.enqueue(
                AlertCode.LOW_BALANCE,
                occasion=f"debt {now:%Y-%m-%d}" if amount < 0 else f"low {until:%Y-%m-%d}",
                balance=f"{amount:.2f}",
                until=f"{until:%Y-%m-%d %H:%M} UTC",
            )
