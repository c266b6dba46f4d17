"""The order's page keeps itself true; its clock is the test's, so nothing is waited for."""

from __future__ import annotations

import itertools
import re

import pytest
from django.core.management import call_command

from tests.browser.chromium import expect
from tests.browser.ways import STATE, shows

#: Notes at what time of the page it asks the shop.
NOTE_ASKING = """
    window.asked = [];
    const really = window.fetch;
    window.fetch = function (address) {
        if (String(address).endsWith("/state/")) {
            window.asked.push(Date.now() / 1000);
            if (window.nothingNew) {
                return Promise.resolve(new Response(window.nothingNew));
            }
        }
        const answer = really.apply(this, arguments);
        window.settled = answer.then((found) => found.clone().text()).catch(() => null);
        return answer;
    };
"""
MINUTE = 60_000


@pytest.fixture
def order(shop, product):
    """A guest has bought, and the invoice waits to be paid."""
    return shop.sold(product)


@pytest.fixture
def order_page(page, shop, order):
    """The order's page, with a clock that the test moves."""
    page.add_init_script(NOTE_ASKING)
    page.clock.install()
    page.goto(shop.page_of(order))
    page.clock.pause_at(page.evaluate("Date.now() / 1000 + 1"))
    return page


def times_asked(page):
    """The seconds, by the page's clock, at which it has asked for the state."""
    return page.evaluate("asked")


def live_until_it_asks(page):
    """Let the page live on until its next question, which then has all the time it needs."""
    asked = len(times_asked(page))
    for _ in range(130):
        page.clock.run_for(1000)
        if len(times_asked(page)) > asked:
            return
    pytest.fail("The page does not ask any more")


def live_until_it_shows(page, text):
    """Let the page live on until it says so; each answer gets the real time that it takes."""
    for _ in range(150):
        if text in page.locator(STATE).inner_text():
            break
        page.clock.run_for(1000)
        page.evaluate("window.settled")
    shows(page, text)


def test_it_shows_the_payment_without_being_reloaded(order_page, shop):
    """The text changes in the element that is announced, the button to pay goes, the title too."""
    page = order_page
    shows(page, "Waiting for your payment")
    announced = page.locator(STATE).element_handle()
    page.evaluate("window.isSamePage = true")
    shop.pays()
    shop.time_passes(seconds=15)

    live_until_it_shows(page, "Thank you, we've received your payment")
    assert page.evaluate("window.isSamePage") is True
    assert "received your payment" in announced.inner_text()
    assert announced.get_attribute("role") == "status"
    assert announced.get_attribute("aria-live") == "polite"
    expect(page.get_by_role("button", name="Open the payment page")).to_have_count(0)
    expect(page).to_have_title(re.compile("received your payment"))


def test_it_asks_less_and_less_often_and_stops_in_the_end(order_page, shop):
    """From every three seconds down to twice a minute; after the last word, never again."""
    page = order_page
    page.evaluate(
        """() => {
            const {version, secondsLeft} = document.querySelector("[data-bitsby-order]").dataset;
            window.nothingNew = JSON.stringify({version, secondsLeft: Number(secondsLeft)});
        }"""
    )
    for _ in range(220):
        page.clock.run_for(1000)
    asked = times_asked(page)
    gaps = [after - before for before, after in itertools.pairwise(asked)]
    assert 3 <= gaps[0] <= 5
    # An answer may come a step of the clock later.
    assert all(after > before - 1.1 for before, after in itertools.pairwise(gaps))
    assert 29 <= gaps[-1] <= 31
    assert len(asked) < 15

    shop.pays()
    shop.time_passes(seconds=15)
    page.evaluate("window.nothingNew = null")
    live_until_it_shows(page, "Thank you, we've received your payment")
    asked = times_asked(page)
    page.clock.run_for(600_000)
    assert times_asked(page) == asked


def test_it_counts_the_time_down_and_says_when_it_is_over(order_page, shop):
    """The countdown runs by the shop's word; at its end the page asks at once, and shows it."""
    page = order_page
    left = page.locator("[data-bitsby-left]")
    expect(left).to_contain_text(re.compile(r"Time left: 59:\d\d"))
    page.clock.run_for(10 * MINUTE)
    expect(left).to_contain_text(re.compile(r"Time left: (49|50|59):\d\d"))

    shop.time_passes(minutes=61)
    page.clock.fast_forward(61 * MINUTE)

    shows(page, "The payment window has closed")
    expect(page.get_by_role("button", name="Request a new quote")).to_be_visible()
    expect(left).to_have_count(0)


def test_it_asks_at_once_when_a_laptop_wakes_up(order_page, shop):
    """The clock has jumped while no timer ran, as with a closed lid: the page asks within a tick.

    Nothing else would make it: after trouble with the network the next try may be far away.
    """
    page = order_page
    shop.pays()
    shop.time_passes(hours=5)
    page.clock.set_system_time(page.evaluate("Date.now() / 1000 + 5 * 3600"))
    shows(page, "Waiting for your payment")

    page.clock.run_for(1000)

    shows(page, "Thank you, we've received your payment")


