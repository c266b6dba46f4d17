"""Translate texts that are stored now and read later, perhaps in another language."""

from typing import Any

from django.conf import settings
from django.utils import translation


def shop_text(text: str, **values: Any) -> str:
    """Return a text in the shop's language, in which all of its staff read notes on orders.

    Args:
        text: the English text, marked by ``gettext_noop``, with placeholders like ``%(number)s``.
        values: the values of the placeholders.
    """
    try:
        with translation.override(settings.LANGUAGE_CODE):
            return translation.gettext(text) % values
    except Exception:
        # A broken translation, for example one with other placeholders, must not stop settling.
        return text % values


def translate_stored(text: str) -> str:
    """Return a stored text in the reader's language, or as it is if there is no translation.

    Texts in the app's own rows, such as failures, are compared and searched for: they are stored
    in English and translated when they are shown.
    """
    return translation.gettext(text)
