"""The dashboard's overview of a month."""

import re
from decimal import Decimal

import pytest
from django.urls import reverse

from oscar_bitsby.models import AuditRun
from tests.support.month import at, paid, refunded, to_decide, waiting
from tests.support.staff import (
    EVIL,
    MAY_BIND,
    PARTNER,
    Page,
    assert_constant_queries,
    assert_escaped,
    log_in,
)

pytestmark = pytest.mark.django_db

URL = "oscar_bitsby:dashboard-overview"


@pytest.fixture(autouse=True)
def _december(stop_time):
    stop_time(at(1, 10, month=12))


def overview(client, month="2026-11"):
    return Page(client.get(reverse(URL), {"month": month} if month else {}))


def test_page_shows_the_sums_of_a_month_by_coin_and_day(staff):
    """Totals, coins and days are in tables; a chart has the same days."""
    paid(at(3), "1234.50"), paid(at(4), "10.00", "btc"), refunded(at(4), "5.00")
    to_decide(at(5), "8.00"), waiting(at(6), "20.00")

    page = overview(staff)

    assert "Overview of November 2026" in page.text
    rows = page.rows()
    for row in (
        "USDT $1,234.50 (1) $5.00 (1) $8.00 (1) – 99 %",
        "BTC $10.00 (1) – – – 1 %",
        "not chosen – – – $20.00 (1) –",
        "11/03/2026 $1,234.50 (1) – – –",
        "11/04/2026 $10.00 (1) $5.00 (1) – –",
        "Total $1,244.50 (2) $5.00 (1) $8.00 (1) $20.00 (1)",
        "11/04/2026, BTC $10.00 (1) – – –",
    ):
        assert row in rows, row
    assert page.tags.count("desc") == 2
    assert "11/04/2026: Paid $10.00, Refunds $5.00" in page.text


def test_currencies_have_sections_of_their_own(staff):
    """Nothing is added across currencies."""
    paid(at(3), "10.00"), paid(at(3), "20.00", currency="EUR")

    page = overview(staff)

    assert [row for row in page.rows() if row.startswith("Total")] == [
        "Total €20.00 (1) – – –",
        "Total $10.00 (1) – – –",
    ]


def test_payments_of_unknown_value_are_named(staff):
    """They are in no sum, and the page says so."""
    to_decide(at(3), None, currency="", amount=Decimal("1.5"))

    assert "Not in these sums, because the value is unknown: 1 payment to decide: 1.5 USDT" in (
        overview(staff).text
    )


def test_page_says_what_it_counts(staff):
    """Days in UTC, what is left out, and what is counted twice."""
    text = overview(staff).text

    assert "There are no figures for this month" in text
    assert "Days and months are in UTC." in text
    assert "Very small payments are left out." in text


@pytest.mark.parametrize("text", ["0000-00", "9999-99", "next", EVIL])
def test_bad_month_gets_a_message_and_the_current_month(staff, text):
    """The page says what is wrong, and shows something useful."""
    response = staff.get(reverse(URL), {"month": text})

    page = Page(response)
    assert response.status_code == 200
    assert "is not a month. Enter one like 2026-12. This is the current month." in page.text
    assert "Overview of December 2026" in page.text
    if text is EVIL:
        assert_escaped(response)


def test_months_are_linked_up_to_the_current_one(staff):
    """Earlier months have both links; the current one has no link to a later month."""
    current, before = overview(staff, ""), overview(staff, "2026-11")

    def months(page):
        return [link[-7:] for link in page.links if link and "overview/?month=" in link]

    assert months(current) == ["2026-11"]
    assert months(before) == ["2026-10", "2026-12"]


def test_link_to_the_export_downloads_the_same_days(staff):
    """The range of the export is half open, too."""
    paid(at(30), "1.00"), paid(at(1, month=12), "2.00")
    (link,) = [link for link in overview(staff).links if link and "/export/?" in link]

    rows = b"".join(staff.get(link).streaming_content).decode().splitlines()

    assert [row[:10] for row in rows[1:]] == ["2026-11-30"]


@pytest.mark.parametrize(
    ("state", "differences", "text"),
    [
        ("proved", {}, "no differences . Run bitsby_audit to compare"),
        ("different", {"only_here": 2, "hash": 1}, "differences found . 3 differences."),
        ("unproved", {}, "could not be completed"),
        ("running", {}, "No audit has been finished yet. Run bitsby_audit to compare"),
    ],
)
def test_page_tells_the_result_of_the_last_finished_audit(staff, state, differences, text):
    """One line has the result and names the command."""
    finished = None if state == "running" else at(30)
    AuditRun.objects.create(state=state, differences=differences, finished_at=finished)

    assert text in overview(staff).text


def test_page_is_for_those_who_may_see_money(staff):
    """Others are refused and have no entry in the navigation, also users of a partner."""
    url = reverse(URL)
    viewer = log_in("viewer", "oscar_bitsby.view_bitsbypayment")
    others = [
        log_in("colleague", "order.view_order"),
        log_in("partner", PARTNER, *MAY_BIND, is_staff=False),
    ]

    assert viewer.get(url).status_code == 200
    assert {url, reverse("oscar_bitsby:dashboard-export")} <= set(overview(staff).links)
    for client in others:
        assert client.get(url).status_code == 403
        assert url not in Page(client.get(reverse("oscar_bitsby:dashboard-inbox"))).links


def test_visitors_are_asked_to_log_in(client):
    """Nobody sees an amount without a login."""
    response = client.get(reverse(URL))

    assert response.status_code == 302
    assert reverse("dashboard:login") in response["Location"]


def test_page_needs_a_constant_number_of_queries(staff):
    """More rows, days and coins cost no more queries, and not more than fifteen."""

    def create_rows(numbers):
        for number in numbers:
            paid(at(number + 1), coin=f"coin{number}"), refunded(at(number + 1))

    assert_constant_queries(staff, f"{reverse(URL)}?month=2026-11", create_rows)


@pytest.mark.parametrize("language", ["de", "ru"])
def test_charts_have_no_decimal_comma(staff, settings, language):
    """SVG needs decimal points, whatever the reader's language."""
    settings.LANGUAGE_CODE, settings.USE_THOUSAND_SEPARATOR = language, True
    paid(at(3), "3.33"), paid(at(4), "10.00"), refunded(at(5), "7.77")

    html = overview(staff).html

    numbers = re.findall(r' (?:x|y|x1|x2|y1|y2|width|height)="([^"]*)"', html)
    assert len(numbers) > 100
    assert all(re.fullmatch(r"[0-9]+(\.[0-9]+)?", number) for number in numbers)
