"""Test that the catalogues have exactly the texts of the code, and that each is marked."""

import os
import re
import shutil
import subprocess
import sys
from gettext import GNUTranslations
from pathlib import Path

import django
import pytest
from django.conf import settings as django_settings
from django.utils import translation
from django.utils.translation import trans_real

from tests.support import untranslated
from tests.support.catalogues import (
    LANGUAGES,
    PACKAGE,
    collisions,
    each_language,
    entries,
    path_of,
    read,
    strings,
)

PLACEHOLDER = re.compile(r"%(?:\(\w+\))?[a-z]|\{\w*\}|%%")
RUN = "run: make messages"


def as_rows(catalogue):
    """Return the texts of a catalogue with their translations, for a comparison."""
    rows = {}
    for message in filter(lambda message: message.id, catalogue):
        # Babel leaves the contexts of compiled catalogues undecoded.
        context = message.context
        context = context.decode() if isinstance(context, bytes) else context
        rows[sources(message), context] = strings(message)
    return rows


def sources(message):
    """Return the English texts of a message: two for one with plural forms."""
    return (message.id,) if isinstance(message.id, str) else tuple(message.id)


def places(messages):
    """Return the texts of a catalogue with the files in which they are used."""
    return {
        (message.id, message.context): {name for name, _ in message.locations}
        for message in messages
    }


@pytest.fixture(scope="module")
def update_catalogues(tmp_path_factory):
    """Return a function that runs ``make messages`` on a copy of the package."""
    if shutil.which("xgettext") is None or shutil.which("msgmerge") is None:
        pytest.skip("GNU gettext is not installed")

    def update(**planted):
        copy = tmp_path_factory.mktemp("messages") / "oscar_bitsby"
        shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
        for name, text in planted.items():
            (copy / "templates" / name.replace("_", ".")).write_text(text)
        # As in the Makefile.
        options = ["--all", "--no-obsolete", "--add-location", "file", "--ignore", "simulator/*"]
        subprocess.run(
            [sys.executable, "-m", "django", "makemessages", *options],
            cwd=copy,
            env={key: value for key, value in os.environ.items() if not key.startswith("DJANGO_")},
            check=True,
            capture_output=True,
        )
        return copy

    return update


def test_complete_languages_have_catalogues():
    """The folders of ``locale/`` are the languages that the tests know."""
    assert tuple(sorted(path.name for path in (PACKAGE / "locale").iterdir())) == LANGUAGES


# The catalogues and the code


def test_catalogues_have_exactly_the_texts_of_the_code(update_catalogues):
    """The catalogues have every text of the code and none of removed code."""
    copy = update_catalogues()
    for language in LANGUAGES:
        assert places(entries(language)) == places(entries(language, copy)), RUN


@each_language
def test_catalogues_have_no_obsolete_texts(language):
    """The catalogues keep no obsolete texts."""
    assert "#~" not in path_of(language).read_text(encoding="utf-8"), RUN


def test_new_texts_get_into_the_catalogues(update_catalogues):
    """Texts of modules and of templates get into the catalogues, with plurals and contexts."""
    python = (
        'from django.utils.translation import gettext_lazy as _, ngettext\n_("one!")\n'
        'ngettext("%d two", "%d twos", 2)\npgettext("a context", "three!")\n'
        'gettext_noop("four!")\n'
    )
    template = (
        '{% load i18n %}<p title="{% trans "five!" %}">{% blocktrans with a=b context "c" %}'
        "six {{ a }}{% endblocktrans %}</p>{% blocktrans count n=n %}seven{% plural %}sevens"
        '{% endblocktrans %}{% include "x.html" with label=_("eight!") %}'
    )
    new = places(entries("de", update_catalogues(module_py=python, page_html=template)))
    assert {text for text in new if text not in places(entries("de"))} == {
        ("one!", None),
        (("%d two", "%d twos"), None),
        ("three!", "a context"),
        ("four!", None),
        ("five!", None),
        ("six %(a)s", "c"),
        (("seven", "sevens"), None),
        ("eight!", None),
    }


@each_language
def test_every_text_is_translated(language):
    """Each text has a translation in each plural form, and none is fuzzy."""
    forms = read(path_of(language)).num_plurals
    for message in entries(language):
        assert all(text.strip() for text in strings(message)), message.id
        assert not message.fuzzy, message.id
        assert len(strings(message)) == (forms if message.pluralizable else 1), message.id


