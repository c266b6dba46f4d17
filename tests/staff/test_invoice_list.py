"""The list of invoices and its filters."""

import csv
import datetime as dt
import re

import pytest
from django.contrib.auth import get_user_model
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone
from django.utils.formats import date_format
from oscar.core.loading import get_model

from oscar_bitsby.models import BitsbyInvoice
from oscar_bitsby.staff import search
from tests.support import bitsby
from tests.support.staff import (
    EVIL,
    INBOX,
    INVOICES,
    MAY_BIND,
    PARTNER,
    Page,
    assert_constant_queries,
    create_payments,
    log_in,
    receive_payment,
)

Order = get_model("order", "Order")

pytestmark = pytest.mark.django_db


@pytest.fixture
def invoices(fake, place, invoice_for):
    """One of each status, two currencies, two days; the short one needs attention."""
    at = timezone.now() - dt.timedelta(days=10)
    old = {"created_at": at, "ended_at": at, "order_awaits_payment": False}
    found = {
        "unpaid": invoice_for(place(), uid="uid-unpaid"),
        "euro": invoice_for(place(currency="EUR"), "expired", uid="uid-euro"),
        "old": invoice_for(place(), "canceled", uid="uid-old", **old),
        "short": invoice_for(place(), uid="uid-short"),
    }
    found["payment"] = receive_payment(fake, found["short"])
    return found


def listed(client, **query):
    response = client.get(reverse(INVOICES), query)
    assert response.status_code == 200
    return re.findall(r"uid-[a-z]+", " ".join(Page(response).rows()))


def test_invoices_are_listed_newest_first(invoices, staff):
    """Number with a link to the order's tab, customer, status, amounts and time of payment."""
    assert listed(staff) == ["uid-short", "uid-euro", "uid-unpaid", "uid-old"]

    page = Page(staff.get(reverse(INVOICES)))
    order = invoices["euro"].order
    assert reverse("dashboard:order-detail", args=[order.number]) + "#bitsby" in page.links
    (row,) = [row for row in page.rows() if "uid-euro" in row]
    assert "expired €10.00 – –" in row
    (row,) = [row for row in page.rows() if "uid-short" in row]
    paid_at = date_format(timezone.localtime(invoices["payment"].transaction_at), "DATETIME_FORMAT")
    assert "buyer@example.com paid Needs review $10.00 $8.00" in row
    assert paid_at in row


def test_invoices_can_be_filtered(invoices, staff):
    """Status, currency, dates and attention, alone and together."""
    today = timezone.localdate()
    week = (today - dt.timedelta(days=7)).isoformat()
    assert listed(staff, status="paid") == ["uid-short"]
    assert listed(staff, status="canceled") == ["uid-old"]
    assert listed(staff, currency="EUR") == ["uid-euro"]
    assert listed(staff, currency="RUB") == []
    assert listed(staff, date_to=week) == ["uid-old"]
    assert listed(staff, date_from=week) == ["uid-short", "uid-euro", "uid-unpaid"]
    assert len(listed(staff, date_from=today.isoformat(), date_to=today.isoformat())) == 3
    assert listed(staff, attention="on") == ["uid-short"]
    assert listed(staff, attention="on", currency="EUR") == []
    assert listed(staff, status="paid", currency="USD", attention="on") == ["uid-short"]


def test_invoice_without_an_answer_needs_attention(invoices, staff):
    """It is listed as one that needs attention, with the reason, while an answer is needed."""
    BitsbyInvoice.objects.filter(pk=invoices["euro"].pk).update(
        unanswered_since=timezone.now(), unanswered_reason="HTTP 404"
    )

    assert listed(staff, attention="on") == ["uid-short", "uid-euro"]
    assert "HTTP 404" in Page(staff.get(reverse(INVOICES))).text

    BitsbyInvoice.objects.update(order_awaits_payment=False)
    assert listed(staff, attention="on") == ["uid-short"]


def test_invoices_are_found_by_number_uid_id_and_hash(invoices, staff):
    """Whole values of the invoice or of its payment; anything else finds none."""
    short, payment = invoices["short"], invoices["payment"]
    for text in (
        short.order_number,
        short.uid,
        str(short.bitsby_id),
        str(short.bitsby_id).upper(),
        short.bitsby_id.hex,
        f"  {payment.hash} ",
        payment.hash,
        str(payment.bitsby_id),
    ):
        assert listed(staff, q=text) == ["uid-short"], text
    for text in ("nothing", str(bitsby.new_id()), "uid-", "%", "%%%", "___", "'", "9" * 200):
        assert listed(staff, q=text) == [], text


