"""Staff read the overview of a month, on a desktop and on a phone."""

from decimal import Decimal

from django.urls import reverse

from oscar_bitsby.models import AuditRun
from tests.browser.chromium import expect
from tests.support.month import at, paid, refunded, to_decide, waiting

DASHBOARD = ".page-content"
FIGURES = """() => Array.from(document.querySelectorAll(".bitsby-chart"))
    .map(one => ({
        title: one.querySelector("title").textContent,
        days: one.querySelectorAll("g").length,
        height: one.getBoundingClientRect().height,
        label: parseFloat(getComputedStyle(one.querySelector("text")).fontSize)
            * one.getBoundingClientRect().width / one.viewBox.baseVal.width,
    }))"""


def fill_month():
    """Create the money of a busy November, and a last audit."""
    for day in range(1, 31):
        if day % 6:
            paid(at(day), f"{(day * 37) % 11 * 90 + 45}.50")
            paid(at(day), f"{(day * 53) % 7 * 60 + 20}.25", "btc")
        if day % 9 == 2:
            refunded(at(day), f"{day * 12}.00")
        if day % 7 == 1:
            to_decide(at(day), f"{day * 3}.40", "eth")
    for day in (27, 28, 29, 30):
        waiting(at(day), f"{day}.00")
    paid(at(12), "1250000.00", currency="KGS"), paid(at(20), "80.00", review_reason="short")
    to_decide(at(3), None, currency="", amount=Decimal("1.5"))
    AuditRun.objects.create(state="proved", finished_at=at(30))


def test_overview_of_a_month(shop, log_in_staff, screenshot):
    """The navigation leads to it; charts and tables can be read on both, the months be changed."""
    page = log_in_staff("oscar_bitsby.view_bitsbypayment")
    fill_month()
    page.goto(shop.address(reverse("dashboard:index")))
    page.get_by_role("button", name="Bitsby").click()
    page.get_by_role("link", name="Overview").click()
    expect(page.get_by_role("heading", name="Overview of")).to_be_visible()

    page.get_by_label("Month", exact=True).fill("2026-11")
    page.get_by_role("button", name="Show").click()

    expect(page.get_by_role("heading", name="Overview of November 2026")).to_be_visible()
    expect(page.get_by_role("row", name="04/11/2026")).to_be_visible()
    screenshot(page, "overview", DASHBOARD)
    page.set_viewport_size({"width": 390, "height": 844})
    for chart in page.evaluate(FIGURES):
        assert chart["height"] > 90, chart
        assert chart["label"] >= 9, chart
    for button in page.locator(f"{DASHBOARD} .btn:visible").all():
        assert button.bounding_box()["height"] >= 44
    page.get_by_text("By day and coin").first.click()
    screenshot(page, "overview-by-coin", DASHBOARD)

    page.get_by_role("link", name="October 2026").click()
    expect(page.get_by_text("There are no figures for this month")).to_be_visible()
    screenshot(page, "overview-empty", DASHBOARD)
