"""The last known balance at Bitsby, and when a negative one blocks new invoices."""

import datetime as dt
from dataclasses import dataclass
from decimal import Decimal

from django.utils.formats import date_format
from django.utils.translation import gettext, gettext_noop

from oscar_bitsby import conf
from oscar_bitsby.exceptions import ConfigurationError
from oscar_bitsby.models import EPOCH, GatewayState

#: When Bitsby looks for debts, in UTC: every Monday.
MONDAY, BLOCKING_TIME = 0, dt.time(23, 50, tzinfo=dt.timezone.utc)
#: What to do about a low balance; translated where it is shown.
REMEDY = gettext_noop("Top it up in your Bitsby account.")


@dataclass(frozen=True)
class Balance:
    """The internal balance in USD, and when Bitsby answered it."""

    amount: Decimal
    fetched_at: dt.datetime


def last_known() -> Balance | None:
    """Return the balance that a run has stored last; None if none ever did."""
    return balance_of(GatewayState.row().first())


def balance_of(state: GatewayState | None) -> Balance | None:
    """Return the balance that the shared row holds, if any."""
    if state is None or state.balance is None or state.balance_fetched_at <= EPOCH:
        return None
    return Balance(state.balance, state.balance_fetched_at)


def minimum() -> Decimal | None:
    """Return the shop's ``BALANCE_MIN``; None if it has none, or if its settings are invalid."""
    try:
        return conf.get().balance_min
    except ConfigurationError:
        return None


def is_low(amount: Decimal, at_least: Decimal | None) -> bool:
    """Return whether a balance is negative, or below the shop's ``BALANCE_MIN``."""
    return amount < 0 or (at_least is not None and amount < at_least)


def blocks_at(now: dt.datetime) -> dt.datetime:
    """Return the next moment at which Bitsby blocks new invoices of accounts with a debt."""
    today = now.astimezone(dt.timezone.utc).date()
    monday = today + dt.timedelta(days=(MONDAY - today.weekday()) % 7)
    moment = dt.datetime.combine(monday, BLOCKING_TIME)
    return moment if moment > now else moment + dt.timedelta(days=7)


def warning(amount: Decimal, at_least: Decimal | None, now: dt.datetime) -> str:
    """Return what a low balance leads to and when, in the reader's language.

    Args:
        amount: the balance in USD.
        at_least: the shop's ``BALANCE_MIN``.
        now: the current time.

    Returns:
        the text, to which ``REMEDY`` belongs; nothing if the balance is not low.
    """
    return consequence(amount, at_least, now) if is_low(amount, at_least) else ""


def consequence(amount: Decimal, at_least: Decimal | None, now: dt.datetime) -> str:
    """Return what a balance that is too low leads to and when; for arguments see ``warning``."""
    day = date_format(blocks_at(now).date(), "DATE_FORMAT")
    if amount < 0:
        return gettext(
            "The balance at Bitsby is %(balance)s USD. If it is still negative on Monday, %(day)s,"
            " at 23:50 UTC, Bitsby blocks new invoices until the debt is paid."
        ) % {"balance": amount, "day": day}
    return gettext(
        "The balance at Bitsby is %(balance)s USD, less than BALANCE_MIN (%(minimum)s USD)."
        " Commissions are deducted from it every day. If it is negative on Monday, %(day)s, at"
        " 23:50 UTC, Bitsby blocks new invoices until the debt is paid."
    ) % {"balance": amount, "minimum": at_least, "day": day}
