import signal
import socket
import subprocess
import sys

import pytest

from oscar_bitsby.simulator.__main__ import main

COMMAND = [sys.executable, "-m", "oscar_bitsby.simulator", "--port", "0"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_end_the_simulator_cleanly(interruptible, number):
    """It listens on this machine only, says so, and a signal ends it without a traceback."""
    with subprocess.Popen(
        COMMAND, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        line = process.stdout.readline()
        assert line.startswith("Bitsby simulator listening on http://127.0.0.1:")
        process.send_signal(number)
        out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err) == (0, "", "")


def test_simulator_imports_nothing_of_the_app():
    """The simulator runs where Oscar cannot be imported and imports nothing of the app."""
    code = (
        "import sys; sys.modules['oscar'] = None\n"
        "from oscar_bitsby.simulator import __main__, process, urls\n"
        "print(*[m for m in sys.modules if m.startswith('oscar_bitsby.')])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    modules = result.stdout.split()
    assert "oscar_bitsby.simulator.views" in modules
    assert all(name.startswith("oscar_bitsby.simulator") for name in modules)


def test_taken_port_is_explained():
    """A port that another process listens on is one clear line and an exit status."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        result = subprocess.run(
            [*COMMAND[:-1], str(port)], capture_output=True, text=True, timeout=60
        )
    assert result.returncode == 1
    assert result.stderr.startswith(f"Cannot listen on port {port}: ")


INVALID_OPTIONS = (
    "--port=65536", "--port=http", "--webhook-url=shop", "--token=", "--speed=0", "--speed=nan",
    "--project-id=mine", "--page-size=0",
)  # fmt: skip


@pytest.mark.parametrize("argument", INVALID_OPTIONS)
def test_invalid_options_are_refused(argument, capsys):
    """An invalid option ends it with a message that says what is expected."""
    with pytest.raises(SystemExit) as ended:
        main([argument])
    assert ended.value.code == 2
    assert "expected a" in capsys.readouterr().err
