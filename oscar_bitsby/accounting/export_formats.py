"""Write the rows of an export as CSV, XLSX or JSON lines."""

from __future__ import annotations

import datetime as dt
import io
import json
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from importlib.util import find_spec
from itertools import islice
from typing import IO, Any

import defusedcsv.csv
from django.utils.translation import gettext as _

from oscar_bitsby.accounting.export import COLUMNS, CannotExport, ColumnType, Row

CSV, XLSX, JSONL = "csv", "xlsx", "jsonl"
CONTENT_TYPES = {
    CSV: "text/csv; charset=utf-8",
    XLSX: "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    JSONL: "application/jsonl; charset=utf-8",
}
FORMATS = tuple(CONTENT_TYPES)
INSTALL_XLSXWRITER = "pip install 'django-oscar-bitsby[export]'"

#: The rows of a sheet, but for the first one, which has the names of the columns.
MAX_SHEET_ROWS = 1_048_575
#: A spreadsheet program rounds numbers with more digits.
MAX_DIGITS = 15
#: Formulas that defusedcsv does not see: it looks at the first character only. Spreadsheet programs
#: skip blanks before a formula, some know the wide signs, and a tab or line break may start a cell.
_HIDDEN_FORMULA = re.compile(r"[\t\r\n]|[\s\ufeff]+[=+@|%-]|[\s\ufeff]*[\uff1d\uff0b\uff0d\uff20]")
#: Rows that are joined to one piece of text.
_CHUNK = 1_000


def _time_text(moment: dt.datetime) -> str:
    return moment.astimezone(dt.timezone.utc).isoformat()[:19] + "Z"


def _fiat_text(amount: Decimal) -> str:
    return f"{amount:f}"


def _coins_text(amount: Decimal) -> str:
    # The column's decimals; a zero among them would be written with an exponent by ``str``.
    return f"{amount:.18f}".rstrip("0").rstrip(".")


_TO_TEXT: dict[ColumnType, Callable[[Any], str]] = {
    ColumnType.TIME: _time_text,
    ColumnType.TEXT: str,
    ColumnType.FIAT: _fiat_text,
    ColumnType.COINS: _coins_text,
}
_CONVERTERS = [_TO_TEXT[type_] for type_ in COLUMNS.values()]


def _csv_text(value: Any) -> str:
    text = str(value)
    return f"'{text}" if _HIDDEN_FORMULA.match(text) else text


_CSV_CONVERTERS = [_csv_text if convert is str else convert for convert in _CONVERTERS]


def _texts(row: Row, converters: list[Callable[[Any], str]] = _CONVERTERS) -> list[str | None]:
    return [
        None if value is None else convert(value)
        for convert, value in zip(converters, row, strict=True)
    ]


def texts(rows: Iterable[Row], format_: str) -> Iterator[str]:
    """Return the text of a CSV or JSON lines file in pieces, to be encoded as UTF-8."""
    return _csv_texts(rows) if format_ == CSV else _json_texts(rows)


def _csv_texts(rows: Iterable[Row]) -> Iterator[str]:
    buffer = io.StringIO()
    # No spreadsheet program takes a text that it writes for a formula.
    writer = defusedcsv.csv.writer(buffer)
    writer.writerow(COLUMNS)
    for chunk in _chunks(rows):
        writer.writerows(_texts(row, _CSV_CONVERTERS) for row in chunk)
        yield buffer.getvalue()
        buffer.seek(0)
        buffer.truncate()
    yield buffer.getvalue()


def _json_texts(rows: Iterable[Row]) -> Iterator[str]:
    for chunk in _chunks(rows):
        # Amounts are texts too: a reader would make floating-point numbers of them.
        found = (dict(zip(COLUMNS, _texts(row), strict=True)) for row in chunk)
        yield "".join(json.dumps(item, ensure_ascii=False) + "\n" for item in found)


