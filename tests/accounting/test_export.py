"""The rows of an export, what they add up to, and the three formats."""

import csv
import datetime as dt
import io
import json
import re
import zipfile
from decimal import Decimal
from xml.etree import ElementTree

import pytest
from django.db.models import Sum
from oscar.core.loading import get_model

from oscar_bitsby.accounting import export, export_formats
from oscar_bitsby.choices import InvoiceStatus, Resolution, ReviewReason
from oscar_bitsby.gateway import parsing
from oscar_bitsby.models import BitsbyInvoice, BitsbyPayment
from oscar_bitsby.settlement import refunds, settle
from tests.paths import ROOT
from tests.support import bitsby
from tests.support.refunds import book_payment, request_refund, sent_refund, unbound_payment
from tests.support.staff import log_in

Source = get_model("payment", "Source")

pytestmark = pytest.mark.django_db

ALWAYS = export.period_of(dt.date(2000, 1, 1), dt.date(2200, 1, 1))
NOON = dt.datetime(2026, 12, 1, 12, tzinfo=dt.timezone.utc)
#: More digits than a spreadsheet program calculates with.
LONG = Decimal("1234567.123456789012345678")
SHEET = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"


def exported(kind="", period=ALWAYS):
    """Return the rows as dicts."""
    return [dict(zip(export.COLUMNS, row, strict=True)) for row in export.rows_of(period, kind)]


def cells(**values):
    """Return a row with some cells."""
    return tuple(values.get(name) for name in export.COLUMNS)


def formatted(format_, *rows):
    """Return the bytes of a file with these rows."""
    file = io.BytesIO()
    export_formats.write(rows, format_, file)
    return file.getvalue()


def as_csv():
    text = formatted("csv", *export.rows_of(ALWAYS)).decode()
    return list(csv.DictReader(io.StringIO(text, newline="")))


def sheet_cells(data):
    """Return the cells of an XLSX file by their names: the type, and the text or number."""
    with zipfile.ZipFile(io.BytesIO(data)) as book:
        root = ElementTree.fromstring(book.read("xl/worksheets/sheet1.xml"))
    return {
        cell.get("r"): (cell.get("t", "n"), "".join(cell.itertext()))
        for cell in root.iter(f"{SHEET}c")
    }


def invoice_numbers(order_numbers):
    """Number the invoices of all orders but the first one, as a shop does."""
    assert len(order_numbers) <= export.MAX_NUMBERS
    return {number: f"INV-{number}" for number in order_numbers[1:]}


def broken_numbers(order_numbers):
    raise LookupError("the books are closed")


def documented(marker):
    """Return the words that begin the rows of a table in ``docs/accounting.rst``."""
    page = (ROOT / "docs" / "accounting.rst").read_text()
    table = page.split(f".. {marker}-begin")[1].split(f".. {marker}-end")[0]
    cells = re.findall(r"^((?:``\w+``,? ?)+)", table, re.M)
    return [word for cell in cells for word in re.findall(r"``(\w+)``", cell)]


def test_every_column_and_word_is_documented():
    """The page on accounting lists the columns in their order, and each word of a choice."""
    assert documented("columns") == list(export.COLUMNS)
    choices = (*ReviewReason, *Resolution, *InvoiceStatus)
    assert documented("words") == [choice.value for choice in choices]


def test_payment_has_a_row_with_all_that_is_known(invoice):
    """A booked payment that staff decided about fills every column but the invoice number."""
    BitsbyInvoice.objects.filter(pk=invoice.pk).update(commission_usd="0.08")
    payment = book_payment(invoice, "8.00000000")
    user = log_in("ada").user
    BitsbyPayment.objects.filter(pk=payment.pk).update(
        further_reasons="late",
        **{"resolution": "accepted", "resolved_by": user, "resolved_at": NOON},
        **{"resolution_note": "a regular", "locked_rate": "1.25", "booked_at": NOON},
        transaction_at=NOON,
    )

    assert as_csv() == [
        {
            "time": "2026-12-01T12:00:00Z",
            "order_number": invoice.order_number,
            "invoice_number": "",
            "bitsby_invoice_id": str(invoice.bitsby_id),
            "bitsby_invoice_uid": invoice.uid,
            "payment_id": str(payment.bitsby_id),
            "kind": "payment",
            "coin": "usdt",
            "chain": "tron",
            "coin_amount": "8",
            "address": payment.address,
            "transaction_hash": payment.hash,
            "asked_amount": "10.00",
            "worth": "8.00",
            "currency": "USD",
            "locked_rate": "1.25",
            "commission_usd": "0.08",
            "reason": "short late",
            "decision": "accepted",
            "decided_by": "ada",
            "note": "a regular",
            "time_source": "chain",
            "booked": "2026-12-01T12:00:00Z",
            "status": "settled",
        }
    ]


