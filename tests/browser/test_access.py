"""For everybody: by keyboard, in high contrast, under a strict Content-Security-Policy."""

from __future__ import annotations

import pytest
from django.core.management import call_command
from django.urls import reverse

from tests.browser.chromium import expect
from tests.browser.looks import FOLDER
from tests.browser.ways import choose_bitsby, go_to_payment, go_to_preview, place_order, shows

POLICY = (
    "default-src 'self'; script-src 'self'; style-src 'self'; img-src 'self' data:;"
    " object-src 'none'; base-uri 'none'; frame-ancestors 'none'"
)
#: Notes what a page is refused, and in which part of it that stands.
NOTE_REFUSALS = """
    window.refused = [];
    document.addEventListener("securitypolicyviolation", (event) => {
        const element = event.target instanceof Element ? event.target : null;
        window.refused.push({
            what: event.effectiveDirective,
            of: event.sourceFile || "",
            isOurs: Boolean(element && element.closest(OURS)) ||
                // Handlers in Oscar's markup are named again when our script reads the page anew.
                ((event.sourceFile || "").includes("oscar_bitsby") &&
                    event.effectiveDirective !== "script-src-attr"),
            sample: element ? element.outerHTML.slice(0, 200) : event.sample,
        });
    });
"""
#: What of a page Oscar's frame leaves to us.
OURS = "#content_inner, .page-content, .checkout form.card, [data-bitsby-order]"
FOCUS_IS_SEEN = """() => {
    const look = getComputedStyle(document.activeElement);
    return (look.outlineStyle !== "none" && parseFloat(look.outlineWidth) > 0)
        || look.boxShadow !== "none";
}"""


def tab_to(page, name, role="button"):
    """Press Tab until the element has the focus; it has to be seen there."""
    wanted = page.get_by_role(role, name=name)
    for _ in range(60):
        page.keyboard.press("Tab")
        if wanted.evaluate("one => one === document.activeElement"):
            # Bootstrap lets the ring grow; it need not be fully there.
            page.wait_for_function(FOCUS_IS_SEEN)
            return
    pytest.fail(f"Tab does not reach “{name}”")


def test_buying_by_keyboard(page, shop, product):
    """From the payment step to Bitsby's page with Tab, the arrows, space and Enter alone."""
    go_to_payment(page, shop, product)
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

    page.wait_for_url(f"{shop.simulator.url}/invoices/pay/*")


def test_paying_from_the_orders_page_by_keyboard(page, shop, product):
    """Tab reaches the button to pay, where it can be seen; Enter opens the payment page."""
    page.goto(shop.page_of(shop.sold(product)))
    tab_to(page, "Open the payment page")

    page.keyboard.press("Enter")

    page.wait_for_url(shop.invoice().url)


def test_states_are_told_by_words_in_high_contrast(visitor, shop, product):
    """With colours of the reader's own choice each state is still told, and buttons are framed."""
    order = shop.sold(product)
    page = visitor(forced_colors="active", viewport={"width": 360, "height": 740})
    page.goto(shop.page_of(order))
    shows(page, "Waiting for your payment")
    button = page.get_by_role("button", name="Open the payment page")
    assert button.evaluate("one => parseFloat(getComputedStyle(one).borderTopWidth)") > 0
    FOLDER.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=FOLDER / "contrast-waiting-phone.png", full_page=True)
    shop.pays()
    shop.time_passes(seconds=15)
    call_command("bitsby_reconcile")
    page.reload()
    shows(page, "Thank you, we've received your payment")
    page.screenshot(path=FOLDER / "contrast-paid-phone.png", full_page=True)


@pytest.fixture
def strict(page, shop):
    """A guest's page on which every page of the shop has a strict policy, and what went wrong."""

    def add_policy(route):
        if route.request.resource_type != "document":
            return route.fallback()
        answer = route.fetch(max_redirects=0)
        headers = {**answer.headers, "content-security-policy": POLICY}
        return route.fulfill(response=answer, headers=headers)

    page.add_init_script(f'const OURS = "{OURS}";' + NOTE_REFUSALS)
    page.route(f"{shop.url}/**", add_policy)
    page.requested = []
    page.on("request", lambda request: page.requested.append(request.url))
    return page


def is_clean(page):
    """Nothing of ours was refused. Oscar's frame has scripts in its markup, which are."""
    assert [one for one in page.evaluate("refused") if one["isOurs"]] == []
    return True


def test_a_strict_policy_refuses_nothing_of_ours(strict, shop, product):
    """The order's page works under ``script-src 'self'``: it counts down, asks, renews itself."""
    page = strict
    page.clock.install()
    go_to_payment(page, shop, product)
    assert is_clean(page)
    choose_bitsby(page)
    assert is_clean(page)
    place_order(page, shop)
    page.goto(shop.mailed_link())
    expect(page.locator("[data-bitsby-left]")).to_be_visible()
    # The policy is in force: what stands in Oscar's own markup was refused.
    assert page.evaluate("refused.length") > 0
    shop.pays()
    shop.time_passes(seconds=15)

    page.clock.run_for(5000)

    shows(page, "Thank you, we've received your payment")
    assert is_clean(page)


def test_staffs_pages_have_nothing_that_a_strict_policy_refuses(strict, shop, product, keeper):
    """Inbox, invoices, binding and the order's tab: no script or style in our markup."""
    order = shop.sold(product)
    shop.pays(amount="8.50000000")
    call_command("bitsby_reconcile")
    other = keeper("oscar_bitsby.bind_payment")
    strict.context.add_cookies(other.context.cookies())
    paths = [
        reverse("oscar_bitsby:dashboard-inbox"),
        reverse("oscar_bitsby:dashboard-invoices"),
        reverse("oscar_bitsby:dashboard-bind", args=[order.pk]),
    ]
    for path in paths:
        assert strict.goto(shop.address(path)).status == 200
        assert is_clean(strict)


def test_nothing_is_asked_of_strangers(strict, shop, product):
    """Of all that the buyer's pages load, only Oscar's jQuery would come from elsewhere."""
    strict.goto(shop.page_of(shop.sold(product)))
    strangers = {url for url in strict.requested if not url.startswith((shop.url, "data:"))}

    assert all("jquery" in url for url in strangers)
    assert any("order.js" in url for url in strict.requested)


def test_pages_of_ours_report_no_error(page, shop, product):
    """Neither the console nor a script reports an error from the preview to the paid order."""
    problems = []
    page.on("pageerror", lambda error: problems.append(str(error)))

    def listen(said):
        is_ours = said.location["url"].startswith(shop.url)
        if is_ours and said.type in ("error", "warning"):
            problems.append(said.text)

    page.on("console", listen)
    go_to_preview(page, shop, product)
    place_order(page, shop)
    page.goto(shop.mailed_link())
    shows(page, "Waiting for your payment")
    shop.pays()
    shop.time_passes(seconds=15)
    page.reload()
    shows(page, "Thank you, we've received your payment")

    assert problems == []
