"""Times on the buyer's pages, which JavaScript converts to the buyer's time zone."""

import datetime as dt

from django import template
from django.utils import formats, timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

register = template.Library()


@register.filter
def time_tag(moment: dt.datetime | None) -> SafeString:
    """Return a ``<time>`` element in the format of the active language, with the time zone.

    Only the browser knows the reader's time zone: ``order.js`` finds the element by
    ``data-bitsby-time`` and converts it.
    """
    if moment is None:
        return SafeString("")
    local = timezone.localtime(moment)
    return format_html(
        '<time datetime="{}" data-bitsby-time>{} ({})</time>',
        moment.astimezone(dt.timezone.utc).isoformat(timespec="seconds"),
        formats.date_format(local, "DATETIME_FORMAT"),
        local.tzname(),
    )
