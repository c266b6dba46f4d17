import os
import signal
import socket
import subprocess
import sys
import threading

import pytest

from oscar_bitsby.simulator.__main__ import main
from oscar_bitsby.simulator.server import SimulatorServer

COMMAND = [sys.executable, "-m", "oscar_bitsby.simulator", "--port", "0"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_end_it_cleanly(interruptible, number):
    """It says where it listens on the first line, and a signal ends it without a traceback."""
    with subprocess.Popen(
        COMMAND, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        line = process.stdout.readline()
        assert line.startswith("Bitsby simulator listening on http://127.0.0.1:")
        process.send_signal(number)
        out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err) == (0, "", "")


def test_it_needs_no_django(tmp_path):
    """The simulator runs where Django cannot be imported and imports nothing of the app."""
    code = (
        "import sys; sys.modules['django'] = sys.modules['oscar'] = None\n"
        "import oscar_bitsby.simulator.__main__, oscar_bitsby.simulator.process\n"
        "print(*[m for m in sys.modules if m.startswith('oscar_bitsby.')])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    modules = result.stdout.split()
    assert modules
    assert all(name.startswith("oscar_bitsby.simulator") for name in modules)


def test_main_runs_until_told_to_stop(capsys, monkeypatch):
    """Options reach the account, and the end frees the port and the signal."""
    seen = []

    def serve(server, poll_interval):
        seen.append((server.server_port, server.account.options))
        threading.Thread(target=os.kill, args=(os.getpid(), signal.SIGTERM)).start()
        threading.Event().wait(20)

    monkeypatch.setattr(SimulatorServer, "serve_forever", serve)
    handler = signal.getsignal(signal.SIGTERM)
    project = "9DEEA1E2-0C08-41A3-BDC2-A34EADA3892D"
    arguments = ["--port=0", "--webhook-url=http://shop/", "--no-webhooks", "--token=t"]
    arguments += ["--speed=60", f"--project-id={project}", "--page-size=5"]
    assert main(arguments) == 0
    ((port, options),) = seen
    assert capsys.readouterr().out == f"Bitsby simulator listening on http://127.0.0.1:{port}\n"
    assert (options.webhook_url, options.webhooks) == ("http://shop/", False)
    assert (options.token, options.speed) == ("t", 60.0)
    assert (options.project_id, options.page_size) == (project.lower(), 5)
    assert signal.getsignal(signal.SIGTERM) is handler


def test_a_taken_port_is_explained(capsys):
    """A port that somebody else has is one clear line and an exit status."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert main(["--port", str(port)]) == 1
    assert capsys.readouterr().err.startswith(f"Cannot listen on port {port}: ")


@pytest.mark.parametrize(
    "argument",
    [
        "--port=65536",
        "--port=http",
        "--webhook-url=shop",
        "--token=",
        "--speed=0",
        "--speed=nan",
        "--project-id=mine",
        "--page-size=0",
    ],
)
def test_senseless_options_are_refused(argument, capsys):
    """A wrong option ends it with what was expected."""
    with pytest.raises(SystemExit) as ended:
        main([argument])
    assert ended.value.code == 2
    assert "expected a" in capsys.readouterr().err
