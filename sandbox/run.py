"""Run the sandbox: a demo shop, a simulated Bitsby and the reconcile loop.

Ctrl-C or SIGTERM stops all three. The script needs an environment in which django-oscar-bitsby is
installed with its extra "sandbox".
"""

import argparse
import http.client
import os
import shutil
import socket
import sys
import time
from pathlib import Path

from processes import Child, SandboxError, StopSignal, run_to_completion, say
from shop import logins

HERE = Path(__file__).resolve().parent
VAR = Path(os.environ.get("SANDBOX_VAR") or HERE / "var").resolve()

SHOP_PORT = 8000
SIMULATOR_PORT = 8001
# An invoice has an hour. At this speed it expires after five minutes.
SPEED = 12
# Seconds from the end of a reconcile run to the next one.
RECONCILE_INTERVAL = 15
# Seconds that the shop and the simulator have to start.
START_TIMEOUT = 60


def is_free(port):
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def pick_port(name, default, environ, reserved=()):
    """Return the port from the environment, or the first free one from the default on."""
    wanted = environ.get(name)
    if wanted:
        if not wanted.isdigit() or not 0 < int(wanted) < 65536:
            raise SandboxError(f"{name}={wanted} is no port number.")
        if int(wanted) in reserved or not is_free(int(wanted)):
            raise SandboxError(f"{name}={wanted} is taken.")
        return int(wanted)
    for port in range(default, default + 100):
        if port not in reserved and is_free(port):
            if port != default:
                say(f"Port {default} is taken, using {port} instead.")
            return port
    raise SandboxError(
        f"All ports from {default} to {default + 99} are taken. Set {name} to a free one."
    )


def pick_ports(environ):
    """Return two different ports, for the shop and for the simulator."""
    wanted = environ.get("SIMULATOR_PORT") or str(SIMULATOR_PORT)
    reserved = {int(wanted)} if wanted.isdigit() else set()
    shop = pick_port("SHOP_PORT", SHOP_PORT, environ, reserved)
    return shop, pick_port("SIMULATOR_PORT", SIMULATOR_PORT, environ, {shop})


def empty(folder):
    """Remove what the sandbox has written, but no other files in the folder."""
    for name in ("media", "whoosh", "mails"):
        shutil.rmtree(folder / name, ignore_errors=True)
    for file in folder.glob("db.sqlite3*"):
        file.unlink()


def answers(port, path):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=START_TIMEOUT)
    try:
        connection.request("GET", path)
        return connection.getresponse().status < 500
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def wait_until_serving(children, ports, stop):
    """Return when both answer over HTTP, after a stop signal, or when a child has ended.

    Raises:
        SandboxError: one of them did not answer in time.
    """
    waiting = [(ports[0], "/en/catalogue/"), (ports[1], "/")]
    deadline = time.monotonic() + START_TIMEOUT
    while waiting and not stop.received and not any(child.has_ended for child in children):
        waiting = [address for address in waiting if not answers(*address)]
        if waiting and time.monotonic() > deadline:
            port, path = waiting[0]
            for child in children:
                child.show_last_lines()
            raise SandboxError(f"http://127.0.0.1:{port}{path} does not answer.")
        time.sleep(0.1)


def manage(*arguments):
    return [sys.executable, str(HERE / "manage.py"), *arguments]


def welcome(shop, simulator, webhooks, pays_in_shop=False):
    """Return a box with the addresses, the logins and what to try."""
    site = f"http://127.0.0.1:{shop}"
    pay = "Click a button of its payment page."
    if pays_in_shop:
        pay = "Open the simulator, and click Pay from a wallet."
    lines = [
        "The sandbox is ready. It is a demo: orders and payments are not real.",
        "",
        f"Shop       {site}/",
        f"Dashboard  {site}/dashboard/",
        f"Admin      {site}/admin/",
        f"Simulator  http://127.0.0.1:{simulator}/",
        f"To pay     {pay}",
        "",
        f"Staff      {logins.ADMIN_EMAIL} / {logins.ADMIN_PASSWORD}"
        f"  (admin: {logins.ADMIN_USERNAME})",
        f"Buyer      {logins.BUYER_EMAIL} / {logins.BUYER_PASSWORD}",
        f"E-mails    {VAR / 'mails'}",
        "",
        "What to try",
        "1. Buy as a guest, choose cryptocurrency, and pay the exact amount.",
        "2. Buy again and pay too little: the payment is listed in the dashboard under",
        '   "Payments to review".',
        "3. Buy and do not pay: the invoice expires after five minutes. Two minutes",
        "   later the order is cancelled and its stock is released.",
        (
            "4. Turn the webhook off on the simulator's page and pay: the reconcile loop"
            if webhooks
            else "4. Webhooks are off. Buy and pay: the reconcile loop"
        ),
        "   finds the payment.",
        "",
        "Ctrl-C stops everything.",
    ]
    width = max(len(line) for line in lines)
    edge = "+" + "-" * (width + 4) + "+"
    return "\n".join(["", edge, *(f"|  {line:<{width}}  |" for line in lines), edge, ""])


