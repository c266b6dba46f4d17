"""The order's page updates itself; the tests control its clock, so nothing waits."""

import itertools
import re

import pytest
from django.core.management import call_command

from tests.browser.chromium import expect
from tests.browser.steps import STATE, THANKS, expect_status

#: Stores at what time of the page's clock it polls the shop.
RECORD_POLLING = """
    window.polls = [];
    const really = window.fetch;
    window.fetch = function (address) {
        if (String(address).endsWith("/state/")) {
            window.polls.push(Date.now() / 1000);
            if (window.fixedAnswer) {
                return Promise.resolve(new Response(window.fixedAnswer));
            }
        }
        const answer = really.apply(this, arguments);
        window.settled = answer.then((found) => found.clone().text()).catch(() => null);
        return answer;
    };
"""
MINUTE = 60_000


def record_polling(page):
    """Let a page record when it polls, on a clock that the test controls."""
    page.add_init_script(RECORD_POLLING)
    page.clock.install()


@pytest.fixture
def order_page(page, shop, order):
    """The order's page, whose clock the test controls."""
    record_polling(page)
    page.goto(shop.page_of(order))
    page.clock.pause_at(page.evaluate("Date.now() / 1000 + 1"))
    return page


def poll_times(page):
    """Return when the page has polled, in seconds of its clock."""
    return page.evaluate("polls")


def run_until_it_polls(page):
    """Run the page's clock until its next request, and stop it there."""
    asked = len(poll_times(page))
    for _ in range(130):
        page.clock.run_for(1000)
        if len(poll_times(page)) > asked:
            return
    pytest.fail("The page has stopped polling")


def run_until_it_shows(page, text):
    """Run the page's clock until it shows a text; each response gets the real time it needs."""
    for _ in range(150):
        if text in page.locator(STATE).inner_text():
            break
        page.clock.run_for(1000)
        page.evaluate("window.settled")
    expect_status(page, text)


def test_page_shows_the_payment_without_reload(order_page, shop):
    """The live region, the pay button and the title change on the same page."""
    expect_status(order_page, "Waiting for your payment")
    announced = order_page.locator(STATE).element_handle()
    order_page.evaluate("window.isSamePage = true")
    shop.receive_payment()

    run_until_it_shows(order_page, THANKS)
    assert order_page.evaluate("window.isSamePage") is True
    assert "received your payment" in announced.inner_text()
    assert announced.get_attribute("role") == "status"
    assert announced.get_attribute("aria-live") == "polite"
    expect(order_page.get_by_role("button", name="Open the payment page")).to_have_count(0)
    expect(order_page).to_have_title(re.compile("received your payment"))


def test_page_polls_less_and_less_often_and_stops_at_a_final_status(order_page, shop):
    """It polls every three seconds at first, later twice a minute, and not after a final status."""
    order_page.evaluate(
        """() => {
            const {version, secondsLeft} = document.querySelector("[data-bitsby-order]").dataset;
            window.fixedAnswer = JSON.stringify({version, secondsLeft: Number(secondsLeft)});
        }"""
    )
    for _ in range(220):
        order_page.clock.run_for(1000)
    asked = poll_times(order_page)
    gaps = [after - before for before, after in itertools.pairwise(asked)]
    assert 3 <= gaps[0] <= 5
    # A response may arrive one step of the clock later.
    assert all(after > before - 1.1 for before, after in itertools.pairwise(gaps))
    assert 29 <= gaps[-1] <= 31
    assert len(asked) < 15

    shop.receive_payment()
    order_page.evaluate("window.fixedAnswer = null")
    run_until_it_shows(order_page, THANKS)
    asked = poll_times(order_page)
    order_page.clock.run_for(600_000)
    assert poll_times(order_page) == asked


def test_page_counts_down_and_shows_the_expiry(order_page, shop):
    """The countdown uses the shop's seconds; at zero the page polls and shows the expiry."""
    left = order_page.locator("[data-bitsby-left]")
    expect(left).to_contain_text(re.compile(r"Time left: 59:\d\d"))
    order_page.clock.run_for(10 * MINUTE)
    expect(left).to_contain_text(re.compile(r"Time left: (49|50|59):\d\d"))
    urgent = order_page.get_by_text("Less than 5 minutes are left.")
    expect(urgent).to_be_hidden()

    shop.move_time(minutes=56)
    order_page.clock.fast_forward(56 * MINUTE)
    expect(urgent).to_be_visible()

    shop.move_time(minutes=5)
    order_page.clock.fast_forward(5 * MINUTE)

    expect_status(order_page, "The payment window has closed")
    expect(order_page.get_by_role("button", name="Request a new quote")).to_be_visible()
    expect(left).to_have_count(0)


