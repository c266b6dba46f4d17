"""Brings the catalogues up to what the code says: ``python -m tests.messages``, or make messages.

Texts are read from Python and templates, merged into oscar_bitsby/locale/*/LC_MESSAGES/django.po,
and compiled. Needs no GNU gettext, and writes the same bytes whenever nothing has changed. A new
language begins with an empty folder: oscar_bitsby/locale/fr, for example.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from gettext import GNUTranslations
from pathlib import Path

import django
from babel.messages.catalog import Catalog
from babel.messages.extract import extract
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po, write_po
from django.conf import settings
from django.utils.translation.template import templatize

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "oscar_bitsby"
LOCALES = PACKAGE / "locale"
#: Its pages are for developers, in English.
NOT_TRANSLATED = (PACKAGE / "simulator", PACKAGE / "migrations")

ONE, PLURAL = None, (1, 2)
CONTEXT, CONTEXT_PLURAL = ((1, "c"), 2), ((1, "c"), 2, 3)
KEYWORDS = {
    "_": ONE,
    "gettext_noop": ONE,
    **{f"{name}{lazy}": what for lazy in ("", "_lazy") for name, what in (
        ("gettext", ONE),
        ("ngettext", PLURAL),
        ("pgettext", CONTEXT),
        ("npgettext", CONTEXT_PLURAL),
    )},
}  # fmt: skip


class StableCatalog(Catalog):
    """A catalogue whose headers say nothing of when and by which version it was written."""

    headers: tuple[tuple[str, str], ...] = ()

    def _headers(self) -> list[tuple[str, str]]:
        return list(self.headers)

    mime_headers = property(_headers, Catalog._set_mime_headers)


def sources() -> list[Path]:
    """Return the modules and templates that hold texts for people."""
    found = [*PACKAGE.rglob("*.py"), *PACKAGE.glob("templates/**/*.*")]
    return sorted(
        path for path in found if not any(path.is_relative_to(folder) for folder in NOT_TRANSLATED)
    )


def texts_in(name: str, text: str) -> Iterator[tuple[tuple[str, str] | str, str | None]]:
    """Yield what is marked in one file: the text, or its singular and plural, and its context."""
    if not name.endswith(".py"):
        # Django blanks out what is not marked; in brackets, how it is indented does not matter.
        text = f"(\n{templatize(text, origin=name)}\n)"
    found = extract("python", io.BytesIO(text.encode()), keywords=KEYWORDS, options={})
    for _line, message, _comments, context in found:
        if message:
            yield message if isinstance(message, str) else tuple(message), context


def extracted() -> dict[tuple[tuple[str, str] | str, str | None], list[str]]:
    """Return all texts with the files they stand in, in the order of the files."""
    texts: dict[tuple[tuple[str, str] | str, str | None], list[str]] = {}
    for path in sources():
        name = path.relative_to(ROOT).as_posix()
        for message, context in texts_in(name, path.read_text(encoding="utf-8")):
            files = texts.setdefault((message, context), [])
            if name not in files:
                files.append(name)
    return _with_plurals_once(texts)


def _with_plurals_once(texts: dict) -> dict:
    """Drop a text that also stands as the singular of another one: they share an entry."""
    singulars = {(text[0], context) for text, context in texts if isinstance(text, tuple)}
    return {key: files for key, files in texts.items() if key not in singulars}


def plural_forms(language: str) -> str:
    """Return the formula that Django itself uses for a language."""
    path = Path(django.__file__).parent / f"conf/locale/{language}/LC_MESSAGES/django.mo"
    with path.open("rb") as file:
        return str(GNUTranslations(file).info()["plural-forms"])


def read(path: Path) -> Catalog:
    """Return a catalogue as it stands, or an empty one."""
    if not path.exists():
        header = f"# Texts of django-oscar-bitsby: {path.parts[-3]}."
        return Catalog(locale=path.parts[-3], header_comment=header)
    with path.open("rb") as file:
        return read_po(file, locale=path.parts[-3])


def merged(path: Path) -> StableCatalog:
    """Return what a catalogue should be: all texts of the code, with its own translations."""
    old = read(path)
    language = path.parts[-3]
    formula = plural_forms(language)
    if path.exists():
        # It stays what it was written for, whatever Django says in a later version.
        formula = f"nplurals={old.num_plurals}; plural={old.plural_expr};"
    new = StableCatalog(locale=language, header_comment=old.header_comment, fuzzy=False)
    new.headers = (
        ("Project-Id-Version", "django-oscar-bitsby"),
        ("Language", language),
        ("MIME-Version", "1.0"),
        ("Content-Type", "text/plain; charset=utf-8"),
        ("Content-Transfer-Encoding", "8bit"),
        ("Plural-Forms", formula),
    )
    new.mime_headers = new.headers
    for (message, context), files in extracted().items():
        before = old.get(message, context)
        is_the_same = before is not None and before.pluralizable == isinstance(message, tuple)
        new.add(
            message,
            before.string if is_the_same else "",
            context=context,
            locations=[(name, 1) for name in files],
            flags=(before.flags & {"fuzzy"}) if is_the_same else (),
        )
    return new


def as_po(catalog: Catalog) -> bytes:
    buffer = io.BytesIO()
    write_po(buffer, catalog, width=100, include_lineno=False, ignore_obsolete=True)
    return buffer.getvalue()


def as_mo(catalog: Catalog) -> bytes:
    buffer = io.BytesIO()
    write_mo(buffer, catalog)
    return buffer.getvalue()


def catalogues() -> list[Path]:
    """Return where each language's texts stand, or will stand."""
    folders = sorted(path for path in LOCALES.iterdir() if path.is_dir())
    return [folder / "LC_MESSAGES" / "django.po" for folder in folders]


def main() -> None:
    """Write what has changed, and say what is left to translate."""
    if not settings.configured:
        settings.configure()
    for path in catalogues():
        catalog = merged(path)
        path.parent.mkdir(exist_ok=True)
        for target, content in (
            (path, as_po(catalog)),
            (path.with_suffix(".mo"), as_mo(catalog)),
        ):
            if not target.exists() or target.read_bytes() != content:
                target.write_bytes(content)
        missing = sum(1 for message in catalog if message.id and not _is_translated(message))
        left = f"{missing} to translate" if missing else "complete"
        print(f"{path.relative_to(ROOT)}: {len(catalog)} texts, {left}")


def _is_translated(message) -> bool:  # type: ignore[no-untyped-def]
    strings = [message.string] if isinstance(message.string, str) else list(message.string)
    return all(strings) and not message.fuzzy


if __name__ == "__main__":
    sys.exit(main())
