"""Reads the catalogues of translations: ours, Django's and those of the installed apps."""

from pathlib import Path

import django
import pytest
from babel.messages.mofile import read_mo
from babel.messages.pofile import read_po
from django.apps import apps

PACKAGE = Path(__file__).resolve().parents[2] / "oscar_bitsby"
#: The languages with a complete catalogue.
LANGUAGES = ("de", "es", "ru")

each_language = pytest.mark.parametrize("language", LANGUAGES)


def path_of(language, package=PACKAGE):
    return package / "locale" / language / "LC_MESSAGES" / "django.po"


def read(path):
    """Return a catalogue, from a .po or a .mo file."""
    with path.open("rb") as file:
        return read_mo(file) if path.suffix == ".mo" else read_po(file)


def entries(language, package=PACKAGE):
    """Return the messages of our catalogue, without its header."""
    return [message for message in read(path_of(language, package)) if message.id]


def strings(message):
    """Return the translations of a message: several for one with plural forms."""
    return [message.string] if isinstance(message.string, str) else list(message.string)


def translations(language):
    """Return our messages without a context, with their translations."""
    return {message.id: message.string for message in entries(language) if not message.context}


def collisions(language):
    """Return our messages that another app's catalogue translates differently.

    Django merges the catalogues of all apps, and the app that is listed first wins. A context
    keeps a message apart from the others.
    """
    folders = [Path(django.__file__).parent / "conf"]
    folders += [Path(app.path) for app in apps.get_app_configs() if app.name != "oscar_bitsby"]
    found = set()
    for path in {path_of(language, folder).with_suffix(".mo") for folder in folders}:
        if not path.is_file():
            continue
        # A message with plurals collides by its singular.
        others = {_singular(message): message for message in read(path) if not message.context}
        for message in entries(language):
            other = None if message.context else others.get(_singular(message))
            if other is not None and strings(other) != strings(message):
                found.add(_singular(message))
    return found


def _singular(message):
    return message.id if isinstance(message.id, str) else message.id[0]
