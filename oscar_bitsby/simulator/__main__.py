"""The command line: ``python -m oscar_bitsby.simulator``."""

import argparse
import math
import signal
import sys
from collections.abc import Callable, Sequence
from types import FrameType
from typing import TypeVar

from .account import DEFAULT_PORT, Options
from .parameters import parse_count, parse_uuid
from .server import SimulatorServer
from .webhooks import parse_webhook_url

T = TypeVar("T")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the simulator until SIGTERM or Ctrl-C; return the exit status."""
    options = vars(_parser().parse_args(arguments))
    port = options.pop("port")
    try:
        server = SimulatorServer(port, Options(**options))
    except OSError as err:
        print(f"Cannot listen on port {port}: {err.strerror}", file=sys.stderr)
        return 1
    signal.signal(signal.SIGTERM, _stop)
    try:
        print(f"Bitsby simulator listening on {server.url}", flush=True)
        server.serve_forever(poll_interval=0.1)
    except KeyboardInterrupt:
        pass
    finally:
        # A second signal must not interrupt the shutdown.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        server.server_close()
    return 0


def _stop(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m oscar_bitsby.simulator",
        description="A fake Bitsby on 127.0.0.1 for development, demos and tests.",
    )
    add = parser.add_argument
    port = _checked(_port, "a port from 0 to 65535")
    url = _checked(parse_webhook_url, "an http or https URL")
    token = _checked(_token, "a token")
    speed = _checked(_speed, "a factor from 0.001 to 1000000")
    project = _checked(parse_uuid, "a UUID")
    size = _checked(parse_count, "a number above zero")
    add("--port", type=port, default=DEFAULT_PORT, help="0 picks a free one (default: %(default)s)")
    add("--webhook-url", type=url, help="the webhook address of the shop")
    add("--no-webhooks", dest="webhooks", action="store_false", help="start with webhooks off")
    add("--token", type=token, help="the only API key that is accepted (default: any)")
    add("--speed", type=speed, default=1.0, help="of expiry and webhook retries (default: 1)")
    add("--project-id", type=project, help="the only project that exists (default: any)")
    add("--page-size", type=size, default=50, help="the most that lists return (default: 50)")
    return parser


def _checked(parse: Callable[[str], T], expected: str) -> Callable[[str], T]:
    def check(text: str) -> T:
        try:
            return parse(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"expected {expected}") from None

    return check


def _port(text: str) -> int:
    port = int(text)
    if not 0 <= port <= 65535:
        raise ValueError(text)
    return port


def _token(text: str) -> str:
    if not text:
        raise ValueError(text)
    return text


def _speed(text: str) -> float:
    speed = float(text)
    if not (math.isfinite(speed) and 0.001 <= speed <= 1_000_000):
        raise ValueError(text)
    return speed


if __name__ == "__main__":
    sys.exit(main())
