"""Alerts about the runs themselves: one comes late, or Bitsby refuses its requests."""

from oscar_bitsby.choices import AlertCode
from oscar_bitsby.exceptions import Refused
from oscar_bitsby.mails import merchant_alerts
from oscar_bitsby.reconciliation import lease
from oscar_bitsby.utils.clock import db_now


def enqueue_if_overdue() -> None:
    """Alert once that no run was completed for a long time; called when the next one starts.

    Before the first completed run nothing is overdue: the shop has just been set up.
    """
    last = lease.last_run()
    if last is not None and lease.is_overdue(last):
        merchant_alerts.enqueue(
            AlertCode.RUNS_OVERDUE,
            occasion=f"{last:%Y-%m-%dT%H:%M:%S}",
            last_run=last.isoformat(),
        )


def enqueue_if_refused(error: Exception) -> None:
    """Alert once a day that Bitsby refused a request of a run that is not about one invoice."""
    if isinstance(error, Refused):
        today = f"{db_now():%Y-%m-%d}"
        merchant_alerts.enqueue(AlertCode.KEY_REFUSED, occasion=today, reason=str(error)[:300])