def test_invoices_are_found_by_a_part_of_the_order_number(place, invoice_for, staff, monkeypatch):
    """The beginning finds all; another part finds the newest ones; two characters find none."""
    monkeypatch.setattr(search, "MAX_COUNT", 2)
    order, now = place(), timezone.now()
    for age, number in enumerate(("SO-77123", "SO-88123", "SO-77129")):
        values = {"order_number": number, "created_at": now - dt.timedelta(days=age)}
        invoice_for(order, "expired", uid=f"uid-{'abc'[age]}", **values)

    assert listed(staff, q="SO-77") == ["uid-a", "uid-c"]
    assert listed(staff, q="so-88") == ["uid-b"]
    assert listed(staff, q="123") == ["uid-a", "uid-b"]
    assert listed(staff, q="129") == []
    assert listed(staff, q="SO") == []


def test_too_many_invoices_for_a_part_are_announced(place, invoice_for, staff, monkeypatch):
    """When some matches are missing, the page says so."""
    order = place()
    for number in range(3):
        invoice_for(order, "expired", order_number=f"SO-{number}")
    assert "some are missing" not in Page(staff.get(reverse(INVOICES), {"q": "SO-"})).text

    monkeypatch.setattr(search, "MAX_RESULTS", 2)
    assert "some are missing" in Page(staff.get(reverse(INVOICES), {"q": "SO-"})).text


def test_invoices_are_found_by_the_address_of_a_guest_or_an_account(place, invoice_for, staff):
    """Upper or lower case, the address of the purchase, and the present one of the account."""
    user = get_user_model().objects.create_user("ada", "ada@example.com", "secret")
    guest_order = place()
    guest_order.guest_email = "Guest.One@Example.com"
    invoice_for(guest_order, uid="uid-guest")
    invoice_for(place(user=user), uid="uid-user")
    user.email = "new@example.com"
    user.save()

    assert listed(staff, email="guest.one@example.com") == ["uid-guest"]
    assert listed(staff, email="ADA@example.com") == ["uid-user"]
    assert listed(staff, email="new@example.com") == ["uid-user"]
    assert listed(staff, email="nobody@example.com") == []
    (row,) = Page(staff.get(reverse(INVOICES), {"email": "new@example.com"})).rows()[1:]
    assert "new@example.com" in row


def test_invoices_can_be_sorted(place, invoice_for, staff):
    """By order number, amount and creation, either way; the filters and the next page keep it."""
    now = timezone.now()
    for age, (number, amount) in enumerate((("B2", 5), ("A1", 9), ("C3", 7))):
        uid, at = f"uid-{number[0].lower()}", now - dt.timedelta(days=age)
        invoice_for(place(), uid=uid, order_number=number, amount=amount, created_at=at)

    assert listed(staff, sort="number") == ["uid-a", "uid-b", "uid-c"]
    assert listed(staff, sort="asked", dir="desc") == ["uid-a", "uid-c", "uid-b"]
    assert listed(staff, sort="created", dir="asc") == ["uid-c", "uid-a", "uid-b"]
    assert listed(staff, sort="pk", dir="x") == ["uid-b", "uid-a", "uid-c"]
    page = Page(staff.get(reverse(INVOICES), {"sort": "asked", "dir": "desc", "status": "unpaid"}))
    assert "?status=unpaid&sort=asked&dir=asc" in page.links
    assert page.form_with("sort")[0]["dir"] == "desc"


def test_filtered_invoices_can_be_downloaded_by_those_who_may_see_amounts(
    invoices, staff, partner_client
):
    """The file has what the filters find, in the order of the list; others get no link."""
    page = Page(staff.get(reverse(INVOICES), {"currency": "USD", "sort": "created", "dir": "asc"}))
    (url,) = [link for link in page.links if link and "format=csv" in link]

    response = staff.get(url)

    rows = list(csv.DictReader(response.getvalue().decode().splitlines()))
    assert [row["bitsby_invoice_uid"] for row in rows] == ["uid-old", "uid-unpaid", "uid-short"]
    assert "attachment" in response["Content-Disposition"]
    wrong = staff.get(url + "&date_from=rubbish")
    assert wrong["Location"].startswith(f"{reverse(INVOICES)}?currency=USD")
    for other in (log_in("viewer", "order.view_order"), partner_client):
        assert "format=csv" not in other.get(reverse(INVOICES)).content.decode()
        assert other.get(url).status_code == 403


@pytest.fixture
def partner_client(product):
    """The browser of a partner's user."""
    client = log_in("partner", PARTNER, is_staff=False)
    product.stockrecords.get().partner.users.add(client.user)
    return client


