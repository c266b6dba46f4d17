"""Serve shops over HTTP: gunicorn on loopback, as a real shop would use it."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from bench import databases


@dataclass(frozen=True)
class Server:
    """A running gunicorn."""

    port: int


@contextmanager
def gunicorn(
    database: str, apps: str = "shop", *, workers: int = 1, **more: str
) -> Iterator[Server]:
    """Serve a shop with sync workers until the end of the block.

    Args:
        workers: by default one, so that the client and the database have cores left.
        more: further environment variables for ``bench.settings``.
    """
    port = _free_port()
    command = [sys.executable, "-m", "gunicorn", "bench.wsgi:application"]
    command += ["--bind", f"127.0.0.1:{port}", "--workers", str(workers), "--worker-class", "sync"]
    command += ["--log-level", "warning", "--timeout", "120", "--no-control-socket"]
    process = subprocess.Popen(command, env=databases.environment(database, apps, **more))
    try:
        _wait_for(port, process)
        yield Server(port)
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    for _ in range(600):
        if process.poll() is not None:
            raise RuntimeError("gunicorn did not start; see its errors above")
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.1)
    raise RuntimeError("gunicorn does not listen")
