"""The machine notices defects: each one that is planted here breaks what must hold, and soon.

The quick ones run always, all with ``HYPOTHESIS_PROFILE=nightly``.
"""

from __future__ import annotations

import pytest
from hypothesis import Phase

from tests.machine.common import counts
from tests.machine.plants import OTHERS, QUICK
from tests.machine.running import PROFILE, run

#: Within so many steps a defect must be noticed.
MOST_STEPS = 3000
STEPS_EACH = 40
PLANTS = [*QUICK, *(OTHERS if PROFILE == "nightly" else ())]


@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.__name__)
def test_a_planted_defect_is_noticed(plant, wired, monkeypatch, capsys):
    """What must hold does not hold any more with the defect, and the machine comes upon it."""
    plant(monkeypatch.setattr)

    with pytest.raises(AssertionError) as found:
        run(
            max_examples=MOST_STEPS // STEPS_EACH,
            stateful_step_count=STEPS_EACH,
            derandomize=True,
            report_multiple_bugs=False,
            phases=[Phase.generate],
        )

    with capsys.disabled():
        first_line = str(found.value).partition("\n")[0]
        print(f"\n{plant.__name__}: {first_line[:90]} ({counts['steps']} steps)")
    assert counts["steps"] <= MOST_STEPS
