"""Our mails among Oscar's communication event types, where staff can edit them.

A row without templates stands for the files that the app ships; what staff write there takes their
place. The rows are made after each ``migrate`` and not by a migration, since a shop that forks
Oscar's communication app has migrations of its own that ours could not name.
"""

from __future__ import annotations

from typing import Any

from django.conf import settings as django_settings
from django.db import DatabaseError, transaction
from django.utils import translation
from oscar.core.loading import get_model

from oscar_bitsby import conf
from oscar_bitsby.choices import MailCode


def ensure_exists(*codes: str, using: str | None = None) -> None:
    """Make the event types of these codes that are missing."""
    types = get_model("communication", "CommunicationEventType")._default_manager.using(using)
    missing = set(codes) - set(types.filter(code__in=codes).values_list("code", flat=True))
    for code, name in MailCode.choices:
        if code in missing:
            with translation.override(django_settings.LANGUAGE_CODE):
                types.get_or_create(code=code, defaults={"name": str(name)})


def ensure_all_exist(using: str = "default", **kwargs: Any) -> None:
    """Make all that are missing; listens to ``post_migrate``."""
    if not conf.is_configured():
        return
    try:
        with transaction.atomic(using=using):
            ensure_exists(*(code for code, _ in MailCode.choices), using=using)
    except DatabaseError:
        # Oscar's own tables are not there yet, or are elsewhere; the first mail makes its own.
        return
