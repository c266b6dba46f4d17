"""``audit``: reads both lists, has them compared with the books, and records the result."""

import datetime as dt
import logging
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from django.db import router, transaction
from django.utils import timezone

from oscar_bitsby.accounting import audit as comparison
from oscar_bitsby.accounting.audit import INVOICES, PAYMENTS
from oscar_bitsby.accounting.audit_invoices import compare_invoices, missing_invoices
from oscar_bitsby.accounting.audit_ledger import compare_ledger
from oscar_bitsby.accounting.audit_notes import find_left_out, find_unprovable
from oscar_bitsby.accounting.audit_payments import compare_payments, missing_payments
from oscar_bitsby.accounting.audit_wallets import WalletSums, compare_wallets, sum_wallets
from oscar_bitsby.choices import AlertCode, AuditState
from oscar_bitsby.exceptions import BitsbyError
from oscar_bitsby.gateway import factory
from oscar_bitsby.gateway.client import BitsbyClient
from oscar_bitsby.mails import merchant_alerts
from oscar_bitsby.models import AuditRun
from oscar_bitsby.reconciliation import audit_lists, lease
from oscar_bitsby.reconciliation.audit_lists import AuditLists, AuditTakenOver

logger = logging.getLogger("oscar_bitsby")

#: Days outside of these are typing errors.
FIRST_DAY, LAST_DAY = dt.date(2000, 1, 1), dt.date(2200, 1, 1)


class BadDays(BitsbyError):
    """The days of an audit are reversed or out of range."""


@dataclass
class AuditResult:
    """The result of an audit. ``unproved`` says why it is no proof; ``notes`` what it left out."""

    run: AuditRun
    state: AuditState = AuditState.PROVED
    counts: Counter[str] = field(default_factory=Counter)
    unproved: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    wallets: list[WalletSums] = field(default_factory=list)

    def __str__(self) -> str:
        run, found = self.run, self.counts.total()
        results = {
            AuditState.PROVED: "no differences",
            AuditState.DIFFERENT: "1 difference" if found == 1 else f"{found} differences",
        }
        return (
            f"{results.get(self.state, 'nothing is proved')}: {run.payments_read} payments and"
            f" {run.invoices_read} invoices read with {run.requests} requests"
        )


def audit(
    date_from: dt.date | None = None,
    date_to: dt.date | None = None,
    *,
    report: Callable[[comparison.Difference], None] = lambda difference: None,
    progress: Callable[[str], None] = lambda text: None,
    client: BitsbyClient | None = None,
) -> AuditResult:
    """Compare Bitsby's lists with our rows and with Oscar's ledger.

    It changes nothing but the record of the audit. An aborted audit of the same days is continued
    where it stopped, for some hours.

    Args:
        date_from, date_to: the days in UTC, half open. None means no limit on that side.
        report: called with each difference.
        progress: called with a short text after each page and before each step.
        client: replaces the client that the settings describe.

    Raises:
        BadDays: the days are reversed or out of range.
        AuditTakenOver: another process goes on with the audit.
        GatewayError: Bitsby could not be asked. The next audit of the same days goes on.
        ConfigurationError: the settings are missing or invalid.
    """
    for day in (date_from, date_to):
        if day is not None and not FIRST_DAY <= day <= LAST_DAY:
            raise BadDays(f"{day} is not between {FIRST_DAY} and {LAST_DAY}")
    if date_from and date_to and date_from >= date_to:
        raise BadDays(f"the first day {date_from} must be before {date_to}, which is not included")
    client = client or factory.for_background()
    run = audit_lists.start(date_from, date_to)
    lists = AuditLists(run, client, progress)
    lists.read()
    scope = _link(run, lists)
    if _read_again_if_missing(lists, scope):
        scope = _link(run, lists)
    progress("comparing")
    result = AuditResult(run)
    for name, one in lists.lists.items():
        if one.problem:
            result.unproved.append(one.problem)
        if one.unreadable:
            result.unproved.append(f"{one.unreadable} {name} at Bitsby are not as documented")
    result.unproved += find_unprovable(scope)
    result.notes += find_left_out(scope)
    result.wallets = sum_wallets(scope)
    for difference in _compare(scope, result.wallets):
        result.counts[difference.kind.value] += 1
        report(difference)
    _record(result)
    return result


def _link(run: AuditRun, lists: AuditLists) -> comparison.Scope:
    last = lease.last_run()
    comparison.link(run)
    uncertain = {name for name, one in lists.lists.items() if one.problem or one.unreadable}
    synced_until = None if lease.is_overdue(last) else last
    return comparison.Scope(run, synced_until, frozenset(uncertain))


def _read_again_if_missing(lists: AuditLists, scope: comparison.Scope) -> bool:
    """Read the lists again that seem to miss something of ours; tell whether any was.

    An item that disappears between two pages hides another one, unseen. One request has no such
    gap, and what a second reading misses as well is missing.
    """
    missing = {
        PAYMENTS: missing_payments(scope),
        INVOICES: missing_invoices(scope),
    }
    gaps = [
        name
        for name, rows in missing.items()
        if lists.lists[name].readings == 1 and lists.lists[name].pages > 2 and rows.exists()
    ]
    for name in gaps:
        lists.read_again(name)
    return bool(gaps)


def _compare(scope: comparison.Scope, wallets: list[WalletSums]) -> Iterator[comparison.Difference]:
    return chain(
        compare_payments(scope),
        compare_invoices(scope),
        compare_ledger(scope),
        # The sums of a list that was not read as a whole say nothing.
        compare_wallets(wallets) if PAYMENTS not in scope.uncertain else (),
    )


def _record(result: AuditResult) -> None:
    """Store the result, enqueue the alert about differences, and delete what was read."""
    run, found = result.run, result.counts.total()
    if found:
        result.state = AuditState.DIFFERENT
    elif result.unproved:
        result.state = AuditState.UNPROVED
    values: dict[str, Any] = {
        "state": result.state,
        "finished_at": timezone.now(),
        "differences": dict(result.counts),
        "progress": {},
    }
    with transaction.atomic(using=router.db_for_write(AuditRun), durable=True):
        mine = audit_lists.audits().filter(pk=run.pk, token=run.token, state=AuditState.RUNNING)
        if not mine.update(**values):
            raise AuditTakenOver("another process goes on with this audit")
        if found:
            merchant_alerts.enqueue(
                AlertCode.AUDIT_FAILED, occasion=str(run.pk), differences=str(found)
            )
    audit_lists.delete_items(audit_lists.items_of(run.pk))
    run.refresh_from_db(using=router.db_for_write(AuditRun))
    logger.info("audit: %s", result)