def test_sent_refund_has_a_row_and_others_have_none(invoice):
    """A sent refund names its payment, where the coins went, and who sent them."""
    payment, user = book_payment(invoice), log_in("ada").user
    refund = sent_refund(user, payment, "4.00", coin_amount=Decimal(4))
    refunds.cancel(request_refund(user, payment, "6.00").pk, user, "no address")

    assert len(exported()) == 2
    (row,) = exported("refunds")
    assert {name: value for name, value in row.items() if value not in (None, "")} == {
        "time": refund.closed_at,
        "order_number": invoice.order_number,
        "bitsby_invoice_id": invoice.bitsby_id,
        "bitsby_invoice_uid": invoice.uid,
        "payment_id": payment.bitsby_id,
        "kind": "refund",
        "coin": "usdt",
        "chain": "tron",
        "coin_amount": refund.coin_amount,
        "address": refund.address,
        "transaction_hash": refund.transaction_hash,
        "worth": Decimal("4.00"),
        "currency": "USD",
        "locked_rate": Decimal(1),
        "decided_by": "ada",
        "note": refund.note,
        "time_source": "sent",
        "booked": refund.closed_at,
        "status": "sent",
    }


def test_invoice_has_a_row_with_what_was_received(invoice, offer):
    """An invoice names what it asks for and what was booked; unknown amounts are empty."""
    payment = book_payment(invoice, "8.00000000")
    unpaid = offer("5.00", "unpaid", failure="no answer")

    rows = {row["order_number"]: row for row in exported("invoices")}
    paid = rows[invoice.order_number]
    assert (paid["kind"], paid["status"], paid["asked_amount"]) == ("invoice", "paid", 10)
    assert (paid["worth"], paid["booked"]) == (8, payment.booked_at)
    other = rows[unpaid.order_number]
    assert (other["status"], other["note"], other["asked_amount"]) == ("unpaid", "no answer", 5)
    assert (other["worth"], other["booked"], other["commission_usd"]) == (None, None, None)


def test_period_has_its_first_moment_and_not_its_end():
    """Payments are sorted by time; without a time on the chain, the first sight counts."""
    day = dt.timedelta(days=1)
    start = NOON.replace(hour=0)
    first = unbound_payment(transaction_at=start)
    seen = unbound_payment(transaction_at=None, seen_at=NOON)
    last = unbound_payment(transaction_at=start + day - dt.timedelta(microseconds=1))
    unbound_payment(transaction_at=start + day)
    unbound_payment(transaction_at=start - day, seen_at=NOON)

    period = export.period_of(start.date(), (start + day).date())
    rows = exported(period=period)
    assert [row["payment_id"] for row in rows] == [first.bitsby_id, seen.bitsby_id, last.bitsby_id]
    assert [row["time_source"] for row in rows] == ["chain", "first seen", "chain"]
    assert export.count_rows(period) == 3


@pytest.mark.parametrize(
    ("first", "end", "why"),
    [
        (dt.date(2026, 12, 2), dt.date(2026, 12, 1), "later"),
        (dt.date(2026, 12, 1), dt.date(2026, 12, 1), "later"),
        (dt.date(1999, 12, 31), dt.date(2026, 12, 1), "2000-01-01 to 2200-01-01"),
        (dt.date(2026, 12, 1), dt.date(9999, 12, 31), "2000-01-01 to 2200-01-01"),
    ],
)
def test_reversed_and_far_days_are_refused(first, end, why):
    """A period without a day, and a day that can only be a typing error, are refused."""
    with pytest.raises(export.CannotExport, match=why):
        export.period_of(first, end)


