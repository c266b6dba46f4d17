"""Paginate a million rows at the cost of a thousand."""

from collections.abc import Iterable
from functools import cached_property
from typing import Any

from django.core.paginator import Paginator
from django.db.models import QuerySet

#: Rows that are counted at most. Counting a million rows takes longer than reading one page.
MAX_COUNT = 10_000


def load_rows(rows: QuerySet[Any], keys: Iterable[Any]) -> list[Any]:
    """Return the rows with these keys, in their order; deleted ones are left out.

    A list that is paged by its keys sorts and joins nothing but keys.
    """
    keys = list(keys)
    found = rows.in_bulk(keys)
    return [found[key] for key in keys if key in found]


class BoundedPaginator(Paginator):  # type: ignore[type-arg]  # no generics at run time
    """Count and page up to ``MAX_COUNT`` rows; filters and search find what is beyond."""

    @cached_property
    def count(self) -> int:
        return min(self._counted, MAX_COUNT)

    @property
    def has_more(self) -> bool:
        """Tell whether there are more rows than are counted and paged."""
        return self._counted > MAX_COUNT

    @cached_property
    def _counted(self) -> int:
        rows: Any = self.object_list
        is_query = isinstance(rows, QuerySet)
        return len(rows.order_by().values_list("pk")[: MAX_COUNT + 1] if is_query else rows)