def test_a_hidden_tab_asks_nothing_until_it_is_looked_at(order_page, shop):
    """Whoever comes back to the tab sees the truth at once."""
    page = order_page
    page.evaluate("Object.defineProperty(document, 'hidden', {value: true, configurable: true})")
    page.clock.run_for(30_000)
    page.clock.run_for(30_000)
    asked = len(times_asked(page))
    page.clock.run_for(300_000)
    assert len(times_asked(page)) == asked <= 2
    shop.pays()
    shop.time_passes(seconds=15)

    page.evaluate("delete document.hidden; document.dispatchEvent(new Event('visibilitychange'))")

    shows(page, "Thank you, we've received your payment")


def test_trouble_changes_nothing_that_is_shown(order_page, shop):
    """While the shop cannot be reached the page says "waiting" and no word of a failure."""
    page = order_page
    said = page.locator(STATE).inner_text()
    page.route("**/state/", lambda route: route.abort())
    for _ in range(5):
        with page.expect_event("requestfailed"):
            live_until_it_asks(page)
    assert page.locator(STATE).inner_text() == said
    shop.pays()
    shop.time_passes(seconds=15)
    page.unroute("**/state/")

    live_until_it_shows(page, "Thank you, we've received your payment")


def test_an_answer_that_never_comes_does_not_stop_the_page(order_page, shop):
    """A request that hangs is given up, and the page asks again."""
    page = order_page
    hanging = []
    page.route("**/state/", lambda route: hanging.append(route))
    with page.expect_request("**/state/"):
        page.clock.run_for(5000)
    page.unroute("**/state/")
    shop.pays()
    shop.time_passes(seconds=15)

    # Twenty seconds of patience, and the pause after trouble.
    with page.expect_event("requestfailed"):
        page.clock.run_for(20_000)
    live_until_it_shows(page, "Thank you, we've received your payment")


def test_the_keyboards_focus_is_not_lost_when_the_button_goes(order_page, shop):
    """Whoever stood on the button to pay stands on the new text, not at the page's beginning."""
    page = order_page
    page.get_by_role("button", name="Open the payment page").focus()
    shop.pays()
    shop.time_passes(seconds=15)

    live_until_it_shows(page, "Thank you, we've received your payment")
    expect(page.locator(STATE)).to_be_focused()


MARKED = '<time datetime="2026-01-15T18:30:00+00:00" data-bitsby-time>as the shop wrote it</time>'


@pytest.fixture
def marked(shop, order):
    """Return a function that opens the order's page with a marked time in it."""

    def open_page(page, time=MARKED):
        def add(route):
            answer = route.fetch()
            text = re.sub(r"(data-bitsby-status[^>]*>)", rf"\1{time}", answer.text(), count=1)
            route.fulfill(response=answer, body=text)

        page.route(shop.page_of(order), add)
        page.goto(shop.page_of(order))
        return page.locator("time[data-bitsby-time]").first

    return open_page


def test_times_are_said_in_the_buyers_own_zone(visitor, marked, shop):
    """A buyer in New York reads New York's time, with its name, also after the page renews."""
    page = visitor(timezone_id="America/New_York", locale="en-US")
    page.add_init_script(NOTE_ASKING)
    page.clock.install()
    time = marked(page)
    expect(time).to_have_text(re.compile(r"Jan 15, 2026, 1:30\sPM \(EST\)"))
    shop.pays()
    shop.time_passes(seconds=15)
    live_until_it_shows(page, "Thank you, we've received your payment")
    expect(time).to_have_text(re.compile(r"Jan 15, 2026, 1:30\sPM \(EST\)"))


@pytest.mark.parametrize("spoilt", ["datetime", "language", "Intl"])
def test_times_stay_as_the_shop_wrote_them_where_they_cannot_be_said_otherwise(
    page, marked, spoilt
):
    """A date that is none, a language that no browser knows, or no Intl: the text stays."""
    if spoilt == "language":
        page.add_init_script(
            "document.addEventListener('readystatechange', () =>"
            " document.documentElement.lang = 'not_a_language')"
        )
    if spoilt == "Intl":
        page.add_init_script("window.Intl = undefined")
    errors = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    time = marked(
        page, MARKED.replace("2026-01-15T18", "never") if spoilt == "datetime" else MARKED
    )

    expect(page.locator("[data-bitsby-left]")).to_be_visible()
    expect(time).to_have_text("as the shop wrote it")
    assert not errors


def test_the_state_is_not_asked_for_after_a_final_answer(page, shop, order):
    """A page that is opened when all is said asks nothing."""
    shop.pays()
    shop.time_passes(seconds=15)
    call_command("bitsby_reconcile")
    page.add_init_script(NOTE_ASKING)
    page.clock.install()
    page.goto(shop.page_of(order))
    page.clock.run_for(600_000)

    assert times_asked(page) == []
