"""Checks for django-health-check: completed runs, waiting decisions, balance, audit and queue.

They read the database only, two or three queries each, and name no order, buyer or amount: pages
with the results are often public. Install the extra ``health`` to use them.
"""

import dataclasses
import datetime as dt

from asgiref.sync import sync_to_async
from django.utils import timezone
from health_check.base import HealthCheck
from health_check.exceptions import HealthCheckException, ServiceUnavailable, ServiceWarning

from oscar_bitsby.choices import AuditState
from oscar_bitsby.gateway import balance
from oscar_bitsby.models import AuditRun, BitsbyPayment, QueuedBuyer
from oscar_bitsby.reconciliation import lease
from oscar_bitsby.utils.clock import db_now
from oscar_bitsby.utils.plurals import plural


class _DatabaseCheck(HealthCheck):  # type: ignore[misc]  # it ships no types
    """A check that reads the database in the thread of the request.

    A synchronous ``run`` would get a thread of a pool, whose connection nobody closes.
    """

    async def run(self) -> None:
        problem = await sync_to_async(self.find_problem)()
        if problem is not None:
            raise problem

    def find_problem(self) -> HealthCheckException | None:
        """Return what is wrong, or None."""
        raise NotImplementedError


@dataclasses.dataclass
class BitsbyRuns(_DatabaseCheck):
    """Whether ``bitsby_reconcile`` runs. If it does not, no run can report that."""

    def find_problem(self) -> HealthCheckException | None:
        last = lease.last_run()
        if not lease.is_overdue(last):
            return None
        since = "yet" if last is None else f"since {last:%Y-%m-%d %H:%M} UTC"
        return ServiceUnavailable(
            f"No run of bitsby_reconcile has completed {since}, so payments are not settled. Start"
            " it, or read its log."
        )


@dataclasses.dataclass
class BitsbyDecisions(_DatabaseCheck):
    """Whether a payment has waited too long for a decision by staff.

    Args:
        max_age: how long one may wait.
    """

    max_age: dt.timedelta = dt.timedelta(days=3)

    def find_problem(self) -> HealthCheckException | None:
        waiting = BitsbyPayment.objects.needs_review().filter(is_dust=False)
        oldest = waiting.order_by("seen_at").values_list("seen_at", flat=True).first()
        age = timezone.now() - oldest if oldest is not None else dt.timedelta()
        if age <= self.max_age:
            return None
        time = plural(age.days, "day") if age.days else plural(age.seconds // 3600, "hour")
        return ServiceWarning(
            f'A payment has waited {time} for a decision. Open "Payments to review" in the'
            " dashboard."
        )


@dataclasses.dataclass
class BitsbyBalance(_DatabaseCheck):
    """Whether the balance at Bitsby, as a run fetched it last, is low."""

    def find_problem(self) -> HealthCheckException | None:
        known = balance.last_known()
        if known is None or not balance.is_low(known.amount, balance.minimum()):
            return None
        until = f"{balance.blocks_at(db_now()):%Y-%m-%d %H:%M} UTC"
        if known.amount < 0:
            return ServiceUnavailable(
                f"The balance at Bitsby is negative. If it is still negative at {until}, Bitsby"
                f" blocks new invoices. {balance.REMEDY}"
            )
        return ServiceWarning(
            f"The balance at Bitsby is below BALANCE_MIN. If it is negative at {until}, Bitsby"
            f" blocks new invoices. {balance.REMEDY}"
        )


@dataclasses.dataclass
class BitsbyAudit(_DatabaseCheck):
    """Whether the last finished audit found no differences.

    Args:
        max_age: how old it may be; None allows any age, and that there is none.
    """

    max_age: dt.timedelta | None = None

    def find_problem(self) -> HealthCheckException | None:
        last = AuditRun.objects.finished().first()
        if last is None:
            missing = ServiceWarning("No audit has been finished. Run bitsby_audit.")
            return missing if self.max_age is not None else None
        if last.state == AuditState.DIFFERENT:
            return ServiceUnavailable(
                "The last audit found differences between Bitsby's lists and the shop's records."
                " Run bitsby_audit again: it names each difference and says what to do."
            )
        if last.state == AuditState.UNPROVED:
            return ServiceWarning("The last audit could not be completed. Run bitsby_audit again.")
        age = timezone.now() - (last.finished_at or last.started_at)
        if self.max_age is None or age <= self.max_age:
            return None
        return ServiceWarning(
            f"The last audit is {plural(age.days, 'day')} old. Run bitsby_audit every week."
        )


@dataclasses.dataclass
class BitsbyQueue(_DatabaseCheck):
    """Whether more buyers wait for their turn to pay than usual.

    Args:
        max_length: how many may wait. Each waits a little more than a second for each one before.
    """

    max_length: int = 60

    def find_problem(self) -> HealthCheckException | None:
        # Beyond the limit the exact length does not matter.
        present = QueuedBuyer.objects.present(db_now())
        if len(present.values_list("pk")[: self.max_length + 1]) <= self.max_length:
            return None
        return ServiceWarning(
            f"More than {plural(self.max_length, 'buyer')} wait for their turn to pay, because"
            " Bitsby allows one request a second."
        )