def test_page_polls_at_once_when_a_laptop_wakes_up(order_page, shop):
    """After a jump of the clock, as with a closed lid, the page polls within one tick.

    Otherwise the next poll after network errors may be minutes away.
    """
    shop.send_payment()
    shop.move_time(hours=5)
    order_page.clock.set_system_time(order_page.evaluate("Date.now() / 1000 + 5 * 3600"))
    expect_status(order_page, "Waiting for your payment")

    order_page.clock.run_for(1000)

    expect_status(order_page, THANKS)


def test_hidden_tab_does_not_poll_until_it_is_visible(order_page, shop):
    """A hidden tab sends no requests; it updates at once when it is visible again."""
    order_page.evaluate(
        "Object.defineProperty(document, 'hidden', {value: true, configurable: true})"
    )
    order_page.clock.run_for(30_000)
    order_page.clock.run_for(30_000)
    asked = len(poll_times(order_page))
    order_page.clock.run_for(300_000)
    assert len(poll_times(order_page)) == asked <= 2
    shop.receive_payment()

    order_page.evaluate(
        "delete document.hidden; document.dispatchEvent(new Event('visibilitychange'))"
    )

    expect_status(order_page, THANKS)


def test_unreachable_shop_changes_nothing_on_the_page(order_page, shop):
    """While the shop is unreachable, the page keeps the status and shows no failure."""
    shown = order_page.locator(STATE).inner_text()
    order_page.route("**/state/", lambda route: route.abort())
    for _ in range(5):
        with order_page.expect_event("requestfailed"):
            run_until_it_polls(order_page)
    assert order_page.locator(STATE).inner_text() == shown
    shop.receive_payment()
    order_page.unroute("**/state/")

    run_until_it_shows(order_page, THANKS)


def test_hanging_request_times_out_and_page_polls_again(order_page, shop):
    """A request without a response is aborted, and polling goes on."""
    hanging = []

    def hang_once(route):
        if hanging:
            route.continue_()
        else:
            hanging.append(route)

    order_page.route("**/state/", hang_once)
    with order_page.expect_request("**/state/"):
        order_page.clock.run_for(5000)
    shop.receive_payment()

    # The time-out of twenty seconds, and the pause after an error.
    with order_page.expect_event("requestfailed"):
        order_page.clock.run_for(20_000)
    run_until_it_shows(order_page, THANKS)


def test_focus_moves_to_the_status_when_the_button_disappears(order_page, shop):
    """The focus moves from the removed pay button to the new status, not to the top."""
    order_page.get_by_role("button", name="Open the payment page").focus()
    shop.receive_payment()

    run_until_it_shows(order_page, THANKS)
    expect(order_page.locator(STATE)).to_be_focused()


TIME_TAG = '<time datetime="2026-01-15T18:30:00+00:00" data-bitsby-time>as the shop wrote it</time>'


@pytest.fixture
def page_with_time(shop, order):
    """Return a function that opens the order's page with a certain time on it."""

    def open_page(page, time=TIME_TAG):
        def add(route):
            answer = route.fetch()
            text = re.sub(r"(data-bitsby-status[^>]*>)", rf"\1{time}", answer.text(), count=1)
            route.fulfill(response=answer, body=text)

        page.route(shop.page_of(order), add)
        page.goto(shop.page_of(order))
        return page.locator("time[data-bitsby-time]").first

    return open_page


def test_times_are_shown_in_the_buyers_time_zone(visitor, page_with_time, shop):
    """A buyer in New York sees New York's time with its zone, also after an update."""
    page = visitor(timezone_id="America/New_York", locale="en-US")
    record_polling(page)
    time = page_with_time(page)
    expect(time).to_have_text(re.compile(r"Jan 15, 2026, 1:30\sPM \(EST\)"))
    shop.receive_payment()
    run_until_it_shows(page, THANKS)
    expect(time).to_have_text(re.compile(r"Jan 15, 2026, 1:30\sPM \(EST\)"))


@pytest.mark.parametrize("broken", ["datetime", "language", "Intl"])
def test_times_that_cannot_be_converted_stay_as_the_shop_wrote_them(page, page_with_time, broken):
    """With an invalid date, an unknown language or no Intl, the text stays."""
    if broken == "language":
        page.add_init_script(
            "document.addEventListener('readystatechange', () =>"
            " document.documentElement.lang = 'not_a_language')"
        )
    if broken == "Intl":
        page.add_init_script("window.Intl = undefined")
    errors = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    time = page_with_time(
        page, TIME_TAG.replace("2026-01-15T18", "never") if broken == "datetime" else TIME_TAG
    )

    expect(page.locator("[data-bitsby-left]")).to_be_visible()
    expect(time).to_have_text("as the shop wrote it")
    assert not errors


def test_page_with_a_final_status_does_not_poll(page, shop, order):
    """A page that opens with a final status sends no requests."""
    shop.receive_payment()
    call_command("bitsby_reconcile")
    record_polling(page)
    page.goto(shop.page_of(order))
    page.clock.run_for(600_000)

    assert poll_times(page) == []
