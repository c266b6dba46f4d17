"""Finds texts for people that are not marked for translation, in templates and in Python.

Every finder returns its findings as ``line: text``. The constants name the places where this
package has texts for people. Texts for developers (checks, settings, errors of the client) are left
out.
"""

import ast
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

#: Names and formats, the same in every language.
SAME_EVERYWHERE = {"bitsby", "http", "true false", "z", "ł", "ð", "ξ"}
#: Texts for developers and machines, the two formats of an e-mail, and classes of elements.
NOT_SHOWN = {
    "no webhook here", "next request at", "html", "txt", "form-control vTextField", "money", "open",
    "badge-light border", "col-6 col-lg-4", "col-12 col-sm-6 col-lg-3", "refund_",
}  # fmt: skip
#: Names of tuples of choices, whose labels may be single words in small letters.
CHOICES = {"STATUSES", "REASONS", "RESOLUTIONS", "CODES", "CHOICES"}
#: Attributes that browsers show or read out.
SHOWN_ATTRIBUTES = {"title", "alt", "placeholder", "aria-label", "aria-description", "label"}
#: Elements without texts.
SILENT = {"script", "style"}

#: Packages without texts for people: the simulator's pages are for developers, in English.
NOT_TRANSLATED = {"simulator", "migrations"}
#: Modules whose texts are for developers, in logs, errors and the output of commands.
FOR_DEVELOPERS = {
    "adapter.py", "audit.py", "audit_invoices.py", "audit_ledger.py", "audit_lists.py",
    "audit_payments.py", "checks.py", "client.py", "conf.py", "database_checks.py", "doctor.py",
    "doctor_webhook.py", "exceptions.py", "findings.py", "money.py",
    "parsing.py", "payment_options.py", "pruning.py", "report.py", "schemas.py",
    "settings_checks.py", "tasks.py", "transport.py",
}  # fmt: skip
#: Functions that take a text for people, with the number of the argument from which on to look.
SPEAKERS = {
    "success": 1, "info": 1, "warning": 1, "error": 1, "debug": 1, "add_message": 2,
    "message_user": 1, "ValidationError": 0, "PermissionDenied": 0, "Http404": 0,
    "ActionResult": 1, "PaymentAction": 0, "Method": 1, "ChangedMeanwhile": 0, "RefundRefused": 0,
    "change_order_status": 2, "reopen_order": 2, "log_admin_entry": 3, "expire_attempt": 1,
}  # fmt: skip
#: Owners of functions of the same names that take no text for people, such as ``logger.info``.
NOT_SPEAKERS = {"logger", "logging", "signals"}
FIELD = re.compile(r"^\w+Field$")
SHOWN_KEYWORDS = {
    "verbose_name", "verbose_name_plural", "help_text", "label", "description", "empty_label",
    "short_description", "title", "message", "outcome", "error", "note", "explanation",
}  # fmt: skip
SHOWN_NAMES = SHOWN_KEYWORDS | {"text", "problem", "reason", "unclear", "why", "gone", "by", "how"}
AT_ONCE = {"gettext", "ngettext", "pgettext", "npgettext"}
MARKERS = AT_ONCE | {f"{name}_lazy" for name in AT_ONCE} | {"gettext_noop"}


def _has_words(text: str) -> bool:
    words = " ".join(re.findall(r"[^\W\d_]+", text)).lower()
    return bool(words) and words not in SAME_EVERYWHERE and text.strip() not in NOT_SHOWN


def _reads_as_text(text: str) -> bool:
    """Tell whether this is a text and no code: it has two words, or begins with a capital."""
    text = text.strip()
    return _has_words(text) and bool(re.search(r"\w[\w’',.:]* \S*\w", text) or text[:1].isupper())


# Templates

