"""Lists that are sorted by the headings of their columns."""

from collections.abc import Collection

from django.http import QueryDict


class Sorting:
    """By what a list is sorted: Oscar's parameters ``sort`` and ``dir``.

    Args:
        query: the parameters of the list's address.
        columns: the columns by which it can be sorted.
        rising: those whose heading first sorts upwards; the others start with the largest.
        default: the column by which the list is sorted, downwards, without these parameters, and
            for values that make no sense. Empty if no column stands for that order.
    """

    def __init__(
        self,
        query: QueryDict,
        columns: Collection[str],
        *,
        rising: Collection[str] = (),
        default: str = "",
    ) -> None:
        self._columns, self._rising = columns, rising
        self._query = query.copy()
        self._query.pop("page", None)
        column = (self._query.pop("sort", None) or [""])[-1]
        direction = (self._query.pop("dir", None) or [""])[-1]
        self.is_chosen = column in columns
        self.column = column if self.is_chosen else default
        self.is_descending = direction == "desc" if self.is_chosen else True

    @property
    def hidden(self) -> dict[str, str]:
        """The parameters that keep the order when the filters are sent."""
        direction = "desc" if self.is_descending else "asc"
        return {"sort": self.column, "dir": direction} if self.is_chosen else {}

    @property
    def headers(self) -> dict[str, dict[str, str]]:
        """For each column the ``url`` that sorts by it, and ``current``, for ``aria-sort``.

        The link of the column that the list is sorted by reverses the order.
        """
        found = {}
        for column in self._columns:
            is_sorted = column == self.column
            query = self._query.copy()
            descends = not self.is_descending if is_sorted else column not in self._rising
            query["sort"], query["dir"] = column, "desc" if descends else "asc"
            current = ("descending" if self.is_descending else "ascending") if is_sorted else ""
            found[column] = {"url": f"?{query.urlencode()}", "current": current}
        return found