def test_rows_tell_what_is_decided_and_other_projects_have_none():
    """Open payments differ from very small ones; payments of another project are left out."""
    unbound_payment(transaction_at=NOON)
    unbound_payment(transaction_at=NOON, is_dust=True)
    unbound_payment(transaction_at=NOON, resolution="dismissed", resolved_at=NOON)
    unbound_payment(transaction_at=NOON, resolution="tolerated", resolved_at=NOON)
    unbound_payment(is_foreign=True)

    rows = exported("payments")
    assert [(row["status"], row["decided_by"]) for row in rows] == [
        ("to decide", ""),
        ("very small", ""),
        ("settled", "(former user)"),
        ("settled", "(app)"),
    ]


def test_commission_of_an_invoice_is_counted_once(invoice):
    """Of two payments of an invoice, the one that was booked first has the commission."""
    BitsbyInvoice.objects.filter(pk=invoice.pk).update(commission_usd="0.10")
    unbound_payment(invoice=invoice)
    first = book_payment(invoice)
    book_payment(invoice)

    found = {row["payment_id"]: row["commission_usd"] for row in exported()}
    assert len(found) == 3
    assert {pk for pk, commission in found.items() if commission is not None} == {first.bitsby_id}


def test_sums_agree_with_oscars_ledger(invoice, offer):
    """Booked payments less refunds are what Oscar's sources hold."""
    payment = book_payment(invoice)
    book_payment(offer("7.00", "unpaid"), "6.00000000")
    unbound_payment(fiat_value=Decimal("5.55"), currency="USD")
    sent_refund(log_in("ada").user, payment, "4.00", coin_amount=Decimal(4))

    received = sum(row["worth"] for row in exported("payments") if row["booked"])
    refunded = sum(row["worth"] for row in exported("refunds") if row["booked"])
    held = Source.objects.aggregate(paid=Sum("amount_debited"), refunded=Sum("amount_refunded"))
    assert held == {"paid": received, "refunded": refunded} == {"paid": 16, "refunded": 4}
    assert sum(row["worth"] or 0 for row in exported("invoices")) == received


def test_shop_fills_in_its_invoice_numbers(configure, offer, monkeypatch):
    """The shop's function gets a bounded number of orders; what it leaves out stays empty."""
    monkeypatch.setattr(export, "MAX_NUMBERS", 2)
    configure(INVOICE_NUMBERS=f"{__name__}.invoice_numbers")
    orders = [offer(f"{number}.00").order_number for number in range(1, 5)]
    unbound_payment()

    numbers = {row["order_number"]: row["invoice_number"] for row in exported("invoices")}
    assert list(numbers) == orders
    assert list(numbers.values()) == ["", f"INV-{orders[1]}", "", f"INV-{orders[3]}"]
    assert [row["invoice_number"] for row in exported()] == [""]


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("nowhere.numbers", "ModuleNotFoundError"),
        (f"{__name__}.broken_numbers", "LookupError: the books are closed"),
        ("builtins.sorted", "it returned no dict, but list"),
    ],
)
def test_broken_function_for_invoice_numbers_fails_the_export(configure, invoice, path, why):
    """The error names the setting and what went wrong."""
    configure(INVOICE_NUMBERS=path)

    with pytest.raises(export.CannotExport, match=f"INVOICE_NUMBERS.*{why}"):
        exported("invoices")


