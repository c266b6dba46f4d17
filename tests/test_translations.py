"""Every text has its place in the catalogues, and every catalogue a text for it."""

from __future__ import annotations

import re
from gettext import GNUTranslations

import pytest
from django.conf import settings as django_settings
from django.utils import translation

from tests import messages, unmarked

COMPLETE = ("de", "es", "ru")
CATALOGUES = {path.parts[-3]: path for path in messages.catalogues()}
PLACEHOLDER = re.compile(r"%(?:\(\w+\))?[a-z]|\{\w*\}|%%")
RUN = "run: make messages"

languages = pytest.mark.parametrize("language", COMPLETE)


@pytest.fixture(scope="module")
def extracted():
    return messages.extracted()


def entries(language):
    """Return what a catalogue holds, without its header."""
    return [message for message in messages.read(CATALOGUES[language]) if message.id]


def strings(message):
    return [message.string] if isinstance(message.string, str) else list(message.string)


def test_the_complete_languages_are_there():
    """Whoever takes a language away, or begins another one, says so here."""
    assert tuple(CATALOGUES) == COMPLETE


# The catalogues and the code


@languages
def test_a_catalogue_holds_the_texts_of_the_code(language, extracted):
    """Nothing is missing, and nothing is left of texts that are gone."""
    held = {(message.id, message.context) for message in entries(language)}
    assert held == set(extracted), RUN
    assert "#~" not in CATALOGUES[language].read_text(encoding="utf-8"), RUN


@languages
def test_every_text_is_translated(language):
    """Each has a translation in each plural form, which a person has seen."""
    forms = messages.read(CATALOGUES[language]).num_plurals
    for message in entries(language):
        assert all(text.strip() for text in strings(message)), message.id
        assert not message.fuzzy, message.id
        assert len(strings(message)) == (forms if message.pluralizable else 1), message.id


@languages
def test_what_is_compiled_is_what_is_written(language):
    """The .mo files, which a shop reads, say what the .po files say; both are as the tool writes
    them, so that running it again changes nothing."""
    path = CATALOGUES[language]
    assert messages.as_mo(messages.merged(path)) == path.with_suffix(".mo").read_bytes(), RUN
    assert messages.as_po(messages.merged(path)) == path.read_bytes(), RUN
    with path.with_suffix(".mo").open("rb") as file:
        compiled = GNUTranslations(file)
    for message in entries(language):
        if message.pluralizable:
            continue
        if message.context:
            assert compiled.pgettext(message.context, message.id) == message.string
        else:
            assert compiled.gettext(message.id) == message.string


@languages
def test_placeholders_survive_translation(language):
    """Each plural form has the placeholders of the English text, and no others."""
    for message in entries(language):
        sources = [message.id] if isinstance(message.id, str) else message.id
        wanted = set(PLACEHOLDER.findall(sources[-1]))
        for text in strings(message):
            assert set(PLACEHOLDER.findall(text)) == wanted, (message.id, text)
            positional = [one for one in PLACEHOLDER.findall(text) if one == "%s"]
            assert len(positional) == sources[-1].count("%s"), (message.id, text)


@languages
def test_translations_begin_and_end_like_the_text(language):
    """Where the English is a sentence or a label, so is the translation."""
    for message in entries(language):
        source = message.id if isinstance(message.id, str) else message.id[-1]
        for text in strings(message):
            assert text == text.strip(), message.id
            assert (source[-1] == ":") == (text[-1] == ":") or source == "Hello,", message.id
            if source[-1] == "." and source[0] != "%":
                assert text[-1] == ".", (message.id, text)


def test_a_missing_text_is_noticed():
    """What the tests above compare with is really read from Python and from templates."""
    python = (
        'from django.utils.translation import gettext_lazy as _, ngettext\n_("one")\n'
        'ngettext("%d two", "%d twos", 2)\npgettext("a context", "three")\ngettext_noop("four")\n'
    )
    assert list(messages.texts_in("module.py", python)) == [
        ("one", None),
        (("%d two", "%d twos"), None),
        ("three", "a context"),
        ("four", None),
    ]
    template = (
        '{% load i18n %}\n  <p title="{% trans "one" %}">{% blocktrans with a=b context "c" %}'
        "two {{ a }}{% endblocktrans %}</p>\n{% blocktrans count n=n %}three{% plural %}threes"
        '{% endblocktrans %}{% include "x.html" with label=_("four") %}'
    )
    assert list(messages.texts_in("page.html", template)) == [
        ("one", None),
        ("two %(a)s", "c"),
        (("three", "threes"), None),
        ("four", None),
    ]


# Texts that are not marked


def test_every_text_is_marked():
    """No template and no module speaks to people past the translators."""
    assert unmarked.in_package(messages.PACKAGE, messages.sources()) == {}


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
def test_the_finder_sees_a_planted_text_in_a_template(template):
    """Texts, attributes that are shown, and what is passed to other templates."""
    assert unmarked.in_template("page.html", template)


