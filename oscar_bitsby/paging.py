"""Paging that costs the same among a million rows as among a thousand."""

from __future__ import annotations

from typing import Any

from django.core.paginator import Paginator

#: Counting a million rows takes longer than finding a page of them; more than this is "many".
MOST_COUNTED = 10_000


class BoundedPaginator(Paginator):  # type: ignore[type-arg]  # no generics at run time
    """Counts no further than people page; what lies beyond is found by filters and search."""

    @property
    def count(self) -> int:
        if not hasattr(self, "_bounded"):
            rows: Any = self.object_list
            self._bounded = len(rows.order_by().values_list("pk")[:MOST_COUNTED])
        return self._bounded
