"""The machine notices planted bugs, each by the invariant that it violates.

The quick ones are tested in every run, all of them with ``HYPOTHESIS_PROFILE=nightly``.
"""

import pytest
from hypothesis import Phase

from tests.machine import model
from tests.machine.common import MINUTE, TRON, counts
from tests.machine.fake_gateway import Quirks
from tests.machine.planted_bugs import (
    PLANTED_BUGS,
    assumes_newest_first,
    reinstates_without_stock,
)
from tests.machine.runner import PROFILE, run

#: Within this many steps a bug must be noticed.
MAX_STEPS = 3000
STEPS_EACH = 40
HISTORIES = {
    "max_examples": MAX_STEPS // STEPS_EACH,
    "stateful_step_count": STEPS_EACH,
    "start": 1,
    "report_multiple_bugs": False,
    "phases": [Phase.generate],
}
IS_NIGHTLY = PROFILE == "nightly"
PLANTED = [bug for bug in PLANTED_BUGS.values() if bug.is_quick or IS_NIGHTLY]


@pytest.mark.parametrize("bug", PLANTED, ids=lambda bug: bug.name)
def test_planted_bug_is_noticed_by_its_invariant(bug, wired, monkeypatch, capsys):
    """The bug violates the invariant that it names; an error of another kind fails the test."""
    bug.plant(monkeypatch.setattr)

    with pytest.raises(AssertionError, match=f"^({'|'.join(bug.violates)})") as found:
        run(**HISTORIES)

    with capsys.disabled():
        first_line = str(found.value).partition("\n")[0]
        print(f"\n{bug.name}: {first_line[:90]} ({counts['steps']} steps)")


@pytest.mark.skipif(not IS_NIGHTLY, reason="long; the machine's own test runs other histories")
def test_histories_hold_without_a_planted_bug(wired):
    """The same histories violate nothing without a bug."""
    run(**HISTORIES)


def test_assuming_newest_first_is_noticed(shop, monkeypatch):
    """A list in the wrong order with a new payment at its end shows that a sync stops too early."""
    assumes_newest_first(monkeypatch.setattr)
    shop.open(Quirks(order="oldest", page_size=10))
    shop.order_and_click("10.00", opens=True)

    with pytest.raises(AssertionError, match=f"^{model.LOST_PAYMENT}"):
        shop.fill_pages(age=0, seconds=12)


def reinstate_cancelled_order(shop):
    """Let an order be cancelled, paid late and reinstated."""
    shop.open(Quirks(late="paid"))
    shop.order_and_click("10.00", opens=True)
    for _ in range(2):
        shop.wait(62 * MINUTE)
        shop.reconcile_undisturbed()
    assert not any(shop.holds.values())
    shop.pay_newest("exact", TRON)
    shop.reconcile_undisturbed()
    shop.decide_all("reinstate")
    assert all(shop.holds.values())


def test_reinstating_without_stock_is_noticed(shop, monkeypatch):
    """An order that is reinstated without its stock violates the invariant of stock."""
    reinstates_without_stock(monkeypatch.setattr)
    reinstate_cancelled_order(shop)

    with pytest.raises(AssertionError, match=f"^{model.LINES_AND_HOLDS}"):
        shop.check()


def test_reinstated_order_holds_its_stock(shop):
    """The same history without the bug violates nothing."""
    reinstate_cancelled_order(shop)

    shop.check()


def test_list_in_any_order_is_read_to_its_end(shop):
    """The same history without the bug finds the payment."""
    shop.open(Quirks(order="oldest", page_size=10))
    shop.order_and_click("10.00", opens=True)

    shop.fill_pages(age=0, seconds=12)
