"""The doctor's checks of the account: does Bitsby answer, is it paid for, do the books agree?"""

from collections.abc import Iterator
from decimal import Decimal

from django.utils import timezone, translation

from oscar_bitsby import conf
from oscar_bitsby.choices import AuditState
from oscar_bitsby.exceptions import ConnectionFailed, GatewayError, RateLimitTimeout, Refused
from oscar_bitsby.gateway import balance, factory
from oscar_bitsby.models import AuditRun
from oscar_bitsby.ops.findings import OK, PROBLEM, WARNING, Finding, ago
from oscar_bitsby.utils.clock import db_now
from oscar_bitsby.utils.plurals import plural


def check_account() -> Iterator[Finding]:
    """Ask Bitsby for the balance and the projects, by two requests."""
    settings = conf.get()
    try:
        client = factory.for_staff(factory.BACKGROUND_MAX_WAIT)
        amount = client.balances().internal
        projects = {tariff.id for tariff in client.tariffs()}
    except Refused as error:
        yield Finding(
            PROBLEM, f"Bitsby refuses: {error}.", "Compare API_KEY with your Bitsby account."
        )
    except ConnectionFailed as error:
        remedy = "Make sure that this machine can reach it. Payments are not lost meanwhile."
        yield Finding(PROBLEM, f"Bitsby cannot be reached: {error}.", remedy)
    except RateLimitTimeout:
        yield Finding(
            WARNING, "Bitsby was not checked: the rate limit is in use.", "Try again in a minute."
        )
    except GatewayError as error:
        remedy = "Make sure that API_URL is right, and try again in a minute."
        yield Finding(PROBLEM, f"Bitsby's answer cannot be used: {error}.", remedy)
    else:
        yield Finding(OK, "Bitsby answers and accepts the API key.")
        yield _balance_finding(amount, settings.balance_min)
        if projects and settings.project_id not in projects:
            # It is not documented whether Bitsby lists a project without payments.
            yield Finding(
                WARNING,
                f"The account's list of projects does not contain {settings.project_id}.",
                f"Compare PROJECT_ID with the listed projects: {', '.join(sorted(projects))}.",
            )


def check_stored_balance() -> Iterator[Finding]:
    """Report the balance that a run has fetched last, without a request."""
    known = balance.last_known()
    if known is not None:
        when = f" It was fetched {ago(db_now() - known.fetched_at)}."
        yield _balance_finding(known.amount, conf.get().balance_min, when)


def _balance_finding(amount: Decimal, at_least: Decimal | None, when: str = "") -> Finding:
    # Like all of the doctor's output, in English.
    with translation.override("en"):
        warning = balance.warning(amount, at_least, db_now())
    if not warning:
        return Finding(OK, f"The balance at Bitsby is {amount} USD.{when}")
    return Finding(PROBLEM if amount < 0 else WARNING, f"{warning}{when}", balance.REMEDY)


def check_audit() -> Iterator[Finding]:
    """Report the result of the last finished audit, if there is one."""
    audit = AuditRun.objects.finished().first()
    if audit is None:
        return
    when = ago(timezone.now() - (audit.finished_at or audit.started_at))
    if audit.state == AuditState.PROVED:
        yield Finding(OK, f"The last audit, {when}, found no differences.")
    elif audit.state == AuditState.DIFFERENT:
        found = plural(audit.difference_count, "difference")
        yield Finding(
            PROBLEM,
            f"The last audit, {when}, found {found} between Bitsby's lists and the shop's records.",
            "Run bitsby_audit again: it names each difference and says what to do.",
        )
    else:
        yield Finding(
            WARNING,
            f"The last audit, {when}, could not be completed, so it proves nothing.",
            "Run bitsby_audit again, and read its output.",
        )
