"""Texts that are stored, and so are read later by people of other languages than who caused them.

Notes on orders are for everybody in the shop: they are in its ``LANGUAGE_CODE``, whichever request
or pass wrote them. Remarks in our own records (what went wrong, what came of it) are compared and
searched for in logs: they are stored in English, and translated where they are shown. The admin log
and messages speak to, and of, one member of staff: they are in that person's language. What Bitsby,
a mail server or the network said stays as they said it.
"""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.utils import translation


def shop_text(text: str, **values: Any) -> str:
    """Return a note in the shop's language.

    Args:
        text: in English, marked by ``gettext_noop``, with placeholders like ``%(number)s``.
        values: what to put into them.
    """
    try:
        with translation.override(settings.LANGUAGE_CODE):
            return translation.gettext(text) % values
    except Exception:
        # A translation of the shop's own that has other placeholders, or cannot be read, must not
        # hold up money.
        return text % values


def translate_stored(remark: str) -> str:
    """Return a stored remark in the reader's language; what is not ours stays as it is."""
    return translation.gettext(remark)
