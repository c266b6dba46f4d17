"""The README says what the code does."""

from __future__ import annotations

import re
from pathlib import Path

from django.core.management import get_commands, load_command_class

from oscar_bitsby import conf

README = (Path(__file__).parent.parent / "README.rst").read_text()


def settings_in_readme():
    table = README.split(".. settings-begin")[1].split(".. settings-end")[0]
    rows = re.findall(r"^``([A-Z_]+)`` +(\S.*?)(?:  |$|`` )", table, re.MULTILINE)
    return {key: default.strip("`") for key, default in rows}


def written(key, value):
    special = {
        "API_KEY": "(needed)",
        "PROJECT_ID": "(needed)",
        "ORDER_STATUS_PENDING": "OSCAR_INITIAL_ORDER_STATUS",
        "CANCEL_AFTER": "timedelta(hours=1)",
    }
    return special.get(key, repr(value).replace("'", '"'))


def test_the_settings_table_has_every_setting_with_its_default():
    """The README's table and ``conf.DEFAULTS`` name the same settings with the same defaults."""
    assert settings_in_readme() == {
        key: written(key, value) for key, value in conf.DEFAULTS.items()
    }


def test_cancel_after_is_an_hour():
    """The default that the table writes out is the one in the code."""
    assert conf.DEFAULTS["CANCEL_AFTER"].total_seconds() == 3600


def test_the_documented_commands_exist_with_their_options():
    """Every option of a management command in the README is taken by the command."""
    ours = {name for name, app in get_commands().items() if app == "oscar_bitsby"}
    assert ours == {"bitsby_reconcile", "bitsby_prune", "bitsby_doctor"}
    for name in ours:
        [(line, options)] = re.findall(rf"^(``python manage.py {name} ?(.*)``)$", README, re.M)
        parser = load_command_class("oscar_bitsby", name).create_parser("manage.py", name)
        taken = {option for action in parser._actions for option in action.option_strings}
        assert set(re.findall(r"--[a-z-]+", options)) <= taken, line


def test_every_module_says_what_it_owns():
    """Each module begins with a sentence, and none has grown beyond what one can read at once."""
    package = Path(conf.__file__).parent
    for path in package.rglob("*.py"):
        if "migrations" in path.parts or path.stat().st_size == 0:
            continue
        text = path.read_text()
        assert text.startswith('"""'), path
        assert text.count("\n") <= 320, path