@pytest.mark.parametrize(
    "query",
    [
        *("status=rubbish", "currency=XXX", "date_from=rubbish", "date_to=2026-13-45"),
        *("date_from=0001-01-01", "date_to=9999-12-31", "date_from=9999-12-31", "attention=x"),
        *("q=%00", "q=" + "x" * 5000, "q=%ff%fe", "q=%F0%9F%92%A9", "q=<script>alert(1)</script>"),
        *("page=0", "page=-1", "page=abc", "page=" + "9" * 40, "page=1.5", "page=%00"),
        *("sort=x&dir=y", "sort=asked&dir=%00", "email=rubbish", "email=a@b.example&q=%25%25%25"),
        *("page=last", "page=1", "page=2", "status=paid&status=unpaid", "page[]=1", "show=x"),
    ],
)
@pytest.mark.parametrize("name", [INBOX, INVOICES])
def test_invalid_query_parameters_cause_no_error(invoices, staff, name, query):
    """Filters and page numbers that make no sense give a page or a 404, never an error page."""
    response = staff.get(f"{reverse(name)}?{query}")

    assert response.status_code in (200, 404)
    assert EVIL not in response.content.decode()


def test_invalid_filter_shows_a_message(invoices, staff):
    """What is wrong with a filter is shown beside it."""
    page = Page(staff.get(reverse(INVOICES), {"date_from": "yesterday", "status": "rich"}))

    assert "Enter a valid date." in page.text
    assert "Select a valid choice" in page.text
    assert page.rows() == []
    reversed_days = {"date_from": "2026-02-02", "date_to": "2026-02-01"}
    page = Page(staff.get(reverse(INVOICES), reversed_days))
    assert "The last day is before the first day." in page.text


def test_pages_keep_the_filters(place, invoice_for, staff):
    """The next page of a narrowed list is narrowed too, and all rows come once."""
    order = place()
    for number in range(30):
        invoice_for(order, "expired", uid=f"e{number:02}")
    for number in range(30):
        invoice_for(order, "canceled", uid=f"c{number:02}")

    first = staff.get(reverse(INVOICES), {"status": "expired"})
    (following,) = [url for url in Page(first).links if url and "page=2" in url]
    second = staff.get(reverse(INVOICES) + following)

    seen = re.findall(
        r"\b[ec]\d\d\b", " ".join(Page(first).rows()) + " " + " ".join(Page(second).rows())
    )
    assert seen == [f"e{number:02}" for number in reversed(range(30))]


def test_list_of_invoices_counts_up_to_a_limit(place, invoice_for, staff, monkeypatch):
    """Among very many rows the first pages work and the count stops early."""
    monkeypatch.setattr("oscar_bitsby.staff.pagination.MAX_COUNT", 30)
    order = place()
    for number in range(60):
        invoice_for(order, "expired", uid=f"e{number:02}")

    text = Page(staff.get(reverse(INVOICES))).text
    assert "Page 1 of 2" in text
    assert "More than 30 invoices" in text
    assert "e30" in " ".join(Page(staff.get(reverse(INVOICES), {"page": 2})).rows())
    assert staff.get(reverse(INVOICES), {"page": 3}).status_code == 404


@pytest.mark.parametrize(
    ("permissions", "is_staff"), [(MAY_BIND, True), ([PARTNER], False)], ids=["staff", "partner"]
)
def test_list_of_invoices_needs_a_constant_number_of_queries(
    place, invoice_for, product, permissions, is_staff
):
    """Twenty invoices cost no more queries than five, and not more than fifteen."""
    client = log_in("one", *permissions, is_staff=is_staff)
    product.stockrecords.get().partner.users.add(client.user)

    def create_rows(numbers):
        for number in numbers:
            invoice_for(place(), "expired", uid=f"uid{number}")

    url = reverse(INVOICES) + "?status=expired&attention=&q="
    response = assert_constant_queries(client, url, create_rows)
    with CaptureQueriesContext(connection) as queries:
        client.get(url)

    of_invoices = [one for one in queries if 'FROM "oscar_bitsby_bitsbyinvoice"' in one["sql"]]
    assert len(of_invoices) == 3, "they count the invoices, find a page's keys, and read its rows"
    assert len(Page(response).rows()) == 21


def test_pages_of_invoices_to_review_hold_all_of_them(place, invoice_for, staff):
    """Each invoice to review is on exactly one page, the newest on the first."""
    order, now = place(), timezone.now()
    invoices = [
        invoice_for(order, "expired", created_at=now - dt.timedelta(minutes=number))
        for number in range(27)
    ]
    for invoice in invoices[:26]:
        create_payments(1, invoice=invoice, hash=f"of{invoice.pk}", review_reason="mismatch")
    url = f"{reverse(INVOICES)}?attention=on"

    for number, expected in ((1, invoices[:25]), (2, invoices[25:26])):
        rows = " ".join(Page(staff.get(f"{url}&page={number}")).rows())
        assert [row.uid for row in invoices if row.uid in rows] == [row.uid for row in expected]
    assert staff.get(f"{url}&page=3").status_code == 404
