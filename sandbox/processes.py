"""Start the processes of the sandbox, show their output, and stop them."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque

# Seconds that a process has to stop by itself.
STOP_TIMEOUT = 5


class SandboxError(Exception):
    """The sandbox cannot continue; the message is shown on the terminal."""


class StopSignal:
    """Records that a signal has asked the sandbox to stop.

    It sets a flag and raises no exception, so that no new child process is overlooked.
    """

    received = False

    def listen(self):
        for name in ("SIGINT", "SIGTERM", "SIGHUP"):
            if hasattr(signal, name):
                signal.signal(getattr(signal, name), self)

    def __call__(self, number, frame):
        self.received = True


class Child:
    """A process of the sandbox; each line of its output is shown after its name."""

    # Until the sandbox is ready, the last lines are kept and shown only after an error.
    shows_output = False

    def __init__(self, name, command, env):
        self.name = name
        self.last_lines = deque(maxlen=25)
        self.process = subprocess.Popen(
            command,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            # Ctrl-C reaches all processes of the terminal's group. Only the sandbox stops its
            # children.
            start_new_session=True,
        )
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        for line in self.process.stdout:
            line = line.rstrip()
            # While nothing happens, the reconcile loop repeats its line every few seconds.
            is_new = line and (not self.last_lines or line != self.last_lines[-1])
            if is_new:
                self.last_lines.append(line)
            if is_new and Child.shows_output:
                say(f"{self.name:<9} | {line}")

    @property
    def has_ended(self):
        return self.process.poll() is not None

    def terminate(self):
        if not self.has_ended:
            self.process.terminate()

    def wait(self):
        """Wait until the process has stopped, and kill it after ``STOP_TIMEOUT``."""
        try:
            self.process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.reader.join(1)

    def show_last_lines(self):
        self.reader.join(1)
        for line in list(self.last_lines):
            say(f"{self.name:<9} | {line}")


def say(text=""):
    """Print a line. Without a terminal, print nothing, so that the children are still stopped."""
    try:
        print(text, flush=True)
    except OSError:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115


def run_to_completion(name, command, env, stop):
    """Run a command and wait until it has finished.

    Raises:
        SandboxError: the command failed.
    """
    child = Child(name, command, env)
    while not child.has_ended and not stop.received:
        time.sleep(0.05)
    child.terminate()
    child.wait()
    if child.process.returncode and not stop.received:
        child.show_last_lines()
        raise SandboxError(f"{name} failed.")
