"""The figures of a month: sums of rows by currency, day and coin."""

import datetime as dt
from decimal import Decimal

import pytest

from oscar_bitsby.accounting import export
from oscar_bitsby.accounting.overview import Unvalued, overview_of
from oscar_bitsby.utils.months import Month
from tests.support.month import at, paid, refunded, to_decide, waiting

pytestmark = pytest.mark.django_db

NOVEMBER = Month(2026, 11)


def amounts(figures):
    """Return the four sums of figures, as a text and with their numbers of rows."""
    names = ("paid", "refunds", "to_decide", "waiting")
    totals = [getattr(figures, name) for name in names]
    return [f"{total.amount} ({total.count})" for total in totals]


def usd(month=NOVEMBER):
    """Return the figures of a month in dollars, the only currency that it has."""
    (found,) = overview_of(month).currencies
    assert found.currency == "USD"
    return found


def test_figures_are_sums_by_day_and_coin():
    """Each day and coin has its sums, and the totals are theirs."""
    paid(at(3), "10.10"), paid(at(3), "0.20"), paid(at(3), "7.00", "btc"), paid(at(4), "1.00")
    refunded(at(4), "5.00"), to_decide(at(3), "8.00"), waiting(at(4), "20.00")

    found = usd()

    assert amounts(found.total) == ["18.30 (4)", "5.00 (1)", "8.00 (1)", "20.00 (1)"]
    assert {day.day: amounts(one) for day, one in found.by_day.items()} == {
        3: ["17.30 (3)", "0 (0)", "8.00 (1)", "0 (0)"],
        4: ["1.00 (1)", "5.00 (1)", "0 (0)", "20.00 (1)"],
    }
    assert {coin: amounts(one) for coin, one in found.by_coin.items()} == {
        "USDT": ["11.30 (3)", "5.00 (1)", "8.00 (1)", "0 (0)"],
        "BTC": ["7.00 (1)", "0 (0)", "0 (0)", "0 (0)"],
        "": ["0 (0)", "0 (0)", "0 (0)", "20.00 (1)"],
    }
    assert amounts(found.by_day_and_coin[dt.date(2026, 11, 3), "BTC"])[0] == "7.00 (1)"


def test_only_rows_of_this_shop_that_count_are_added():
    """Dust, other projects' payments, dismissed ones and other states are left out."""
    paid(at(3), "10.00")
    paid(at(3), "1.00", is_foreign=True)
    to_decide(at(3), "2.00", is_foreign=True)
    to_decide(at(3), "3.00", is_dust=True)
    to_decide(at(3), "4.00", resolved_at=at(5), resolution="dismissed")
    refunded(at(3), "5.00", state="cancelled")
    for status in ("creating", "paid", "expired", "canceled"):
        waiting(at(3), "6.00", status=status)

    assert amounts(usd().total) == ["10.00 (1)", "0 (0)", "0 (0)", "0 (0)"]


def test_booked_payment_to_decide_counts_in_both_sums():
    """It counts as paid and as to decide, and the overview says how much that is."""
    paid(at(3), "8.00", review_reason="short"), to_decide(at(3), "2.00")

    total = usd().total

    assert amounts(total) == ["8.00 (1)", "0 (0)", "10.00 (2)", "0 (0)"]
    assert (total.to_decide_booked.amount, total.to_decide_booked.count) == (8, 1)


@pytest.mark.parametrize("make", [paid, to_decide, waiting, refunded])
def test_month_is_half_open_in_utc(make, settings):
    """The first moment belongs to it, the first of the next month does not, in any time zone."""
    settings.TIME_ZONE = "America/New_York"
    for moment in (at(31, 23, 59, month=10), at(1, 0), at(30, 23, 59), at(1, 0, month=12)):
        make(moment)

    found = usd()

    assert [day.isoformat() for day in sorted(found.by_day)] == ["2026-11-01", "2026-11-30"]
    assert len(usd(Month(2026, 10)).by_day) == len(usd(Month(2026, 12)).by_day) == 1


