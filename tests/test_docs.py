"""The README says what the code does."""

from __future__ import annotations

import re
from pathlib import Path

from django.core.management import get_commands

from oscar_bitsby import conf
from oscar_bitsby.management.commands.bitsby_reconcile import Command

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
    assert "bitsby_reconcile" in get_commands()
    parser = Command().create_parser("manage.py", "bitsby_reconcile")
    for option in ("--loop", "--dry-run"):
        assert option in README
        assert option in parser.format_help()


def test_every_module_says_what_it_owns():
    """Each module begins with a sentence, and none has grown beyond what one can read at once."""
    package = Path(conf.__file__).parent
    for path in package.rglob("*.py"):
        if "migrations" in path.parts or path.stat().st_size == 0:
            continue
        text = path.read_text()
        assert text.startswith('"""'), path
        assert text.count("\n") <= 320, path
