"""The page that exports: who may, what is downloaded, and what is logged."""

import csv
import io
import tempfile

import pytest
from django.contrib.admin.models import LogEntry
from django.core.exceptions import PermissionDenied
from django.urls import reverse
from django.utils import timezone

from oscar_bitsby.accounting import export, export_formats
from oscar_bitsby.models import BitsbyInvoice
from oscar_bitsby.staff.dashboard.export import stream_rows
from tests.support.files import FullDisk
from tests.support.refunds import unbound_payment
from tests.support.staff import PARTNER, Page, log_in

pytestmark = pytest.mark.django_db

URL = reverse("oscar_bitsby:dashboard-export")
ALWAYS = {"from": "2000-01-01", "to": "2200-01-01", "kind": "", "format": "csv"}


def fail(order_numbers):
    raise LookupError("the books are closed")


def downloaded(response):
    assert response.status_code == 200
    assert response["Content-Disposition"].startswith("attachment; ")
    return b"".join(response.streaming_content)


def test_form_offers_the_last_month(staff):
    """The page shows a form, and sends nothing before the form is sent."""
    page = Page(staff.get(URL))

    fields = next(form["fields"] for form in page.forms if "from" in form["fields"])
    this_month = timezone.now().replace(day=1).date().isoformat()
    assert fields["to"] == this_month
    assert fields["from"] < this_month
    assert fields["from"].endswith("-01")
    assert not LogEntry.objects.exists()


def test_download_has_the_rows_and_is_logged(staff):
    """A CSV file is streamed; the admin log says who has exported what."""
    payment = unbound_payment()

    response = staff.get(URL, ALWAYS)
    assert response.streaming
    (row,) = csv.DictReader(io.StringIO(downloaded(response).decode(), newline=""))
    assert row["payment_id"] == str(payment.bitsby_id)
    name = "bitsby-export-2000-01-01-2200-01-01.csv"
    assert name in response["Content-Disposition"]
    entry = LogEntry.objects.get()
    assert (entry.user, entry.object_repr) == (staff.user, name)
    assert "from=2000-01-01" in entry.change_message


def test_xlsx_file_is_downloaded(staff):
    """An XLSX file is complete when it is sent."""
    unbound_payment()
    data = downloaded(staff.get(URL, ALWAYS | {"format": "xlsx"}))

    assert data.startswith(b"PK")
    assert len(LogEntry.objects.all()) == 1


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"from": "2026-13-01"}, "Enter a valid date."),
        ({"from": ""}, "This field is required."),
        ({"from": "2026-12-02", "to": "2026-12-01"}, "must be later than the start"),
        ({"to": "9999-12-31"}, "Enter days from 2000-01-01 to 2200-01-01."),
        ({"format": "pdf"}, "pdf is not one of the available choices"),
    ],
)
def test_wrong_values_are_explained(staff, values, why):
    """The form says what is wrong, and nothing is exported."""
    assert why in Page(staff.get(URL, ALWAYS | values)).text
    assert not LogEntry.objects.exists()


def test_export_that_fails_is_explained_on_the_page(staff, configure, invoice, monkeypatch):
    """The shop's function fails, or a sheet cannot hold the rows: the form says so."""
    monkeypatch.setattr(export_formats, "MAX_SHEET_ROWS", 0)
    text = Page(staff.get(URL, ALWAYS | {"kind": "invoices", "format": "xlsx"})).text
    assert "XLSX files hold 0 rows at most" in text
    configure(INVOICE_NUMBERS=f"{__name__}.fail")
    for format_ in ("csv", "jsonl"):
        text = Page(staff.get(URL, ALWAYS | {"kind": "invoices", "format": format_})).text
        assert "LookupError: the books are closed" in text
    assert not LogEntry.objects.exists()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_full_disk_is_explained_on_the_page(staff, monkeypatch):
    """An XLSX file that cannot be written is no error of the page, and not logged as exported."""
    unbound_payment()
    real = tempfile.TemporaryFile
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda: FullDisk(real()))
    text = Page(staff.get(URL, ALWAYS | {"format": "xlsx"})).text
    assert "The server cannot write the file: No space left on device." in text
    assert not LogEntry.objects.exists()


def test_only_staff_who_may_see_money_export(client):
    """Users of a partner and other staff are refused; who may view payments may export."""
    for refused in (log_in("p", PARTNER, is_staff=False), log_in("s", "order.view_order")):
        assert [refused.get(URL, query).status_code for query in ({}, ALWAYS)] == [403, 403]
    assert "login" in client.get(URL)["Location"]
    for permission in ("bind_payment", "refund_payment", "view_bitsbypayment"):
        viewer = log_in(permission, f"oscar_bitsby.{permission}")
        assert viewer.get(URL, ALWAYS).status_code == 200


def test_other_pages_download_their_rows(rf, staff, invoice):
    """``stream_rows`` sends any rows under a given name, if the user may see all amounts."""
    request = rf.get("/", {"status": "unpaid"})
    request.user = log_in("p", PARTNER, is_staff=False).user
    with pytest.raises(PermissionDenied):
        stream_rows(request, iter([]), "jsonl", "bitsby-invoices")
    request.user = staff.user
    rows = export.invoice_rows(BitsbyInvoice.objects.filter(status="unpaid"))

    response = stream_rows(request, rows, "jsonl", "bitsby-invoices")
    assert f'"order_number": "{invoice.order_number}"' in downloaded(response).decode()
    assert "bitsby-invoices.jsonl" in response["Content-Disposition"]
    assert "status=unpaid" in LogEntry.objects.get().change_message