def _chunks(rows: Iterable[Row]) -> Iterator[list[Row]]:
    rows = iter(rows)
    while chunk := list(islice(rows, _CHUNK)):
        yield chunk


def has_xlsxwriter() -> bool:
    """Return whether XLSX files can be written: that needs the extra ``export``."""
    return find_spec("xlsxwriter") is not None


def check_format(format_: str, count: Callable[[], int]) -> None:
    """Refuse an XLSX file that cannot be written, before any row is read.

    Args:
        count: returns the number of rows.

    Raises:
        CannotExport: there are too many rows, or XlsxWriter is not installed.
    """
    if format_ != XLSX:
        return
    if not has_xlsxwriter():
        text = _("XLSX files need a library that is not installed: %(command)s")
        raise CannotExport(text % {"command": INSTALL_XLSXWRITER})
    if count() > MAX_SHEET_ROWS:
        raise CannotExport(_too_many())


def write(rows: Iterable[Row], format_: str, file: IO[bytes]) -> None:
    """Write an export into a binary file. After an error, what is in the file is of no use.

    Raises:
        CannotExport: an XLSX file cannot hold the rows; see also ``check_format``.
        OSError: the disk is full, for example.
    """
    if format_ == XLSX:
        _write_xlsx(rows, file)
    else:
        for text in texts(rows, format_):
            file.write(text.encode())


def _too_many() -> str:
    text = _("XLSX files hold %d rows at most, and there are more: export CSV, or a shorter period")
    return text % MAX_SHEET_ROWS


def _write_xlsx(rows: Iterable[Row], file: IO[bytes]) -> None:
    from xlsxwriter.exceptions import FileCreateError

    try:
        _write_book(rows, file)
    except FileCreateError as error:
        # It wraps an OSError, and is none.
        raise OSError(*error.args[0].args) from error


def _write_book(rows: Iterable[Row], file: IO[bytes]) -> None:
    import xlsxwriter

    options = {"constant_memory": True, "strings_to_formulas": False, "strings_to_urls": False}
    with (
        # XlsxWriter leaves its own temporary files behind after an error.
        tempfile.TemporaryDirectory() as folder,
        xlsxwriter.Workbook(file, options | {"tmpdir": folder}) as book,
    ):
        book.use_zip64()
        sheet = book.add_worksheet("Bitsby")
        sheet.freeze_panes(1, 0)
        sheet.set_column(0, len(COLUMNS) - 1, 20)
        sheet.write_row(0, 0, COLUMNS, book.add_format({"bold": True}))
        styles = {
            ColumnType.TIME: book.add_format({"num_format": "yyyy-mm-dd hh:mm:ss"}),
            ColumnType.TEXT: None,
            ColumnType.FIAT: book.add_format({"num_format": "0.00"}),
            ColumnType.COINS: book.add_format({"num_format": "0.00" + "#" * 16}),
        }
        columns = [(type_, styles[type_]) for type_ in COLUMNS.values()]
        for number, row in enumerate(rows, start=1):
            if number > MAX_SHEET_ROWS:
                raise CannotExport(_too_many())
            for column, value in enumerate(row):
                if value is not None and value != "":
                    type_, style = columns[column]
                    if _write_cell(sheet, number, column, type_, value, style):
                        raise CannotExport(_("A text is too long for XLSX: export CSV"))


def _write_cell(
    sheet: Any, row: int, column: int, type_: ColumnType, value: Any, style: Any
) -> int:
    """Write a cell of the type of its column; return an error of XlsxWriter, or zero."""
    if type_ is ColumnType.TIME:
        moment = value.astimezone(dt.timezone.utc).replace(microsecond=0, tzinfo=None)
        return int(sheet.write_datetime(row, column, moment, style))
    text = _TO_TEXT[type_](value)
    if type_ is ColumnType.TEXT or len(text.replace(".", "").lstrip("0")) > MAX_DIGITS:
        return int(sheet.write_string(row, column, text))
    return int(sheet.write_number(row, column, float(text), style))
