"""The documentation agrees with the code."""

import datetime as dt
import re
import subprocess
import sys
from pathlib import Path
from pkgutil import resolve_name

from django.apps import apps
from django.core.management import get_commands, load_command_class
from django.core.management.base import BaseCommand

from oscar_bitsby import conf

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.rst").read_text()
PAGES = {path.stem: path.read_text() for path in (ROOT / "docs").glob("*.rst")}
PACKAGE = Path(conf.__file__).parent


def documented_settings():
    table = PAGES["settings"].split(".. settings-begin")[1].split(".. settings-end")[0]
    rows = re.findall(r"^``([A-Z_]+)`` +(\S.*?)(?:  |$|`` )", table, re.MULTILINE)
    return {key: default.strip("`") for key, default in rows}


def documented_options(command):
    """Return the options in the one line that documents the whole command."""
    [options] = re.findall(rf"^``{re.escape(command)} ?(.*)``$", PAGES["operations"], re.M)
    return set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", options))


def options_of(parser):
    return {option for action in parser._actions for option in action.option_strings}


def written(key, value):
    special = {
        "API_KEY": "(needed)",
        "PROJECT_ID": "(needed)",
        "ORDER_STATUS_PENDING": "OSCAR_INITIAL_ORDER_STATUS",
    }
    if isinstance(value, dt.timedelta):
        return f"timedelta(hours={value.total_seconds() / 3600:g})"
    return special.get(key, repr(value).replace("'", '"'))


def test_the_readme_stays_short():
    """The README has at most 900 words and no Sphinx roles."""
    assert len(README.split()) <= 900
    assert re.findall(r":\w+:`", README) == []


def test_every_link_of_the_readme_leads_to_a_file():
    """Pages and pictures that the README names exist, and it names every page."""
    links = set(re.findall(r"<(\w[\w/.-]+)>`_|^\.\. image:: (\S+)", README, re.M))
    named = {target for pair in links for target in pair if target}
    assert {target for target in named if not (ROOT / target).is_file()} == set()
    # The README itself is the first page, and links to the changelog directly.
    pages = {f"docs/{name}.rst" for name in PAGES.keys() - {"index", "changelog", "contributing"}}
    assert pages <= named


def test_the_settings_table_has_every_setting_with_its_default():
    """The table of settings and ``conf.DEFAULTS`` name the same settings with the same defaults."""
    assert documented_settings() == {
        key: written(key, value) for key, value in conf.DEFAULTS.items()
    }


def test_the_documented_commands_exist_with_their_options():
    """Each management command is documented with all of its options, and no other."""
    ours = {name for name, app in get_commands().items() if app == "oscar_bitsby"}
    assert ours == {
        f"bitsby_{name}" for name in ("audit", "doctor", "export", "prune", "reconcile")
    }
    of_django = options_of(BaseCommand().create_parser("manage.py", "any"))
    for name in ours:
        parser = load_command_class("oscar_bitsby", name).create_parser("manage.py", name)
        documented = documented_options(f"python manage.py {name}")
        assert documented == options_of(parser) - of_django, name


def test_the_documented_options_of_the_simulator_exist():
    """Each option of the simulator is documented, and no other."""
    command = [sys.executable, "-m", "oscar_bitsby.simulator", "--help"]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    taken = set(re.findall(r"--[a-z][a-z-]+", printed)) - {"--help"}
    assert documented_options("python -m oscar_bitsby.simulator") == taken


def test_every_command_in_the_documentation_exists():
    """Each management command and make target that a page names exists."""
    text = "\n".join([README, *PAGES.values()])
    commands = set(re.findall(r"manage\.py (bitsby_\w+)", text))
    assert commands <= set(get_commands())
    targets = set(
        re.findall(r"``make ([a-z-]+)|^ +make ([a-z-]+)$|=\w+ make ([a-z-]+)", text, re.M)
    )
    makefile = (ROOT / "Makefile").read_text()
    for target in {name for names in targets for name in names if name}:
        assert re.search(rf"^{target}:", makefile, re.M), target


def test_every_system_check_is_documented():
    """The page on installation lists the id of each check in the code, and no other."""
    ids = re.compile(r"\boscar_bitsby\.[EW]\d{3}\b")
    in_code = {found for path in PACKAGE.rglob("*.py") for found in ids.findall(path.read_text())}
    assert len(in_code) > 15
    assert set(ids.findall(PAGES["installation"])) == in_code


def test_every_module_has_a_docstring_and_a_bounded_length():
    """Each module begins with a docstring and has at most 320 lines."""
    for path in PACKAGE.rglob("*.py"):
        if "migrations" in path.parts or path.stat().st_size == 0:
            continue
        text = path.read_text()
        assert text.startswith('"""'), path
        assert text.count("\n") <= 320, path


def exists(name):
    """Say whether a dotted name leads to a module, or to something in a module."""
    try:
        resolve_name(name)
    except (AttributeError, ImportError):
        return False
    return True


def test_every_file_and_every_name_in_the_documentation_exists():
    """Paths and Python names of the project that any text for readers mentions exist."""
    pages = [*ROOT.glob("*.rst"), *ROOT.glob("*.md"), *ROOT.glob("bench/*.md")]
    models = apps.get_app_config("oscar_bitsby").get_models()
    permissions = {code for model in models for code, _ in model._meta.permissions}
    folders = "oscar_bitsby|tests|bench|sandbox|docs|\\.ci"
    missing = []
    for page in [*pages, *ROOT.glob("docs/*.rst")]:
        text = page.read_text()
        # The reader fills in what stands in "<…>" and "*".
        for path in re.findall(rf"(?<![\w/.<-])(?:{folders})/[\w./-]*\w(?![*<])", text):
            folder = PACKAGE / "templates" if path.endswith((".html", ".txt")) else ROOT
            # The tests in the browser make this folder.
            if path != "tests/browser/screenshots" and not (folder / path).exists():
                missing.append((page.name, path))
        # The ids of system checks have a test of their own.
        for name in re.findall(r"\boscar_bitsby\.(?![EW]\d{3})[\w.]*\w", text):
            if name.partition(".")[2] not in permissions and not exists(name):
                missing.append((page.name, name))
    assert missing == []
