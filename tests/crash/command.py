"""Runs the harness for tests in a process of its own, since it forks."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def results_of(*arguments):
    """Run the command on the database of the environment; return its results by name."""
    # Killed processes leave no coverage behind, and measuring it takes twice the time.
    environment = {key: os.environ[key] for key in os.environ if not key.startswith("COV")}
    done = subprocess.run(
        [sys.executable, "-m", "tests.crash", "--json", *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode in (0, 1), done.stderr
    assert done.stdout, done.stderr
    return {result["operation"]: result for result in json.loads(done.stdout.splitlines()[-1])}


def assert_kept(result):
    """Assert that a result has points or rounds, and none with a broken promise."""
    assert result["tested"] >= 1
    texts = [f"{one['point']}: {one['problems']}" for one in result["findings"]]
    assert not texts, "\n".join(texts)
