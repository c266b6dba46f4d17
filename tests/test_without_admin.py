"""The app in a shop without django.contrib.admin, in a process of its own."""

import json
import subprocess
import sys

from tests.paths import ROOT


def test_shop_without_the_admin_sells_and_settles():
    """It starts, passes the checks, migrates and serves its pages; staff act, without a log."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.without_admin.walk"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])

    assert "oscar_bitsby.0001_initial" in found["plan"]
    assert "Create model LogEntry" not in found["plan"]
    assert found["checks"] == []
    assert found["buyer"]["paying"].startswith("https://dash.bitsby.app/")
    assert found["buyer"]["order page"] == 200
    staff = found["staff"]
    assert staff["pages"] == [200] * 5
    assert staff["bound"].startswith("Bound and booked: 8.00 USD")
    assert "Dismissed." in staff["dismissed"]
    assert (staff["booked"], staff["status"]) == ([[staff["short"], "8.00"]], "Being processed")
    assert staff["refund"] == [200, 302, 200]
