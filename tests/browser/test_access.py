"""Accessibility and security in a browser: keyboard, high contrast, Content-Security-Policy."""

import pytest
from django.core.management import call_command
from django.urls import reverse
from django.utils import timezone

from tests.browser import steps
from tests.browser.capture import FOLDER
from tests.browser.chromium import expect
from tests.browser.steps import THANKS, expect_status
from tests.support.month import paid

POLICY = (
    "default-src 'self'; script-src 'self'; style-src 'self'; img-src 'self' data:;"
    " object-src 'none'; base-uri 'none'; frame-ancestors 'none'"
)
#: Collects the violations of the policy, and whether our markup or script caused them.
COLLECT_VIOLATIONS = """
    window.violations = [];
    document.addEventListener("securitypolicyviolation", (event) => {
        const element = event.target instanceof Element ? event.target : null;
        window.violations.push({
            what: event.effectiveDirective,
            of: event.sourceFile || "",
            isOurs: Boolean(element && element.closest(OURS)) ||
                // Oscar's inline handlers are reported again when our script parses the page.
                ((event.sourceFile || "").includes("oscar_bitsby") &&
                    event.effectiveDirective !== "script-src-attr"),
            sample: element ? element.outerHTML.slice(0, 200) : event.sample,
        });
    });
"""
#: The parts of a page that are ours.
OURS = "#content_inner, .page-content, .checkout form.card, [data-bitsby-order]"
FOCUS_IS_VISIBLE = """() => {
    const style = getComputedStyle(document.activeElement);
    return (style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0)
        || style.boxShadow !== "none";
}"""


def tab_to(page, name, role="button"):
    """Press Tab until the element has the focus, which must be visible."""
    wanted = page.get_by_role(role, name=name)
    for _ in range(60):
        page.keyboard.press("Tab")
        if wanted.evaluate("one => one === document.activeElement"):
            # Bootstrap animates the focus ring.
            page.wait_for_function(FOCUS_IS_VISIBLE)
            return
    pytest.fail(f"Tab does not reach “{name}”")


def test_checkout_works_by_keyboard(page, shop, product):
    """From the payment step to Bitsby's page with Tab, the arrows, space and Enter alone."""
    steps.go_to_payment(page, shop, product)
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.name") == "method":
            break
    page.keyboard.press("Space")
    tab_to(page, "Continue")
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Place order")).to_be_visible()
    tab_to(page, "Place order")

    page.keyboard.press("Enter")

    steps.expect_payment_page(page, shop)


def test_order_page_works_by_keyboard(page, shop, order):
    """Tab reaches the pay button with a visible focus; Enter opens the payment page."""
    page.goto(shop.page_of(order))
    tab_to(page, "Open the payment page")

    page.keyboard.press("Enter")

    page.wait_for_url(shop.invoice().url)


def test_statuses_are_readable_in_high_contrast(visitor, shop, order):
    """With forced colours the status is still text, and buttons have a border."""
    page = visitor(forced_colors="active", viewport={"width": 360, "height": 740})
    page.goto(shop.page_of(order))
    expect_status(page, "Waiting for your payment")
    button = page.get_by_role("button", name="Open the payment page")
    assert button.evaluate("one => parseFloat(getComputedStyle(one).borderTopWidth)") > 0
    FOLDER.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=FOLDER / "contrast-waiting-phone.png", full_page=True)
    shop.receive_payment()
    call_command("bitsby_reconcile")
    page.reload()
    expect_status(page, THANKS)
    page.screenshot(path=FOLDER / "contrast-paid-phone.png", full_page=True)


@pytest.fixture
def csp_page(page, shop):
    """A guest's page that adds a strict policy to every page and collects violations."""

    def add_policy(route):
        if route.request.resource_type != "document":
            return route.fallback()
        answer = route.fetch(max_redirects=0)
        headers = {**answer.headers, "content-security-policy": POLICY}
        return route.fulfill(response=answer, headers=headers)

    page.add_init_script(f'const OURS = "{OURS}";' + COLLECT_VIOLATIONS)
    page.route(f"{shop.url}/**", add_policy)
    page.requested = []
    page.on("request", lambda request: page.requested.append(request.url))
    return page


def our_violations(page):
    """Return how our parts violate the policy; Oscar's own inline scripts do, too."""
    return [one for one in page.evaluate("violations") if one["isOurs"]]


def test_order_page_works_under_strict_csp(csp_page, shop, product):
    """Under ``script-src 'self'`` the order's page counts down, polls and updates."""
    page = csp_page
    page.clock.install()
    steps.go_to_payment(page, shop, product)
    assert our_violations(page) == []
    steps.choose_bitsby(page)
    assert our_violations(page) == []
    steps.place_order(page, shop)
    page.goto(shop.mailed_link())
    expect(page.locator("[data-bitsby-left]")).to_be_visible()
    # The policy is active: Oscar's own inline scripts violate it.
    assert page.evaluate("violations.length") > 0
    shop.receive_payment()

    page.clock.run_for(5000)

    expect_status(page, THANKS)
    assert our_violations(page) == []


def test_staff_pages_work_under_strict_csp(csp_page, shop, order, log_in_staff):
    """The staff pages have no inline script or style."""
    shop.send_payment(amount="8.50000000")
    call_command("bitsby_reconcile")
    log_in_staff("oscar_bitsby.bind_payment")
    paths = [
        reverse("oscar_bitsby:dashboard-inbox"),
        reverse("oscar_bitsby:dashboard-invoices"),
        reverse("oscar_bitsby:dashboard-bind", args=[order.pk]),
        reverse("oscar_bitsby:dashboard-overview"),
    ]
    paid(timezone.now())
    for path in paths:
        assert csp_page.goto(shop.address(path)).status == 200
        assert our_violations(csp_page) == []


def test_pages_load_nothing_from_other_sites(csp_page, shop, order):
    """Only Oscar's own jQuery comes from another site."""
    csp_page.goto(shop.page_of(order))
    foreign = {url for url in csp_page.requested if not url.startswith((shop.url, "data:"))}

    assert all("jquery" in url for url in foreign)
    assert any("order.js" in url for url in csp_page.requested)


def test_pages_log_no_javascript_error(page, shop, product):
    """From the preview to the paid order there is no JavaScript error or console warning."""
    problems = []
    page.on("pageerror", lambda error: problems.append(str(error)))

    def listen(said):
        is_ours = said.location["url"].startswith(shop.url)
        if is_ours and said.type in ("error", "warning"):
            problems.append(said.text)

    page.on("console", listen)
    steps.buy(page, shop, product)
    page.goto(shop.mailed_link())
    expect_status(page, "Waiting for your payment")
    shop.receive_payment()
    page.reload()
    expect_status(page, THANKS)

    assert problems == []