@each_language
def test_compiled_catalogues_are_current(language):
    """The .mo files, which Django reads, have the same texts as the .po files."""
    path = path_of(language)
    assert as_rows(read(path.with_suffix(".mo"))) == as_rows(read(path)), RUN


@each_language
def test_translations_have_the_placeholders_of_the_text(language):
    """Each plural form has the placeholders of the English text, and no others."""
    for message in entries(language):
        source = sources(message)[-1]
        for text in strings(message):
            found, wanted = PLACEHOLDER.findall(text), PLACEHOLDER.findall(source)
            assert set(found) == set(wanted), (message.id, text)
            assert found.count("%s") == wanted.count("%s"), (message.id, text)


@each_language
def test_translations_have_the_punctuation_of_the_text(language):
    """A translation has the colon or full stop of the English text."""
    for message in entries(language):
        source = sources(message)[-1]
        for text in strings(message):
            assert text == text.strip(), message.id
            assert (source[-1] == ":") == (text[-1] == ":") or source == "Hello,", message.id
            if source[-1] == "." and source[0] != "%":
                assert text[-1] == ".", (message.id, text)


# Texts that are not marked


def test_every_text_is_marked_for_translation():
    """Every text for people in templates and modules is marked for translation."""
    assert untranslated.in_package(PACKAGE) == {}


@pytest.mark.parametrize(
    "template",
    [
        "<p>Pay now</p>",
        "{% if a %}Pay{% endif %}",
        "{% trans 'Total:' %} <b>{{ total }}</b> due",
        '<img alt="A coin" src="x">',
        '<input type="submit" value="Pay">',
        '<input placeholder="Why">',
        '<nav aria-label="breadcrumb"></nav>',
        '<a title="See {{ order }}"></a>',
        '{% include "x.html" with label="Pay now" %}',
        '{{ name|default:"nobody" }}',
        '{{ "Pay now" }}',
        "<p>{% blocktrans %}Pay{% endblocktrans %} now</p>",
    ],
)
def test_finder_finds_unmarked_texts_in_templates(template):
    """The finder finds texts, visible attributes and arguments of included templates."""
    assert untranslated.in_template("page.html", template)


def test_finder_ignores_template_code_and_marked_texts():
    """The finder ignores marked texts, values, comments, names, classes and scripts."""
    template = """
        {% load i18n %}{# A comment #}{% comment %}Another{% endcomment %}
        <p class="lead" id="pay">{% trans "Pay" %} {{ total }} × 2 – Bitsby &amp;</p>
        <input type="hidden" value="pay" name="what" aria-label="{% trans "Pay" %}">
        {% include "x.html" with label=_("Pay") number=order.number %}
        <script>const text = "Pay";</script>{{ name|default:"–" }}
    """
    assert untranslated.in_template("page.html", template) == []
    assert untranslated.in_template("mail.txt", '{% trans "Hello," %}\n{{ url }}') == []
    assert untranslated.in_template("mail.txt", "Hello,\n{{ url }}") == ["1: Hello,"]


@pytest.mark.parametrize(
    "line",
    [
        'messages.success(request, "Bound.")',
        'messages.error(request, f"Order {number} is paid")',
        'raise forms.ValidationError("Choose")',
        'raise PermissionDenied("You may not.")',
        'return ActionResult(False, "Nothing was booked.")',
        'return ActionResult(False, _("Bitsby said no: ") + str(error) if a else "It said no")',
        'amount = models.DecimalField("Amount", max_digits=3)',
        'x = forms.CharField(label="Why", help_text="In your words.")',
        'class Meta:\n    verbose_name = "invoice"\n    verbose_name_plural = "Bitsby invoices"',
        'STATUSES = ((PAID, "paid"), (EXPIRED, _("expired")))',
        'status = forms.ChoiceField(choices=[("", "any")])',
        'ADVICE = {SHORT: "Accept it, or refund it."}',
        '@admin.display(description="What went wrong")\ndef f(): pass',
        'entry = {"label": "Payments to review", "url_name": "inbox"}',
        'note = f"Payment {record} accepted"',
        'message += " It can be undone."',
        'expire_attempt(attempt, "no answer")',
        'class Status(models.TextChoices):\n    PAID = "paid", "paid"',
        'rows.update(error="could not be sent")',
        'def why():\n    return "the order was deleted"',
        "from django.utils.translation import gettext as _\nTITLE = _('Early')",
        "from django.utils.translation import gettext as _\ndef f(a=_('Early')): pass",
        "from django.utils.translation import gettext as _\ndef f(a):\n    return _(f'{a} is')",
        "from django.utils.translation import gettext as _\ndef f(a):\n    return _('%s is' % a)",
    ],
)
def test_finder_finds_unmarked_texts_in_python(line):
    """The finder finds messages, errors, labels, choices and notes, and marks that cannot work."""
    assert untranslated.in_python(line)


