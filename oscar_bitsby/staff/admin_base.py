"""The base of our read-only admin pages: their filters, columns and sections."""

from typing import Any

from django.contrib import admin
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.utils import display_for_value, flatten_fieldsets
from django.core.exceptions import ValidationError
from django.db.models import Model
from django.http import HttpRequest
from django.utils.translation import gettext_lazy, pgettext_lazy

from oscar_bitsby import conf
from oscar_bitsby.staff.pagination import BoundedPaginator
from oscar_bitsby.utils import i18n

IDS = gettext_lazy("IDs and technical details")
ORDER_NUMBER = pgettext_lazy("bitsby", "Order number")
SEARCHED = gettext_lazy("Enter a whole order number, ID or transaction hash.")
#: Our answers to deliveries, in words.
ANSWERS = {
    200: gettext_lazy("200: received"),
    503: gettext_lazy("503: Bitsby sends it again"),
}
NOT_ANSWERED = gettext_lazy("not answered")


class FixedFilter(admin.SimpleListFilter):
    """Offer fixed values: finding those that occur would read every row."""

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        if self.value() is None:
            return queryset
        try:
            return queryset.filter(**self.wanted())
        except (ValueError, ValidationError) as error:
            # An invalid value in the URL: Django shows the list again, without filters.
            raise IncorrectLookupParameters from error

    def wanted(self) -> dict[str, Any]:
        return {self.parameter_name or "": self.value()}


# Django shows the title of a filter after the word "By".
class CurrencyFilter(FixedFilter):
    title, parameter_name = gettext_lazy("currency"), "currency"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(currency, currency) for currency in conf.CURRENCIES]


class AnswerFilter(FixedFilter):
    title, parameter_name = gettext_lazy("our answer"), "answered"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [(str(code), text) for code, text in ANSWERS.items()] + [("none", NOT_ANSWERED)]

    def wanted(self) -> dict[str, Any]:
        return {"answered": None if self.value() == "none" else self.value()}


class ProjectFilter(FixedFilter):
    title, parameter_name = gettext_lazy("project"), "is_foreign__exact"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [("0", gettext_lazy("This shop")), ("1", gettext_lazy("Another project"))]


def section(title: Any, *fields: str, is_open: bool = True) -> Any:
    """Return a fieldset, whose heading opens it if it is not open at first."""
    return (title, {"fields": fields, "classes": () if is_open else ("collapse",)})


def titled(title: Any, kind: Any = admin.ChoicesFieldListFilter) -> Any:
    """Return a kind of filter whose title differs from the label of its field."""

    class TitledFilter(kind):  # type: ignore[misc]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.title = title

    return TitledFilter


def by_date(title: Any) -> Any:
    """Return a filter by date with this title."""
    return titled(title, admin.DateFieldListFilter)


class ReadOnlyAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # no generics at run time
    """Show rows that only this app writes; there may be a million of them."""

    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    paginator = BoundedPaginator
    # Django's default of 100 rows takes longer to render than to query.
    list_per_page = 50
    #: Returns what the lookup ``searched`` compares with, for one search term. ``search_fields``
    #: only makes Django show the search box.
    keys_named: Any
    searched = "pk__in"

    class Media:
        css = {"all": ["oscar_bitsby/admin.css"]}

    def get_readonly_fields(self, request: HttpRequest, obj: Model | None = None) -> list[str]:
        return flatten_fieldsets(self.get_fieldsets(request, obj))

    def get_search_results(
        self, request: HttpRequest, queryset: Any, search_term: str
    ) -> tuple[Any, bool]:
        words = search_term.split() if self.search_fields else []
        for word in words:
            queryset = queryset.filter(**{self.searched: type(self).keys_named(word)})
        return queryset, False

    def _refuse(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    has_add_permission = has_change_permission = has_delete_permission = _refuse


def column(description: Any, show: Any) -> Any:
    """Return a column or field of a model admin: what ``show`` returns for a row, if anything."""

    @admin.display(description=description)
    def shown(model_admin: ReadOnlyAdmin, row: Any) -> Any:
        value, empty = show(row), model_admin.get_empty_value_display()
        return empty if value == "" else display_for_value(value, empty)

    return shown


def translated(field: str, description: Any) -> Any:
    """Return a column of a model admin that shows a stored text in the reader's language."""
    return column(description, lambda row: i18n.translate_stored(getattr(row, field)))
