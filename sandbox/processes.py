"""The processes of the sandbox: started, read and ended, each by its own id."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque

# Seconds that a process has for an orderly end.
GRACE = 5


class SandboxError(Exception):
    """The sandbox cannot go on; the message is for the person at the terminal."""


class Stop:
    """Remembers that somebody asked us to end.

    A flag and not an exception: a child that was just started must not slip through.
    """

    asked = False

    def listen(self):
        for name in ("SIGINT", "SIGTERM", "SIGHUP"):
            if hasattr(signal, name):
                signal.signal(getattr(signal, name), self)

    def __call__(self, number, frame):
        self.asked = True


class Child:
    """One process of ours, whose output appears on the terminal behind its name."""

    # Until everything serves, only the last lines are kept, in case something goes wrong.
    talking = False

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
            # Ctrl-C goes to the whole group of the terminal; ending them is our task alone.
            start_new_session=True,
        )
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        for line in self.process.stdout:
            line = line.rstrip()
            # The reconcile loop says the same every few seconds while nothing happens.
            is_news = line and (not self.last_lines or line != self.last_lines[-1])
            if is_news:
                self.last_lines.append(line)
            if is_news and Child.talking:
                say(f"{self.name:<9} | {line}")

    @property
    def ended(self):
        return self.process.poll() is not None

    def ask_to_end(self):
        if not self.ended:
            self.process.terminate()

    def end(self):
        """Wait for the end, and force it on a process that does not listen."""
        try:
            self.process.wait(GRACE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.reader.join(1)

    def tell_last_lines(self):
        self.reader.join(1)
        for line in list(self.last_lines):
            say(f"{self.name:<9} | {line}")


def say(text=""):
    """Print; a terminal that has gone away must not stop the children from being ended."""
    try:
        print(text, flush=True)
    except OSError:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115


def run_to_the_end(name, command, env, stop):
    """Run a command that has an end."""
    child = Child(name, command, env)
    while not child.ended and not stop.asked:
        time.sleep(0.05)
    child.ask_to_end()
    child.end()
    if child.process.returncode and not stop.asked:
        child.tell_last_lines()
        raise SandboxError(f"{name} failed.")
