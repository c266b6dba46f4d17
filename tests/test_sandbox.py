"""The demo shop in sandbox/: its contents, and how its processes start and stop."""

import contextlib
import importlib.util
import os
import re
import socket
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path
from urllib.request import ProxyHandler, build_opener

import pytest

ROOT = Path(__file__).resolve().parent.parent
SANDBOX = ROOT / "sandbox"
STARTED = re.compile(r"(\w+) +\| runs as process (\d+)")
# Seconds; far more than a process needs, so that a hanging one fails its test.
MAX_WAIT = 90


@pytest.fixture(scope="module")
def env(tmp_path_factory):
    """The environment of a sandbox that is migrated and seeded, in a folder of its own."""
    env = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "settings",
        "PYTHONPATH": os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(ROOT)])),
        "SANDBOX_VAR": str(tmp_path_factory.mktemp("sandbox")),
    }
    manage(env, "migrate", "--verbosity", "0")
    manage(env, "seed")
    return env


@pytest.fixture
def run(monkeypatch):
    """The module sandbox/run.py, which belongs to no package."""
    monkeypatch.syspath_prepend(str(SANDBOX))
    spec = importlib.util.spec_from_file_location("sandbox_run", SANDBOX / "run.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for name in ("processes", "shop", "shop.logins"):
        monkeypatch.delitem(sys.modules, name)
    return module


@pytest.fixture
def taken_port():
    """A port on which another program listens."""
    with socket.create_server(("127.0.0.1", 0)) as other_program:
        yield other_program.getsockname()[1]


def free_ports(number):
    """Return ports on which nothing listens."""
    with contextlib.ExitStack() as stack:
        servers = [
            stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(number)
        ]
        return [server.getsockname()[1] for server in servers]


def manage(env, *arguments):
    command = [sys.executable, str(SANDBOX / "manage.py"), *arguments]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=MAX_WAIT)
    assert done.returncode == 0, done.stderr
    return done.stdout


def contents(env):
    """Return everything that the database and the media folder hold."""
    var = Path(env["SANDBOX_VAR"])
    with contextlib.closing(sqlite3.connect(var / "db.sqlite3")) as database:
        rows = list(database.iterdump())
    return rows, sorted((var / "media").rglob("*"))


@contextlib.contextmanager
def sandbox(env):
    """Run sandbox/run.py until it serves; yield its process, shop address and children's ids."""
    shop, simulator = map(str, free_ports(2))
    process = subprocess.Popen(
        [sys.executable, str(SANDBOX / "run.py")],
        env={**env, "SHOP_PORT": shop, "SIMULATOR_PORT": simulator},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    rescue = threading.Timer(MAX_WAIT, process.terminate)
    rescue.start()
    try:
        seen, children = [], {}
        for line in process.stdout:
            seen.append(line)
            if match := STARTED.match(line):
                children[match[1]] = int(match[2])
            if len(children) == 3:
                break
        else:
            pytest.fail("".join(seen))
        yield process, f"http://127.0.0.1:{shop}", children
    finally:
        rescue.cancel()
        process.terminate()
        process.communicate()


def assert_stopped(children):
    """Assert that none of the sandbox's processes runs any more."""
    for pid in children.values():
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_seeding_again_changes_nothing(env):
    """Another seed leaves every row and every picture as it was."""
    manage(env, "seed")
    before = contents(env)
    assert "0 products added, 6 in the shop" in manage(env, "seed")
    assert contents(env) == before


def test_system_checks_find_nothing_in_the_settings(env):
    """Django's and the app's system checks report nothing for the sandbox."""
    assert "no issues" in manage(env, "check", "--fail-level", "WARNING")


def test_sandbox_serves_its_products_and_stops_all_processes_on_sigterm(env):
    """The catalogue shows the seeded products; SIGTERM stops every process, with exit status 0."""
    with sandbox(env) as (process, shop, children):
        opener = build_opener(ProxyHandler({}))
        with opener.open(f"{shop}/en/catalogue/", timeout=MAX_WAIT) as answer:
            page = answer.read().decode()
        process.terminate()
        process.communicate(timeout=MAX_WAIT)
        assert process.returncode == 0
        assert set(children) == {"shop", "simulator", "reconcile"}
        assert_stopped(children)
    for title in ("Stoneware mug", "Desk lamp", "Potted plant"):
        assert title in page
    assert page.count("Add to cart") == 6


def test_sandbox_stops_when_one_process_dies(env):
    """The death of one process stops the others; it is named, and the exit status is 1."""
    with sandbox(env) as (process, _, children):
        os.kill(children["simulator"], 9)
        output, _ = process.communicate(timeout=MAX_WAIT)
        assert process.returncode == 1
        assert "simulator has ended" in output
        assert_stopped(children)


def test_a_taken_default_port_is_replaced_by_the_next_free_one(run, taken_port, capsys):
    """When another program uses the default port, the sandbox takes the next one and says so."""
    assert run.pick_port("SHOP_PORT", taken_port, {}) > taken_port
    assert f"Port {taken_port} is taken" in capsys.readouterr().out


def test_a_requested_port_is_used_or_refused(run, taken_port):
    """A port from the environment is used, or the sandbox stops with an error."""
    with pytest.raises(run.SandboxError, match="is taken"):
        run.pick_port("SHOP_PORT", 8000, {"SHOP_PORT": str(taken_port)})
    with pytest.raises(run.SandboxError, match="is no port"):
        run.pick_port("SHOP_PORT", 8000, {"SHOP_PORT": "http"})


def test_shop_and_simulator_never_share_a_port(run, monkeypatch):
    """The shop does not take the port that is meant for the simulator."""
    (port,) = free_ports(1)
    monkeypatch.setattr(run, "SHOP_PORT", port)
    shop, simulator = run.pick_ports({"SIMULATOR_PORT": str(port)})
    assert simulator == port != shop


def test_a_reset_removes_only_what_the_sandbox_wrote(run, tmp_path):
    """A reset keeps all other files of the folder."""
    (tmp_path / "media").mkdir()
    (tmp_path / "db.sqlite3-wal").touch()
    (tmp_path / "letters.txt").touch()
    run.empty(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["letters.txt"]


def test_payment_page_of_the_sandbox_is_chosen_by_its_environment(env, run):
    """``PAYMENT_PAGE=shop`` lets buyers pay in the shop, and the first lines say how."""
    ask = ("shell", "-c", "from oscar_bitsby import conf; print(conf.get().pays_in_shop)")
    assert "False" in manage(env, *ask)
    assert "True" in manage({**env, "PAYMENT_PAGE": "shop"}, *ask)
    assert "Pay from a wallet" in run.welcome(8000, 8001, True, pays_in_shop=True)
    assert "Pay from a wallet" not in run.welcome(8000, 8001, True)
