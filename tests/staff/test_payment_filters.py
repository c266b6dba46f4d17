"""Filters, sorting, counts and links of the list of payments to review."""

import datetime as dt
import re
from html import unescape

import pytest
from django.http import QueryDict
from django.urls import reverse
from django.utils import timezone

from oscar_bitsby.choices import ReviewReason
from oscar_bitsby.models import BitsbyPayment
from oscar_bitsby.staff.dashboard import payment_filters
from oscar_bitsby.staff.dashboard.payment_filters import list_url
from tests.support import bitsby
from tests.support.staff import (
    INBOX,
    PARTNER,
    Page,
    act_url,
    assert_constant_queries,
    create_payments,
    log_in,
    payment_card,
    payment_cards,
)

pytestmark = pytest.mark.django_db

DAY = dt.timedelta(days=1)


def show(client, **parameters):
    return client.get(reverse(INBOX), parameters)


def listed(client, **parameters):
    """Return the hashes of the payments that the list shows, in its order."""
    cards = payment_cards(show(client, **parameters))
    return [re.search(r"hash-\w+", card.text)[0].removeprefix("hash-") for card in cards]


@pytest.fixture
def payments(place, invoice_for):
    """Three payments: an unbound one, a short one of Jane Doe's order, and an old one in btc."""
    now = timezone.now()
    jane = log_in("jane", is_staff=False).user
    jane.first_name, jane.last_name = "Jane", "Doe"
    jane.save()
    order = place()
    order.user, order.guest_email = jane, ""
    order.save()
    guests = invoice_for(place(), "paid")
    create_payments(1, hash="hash-unbound", amount="1.5", seen_at=now)
    bound = {"fiat_value": 8, "currency": "USD", "review_reason": "late"}
    create_payments(
        1,
        **bound | {"invoice": invoice_for(order, "paid"), "further_reasons": "short"},
        hash="hash-jane",
        seen_at=now - 2 * DAY,
        transaction_at=now - DAY,
        address="TJaneAddress",
    )
    create_payments(
        1,
        **bound | {"invoice": guests, "fiat_value": 90},
        hash="hash-guest",
        cryptocurrency="btc",
        seen_at=now - 40 * DAY,
        transaction_at=now - 41 * DAY,
    )
    return {"jane": order, "guest": guests.order}


def test_each_filter_narrows_the_list(payments, staff):
    """By every reason, coin, age, part of the order number, customer, and several texts."""
    bound_id = str(BitsbyPayment.objects.get(hash="hash-guest").bitsby_id)
    number = payments["jane"].number
    for parameters, expected in [
        ({}, ["unbound", "jane", "guest"]),
        ({"reason": "short"}, ["jane"]),
        ({"reason": "late"}, ["jane", "guest"]),
        ({"coin": "BTC"}, ["guest"]),
        ({"age": "day"}, ["unbound"]),
        ({"age": "week"}, ["jane"]),
        ({"age": "month"}, []),
        ({"age": "older"}, ["guest"]),
        ({"order": number[1:]}, ["jane"]),
        ({"customer": "doe jane"}, ["jane"]),
        ({"customer": payments["guest"].guest_email.upper()}, ["guest"]),
        ({"q": "HASH-UN"}, ["unbound"]),
        ({"q": "janeaddr"}, ["jane"]),
        ({"q": "1,5"}, ["unbound"]),
        ({"q": bound_id}, ["guest"]),
        ({"q": payments["jane"].bitsby_invoices.get().uid}, ["jane"]),
        ({"reason": "late", "coin": "usdt"}, ["jane"]),
        ({"q": "%%%%"}, []),
    ]:
        assert listed(staff, **parameters) == expected, parameters


def test_customer_is_found_among_the_newest_payments_or_by_whole_address(
    payments, staff, monkeypatch
):
    """Names are read of as many payments as the page says; an address is found by its index."""
    monkeypatch.setattr(payment_filters, "MAX_SEARCHED", 2)
    email = payments["guest"].guest_email
    assert listed(staff, customer="doe") == ["jane"]
    assert listed(staff, customer=email[:-1]) == []
    assert listed(staff, customer=email[:-1], reason="late") == ["guest"]
    assert listed(staff, customer=email) == ["guest"]
    payments["jane"].user.email = "new@example.com"
    payments["jane"].user.save()
    assert listed(staff, customer="new@example.com") == ["jane"]
    BitsbyPayment.objects.update(resolved_at=timezone.now())
    assert listed(staff, customer="doe", show="done") == ["jane"]


def test_no_code_of_a_reason_is_part_of_another():
    """The filter by a reason looks for its code in the text of further reasons."""
    codes = ReviewReason.values
    assert not [(one, other) for one in codes for other in codes if one != other and one in other]


@pytest.mark.parametrize(
    ("parameters", "text"),
    [
        ({"reason": "nonsense"}, "Select a valid choice."),
        ({"age": "1"}, "Select a valid choice."),
        ({"q": "a" * 201}, "at most 200 characters"),
        ({"q": "ab"}, "Enter an amount, or at least 4 characters."),
        ({"coin": "a\x00"}, "Null characters are not allowed."),
    ],
)
def test_invalid_filter_says_so_and_lists_nothing(payments, staff, parameters, text):
    """A list that ignores the filter would be taken for its result."""
    response = show(staff, **parameters)

    page = Page(response).text
    assert text in page
    assert "A filter is not valid." in page
    assert "Nothing is listed until the filters are corrected." in page
    assert payment_cards(response) == []


def test_search_without_a_result_says_so(payments, staff):
    """It does not say that all payments are matched; why an unmatched one is missing is said."""
    text = Page(show(staff, order="nowhere")).text

    assert "No payments match these filters." in text
    assert "Unmatched payments belong to no order yet" in text
    assert "All payments are matched" not in text