#: What is marked, and comments.
_MARKED = re.compile(
    r"{%\s*(blocktrans(?:late)?|comment)\b.*?%}.*?{%\s*end\1\s*%}|{#.*?#}", re.DOTALL
)
_TAG = re.compile(r"{[{%]\s*(.*?)\s*[}%]}", re.DOTALL)
_ARGUMENT = re.compile(r"\w+=(\"[^\"]*\"|'[^']*')")
_LITERAL = re.compile(
    r"(?:^|\|(?:default|default_if_none|add|join|yesno|pluralize):)(\"[^\"]*\"|'[^']*')"
)
_TAGS_WITHOUT_TEXTS = {"trans", "translate", "extends", "load", "url", "static", "if", "elif"}


def _line_ends(match: re.Match[str]) -> str:
    return "\n" * match[0].count("\n")


def in_template(name: str, source: str) -> list[str]:
    """Return the texts of a template that are not marked."""
    unmarked = _MARKED.sub(_line_ends, source)
    found = []
    for tag in _TAG.finditer(unmarked):
        word = tag[1].split()[0]
        if word not in _TAGS_WITHOUT_TEXTS:
            pattern = _ARGUMENT if word in ("include", "with") else _LITERAL
            line = unmarked.count("\n", 0, tag.start()) + 1
            found += [(line, text[1:-1]) for text in pattern.findall(tag[1])]
    shown = _TAG.sub(_line_ends, unmarked)
    if name.endswith(".html"):
        reader = _Reader()
        reader.feed(shown)
        reader.close()
        found += reader.found
    else:
        found += enumerate(shown.split("\n"), 1)
    return [f"{line}: {' '.join(text.split())}" for line, text in found if _has_words(text)]


class _Reader(HTMLParser):
    """Reads the HTML of a template whose Django tags were removed."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[int, str]] = []
        self._silent = ""

    def _add(self, text: str) -> None:
        self.found.append((self.getpos()[0], text))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._silent = tag if tag in SILENT else self._silent
        values = {name: value or "" for name, value in attrs}
        for name in SHOWN_ATTRIBUTES & values.keys():
            self._add(values[name])
        if tag == "input" and values.get("type") in ("submit", "button", "reset"):
            self._add(values.get("value", ""))

    def handle_endtag(self, tag: str) -> None:
        self._silent = "" if tag == self._silent else self._silent

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self._add(data)


# Python


def in_python(source: str) -> list[str]:
    """Return the texts of a module that are not marked, and marks that cannot work."""
    tree = ast.parse(source)
    found = [*_texts(tree), *_too_early(tree), *_not_constant(tree)]
    return [f"{line}: {text}" for line, text in sorted(set(found))]


def _name(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def _aliases(tree: ast.Module) -> dict[str, str]:
    """Return the names of Django's functions in a module."""
    return {
        alias.asname or alias.name: alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "django.utils.translation"
        for alias in node.names
        if alias.name in MARKERS
    }


def _raw(node: ast.AST | None) -> Iterator[tuple[int, str]]:
    """Yield the unmarked texts of an expression, however it is composed."""
    parts: list[ast.expr] = []
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.lineno, node.value
    elif isinstance(node, ast.JoinedStr):
        texts = [part.value for part in node.values if isinstance(part, ast.Constant)]
        yield node.lineno, "".join(map(str, texts))
    elif isinstance(node, ast.IfExp):
        parts = [node.body, node.orelse]
    elif isinstance(node, ast.BoolOp | ast.Dict):
        parts = node.values
    elif isinstance(node, ast.BinOp):
        parts = [node.left, node.right]
    elif isinstance(node, ast.Call) and _name(node.func) in ("format", "strip", "format_lazy"):
        parts = [node.func, *node.args[:1]]
    elif isinstance(node, ast.Attribute):
        parts = [node.value]
    for part in parts:
        yield from _raw(part)