def test_payment_without_a_transaction_time_counts_when_first_seen():
    """A payment counts at the time of its transaction or, without one, when it was first seen."""
    paid(None, booked_at=at(9), seen_at=at(2)), paid(at(5), seen_at=at(7))

    assert [day.day for day in sorted(usd().by_day)] == [2, 5]


def test_currencies_are_never_added():
    """Each currency has its own figures."""
    paid(at(3), "10.00"), paid(at(3), "20.00", currency="EUR"), refunded(at(3), currency="KGS")

    found = overview_of(NOVEMBER).currencies

    assert [(one.currency, str(one.total.paid.amount)) for one in found] == [
        ("EUR", "20.00"),
        ("KGS", "0"),
        ("USD", "10.00"),
    ]


def test_coin_has_one_line_however_it_is_written():
    """Coins are in capitals, and the chain does not matter."""
    paid(at(3), coin="usdt"), paid(at(3), coin="USDT", blockchain="ethereum")

    assert list(usd().by_coin) == ["USDT"]
    assert usd().by_coin["USDT"].paid.count == 2


def test_rows_without_a_value_are_named_and_in_no_sum():
    """Their value is unknown: their amounts in coin are added instead, by coin."""
    unknown = {"value": None, "currency": "", "review_reason": "unmatched"}
    to_decide(at(3), amount="1.5", **unknown), to_decide(at(4), amount="2", **unknown)
    to_decide(at(4), "8.00"), refunded(at(4), None, "btc", coin_amount="0.25")

    overview = overview_of(NOVEMBER)

    assert amounts(overview.currencies[0].total) == ["0 (0)", "0 (0)", "8.00 (1)", "0 (0)"]
    assert overview.unvalued == [
        Unvalued(False, "USDT", Decimal("3.5"), 2),
        Unvalued(True, "BTC", Decimal("0.25"), 1),
    ]


def test_many_small_amounts_add_up_to_the_cent():
    """Thirty times ten cents are three dollars, on every database."""
    for _ in range(30):
        paid(at(3), "0.10")

    assert amounts(usd().total)[0] == "3.00 (30)"


def test_figures_equal_the_sums_of_the_export():
    """What the documentation of the export says to add up is what the overview shows."""
    for day in range(1, 31):
        paid(at(day), f"{day}.01"), paid(None, f"0.{day:02}", seen_at=at(day))
        paid(at(day), "8.00", "btc", review_reason="short")
        paid(at(day), "9.00", is_foreign=True), refunded(at(day), f"{day}.50")
        to_decide(at(day), f"{day}.25"), to_decide(at(day), "0.01", is_dust=True)
        to_decide(at(day), "3.00", resolved_at=at(day)), to_decide(at(day), None, currency="")
        waiting(at(day), f"{day}.75"), waiting(at(day), status="expired")
    period = export.period_of(NOVEMBER.first_day, NOVEMBER.end_day)
    rows = [dict(zip(export.COLUMNS, row, strict=True)) for row in export.rows_of(period)]
    rows += [
        dict(zip(export.COLUMNS, row, strict=True))
        for row in export.rows_of(period, export.INVOICES)
    ]

    def added(column, **wanted):
        found = [row for row in rows if wanted.items() <= row.items() and row[column] is not None]
        return f"{sum(row[column] for row in found):.2f} ({len(found)})"

    booked = [row for row in rows if row["kind"] == "payment" and row["booked"]]
    assert amounts(usd().total) == [
        f"{sum(row['worth'] for row in booked):.2f} ({len(booked)})",
        added("worth", kind="refund"),
        added("worth", kind="payment", status="to decide"),
        added("asked_amount", kind="invoice", status="unpaid"),
    ]


def test_empty_month_has_no_figures():
    """A month without rows has no currency."""
    assert overview_of(NOVEMBER).currencies == []


def test_rows_do_not_change_the_number_of_queries(django_assert_num_queries):
    """The database adds, whatever the number of rows, days and coins."""
    for day in range(1, 29):
        paid(at(day), coin=f"coin{day}"), to_decide(at(day)), refunded(at(day))

    with django_assert_num_queries(4):
        overview_of(NOVEMBER)
