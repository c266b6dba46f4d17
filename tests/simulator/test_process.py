import os
import subprocess

import pytest
import requests

from oscar_bitsby.simulator import process
from oscar_bitsby.simulator.process import running_simulator

from .conftest import PROJECT


def test_a_process_of_its_own(tmp_path, monkeypatch):
    """The simulator runs beside the test with the given options, and is gone afterwards."""
    monkeypatch.chdir(tmp_path)
    with running_simulator(
        token="t", speed=3600, project_id=PROJECT, page_size=5, webhooks=False
    ) as simulator:
        assert simulator.pid != os.getpid()
        assert simulator.control("/_control/state")["webhooks"]["enabled"] is False
        ids = simulator.control("seed", {"invoices": 1})["ids"]
        assert simulator.control("expire", {"invoiceId": ids[0]}) == {"status": "expired"}
    with pytest.raises(requests.ConnectionError):
        requests.get(simulator.url, timeout=10)


def test_failing_to_start_is_told():
    """A simulator that does not come up is an error at once."""
    with (
        pytest.raises(RuntimeError, match="did not start"),
        running_simulator(webhook_url="nonsense"),
    ):
        pass


def test_it_is_gone_even_if_it_hangs(monkeypatch):
    """A simulator that ignores the polite end is killed."""
    monkeypatch.setattr(process, "END_TIMEOUT_SECONDS", 0.01)
    monkeypatch.setattr(subprocess.Popen, "terminate", lambda self: None)
    with running_simulator() as simulator:
        pass
    with pytest.raises(ProcessLookupError):
        os.kill(simulator.pid, 0)