def test_headings_sort_both_ways(payments, staff):
    """The largest comes first, again reverses it; an unknown value is last both ways."""
    expected = {
        "value": (["guest", "jane", "unbound"], ["jane", "guest", "unbound"]),
        "age": (["guest", "jane", "unbound"], ["unbound", "jane", "guest"]),
        "time": (["unbound", "jane", "guest"], ["guest", "jane", "unbound"]),
    }
    for name, (first, again) in expected.items():
        html = show(staff, reason="").content.decode()
        (url,) = re.findall(rf'href="(\?[^"]*sort={name}[^"]*)"', html)
        assert listed(staff, **QueryDict(unescape(url)[1:]).dict()) == first, name
        page = show(staff, sort=name, dir="desc").content.decode()
        assert 'aria-sort="descending"' in page
        assert f"sort={name}&amp;dir=asc" in page
        assert listed(staff, sort=name, dir="asc") == again, name
    assert listed(staff, sort="pk;--") == listed(staff)


def test_tabs_count_their_payments(payments, staff, monkeypatch):
    """Open, very small and resolved ones; a large number is bounded."""
    create_payments(2, is_dust=True)
    create_payments(1, resolved_at=timezone.now(), resolution="dismissed")

    assert "Open 3 Very small payments 2 Resolved 1" in Page(show(staff)).text

    for module in ("pagination", "dashboard.inbox"):
        monkeypatch.setattr(f"oscar_bitsby.staff.{module}.MAX_COUNT", 2)
    text = Page(show(staff)).text
    assert "Open 2+ Very small payments 2+ Resolved 1" in text


def test_tabs_pages_and_sorting_keep_the_filters(staff):
    """A search goes on in another tab, on the next page and in another order."""
    create_payments(30)
    page = Page(show(staff, coin="usdt", sort="age", dir="asc"))

    assert "?coin=usdt&sort=age&dir=asc&page=2" in page.links
    inbox = reverse(INBOX)
    assert f"{inbox}?show=done&coin=usdt&sort=age&dir=asc" in page.links
    assert "?coin=usdt&sort=value&dir=desc" in page.links
    fields, _ = page.form_with("q")
    assert (fields["sort"], fields["dir"]) == ("age", "asc")


def test_action_returns_to_the_same_list(staff):
    """After a decision the same filters, order and page are shown, by the links as rendered."""
    payments = create_payments(27)
    query = {"coin": "usdt", "sort": "age", "dir": "asc", "page": "2"}
    first = payment_cards(show(staff, **query))[0]
    (url,) = [link for link in first.links if "/dismiss/" in link]

    page = Page(staff.get(url))
    back = f"{reverse(INBOX)}?coin=usdt&sort=age&dir=asc&page=2"
    assert back in page.links
    response = staff.post(url, {"note": "not ours"})

    assert response["Location"] == back
    assert BitsbyPayment.objects.filter(resolution="dismissed").count() == 1
    # The page is shown although it is gone now.
    BitsbyPayment.objects.exclude(pk=payments[0].pk).update(resolved_at=timezone.now())
    assert len(payment_cards(staff.get(back))) == 1


def test_link_back_leads_only_to_the_list(staff):
    """An address from elsewhere in the query is not linked."""
    (payment,) = create_payments(1)
    for claimed in ("https://evil.example/", "//evil.example", "next=//evil.example&show=done"):
        response = staff.get(act_url(payment, "dismiss"), {"list": claimed})
        assert "evil" not in " ".join(filter(None, Page(response).links))
    assert list_url("show=done&next=x") == f"{reverse(INBOX)}?show=done"


def test_row_shows_customer_age_and_value(payments, staff):
    """What staff need to recognise a payment: whose it is, how long it waits, what it is worth."""
    text = payment_card(staff, BitsbyPayment.objects.get(hash="hash-jane")).text

    assert "Jane Doe <jane@example.com>" in text
    assert "2 days" in text.replace("\xa0", " ")
    assert "$8.00" in text


def test_value_of_an_unbound_payment_is_that_of_its_best_match(invoice, staff):
    """It is marked as an estimate, on the row and where it is dismissed, beside the hash."""
    (payment,) = create_payments(1, amount="9.5", wallet_id=bitsby.TRON, hash="hash-estimate")

    assert "about $9.50" in payment_card(staff, payment).text
    page = Page(staff.get(act_url(payment, "dismiss"))).text
    assert "9.5 USDT (about $9.50)" in page
    assert "hash-estimate" in page


def test_partners_find_only_their_own_payments(payments):
    """No filter and no count shows a partner's user the payments of others."""
    user = log_in("partner", PARTNER, is_staff=False)
    order = payments["jane"]
    order.lines.get().partner.users.add(user.user)
    order_of_other = payments["guest"]
    order_of_other.lines.all().delete()

    assert listed(user, reason="late") == ["jane"]
    assert listed(user, q="hash") == ["jane"]
    assert "Open 1 Very small payments 0 Resolved 0" in Page(show(user)).text


@pytest.mark.parametrize("query", ["reason=short", "customer=a&order=1&q=hash&sort=value"])
def test_filtered_list_needs_a_constant_number_of_queries(place, invoice_for, staff, query):
    """Twenty rows cost no more queries than five, and not more than fifteen."""

    def create_rows(numbers):
        for _ in numbers:
            create_payments(
                1,
                invoice=invoice_for(place(), "paid"),
                fiat_value=8,
                currency="USD",
                review_reason="short",
            )

    response = assert_constant_queries(staff, f"{reverse(INBOX)}?{query}", create_rows)

    assert len(payment_cards(response)) == 20
