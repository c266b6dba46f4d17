"""The machine notices defects: each one that is planted here breaks what must hold, and soon.

The quick ones run always, all with ``HYPOTHESIS_PROFILE=nightly``.
"""

from __future__ import annotations

import pytest
from hypothesis import Phase

from tests.machine.common import counts
from tests.machine.fake_gateway import Quirks
from tests.machine.planted_bugs import OTHERS, QUICK, believes_in_newest_first
from tests.machine.runner import PROFILE, run

#: Within so many steps a defect must be noticed.
MOST_STEPS = 3000
STEPS_EACH = 40
HISTORIES = {
    "max_examples": MOST_STEPS // STEPS_EACH,
    "stateful_step_count": STEPS_EACH,
    "start": 1,
    "report_multiple_bugs": False,
    "phases": [Phase.generate],
}
IS_NIGHTLY = PROFILE == "nightly"
PLANTS = [*QUICK, *(OTHERS if IS_NIGHTLY else ())]


@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.__name__)
def test_a_planted_defect_is_noticed(plant, wired, monkeypatch, capsys):
    """With the defect, something that must hold does not, and the machine comes upon it."""
    plant(monkeypatch.setattr)

    with pytest.raises(AssertionError) as found:
        run(**HISTORIES)

    with capsys.disabled():
        first_line = str(found.value).partition("\n")[0]
        print(f"\n{plant.__name__}: {first_line[:90]} ({counts['steps']} steps)")


@pytest.mark.skipif(not IS_NIGHTLY, reason="long; the machine's own test runs other histories")
def test_without_a_defect_the_same_histories_hold(wired):
    """What is noticed is the defect and nothing else."""
    run(**HISTORIES)


def test_a_belief_in_the_order_of_lists_is_noticed(shop, monkeypatch):
    """Chance seldom makes a list of pages in the wrong order, with news at its end: told here."""
    believes_in_newest_first(monkeypatch.setattr)
    shop.open(Quirks(order="oldest", page_size=10))
    shop.order_and_click("10.00", opens=True)

    with pytest.raises(AssertionError, match="money that is nowhere"):
        shop.crowd(age=0, seconds=12)


def test_a_list_in_any_order_is_read_to_its_end(shop):
    """The same without the defect: the payment is found."""
    shop.open(Quirks(order="oldest", page_size=10))
    shop.order_and_click("10.00", opens=True)

    shop.crowd(age=0, seconds=12)