def test_the_finder_leaves_alone_what_nobody_reads():
    """Marked texts, values, comments, names, classes and scripts."""
    template = """
        {% load i18n %}{# A comment #}{% comment %}Another{% endcomment %}
        <p class="lead" id="pay">{% trans "Pay" %} {{ total }} × 2 – Bitsby &amp;</p>
        <input type="hidden" value="pay" name="what" aria-label="{% trans "Pay" %}">
        {% include "x.html" with label=_("Pay") number=order.number %}
        <script>const text = "Pay";</script>{{ name|default:"–" }}
    """
    assert unmarked.in_template("page.html", template) == []
    assert unmarked.in_template("mail.txt", '{% trans "Hello," %}\n{{ url }}') == []
    assert unmarked.in_template("mail.txt", "Hello,\n{{ url }}") == ["1: Hello,"]


@pytest.mark.parametrize(
    "line",
    [
        'messages.success(request, "Bound.")',
        'messages.error(request, f"Order {number} is paid")',
        'raise forms.ValidationError("Choose")',
        'raise PermissionDenied("You may not.")',
        'return Result(False, "Nothing was booked.")',
        'return Result(False, _("Bitsby said no: ") + str(error) if a else "It said no")',
        'amount = models.DecimalField("Amount", max_digits=3)',
        'x = forms.CharField(label="Why", help_text="In your words.")',
        'class Meta:\n    verbose_name = "invoice"\n    verbose_name_plural = "Bitsby invoices"',
        'STATUSES = ((PAID, "paid"), (EXPIRED, _("expired")))',
        'status = forms.ChoiceField(choices=[("", "any")])',
        'ADVICE = {SHORT: "Accept it, or refund it."}',
        '@admin.display(description="What went wrong")\ndef f(): pass',
        'entry = {"label": "Money inbox", "url_name": "inbox"}',
        'note = f"Payment {record} accepted"',
        'message += " It can be undone."',
        'give_up(attempt, "no answer")',
        'rows.update(error="could not be sent")',
        'def why():\n    return "the order was deleted"',
        "from django.utils.translation import gettext as _\nTITLE = _('Early')",
        "from django.utils.translation import gettext as _\ndef f(a=_('Early')): pass",
        "from django.utils.translation import gettext as _\ndef f(a):\n    return _(f'{a} is')",
        "from django.utils.translation import gettext as _\ndef f(a):\n    return _('%s is' % a)",
    ],
)
def test_the_finder_sees_a_planted_text_in_python(line):
    """Messages, errors, labels, choices, stored notes; and marks that come too early or late."""
    assert unmarked.in_python(line)


def test_the_finder_leaves_alone_what_machines_read():
    """Marked texts, codes, log lines and keys."""
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
    return Result(True, _("Done: %s.") % y)
"""
    assert unmarked.in_python(source) == []


# Which language a reader gets


@pytest.mark.parametrize(
    ("variant", "word"),
    [("de-at", "Geldeingang"), ("ru-ru", "Входящие платежи"), ("es-mx", "Bandeja de pagos")],
)
def test_a_regional_variant_reads_its_language(variant, word):
    """Catalogues of a language serve its regions."""
    with translation.override(variant):
        assert translation.gettext("Money inbox") == word


@pytest.fixture
def shop_speaks(settings):
    """Return a function that gives the shop a language; Django forgets what it had read."""
    from django.utils.translation import trans_real

    def forget():
        trans_real._translations = {}
        trans_real._default = None

    def change(language):
        settings.LANGUAGE_CODE = language
        forget()

    yield change
    forget()


@pytest.mark.parametrize("english", ["en", "en-gb"])
def test_an_english_reader_gets_english_in_a_russian_shop(shop_speaks, english):
    """English needs no catalogue: the texts of the code are English, whatever the shop speaks."""
    shop_speaks("ru")
    with translation.override(english):
        assert translation.gettext("Money inbox") == "Money inbox"
    with translation.override("ja"):
        assert translation.gettext("Money inbox") == "Входящие платежи"


@pytest.mark.parametrize(
    ("language", "number", "words"),
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
        ("en", 1, "in 1 second;"),
        ("en", 3, "in 3 seconds;"),
    ],
)
def test_counts_have_their_plural(language, number, words):
    """Each language counts by its own rules."""
    one = "We try again in %(seconds)s second; you need not do anything."
    many = "We try again in %(seconds)s seconds; you need not do anything."
    with translation.override(language):
        text = translation.ngettext(one, many, number) % {"seconds": number}
    assert words in text


@languages
def test_a_catalogue_counts_as_django_does(language):
    """The formulas agree, so that one catalogue serves both."""
    header = messages.plural_forms(language)
    catalogue = messages.read(CATALOGUES[language])
    assert f"nplurals={catalogue.num_plurals};" in header.replace(" ", "")
    assert catalogue.plural_expr.replace(" ", "") in header.replace(" ", "")


def test_the_languages_are_offered_by_django():
    """A shop can offer each of them to its visitors."""
    assert set(COMPLETE) <= {code for code, _ in django_settings.LANGUAGES}