def test_finder_ignores_codes_logs_and_keys_in_python():
    """The finder ignores marked texts, codes, log messages and keys."""
    source = """
from django.utils.translation import gettext as _, gettext_lazy
CODES = (("usd", gettext_lazy("Dollar")),)
name = models.CharField(gettext_lazy("Name"), max_length=3)
order = models.ForeignKey("order.Order", verbose_name=gettext_lazy("Order"))
logger.info("order paid: order=%s", number)
def f(request):
    messages.info(request, _("Paid") % 1)
    if x:
        return "paid"
    return ActionResult(True, _("Done: %s.") % y)
"""
    assert untranslated.in_python(source) == []


def test_names_in_the_finder_exist():
    """Functions and modules that the finder knows by name are in the package or in Django."""
    sources = {path.name: path.read_text() for path in PACKAGE.rglob("*.py")}
    called = set(re.findall(r"(\w+)\(", "".join(sources.values())))
    # Django's, and not called in the package so far.
    of_django = {"debug", "add_message", "ValidationError"}
    assert set(untranslated.SPEAKERS) - called - of_django == set()
    assert untranslated.FOR_DEVELOPERS - sources.keys() == set()


@each_language
def test_no_text_is_overridden_by_another_catalogue(language):
    """A text that Django or Oscar translates otherwise has a context, so that ours is shown."""
    assert collisions(language) == set()


# Which language a reader gets


@pytest.mark.parametrize(
    ("variant", "translated"),
    [
        ("de-at", "Zu prüfende Zahlungen"),
        ("ru-ru", "Платежи на проверке"),
        ("es-mx", "Pagos por revisar"),
    ],
)
def test_regional_variant_uses_its_language(variant, translated):
    """A regional variant gets the texts of its language."""
    with translation.override(variant):
        assert translation.gettext("Payments to review") == translated


@pytest.mark.parametrize("english", ["en", "en-gb"])
def test_english_reader_gets_english_in_a_russian_shop(settings, monkeypatch, english):
    """Readers of English get English texts, whatever the shop's language."""
    settings.LANGUAGE_CODE = "ru"
    # Django's caches of catalogues.
    monkeypatch.setattr(trans_real, "_translations", {})
    monkeypatch.setattr(trans_real, "_default", None)
    with translation.override(english):
        assert translation.gettext("Payments to review") == "Payments to review"
    with translation.override("ja"):
        assert translation.gettext("Payments to review") == "Платежи на проверке"


@pytest.mark.parametrize(
    ("language", "number", "part"),
    [
        ("ru", 1, "через 1 секунду;"),
        ("ru", 3, "через 3 секунды;"),
        ("ru", 5, "через 5 секунд;"),
        ("ru", 13, "через 13 секунд;"),
        ("ru", 21, "через 21 секунду;"),
        ("de", 1, "in 1 Sekunde "),
        ("de", 60, "in 60 Sekunden "),
        ("es", 1, "en 1 segundo;"),
        ("es", 3, "en 3 segundos;"),
        ("en", 1, "in 1 second."),
        ("en", 3, "in 3 seconds."),
    ],
)
def test_plural_forms_follow_the_language(language, number, part):
    """Each language uses its own plural forms."""
    one = "We'll try again in %(seconds)s second. You don't need to do anything."
    many = "We'll try again in %(seconds)s seconds. You don't need to do anything."
    with translation.override(language):
        text = translation.ngettext(one, many, number) % {"seconds": number}
    assert part in text


@each_language
def test_catalogue_has_the_plural_formula_of_django(language):
    """A catalogue has the same plural formula as Django's."""
    path = Path(django.__file__).parent / f"conf/locale/{language}/LC_MESSAGES/django.mo"
    with path.open("rb") as file:
        header = GNUTranslations(file).info()["plural-forms"]
    catalogue = read(path_of(language))
    assert f"nplurals={catalogue.num_plurals};" in header.replace(" ", "")
    assert catalogue.plural_expr.replace(" ", "") in header.replace(" ", "")


def test_languages_are_known_to_django():
    """Django knows each of our languages."""
    assert set(LANGUAGES) <= {code for code, _ in django_settings.LANGUAGES}