def test_csv_has_no_formula_and_no_exponent():
    """A text that looks like a formula is escaped; numbers are plain digits."""
    formula = '=HYPERLINK("http://evil.example","x")'
    text = formatted(
        "csv",
        cells(transaction_hash=formula, note="-1+1", coin_amount=Decimal("1E-18")),
        cells(coin_amount=Decimal("0E-18"), worth=Decimal("0.00"), note="line\nline"),
        cells(coin_amount=LONG, worth=Decimal("1.10")),
    )

    first, second, third = csv.DictReader(io.StringIO(text.decode(), newline=""))
    assert (first["transaction_hash"], first["note"]) == (f"'{formula}", "'-1+1")
    amounts = [row["coin_amount"] for row in (first, second, third)]
    assert amounts == ["0.000000000000000001", "0", str(LONG)]
    assert [row["worth"] for row in (first, second, third)] == ["", "0.00", "1.10"]
    assert second["note"] == "line\nline"


@pytest.mark.parametrize("before", ["\t", "\r", "\n", "  ", "\ufeff", "\xa0"])
def test_csv_has_no_hidden_formula(before):
    """Spreadsheet programs skip blanks before a formula; other texts are not changed."""
    text = formatted("csv", cells(address=f"{before}=1+1", note="- a b", chain=" tron"))

    (row,) = csv.DictReader(io.StringIO(text.decode(), newline=""))
    assert row["address"] == f"'{before}=1+1"
    assert row["chain"] == " tron"


def test_json_lines_have_amounts_as_texts():
    """No reader makes a floating-point number of an amount; an unknown amount is null."""
    text = formatted("jsonl", cells(time=NOON, coin_amount=LONG, transaction_hash="=1+1"))

    (row,) = map(json.loads, text.splitlines())
    assert list(row) == list(export.COLUMNS)
    assert (row["coin_amount"], row["worth"]) == (str(LONG), None)
    assert (row["time"], row["transaction_hash"]) == ("2026-12-01T12:00:00Z", "=1+1")


def test_xlsx_has_dates_numbers_and_exact_amounts():
    """Texts are no formulas or links; an amount with too many digits for a number is a text."""
    data = formatted(
        "xlsx",
        cells(time=NOON, coin_amount=Decimal("0.5"), worth=Decimal("8.10"), note="=1+1"),
        cells(time=NOON, coin_amount=LONG, note="http://evil.example"),
        cells(time=NOON, coin_amount=Decimal("1234567.12345678"), note="'"),
    )

    found = sheet_cells(data)
    assert [found[f"{letter}1"][1] for letter in "ABC"] == list(export.COLUMNS)[:3]
    # The days since the end of 1899.
    assert found["A2"] == ("n", "46357.5")
    assert (found["J2"], found["N2"]) == (("n", "0.5"), ("n", "8.1"))
    assert (found["J3"], found["J4"]) == (("inlineStr", str(LONG)), ("n", "1234567.12345678"))
    notes = [found[f"U{row}"] for row in (2, 3, 4)]
    assert notes == [("inlineStr", text) for text in ("=1+1", "http://evil.example", "'")]
    assert "N3" not in found


def test_sheet_is_never_cut(monkeypatch):
    """More rows than a sheet holds are an error, before and while rows are written."""
    monkeypatch.setattr(export_formats, "MAX_SHEET_ROWS", 1)
    export_formats.check_format("xlsx", lambda: 1)
    formatted("xlsx", cells())
    with pytest.raises(export.CannotExport, match="1 rows at most"):
        export_formats.check_format("xlsx", lambda: 2)
    with pytest.raises(export.CannotExport, match="1 rows at most"):
        formatted("xlsx", cells(), cells())


def test_text_that_a_cell_cannot_hold_fails_the_sheet():
    """A text of more than 32,767 characters is not cut."""
    with pytest.raises(export.CannotExport, match="too long"):
        formatted("xlsx", cells(note="x" * 32_768))


def test_commission_and_locked_rate_are_stored(invoice):
    """Bitsby's commission, once it names one, and the rate that the invoice locked are exported."""
    item = bitsby.invoice_item(invoice, "paid", payment=bitsby.transfer())
    settle(invoice, parsing.parse_invoice(item))
    (row,) = exported()
    assert (row["locked_rate"], row["commission_usd"]) == (1, None)

    settle(invoice, parsing.parse_invoice(item | {"commissionFiatUSD": "0.10"}))
    (row,) = exported()
    assert row["commission_usd"] == Decimal("0.10")
