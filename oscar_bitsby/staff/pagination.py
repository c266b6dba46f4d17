"""Paging that costs the same among a million rows as among a thousand."""

from __future__ import annotations

from typing import Any

from django.core.paginator import Paginator
from django.db.models import QuerySet

#: Counting a million rows takes longer than finding a page of them; more than this is "many".
MAX_COUNT = 10_000


class KeyedRows:
    """Rows that are dear to find among all: their keys are read once, for the number and any page.

    Args:
        found: the wanted rows, in order; read at once, as far as people page.
        rows: where the rows of a page are read by their keys.
    """

    def __init__(self, found: QuerySet[Any], rows: QuerySet[Any]) -> None:
        self._keys = list(found.values_list("pk", flat=True)[:MAX_COUNT])
        self._rows = rows

    def __len__(self) -> int:
        return len(self._keys)

    def __getitem__(self, part: slice) -> list[Any]:
        keys = self._keys[part]
        rows = self._rows.in_bulk(keys)
        # One that was deleted in between is left out.
        return [rows[key] for key in keys if key in rows]


class BoundedPaginator(Paginator):  # type: ignore[type-arg]  # no generics at run time
    """Counts no further than people page; what lies beyond is found by filters and search."""

    @property
    def count(self) -> int:
        if not hasattr(self, "_bounded"):
            rows: Any = self.object_list
            is_query = isinstance(rows, QuerySet)
            # What was read already is counted as it is.
            self._bounded = len(rows.order_by().values_list("pk")[:MAX_COUNT] if is_query else rows)
        return self._bounded