def start(ports, env, webhooks):
    """Start the three processes: the simulator first, because the others send requests to it."""
    shop, simulator = ports
    address = f"http://127.0.0.1:{shop}/bitsby/webhook/{env['SANDBOX_WEBHOOK_TOKEN']}/"
    bitsby = [sys.executable, "-m", "oscar_bitsby.simulator", "--port", str(simulator)]
    bitsby += ["--webhook-url", address, "--speed", str(SPEED)]
    if not webhooks:
        bitsby.append("--no-webhooks")
    return [
        Child("simulator", bitsby, env),
        Child("shop", manage("runserver", "--noreload", f"127.0.0.1:{shop}"), env),
        Child("reconcile", manage("bitsby_reconcile", "--loop", str(RECONCILE_INTERVAL)), env),
    ]


def serve(options, stop):
    """Prepare the shop, start the processes, and wait for a stop signal.

    Raises:
        SandboxError: a process failed or ended by itself.
    """
    ports = pick_ports(os.environ)
    if options.reset:
        empty(VAR)
    env = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "settings",
        "DJANGO_RUNSERVER_HIDE_WARNING": "true",
        "PYTHONPATH": os.pathsep.join(
            filter(None, [os.environ.get("PYTHONPATH"), str(HERE.parent)])
        ),
        "PYTHONUNBUFFERED": "1",
        "SANDBOX_VAR": str(VAR),
        "SANDBOX_WEBHOOK_TOKEN": os.environ.get("SANDBOX_WEBHOOK_TOKEN") or "driftwood",
        "SHOP_PORT": str(ports[0]),
        "SIMULATOR_PORT": str(ports[1]),
    }
    say("Preparing the shop. The first time this takes about 20 seconds ...")
    run_to_completion("migrate", manage("migrate", "--verbosity", "0"), env, stop)
    if not stop.received:
        run_to_completion("seed", manage("seed"), env, stop)
    if stop.received:
        return
    children = start(ports, env, not options.no_webhooks)
    try:
        wait_until_serving(children, ports, stop)
        if not stop.received and not any(child.has_ended for child in children):
            pays_in_shop = env.get("PAYMENT_PAGE") == "shop"
            say(welcome(*ports, not options.no_webhooks, pays_in_shop))
            for child in children:
                say(f"{child.name:<9} | runs as process {child.process.pid}")
            Child.shows_output = True
        while not stop.received:
            for child in children:
                if child.has_ended:
                    Child.shows_output = False
                    say(f"\n{child.name} has ended. Its last lines:")
                    child.show_last_lines()
                    raise SandboxError("The sandbox stops because one of its processes has ended.")
            time.sleep(0.2)
    finally:
        Child.shows_output = False
        for child in children:
            child.terminate()
        for child in children:
            child.wait()


def main(arguments=None):
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        epilog="Environment variables: SHOP_PORT, SIMULATOR_PORT, PAYMENT_PAGE (shop: buyers pay "
        "on the order's page), and SANDBOX_VAR (the folder for the shop's data).",
    )
    parser.add_argument("--reset", action="store_true", help="start with an empty shop")
    parser.add_argument(
        "--no-webhooks", action="store_true", help="the simulator sends no webhooks"
    )
    options = parser.parse_args(arguments)
    stop = StopSignal()
    stop.listen()
    try:
        serve(options, stop)
    except SandboxError as error:
        say(f"\n{error}")
        return 1
    say("\nThe sandbox has stopped.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
