"""Starts the sandbox: the shop, a fake Bitsby, and the reconcile loop between them.

Ctrl-C or SIGTERM ends all three. Needs nothing but the standard library and an environment in
which django-oscar-bitsby is installed with its "sandbox" extra.
"""

import argparse
import http.client
import os
import shutil
import socket
import sys
import time
from pathlib import Path

from processes import Child, SandboxError, Stop, run_to_the_end, say
from shop import logins

HERE = Path(__file__).resolve().parent
VAR = Path(os.environ.get("SANDBOX_VAR") or HERE / "var").resolve()

SHOP_PORT = 8000
SIMULATOR_PORT = 8001
# An hour to pay passes in five minutes.
SPEED = 12
RECONCILE_EVERY = 15
# Seconds until the shop and the simulator must have answered for the first time.
PATIENCE = 60


def is_free(port):
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def pick_port(name, default, environ, reserved=()):
    """Return the port from the environment, or the first free one from the default upwards."""
    asked = environ.get(name)
    if asked:
        if not asked.isdigit() or not 0 < int(asked) < 65536:
            raise SandboxError(f"{name}={asked} is no port.")
        if int(asked) in reserved or not is_free(int(asked)):
            raise SandboxError(f"{name}={asked} is taken.")
        return int(asked)
    for port in range(default, default + 100):
        if port not in reserved and is_free(port):
            if port != default:
                say(f"Port {default} is taken, using {port} instead.")
            return port
    raise SandboxError(f"No free port from {default} on; set {name}.")


def pick_ports(environ):
    """Return the ports of the shop and of the simulator, never the same."""
    wanted = environ.get("SIMULATOR_PORT") or str(SIMULATOR_PORT)
    reserved = {int(wanted)} if wanted.isdigit() else set()
    shop = pick_port("SHOP_PORT", SHOP_PORT, environ, reserved)
    return shop, pick_port("SIMULATOR_PORT", SIMULATOR_PORT, environ, {shop})


def empty(folder):
    """Remove what the sandbox has written, and nothing else that may lie in the folder."""
    for name in ("media", "whoosh", "mails"):
        shutil.rmtree(folder / name, ignore_errors=True)
    for file in folder.glob("db.sqlite3*"):
        file.unlink()


def answers(port, path):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.request("GET", path)
        return connection.getresponse().status < 500
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def wait_until_serving(children, ports, stop):
    """Return once both answer over HTTP, somebody wants to stop, or a child has died."""
    waiting = [(ports[0], "/en/catalogue/"), (ports[1], "/")]
    deadline = time.monotonic() + PATIENCE
    while waiting and not stop.asked and not any(child.ended for child in children):
        waiting = [address for address in waiting if not answers(*address)]
        if waiting and time.monotonic() > deadline:
            port, path = waiting[0]
            for child in children:
                child.tell_last_lines()
            raise SandboxError(f"http://127.0.0.1:{port}{path} does not answer.")
        time.sleep(0.1)


def manage(*arguments):
    return [sys.executable, str(HERE / "manage.py"), *arguments]


def welcome(shop, simulator, webhooks):
    """Return the box with the addresses, the logins and what to try."""
    site = f"http://127.0.0.1:{shop}"
    lines = [
        "The sandbox is ready. Nothing is sold here and no coins move.",
        "",
        f"Shop       {site}/",
        f"Dashboard  {site}/dashboard/",
        f"Admin      {site}/admin/",
        f"Simulator  http://127.0.0.1:{simulator}/",
        "",
        f"Staff      {logins.ADMIN_EMAIL} / {logins.ADMIN_PASSWORD}"
        f"  (admin: {logins.ADMIN_USERNAME})",
        f"Buyer      {logins.BUYER_EMAIL} / {logins.BUYER_PASSWORD}",
        f"Mails      {VAR / 'mails'}",
        "",
        "What to try",
        "1. Buy as a guest, choose crypto, and pay exactly what is asked.",
        "2. Buy again and pay too little: the money waits for staff in the dashboard.",
        "3. Buy and do not pay: the invoice runs out after five minutes, and two",
        "   minutes later the order is cancelled and its stock is back.",
        (
            "4. Switch the webhook off on the simulator's page and pay: the reconcile"
            if webhooks
            else "4. Webhooks are off. Pay: the reconcile"
        ),
        "   loop finds the money by itself.",
        "",
        "Ctrl-C ends everything.",
    ]
    width = max(len(line) for line in lines)
    edge = "+" + "-" * (width + 4) + "+"
    return "\n".join(["", edge, *(f"|  {line:<{width}}  |" for line in lines), edge, ""])


def start(ports, env, webhooks):
    """Start the three processes in the order in which they need each other."""
    shop, simulator = ports
    address = f"http://127.0.0.1:{shop}/bitsby/webhook/{env['SANDBOX_WEBHOOK_TOKEN']}/"
    fake = [sys.executable, "-m", "oscar_bitsby.simulator", "--port", str(simulator)]
    fake += ["--webhook-url", address, "--speed", str(SPEED)]
    if not webhooks:
        fake.append("--no-webhooks")
    return [
        Child("simulator", fake, env),
        Child("shop", manage("runserver", "--noreload", f"127.0.0.1:{shop}"), env),
        Child("reconcile", manage("bitsby_reconcile", "--loop", str(RECONCILE_EVERY)), env),
    ]


def serve(options, stop):
    """Prepare the shop, start everything and stay until somebody or something ends it."""
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
    say("Preparing the shop; the first time its database takes some 20 seconds ...")
    run_to_the_end("migrate", manage("migrate", "--verbosity", "0"), env, stop)
    if not stop.asked:
        run_to_the_end("seed", manage("seed"), env, stop)
    if stop.asked:
        return
    children = start(ports, env, not options.no_webhooks)
    try:
        wait_until_serving(children, ports, stop)
        if not stop.asked and not any(child.ended for child in children):
            say(welcome(*ports, not options.no_webhooks))
            for child in children:
                say(f"{child.name:<9} | runs as process {child.process.pid}")
            Child.talking = True
        while not stop.asked:
            for child in children:
                if child.ended:
                    Child.talking = False
                    say(f"\n{child.name} has ended; its last lines:")
                    child.tell_last_lines()
                    raise SandboxError("The sandbox is not complete any more.")
            time.sleep(0.2)
    finally:
        Child.talking = False
        for child in children:
            child.ask_to_end()
        for child in children:
            child.end()


def main(arguments=None):
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        epilog="SHOP_PORT, SIMULATOR_PORT and SANDBOX_VAR (a folder) are read "
        "from the environment.",
    )
    parser.add_argument("--reset", action="store_true", help="start with an empty shop")
    parser.add_argument(
        "--no-webhooks", action="store_true", help="the simulator tells the shop nothing"
    )
    options = parser.parse_args(arguments)
    stop = Stop()
    stop.listen()
    try:
        serve(options, stop)
    except SandboxError as error:
        say(f"\n{error}")
        return 1
    say("\nThe sandbox has ended.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
