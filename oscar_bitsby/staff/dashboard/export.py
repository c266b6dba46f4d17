"""The page that exports payments, refunds or invoices, and downloads of rows in general."""

import datetime as dt
import logging
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from itertools import chain, islice
from typing import IO, Any

from django import forms
from django.apps import apps
from django.contrib.contenttypes.models import ContentType
from django.http import FileResponse, HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy
from django.views.generic import View

from oscar_bitsby.accounting import export, export_formats
from oscar_bitsby.exceptions import BitsbyError
from oscar_bitsby.models import BitsbyPayment
from oscar_bitsby.staff import permissions
from oscar_bitsby.staff.dashboard.access import DashboardMixin

logger = logging.getLogger("oscar_bitsby")


class ExportForm(forms.Form):
    """The days, kind and format. ``from`` is a Python keyword, so fields are added by name."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["from"] = _day_field(_("First day"))
        self.fields["to"] = _day_field(_("Day after the last day"))
        self.fields["kind"] = forms.ChoiceField(
            label=_("What to export"),
            required=False,
            choices=[
                ("", _("Payments and refunds")),
                (export.PAYMENTS, _("Payments")),
                (export.REFUNDS, _("Refunds")),
                (export.INVOICES, _("Invoices")),
            ],
        )
        formats = [
            (export_formats.CSV, "CSV"),
            (export_formats.XLSX, "XLSX (Excel, LibreOffice)"),
            (export_formats.JSONL, _("JSON lines")),
        ]
        if not export_formats.has_xlsxwriter():
            del formats[1]
        self.fields["format"] = forms.ChoiceField(
            label=pgettext_lazy("file", "Format"), choices=formats
        )

    def clean(self) -> dict[str, Any]:
        values: dict[str, Any] = super().clean() or {}
        if values.get("from") and values.get("to"):
            try:
                values["period"] = export.period_of(values["from"], values["to"])
            except export.CannotExport as error:
                self.add_error("to", f"{error}.")
        return values


def _day_field(label: Any) -> forms.DateField:
    widget = forms.DateInput(attrs={"type": "date"}, format="%Y-%m-%d")
    return forms.DateField(label=label, widget=widget, input_formats=["%Y-%m-%d"])


def _last_month() -> dict[str, Any]:
    this_month = timezone.now().astimezone(dt.timezone.utc).date().replace(day=1)
    last_month = (this_month - dt.timedelta(days=1)).replace(day=1)
    return {"from": last_month, "to": this_month, "format": export_formats.CSV}


class ExportView(DashboardMixin, View):
    """Show the form, or download what its fields in the query ask for."""

    require_permission = staticmethod(permissions.require_see_permission)

    def get(self, request: HttpRequest) -> HttpResponseBase:
        if not request.GET:
            return _page(request, ExportForm(initial=_last_month()))
        form = ExportForm(request.GET)
        if not form.is_valid():
            return _page(request, form)
        period, kind = form.cleaned_data["period"], form.cleaned_data["kind"]
        format_ = form.cleaned_data["format"]
        name = f"bitsby-{kind or 'export'}-{form.cleaned_data['from']}-{form.cleaned_data['to']}"
        try:
            export_formats.check_format(format_, lambda: export.count_rows(period, kind))
            return stream_rows(request, export.rows_of(period, kind), format_, name)
        except BitsbyError as error:
            form.add_error(None, f"{error}.")
            return _page(request, form)


def _page(request: HttpRequest, form: ExportForm) -> HttpResponse:
    context = {"form": form, "has_xlsx": export_formats.has_xlsxwriter()}
    return render(request, "oscar_bitsby/dashboard/export.html", context)


def stream_rows(
    request: HttpRequest, rows: Iterator[export.Row], format_: str, name: str
) -> HttpResponseBase:
    """Return a download of rows, and log who has asked for it.

    CSV and JSON lines are sent while the rows are read. An error after the first rows breaks the
    download off, so that the browser reports it as failed.

    Args:
        rows: from ``accounting.export``.
        format_: one of ``export_formats.FORMATS``.
        name: the name of the file without its extension.

    Raises:
        PermissionDenied: the user may not see all amounts.
        CannotExport: the rows cannot be exported. The message is for the user.
    """
    permissions.require_see_permission(request.user)
    content_type = export_formats.CONTENT_TYPES[format_]
    response: StreamingHttpResponse
    if format_ == export_formats.XLSX:
        export_formats.check_format(format_, lambda: 0)
        try:
            response = FileResponse(_written(rows, format_), content_type=content_type)
        except OSError as error:
            logger.error("an export could not be written: %s", str(error))
            text = _("The server cannot write the file: %s. Free disk space, or export CSV")
            raise export.CannotExport(text % (error.strerror or error)) from error
    else:
        pieces = export_formats.texts(rows, format_)
        # An error in the first rows is shown on the page.
        first = list(islice(pieces, 1))
        encoded = (piece.encode() for piece in chain(first, pieces))
        response = StreamingHttpResponse(encoded, content_type=content_type)
    response["Content-Disposition"] = f'attachment; filename="{name}.{format_}"'
    response["Cache-Control"] = "no-store"
    _log(request, f"{name}.{format_}")
    return response


def _written(rows: Iterator[export.Row], format_: str) -> IO[bytes]:
    """Return a temporary file with the rows, which the caller closes."""
    file = tempfile.TemporaryFile()  # noqa: SIM115  # it is returned
    try:
        export_formats.write(rows, format_, file)
        file.seek(0)
    except BaseException:
        # Closing would write, too.
        with suppress(OSError):
            file.close()
        raise
    return file


def _log(request: HttpRequest, name: str) -> None:
    """Log an export, also in Django's admin log, if the shop has it."""
    user: Any = request.user
    logger.info("export: file=%s user=%s", name, user.pk)
    if not apps.is_installed("django.contrib.admin"):
        return
    # Without the app, the model cannot be imported.
    from django.contrib.admin.models import CHANGE, LogEntry

    LogEntry.objects.create(
        user_id=user.pk,
        content_type=ContentType.objects.get_for_model(BitsbyPayment),
        object_repr=name[:200],
        action_flag=CHANGE,
        change_message=f"Bitsby: exported {name}: {request.GET.urlencode()}",
    )
