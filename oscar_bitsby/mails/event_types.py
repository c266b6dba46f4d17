"""Create Oscar's communication event types, whose texts staff can write; ours are the default."""

from typing import Any

from django.conf import settings as django_settings
from django.db import DatabaseError, transaction
from django.utils import translation
from oscar.core.loading import get_model

from oscar_bitsby import conf
from oscar_bitsby.choices import MailCode


def ensure_exists(*codes: str, using: str | None = None) -> None:
    """Create the missing event types of these codes."""
    types = get_model("communication", "CommunicationEventType")._default_manager.using(using)
    missing = set(codes) - set(types.filter(code__in=codes).values_list("code", flat=True))
    for code, name in MailCode.choices:
        if code in missing:
            with translation.override(django_settings.LANGUAGE_CODE):
                types.get_or_create(code=code, defaults={"name": str(name)})


def ensure_all_exist(using: str = "default", **kwargs: Any) -> None:
    """Create all missing event types; a receiver of ``post_migrate``.

    A migration could not do this: a shop that forks Oscar's communication app has its own
    migrations, which ours could not depend on.
    """
    if not conf.is_configured():
        return
    try:
        with transaction.atomic(using=using):
            ensure_exists(*(code for code, _ in MailCode.choices), using=using)
    except DatabaseError:
        # Oscar's table does not exist yet or is in another database. The sender creates the row.
        return
