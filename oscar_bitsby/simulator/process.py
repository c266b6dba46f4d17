"""Run the simulator as its own process, for tests and demos."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

# The URL prefix of the commands of tests.
CONTROL_PREFIX = "/_control/"
END_TIMEOUT_SECONDS = 10.0


class ControlError(Exception):
    """The simulator refused a command."""


class RunningSimulator:
    """A simulator that runs."""

    def __init__(self, url: str, pid: int) -> None:
        self.url = url
        self.pid = pid

    def control(self, path: str, payload: dict[str, Any] | None = None) -> dict[str, Any]:
        """Send a command, such as ``"pay"``, and return its answer.

        Without a payload it is a GET, for ``"state"`` only; all other commands need one, if only
        ``{}``. Raise ControlError if the simulator refuses.
        """
        method, body = ("GET", None) if payload is None else ("POST", json.dumps(payload))
        connection = HTTPConnection(urlsplit(self.url).netloc, timeout=30)
        try:
            connection.request(method, CONTROL_PREFIX + path.removeprefix(CONTROL_PREFIX), body)
            with connection.getresponse() as response:
                answer: dict[str, Any] = json.loads(response.read())
                if response.status != 200:
                    raise ControlError(answer["error"])
                return answer
        finally:
            connection.close()


@contextmanager
def running_simulator(
    *,
    port: int = 0,
    webhook_url: str | None = None,
    webhooks: bool = True,
    token: str | None = None,
    speed: float | None = None,
    project_id: str | None = None,
    page_size: int | None = None,
) -> Iterator[RunningSimulator]:
    """Start a simulator, on a free port by default, yield it once it listens, and end it."""
    command = [sys.executable, "-m", "oscar_bitsby.simulator", f"--port={port}"]
    options = {
        "webhook-url": webhook_url,
        "token": token,
        "speed": speed,
        "project-id": project_id,
        "page-size": page_size,
    }
    command += [f"--{name}={value}" for name, value in options.items() if value is not None]
    if not webhooks:
        command.append("--no-webhooks")
    # The package may be neither installed nor in the current directory.
    source = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(filter(None, (source, os.environ.get("PYTHONPATH"))))
    process = subprocess.Popen(  # noqa: S603 - our own interpreter, no shell
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": path}
    )
    with process:
        try:
            line = process.stdout.readline() if process.stdout else ""
            if not line:
                raise RuntimeError("The simulator did not start; its errors are on stderr")
            yield RunningSimulator(line.split()[-1], process.pid)
        finally:
            process.terminate()
            try:
                process.wait(END_TIMEOUT_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
