import os
import subprocess
from datetime import datetime, timedelta

import pytest
import requests

from oscar_bitsby.simulator import process
from oscar_bitsby.simulator.process import running_simulator
from tests.simulator.support import PROJECT


def test_options_reach_the_process(tmp_path, monkeypatch):
    """The simulator runs beside the test with the given options, and is gone afterwards."""
    monkeypatch.chdir(tmp_path)
    with running_simulator(
        webhook_url="http://shop/",
        token="t",
        speed=60,
        project_id=PROJECT.upper(),
        page_size=5,
        webhooks=False,
    ) as simulator:
        assert simulator.pid != os.getpid()
        simulator.control("seed", {"invoices": 6})
        state = simulator.control("/_control/state")
        assert state["webhooks"] == {"enabled": False, "url": "http://shop/"}
        moments = [state["invoices"][0][key] for key in ("createDatetime", "timeToPayDatetime")]
        created, end = (datetime.strptime(text, "%Y-%m-%d %H:%M:%S") for text in moments)
        assert end - created == timedelta(hours=12) / 60
        answer = requests.post(
            f"{simulator.url}/invoices/list",
            {"projectId": PROJECT, "limit": "9"},
            headers={"Authorization": "Token t"},
            timeout=10,
        )
        assert len(answer.json()["data"]) == 5
    with pytest.raises(requests.ConnectionError):
        requests.get(simulator.url, timeout=10)


def test_failed_start_is_an_error():
    """A simulator that does not start is an error at once."""
    with (
        pytest.raises(RuntimeError, match="did not start"),
        running_simulator(webhook_url="nonsense"),
    ):
        pass


def test_hanging_process_is_killed(monkeypatch):
    """A simulator that ignores SIGTERM is killed."""
    monkeypatch.setattr(process, "END_TIMEOUT_SECONDS", 0.01)
    monkeypatch.setattr(subprocess.Popen, "terminate", lambda self: None)
    with running_simulator() as simulator:
        pass
    with pytest.raises(ProcessLookupError):
        os.kill(simulator.pid, 0)