def _texts(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        # What may be a text or a code, and what is a text even when it looks like a code.
        places: list[ast.expr | None] = []
        certain: list[ast.expr | None] = []
        if isinstance(node, ast.Call):
            certain += _spoken(node)
            keywords = {keyword.arg: keyword.value for keyword in node.keywords}
            places += [keywords[name] for name in SHOWN_KEYWORDS & keywords.keys()]
            places.append(keywords.get("error_messages"))
            certain += _choices(keywords.get("choices"))
        elif isinstance(node, ast.Assign):
            names = {_name(target) for target in node.targets}
            pairs = [pair for target in node.targets for pair in _pairs(target, node.value)]
            places += [value for name, value in pairs if name in SHOWN_NAMES]
            certain += _choices(node.value) if names & CHOICES else []
            places += _choices(node.value) if any(name.isupper() for name in names) else []
        elif isinstance(node, ast.ClassDef):
            is_choices = any(_name(base).endswith("Choices") for base in node.bases)
            members = [one.value for one in node.body if isinstance(one, ast.Assign)]
            certain += _choices(ast.Tuple(members)) if is_choices else []
        elif isinstance(node, ast.AugAssign):
            places.append(node.value if _name(node.target) in SHOWN_NAMES else None)
        elif isinstance(node, ast.Return):
            places.append(node.value)
        elif isinstance(node, ast.Dict):
            keys = [getattr(key, "value", None) for key in node.keys]
            shown = zip(keys, node.values, strict=True)
            places += [value for key, value in shown if key in ("label", "title", "name")]
        yield from (found for place in places for found in _raw(place) if _reads_as_text(found[1]))
        yield from (found for place in certain for found in _raw(place) if _has_words(found[1]))


def _spoken(call: ast.Call) -> list[ast.expr | None]:
    name = _name(call.func)
    owner = _name(call.func.value) if isinstance(call.func, ast.Attribute) else ""
    if FIELD.match(name) and owner == "models":
        return list(call.args[:1])
    if name not in SPEAKERS or owner in NOT_SPEAKERS:
        return []
    return list(call.args[SPEAKERS[name] :])


def _pairs(target: ast.expr, value: ast.expr) -> list[tuple[str, ast.expr]]:
    if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
        both = zip(target.elts, value.elts, strict=False)
        return [pair for left, right in both for pair in _pairs(left, right)]
    return [(_name(target), value)]


def _choices(value: ast.expr | None) -> list[ast.expr | None]:
    """Return the labels of choices, from pairs in a tuple or from a dict."""
    if isinstance(value, ast.Dict):
        return list(value.values)
    rows = value.elts if isinstance(value, ast.Tuple | ast.List) else []
    return [row.elts[1] for row in rows if isinstance(row, ast.Tuple) and len(row.elts) == 2]


def _too_early(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield texts that are translated during the import, when the reader's language is unknown."""
    aliases = _aliases(tree)

    def walk(node: ast.AST) -> Iterator[tuple[int, str]]:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            # Decorators and defaults are evaluated where the function is defined.
            now = [*getattr(node, "decorator_list", ()), *node.args.defaults]
            children: list[ast.AST] = [*now, *(one for one in node.args.kw_defaults if one)]
        else:
            children = list(ast.iter_child_nodes(node))
        for child in children:
            if isinstance(child, ast.Call) and aliases.get(_name(child.func)) in AT_ONCE:
                yield child.lineno, "translated when imported"
            yield from walk(child)

    yield from walk(tree)


def _not_constant(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield marked texts that are composed first, so that no catalogue can have them."""
    aliases = _aliases(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and _name(node.func) in aliases:
            for arg in node.args:
                if isinstance(arg, ast.JoinedStr | ast.BinOp | ast.Call):
                    yield node.lineno, "marked after it was composed"


def in_package(package: Path) -> dict[str, list[str]]:
    """Return the findings in each file that has any."""
    found = {}
    for path in sorted([*package.rglob("*.py"), *package.glob("templates/**/*.*")]):
        if path.relative_to(package).parts[0] in NOT_TRANSLATED:
            continue
        text = path.read_text(encoding="utf-8")
        if path.suffix != ".py":
            texts = in_template(path.name, text)
        elif path.name in FOR_DEVELOPERS or "management" in path.parts:
            texts = []
        else:
            texts = in_python(text)
        if texts:
            found[path.relative_to(package).as_posix()] = texts
    return found
