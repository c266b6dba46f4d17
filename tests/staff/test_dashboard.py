"""The dashboard's pages: money inbox, invoices, the order's tab, the entry in the navigation."""

from __future__ import annotations

import datetime as dt
import re

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone
from django.utils.html import escape
from oscar.core.loading import get_model

from oscar_bitsby.accounting import matching
from oscar_bitsby.accounting.matching import best_match
from oscar_bitsby.models import BitsbyInvoice, BitsbyPayment, WebhookDelivery
from oscar_bitsby.orders import signed_urls
from oscar_bitsby.staff.dashboard.hook import OrderPageMixin, extend_dashboard
from tests import bitsby
from tests.staff.test_bind_flow import (
    CANCEL,
    INBOX,
    INVOICES,
    MAY_BIND,
    Page,
    act,
    act_url,
    arrive,
    bind_url,
    booked,
    cancelled_for_want_of_payment,
    logged,
    member,
    said,
    status_of,
)

Order = get_model("order", "Order")

pytestmark = pytest.mark.django_db

EVIL = "<script>alert(1)</script>"
LIST = "/invoices/list"


@pytest.fixture
def keeper(db):
    """Staff who may bind."""
    return member("keeper", *MAY_BIND)


@pytest.fixture
def waiting(place, invoice_for):
    """An open invoice of some order, so that Bitsby is asked for payments at all."""
    return invoice_for(place("500.00"), wallets=[])


def cards(response):
    """The rows of the inbox, each with its text and its links."""
    parts = response.content.decode().split('<div class="card mb-3">')[1:]
    found = []
    for part in parts:

        class Part:
            content = part.encode()

        found.append(Page(Part))
    return found


def card_of(client, payment, query=""):
    """The one row of the inbox that shows a payment."""
    (found,) = [
        card for card in cards(client.get(reverse(INBOX) + query)) if payment.hash[:20] in card.text
    ]
    return found


def tab_of(client, order):
    return Page(client.get(reverse("dashboard:order-detail", args=[order.number])))


def button(page, word):
    """The addresses of the page's forms that have that word in them."""
    return [form["action"] for form in page.forms if form["action"] and word in form["action"]]


def rows(number, **values):
    """Payments in the inbox, the newest last."""
    now = timezone.now()
    return [
        BitsbyPayment.objects.create(
            **{
                "bitsby_id": bitsby.new_id(),
                "amount": 8,
                "cryptocurrency": "usdt",
                "blockchain": "tron",
                "hash": f"hash{count:04}",
                "transaction_at": now,
                "seen_at": now + dt.timedelta(seconds=count),
                "review_reason": "unmatched",
            }
            | values
        )
        for count in range(number)
    ]


# The inbox


def test_unmatched_money_stands_in_the_inbox_with_the_order_it_may_be_for(fake, invoice, keeper):
    """Amount in coin and fiat, wallet, hash with explorer, suggested order, why, and what to do."""
    ago = timezone.now() - dt.timedelta(minutes=10)
    BitsbyInvoice.objects.filter(pk=invoice.pk).update(created_at=ago)
    payment = arrive(fake, amount="9.90000000")

    card = card_of(keeper, payment)

    assert "9.9 usdt" in card.text
    assert "about $9.90" in card.text
    assert "bound to no invoice" in card.text
    assert bitsby.wallet()["address"] in card.text
    assert "tron" in card.text
    assert f"https://tronscan.org/#/transaction/{payment.hash}" in card.links
    assert f"May be meant for order {invoice.order_number}" in card.text
    assert "(Pending, $10.00)" in card.text
    assert "same wallet as reserved, inside the invoice's time, amount off by -1.0 %" in card.text
    assert bind_url("dashboard", invoice.order) in card.links
    assert act_url(payment, "dismiss") in card.links
    assert act_url(payment, "accept") not in card.links
    assert act_url(payment, "settle") not in card.links
    assert act_url(payment, "undo") not in card.links


def test_unmatched_money_that_fits_no_order_says_so(fake, waiting, keeper):
    """Where no order fits, none is made up, and the row says what can be done."""
    BitsbyInvoice.objects.update(created_at=timezone.now() - dt.timedelta(days=3))
    payment = arrive(fake)

    card = card_of(keeper, payment)

    assert "No order fits." in card.text
    assert "May be meant for" not in card.text
    assert act_url(payment, "dismiss") in card.links


def test_an_order_that_is_deleted_meanwhile_is_not_suggested(
    place, invoice_for, keeper, monkeypatch
):
    """Between comparing invoices and reading their orders one may go; the inbox is shown."""
    invoice_for(place())
    (payment,) = rows(1, amount=10, wallet_id=bitsby.TRON)
    assert "May be meant for" in card_of(keeper, payment).text

    def compare_and_delete(*compared):
        found = best_match(*compared)
        Order.objects.all().delete()
        return found

    monkeypatch.setattr(matching, "best_match", compare_and_delete)

    card = card_of(keeper, payment)

    assert "No order fits." in card.text


def test_money_of_a_deleted_order_leads_to_the_order_it_may_be_for(place, invoice_for, keeper):
    """Every link of a row leads somewhere, also where the payment's own order is gone."""
    gone, right = invoice_for(place()), invoice_for(place())
    (payment,) = rows(1, amount=10, wallet_id=bitsby.TRON, invoice=gone, review_reason="short")
    gone.order.delete()

    card = card_of(keeper, payment)

    assert f"May be meant for order {right.order_number}" in card.text
    page = reverse("dashboard:order-detail", args=[right.order_number])
    assert f"{page}#bitsby" in card.links
    assert "" not in card.links


def test_no_invoice_is_suggested_that_is_younger_than_the_payment(
    place, invoice_for, keeper, monkeypatch
):
    """Of many invoices the newest are compared; where one may be left out, the row says so."""
    monkeypatch.setattr("oscar_bitsby.accounting.matching.MAX_INVOICES", 3)
    now = timezone.now()
    days_ago = now - dt.timedelta(days=10)
    (old,) = rows(1, amount=10, wallet_id=bitsby.TRON, transaction_at=days_ago)
    right = invoice_for(
        place(), "expired", created_at=days_ago - dt.timedelta(minutes=5), expires_at=days_ago
    )
    assert f"May be meant for order {right.order_number}" in card_of(keeper, old).text

    rows(1, amount=1, hash="another")
    for _ in range(3):
        invoice_for(place())

    text = card_of(keeper, old).text
    assert "May be meant for" not in text
    assert "No order among those of the newest 150 invoices fits." in text


@pytest.mark.parametrize(
    ("amount", "words", "difference"),
    [("8.00000000", "less than the order's total", "-$2.00"), ("12.5", "more than", "$2.50")],
)
def test_a_wrong_amount_stands_in_the_inbox_with_its_difference(
    fake, invoice, keeper, amount, words, difference
):
    """Short and over: booked at its worth, the order is named, the difference is visible."""
    payment = arrive(fake, invoice, amount)

    card = card_of(keeper, payment)

    assert words in card.text
    assert "booked" in card.text
    assert f"Order {invoice.order_number}" in card.text
    assert f"asked $10.00 , difference {difference}" in card.text.replace("$10.00,", "$10.00 ,")
    assert act_url(payment, "accept") in card.links
    assert act_url(payment, "dismiss") in card.links
    assert act_url(payment, "settle") not in card.links


def test_late_money_can_settle_its_order_again(fake, order, invoice_for, keeper):
    """Money for a cancelled order offers to settle it again, to accept and to dismiss."""
    payment = arrive(fake, cancelled_for_want_of_payment(fake, order, invoice_for), "10.00000000")

    card = card_of(keeper, payment)

    assert "came after the order was cancelled" in card.text
    assert "(Cancelled)" in card.text
    for action in ("settle", "accept", "dismiss"):
        assert act_url(payment, action) in card.links


def test_a_second_payment_stands_in_the_inbox(fake, order, invoice_for, keeper):
    """Two paid invoices of one order: both are booked, and the second is a refund to make."""
    first = invoice_for(order, "expired")
    arrive(fake, invoice_for(order), "10.00000000")
    invoice_for(order)
    second = arrive(fake, first, "10.00000000")

    assert [amount for _, amount in booked(order)] == ["10.00", "10.00"]
    (card,) = cards(keeper.get(reverse(INBOX)))
    assert second.hash[:20] in card.text
    assert "the order was already paid" in card.text


def test_an_invoice_that_disagrees_stands_in_the_inbox(fake, invoice, keeper):
    """Money of an invoice that is not what was asked is not booked and says why."""
    payment = arrive(fake, invoice, amountFiat="1.00")

    card = card_of(keeper, payment)

    assert "not what was asked for" in card.text
    assert "It is not booked." in card.text
    assert not re.search(r"(?<!not )\bbooked\b", card.text)
    assert act_url(payment, "accept") in card.links


@pytest.fixture
def elsewhere(fake, place, invoice_for):
    """Money bound to an invoice that we do not know, and an open invoice that it would fit."""
    ago = timezone.now() - dt.timedelta(minutes=10)
    invoice = invoice_for(place(), created_at=ago)
    stranger = bitsby.invoice_item(invoice, "paid", id=str(bitsby.new_id()), uid="elsewhere")
    item = bitsby.payment_item(bitsby.transfer("9.90000000"), stranger)
    fake.payments.append(item)
    arrive(fake, amount="1.00000000")
    payment = BitsbyPayment.objects.get(bitsby_id=item["id"])
    assert payment.review_reason == "unknown"
    return payment


def test_money_of_an_unknown_invoice_stands_in_the_inbox(elsewhere, keeper):
    """Money that Bitsby bound to an invoice that we do not know is shown, and can be dismissed."""
    card = card_of(keeper, elsewhere)

    assert "invoice that this shop does not know" in card.text
    assert "9.9 usdt" in card.text
    assert act_url(elsewhere, "dismiss") in card.links


def test_money_that_is_bound_elsewhere_is_not_offered_for_binding(elsewhere, keeper):
    """Bitsby would refuse it and the binding page does not list it: the row has no such button."""
    card = card_of(keeper, elsewhere)

    assert [url for url in card.links if url and url.endswith("/bind/")] == []


def test_money_of_unknown_worth_stands_in_the_inbox(fake, invoice, keeper):
    """A coin without a locked rate shows no invented worth."""
    ether = bitsby.wallet(id="other", cryptocurrency="eth", blockchain="ethereum")
    payment = arrive(fake, invoice, "0.00500000", wallet=ether)

    card = card_of(keeper, payment)

    assert "0.005 eth" in card.text
    assert "its worth is not known" in card.text
    assert "difference" not in card.text
    assert act_url(payment, "accept") in card.links


def test_money_of_a_deleted_order_stays_visible(fake, invoice, keeper):
    """When the shop deletes an order, its money is still in the inbox and can be dismissed."""
    payment = arrive(fake, invoice)
    number = invoice.order_number
    invoice.order.sources.all().delete()
    Order.objects.filter(pk=invoice.order.pk).delete()

    card = card_of(keeper, payment)
    assert "less than the order's total" in card.text
    assert act_url(payment, "accept") not in card.links
    listed = " ".join(Page(keeper.get(reverse(INVOICES))).rows())
    assert f"{number} (deleted)" in listed

    assert "belongs to no order" in act(keeper, payment, "accept", note="x")
    assert "Dismissed" in act(keeper, payment, "dismiss", note="refunded")
    assert len(logged(keeper.user)) == 1


def test_payments_of_other_projects_are_kept_apart(fake, waiting, keeper):
    """Money of another project of the account never reaches this shop's inbox or number."""
    foreign = bitsby.invoice_item(
        waiting, "paid", id=str(bitsby.new_id()), projectId=str(bitsby.new_id())
    )
    fake.payments.append(bitsby.payment_item(bitsby.transfer("7.77000000"), foreign))
    arrive(fake, waiting, "500.00000000", wallet=bitsby.wallet())

    response = keeper.get(reverse(INBOX))

    assert "7.77" not in Page(response).text
    assert BitsbyPayment.objects.filter(is_foreign=True).count() == 1
    done = keeper.get(reverse(INBOX) + "?show=done")
    assert "7.77" not in Page(done).text


def test_a_plain_payment_is_not_in_the_inbox(fake, invoice, keeper):
    """Nothing to look at, when all money is plainly that of its order."""
    arrive(fake, invoice, "10.00000000")

    text = Page(keeper.get(reverse(INBOX))).text

    assert "Nothing to look at" in text
    assert "Bitsby (" not in text


def test_what_was_dealt_with_stands_in_its_own_tab(fake, waiting, keeper):
    """How, by whom, when and why; the newest decision first; only dismissals can be undone."""
    first, second = arrive(fake, amount="1.00000000"), arrive(fake, amount="2.00000000")
    act(keeper, first, "dismiss", note="not ours")
    act(keeper, second, "dismiss", note="sent back")

    response = keeper.get(reverse(INBOX) + "?show=done")

    texts = [card.text for card in cards(response)]
    assert [second.hash[:20] in texts[0], first.hash[:20] in texts[1]] == [True, True]
    assert "dismissed by keeper" in texts[1]
    assert "not ours" in texts[1]
    assert act_url(first, "undo") in cards(response)[1].links
    assert act_url(first, "dismiss") not in cards(response)[1].links
    assert "Nothing to look at" in Page(keeper.get(reverse(INBOX))).text


def test_who_decided_may_leave_the_company(fake, waiting, keeper):
    """A decision of a user who was deleted is still shown, without calling somebody None."""
    payment = arrive(fake)
    leaver = member("leaver", *MAY_BIND)
    act(leaver, payment, "dismiss", note="not ours")
    leaver.user.delete()

    card = card_of(keeper, payment, "?show=done")

    assert "dismissed" in card.text
    assert "None" not in card.text


def test_the_inbox_has_pages(keeper):
    """More rows than fit are paged, none is lost and none shown twice."""
    wanted = rows(60)

    seen = []
    for number in (1, 2, 3):
        response = keeper.get(reverse(INBOX), {"page": number})
        seen += re.findall(r"hash\d{4}", " ".join(card.text for card in cards(response)))
        assert f"Page {number} of 3" in Page(response).text

    assert seen == [row.hash for row in reversed(wanted)]
    assert "?page=2" in Page(keeper.get(reverse(INBOX))).links


@pytest.mark.parametrize("query", ["", "?show=done"], ids=["waiting", "done"])
def test_rows_of_the_same_moment_are_paged_in_a_fixed_order(keeper, query):
    """Ties are broken by the key, so that no row falls between two pages of PostgreSQL's."""
    response = keeper.get(reverse(INBOX) + query)

    order = response.context["paginator"].object_list.query.order_by
    assert order[-1] in ("pk", "-pk", "id", "-id")


@pytest.mark.parametrize("done", ["", "?show=done"], ids=["waiting", "done"])
def test_the_inbox_costs_the_same_however_long_it_is(
    place, invoice_for, keeper, done, django_assert_max_num_queries
):
    """Twenty rows cost no more queries than five, and not more than fifteen."""
    colleagues = [member(f"c{number}").user for number in range(3)]

    def add(number):
        for count in range(number):
            invoice = invoice_for(place(), "paid")
            kinds = [
                {"invoice": invoice, "fiat_value": 8, "currency": "USD", "review_reason": "short"},
                {},
            ]
            for values in kinds:
                resolved = {
                    "resolved_at": timezone.now(),
                    "resolution": "dismissed",
                    "resolved_by": colleagues[count % 3],
                }
                rows(1, **values, **(resolved if done else {}))
            invoice_for(place())

    add(3)
    keeper.get(reverse(INBOX) + done)
    with CaptureQueriesContext(connection) as few:
        assert len(cards(keeper.get(reverse(INBOX) + done))) == 6
    add(7)
    with django_assert_max_num_queries(15) as many:
        assert len(cards(keeper.get(reverse(INBOX) + done))) == 20
    assert len(many) == len(few)


def test_an_action_that_waits_for_an_answer_names_the_payment(fake, invoice, keeper):
    """Before acting, the page says which payment of which order it is, and what will happen."""
    payment = arrive(fake, invoice)
    for action, words in (
        ("accept", "its order becomes paid"),
        ("settle", "gets a note"),
        ("dismiss", "leaves the inbox"),
        ("undo", "in the inbox again"),
    ):
        page = Page(keeper.get(act_url(payment, action)))
        assert "8 usdt ($8.00)" in page.text
        assert f"order {invoice.order_number} (Being processed)" in page.text
        assert words in page.text
        assert reverse(INBOX) in page.links


# The number in the navigation


def test_the_navigation_shows_how_many_payments_wait(keeper):
    """None: just the name; some: their number; very many: 99+. It stands on every page."""
    index = reverse("dashboard:index")

    text = Page(keeper.get(index)).text
    assert "Bitsby" in text
    assert "Bitsby (" not in text
    assert {reverse(INBOX), reverse(INVOICES)} <= set(Page(keeper.get(index)).links)
    rows(7)
    rows(2, resolved_at=timezone.now())
    rows(2, review_reason="")
    assert "Bitsby (7)" in Page(keeper.get(index)).text
    rows(92)
    assert "Bitsby (99)" in Page(keeper.get(index)).text
    rows(5)
    assert "Bitsby (99+)" in Page(keeper.get(index)).text


def test_extending_the_dashboard_again_adds_nothing(settings, keeper):
    """The hooks may run twice: one entry, one mixin."""
    from django.apps import apps

    config = apps.get_app_config("orders_dashboard")
    view, entries = config.order_detail_view, len(settings.OSCAR_DASHBOARD_NAVIGATION)

    extend_dashboard()

    assert config.order_detail_view is view
    assert [parent for parent in view.__mro__ if parent is OrderPageMixin] == [OrderPageMixin]
    assert len(settings.OSCAR_DASHBOARD_NAVIGATION) == entries


def test_a_number_that_cannot_be_had_takes_no_page_down(keeper, monkeypatch):
    """When the inbox cannot be counted, the dashboard opens without the number."""

    def fail(self):
        raise OSError("disk full")

    rows(1)
    monkeypatch.setattr("oscar_bitsby.models.PaymentQuerySet.needs_review", fail)

    response = keeper.get(reverse("dashboard:index"))

    assert response.status_code == 200
    assert "Bitsby" in Page(response).text
    assert "Bitsby (" not in Page(response).text


def test_a_shop_without_oscars_order_pages_starts_all_the_same(monkeypatch, settings):
    """Where the dashboard's orders app is not installed, there is nothing to extend."""

    def missing(label):
        raise LookupError(label)

    monkeypatch.setattr("oscar_bitsby.utils.patching.apps.get_app_config", missing)
    settings.OSCAR_DASHBOARD_NAVIGATION = []

    extend_dashboard()

    assert settings.OSCAR_DASHBOARD_NAVIGATION


# The list of invoices


@pytest.fixture
def invoices(fake, place, invoice_for):
    """One of each status, two currencies, two days; the short one needs attention."""
    old = timezone.now() - dt.timedelta(days=10)
    found = {
        "unpaid": invoice_for(place(), uid="uid-unpaid"),
        "euro": invoice_for(place(currency="EUR"), "expired", uid="uid-euro"),
        "old": invoice_for(place(), "canceled", uid="uid-old", created_at=old, ended_at=old),
        "short": invoice_for(place(), uid="uid-short"),
    }
    found["payment"] = arrive(fake, found["short"])
    return found


def listed(client, **query):
    response = client.get(reverse(INVOICES), query)
    assert response.status_code == 200
    return re.findall(r"uid-[a-z]+", " ".join(Page(response).rows()))


def test_all_invoices_are_listed_newest_first(invoices, keeper):
    """Number with a link to the order's tab, status and amount in its currency."""
    assert listed(keeper) == ["uid-short", "uid-euro", "uid-unpaid", "uid-old"]

    page = Page(keeper.get(reverse(INVOICES)))
    order = invoices["euro"].order
    assert reverse("dashboard:order-detail", args=[order.number]) + "#bitsby" in page.links
    (row,) = [row for row in page.rows() if "uid-euro" in row]
    assert "expired" in row
    assert "€10.00" in row


def test_invoices_are_narrowed_by_each_filter(invoices, keeper):
    """Status, currency, dates and attention, alone and together."""
    today = timezone.localdate()
    week = (today - dt.timedelta(days=7)).isoformat()
    assert listed(keeper, status="paid") == ["uid-short"]
    assert listed(keeper, status="canceled") == ["uid-old"]
    assert listed(keeper, currency="EUR") == ["uid-euro"]
    assert listed(keeper, currency="RUB") == []
    assert listed(keeper, date_to=week) == ["uid-old"]
    assert listed(keeper, date_from=week) == ["uid-short", "uid-euro", "uid-unpaid"]
    assert len(listed(keeper, date_from=today.isoformat(), date_to=today.isoformat())) == 3
    assert listed(keeper, review_reason="on") == ["uid-short"]
    assert listed(keeper, review_reason="on", currency="EUR") == []
    assert listed(keeper, status="paid", currency="USD", review_reason="on") == ["uid-short"]


def test_invoices_are_found_by_number_uid_id_and_hash(invoices, keeper):
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
        assert listed(keeper, q=text) == ["uid-short"], text
    for text in ("nothing", str(bitsby.new_id()), "uid-", "%", "'", "9" * 200):
        assert listed(keeper, q=text) == [], text


@pytest.mark.parametrize(
    "query",
    [
        *("status=rubbish", "currency=XXX", "date_from=rubbish", "date_to=2026-13-45"),
        *("date_from=0001-01-01", "date_to=9999-12-31", "date_from=9999-12-31", "attention=x"),
        *("q=%00", "q=" + "x" * 5000, "q=%ff%fe", "q=%F0%9F%92%A9", "q=<script>alert(1)</script>"),
        *("page=0", "page=-1", "page=abc", "page=" + "9" * 40, "page=1.5", "page=%00"),
        *("page=last", "page=1", "page=2", "status=paid&status=unpaid", "page[]=1", "show=x"),
    ],
)
@pytest.mark.parametrize("name", [INBOX, INVOICES])
def test_garbage_in_the_address_is_no_error(invoices, keeper, name, query):
    """Filters and page numbers that make no sense give a page or a 404, never an error page."""
    response = keeper.get(f"{reverse(name)}?{query}")

    assert response.status_code in (200, 404)
    assert EVIL not in response.content.decode()


def test_a_filter_that_cannot_be_read_is_told(invoices, keeper):
    """What is wrong with a filter is shown beside it."""
    page = Page(keeper.get(reverse(INVOICES), {"date_from": "yesterday", "status": "rich"}))

    assert "Enter a valid date." in page.text
    assert "Select a valid choice" in page.text


def test_pages_keep_the_filters(place, invoice_for, keeper):
    """The next page of a narrowed list is narrowed too, and all rows come once."""
    order = place()
    for number in range(30):
        invoice_for(order, "expired", uid=f"e{number:02}")
    for number in range(30):
        invoice_for(order, "canceled", uid=f"c{number:02}")

    first = keeper.get(reverse(INVOICES), {"status": "expired"})
    (following,) = [url for url in Page(first).links if url and "page=2" in url]
    second = keeper.get(reverse(INVOICES) + following)

    seen = re.findall(
        r"\b[ec]\d\d\b", " ".join(Page(first).rows()) + " " + " ".join(Page(second).rows())
    )
    assert seen == [f"e{number:02}" for number in reversed(range(30))]


def test_the_list_counts_no_further_than_people_page(place, invoice_for, keeper, monkeypatch):
    """Among very many rows the first pages work and the count stops early."""
    monkeypatch.setattr("oscar_bitsby.staff.pagination.MAX_COUNT", 30)
    order = place()
    for number in range(60):
        invoice_for(order, "expired", uid=f"e{number:02}")

    assert "Page 1 of 2" in Page(keeper.get(reverse(INVOICES))).text
    assert "e30" in " ".join(Page(keeper.get(reverse(INVOICES), {"page": 2})).rows())
    assert keeper.get(reverse(INVOICES), {"page": 3}).status_code == 404


@pytest.mark.parametrize("who", ["staff", "partner"])
def test_the_list_costs_the_same_however_long_it_is(
    place, invoice_for, product, who, django_assert_max_num_queries
):
    """Twenty invoices cost no more queries than five, and not more than fifteen."""
    client = member("one", *(["partner.dashboard_access"] if who == "partner" else MAY_BIND))
    if who == "partner":
        client.user.is_staff = False
        client.user.save()
        product.stockrecords.get().partner.users.add(client.user)
    url = reverse(INVOICES) + "?status=expired&attention=&q="

    def add(first, last):
        for number in range(first, last):
            invoice_for(place(), "expired", uid=f"uid{number}")

    add(0, 5)
    client.get(url)
    with CaptureQueriesContext(connection) as few:
        assert len(Page(client.get(url)).rows()) == 6
    add(5, 20)
    with django_assert_max_num_queries(15) as many:
        assert len(Page(client.get(url)).rows()) == 21
    assert len(many) == len(few)


# The order's tab


def test_the_tab_shows_the_orders_whole_history(fake, order, invoice_for, keeper):
    """Asked, received and difference, invoices, payments, decisions, deliveries, buyer's link."""
    old = invoice_for(order, "expired", uid="uid-old", failure="it did not last")
    newer = invoice_for(order, uid="uid-new")
    payment = arrive(fake, newer)
    WebhookDelivery.objects.create(invoice=newer, body="{}", answered=503, outcome="no slot free")
    act(keeper, payment, "accept", note="close enough")

    page = tab_of(keeper, order)

    assert "#bitsby" in page.links
    assert "Asked $10.00, received $8.00, difference -$2.00." in page.text
    assert "Invoice uid-old: expired" in page.text
    assert "it did not last" in page.text
    assert "Invoice uid-new: paid" in page.text
    assert payment.hash in page.text
    assert "accepted as it is, keeper" in page.text
    assert "close enough" in page.text
    assert "answered 503: no slot free" in page.text
    assert f'value="http://testserver{signed_urls.order_url(order)}"' in page.html
    assert bind_url("dashboard", order) in page.links
    assert len(button(page, "/refresh/")) == 2
    assert old.uid in page.text


def test_the_buyers_link_opens_for_somebody_without_a_login(order, invoice, keeper, client):
    """What staff copy into a mail is the buyer's page."""
    (link,) = re.findall(r'id="bitsby_link" readonly value="([^"]+)"', tab_of(keeper, order).html)

    assert client.get(link.removeprefix("http://testserver")).status_code == 200


def test_only_booked_money_counts_as_received(fake, invoice, keeper):
    """Money that is not booked is shown and not counted."""
    payment = arrive(fake, invoice, amountFiat="8.00")

    page = tab_of(keeper, invoice.order)

    assert "Asked $10.00, received $0.00, difference -$10.00." in page.text
    assert payment.hash in page.text


def test_an_order_that_was_not_started_yet_shows_the_buyers_link(order, keeper):
    """Before its first invoice an order has the tab already, with the link to send the buyer."""
    page = Page(keeper.get(reverse("dashboard:order-detail", args=[order.number])))

    assert "#bitsby" in page.links
    assert signed_urls.order_url(order) in page.html


def test_an_order_of_another_method_has_no_tab(order, keeper):
    """An order that is not paid through Bitsby shows Oscar's page as it is."""
    order.sources.all().delete()
    response = keeper.get(reverse("dashboard:order-detail", args=[order.number]))

    assert response.status_code == 200
    assert "#bitsby" not in Page(response).links
    assert order.number in Page(response).text


def test_the_tab_costs_the_same_however_long_it_is(order, invoice_for, keeper):
    """Twenty invoices cost no more queries than five, and our tab adds few to Oscar's page."""
    colleagues = [member(f"c{number}").user for number in range(3)]
    url = reverse("dashboard:order-detail", args=[order.number])

    def add(number):
        for count in range(number):
            invoice = invoice_for(order, "expired")
            rows(
                1,
                invoice=invoice,
                fiat_value=8,
                currency="USD",
                resolved_at=timezone.now(),
                resolved_by=colleagues[count % 3],
            )
            WebhookDelivery.objects.create(invoice=invoice, body="{}", answered=200)

    keeper.get(url)
    with CaptureQueriesContext(connection) as bare:
        keeper.get(url)
    add(5)
    with CaptureQueriesContext(connection) as few:
        keeper.get(url)
    add(15)
    with CaptureQueriesContext(connection) as many:
        assert keeper.get(url).content.count(b"answered 200") == 20
    assert len(many) == len(few)
    assert len(many) - len(bare) <= 15


def test_refreshing_asks_bitsby_and_settles_what_it_says(fake, invoice, keeper):
    """The button asks about this invoice alone; money that came is booked, and staff are told."""
    payment = bitsby.transfer("10.00000000")
    fake.invoices.append(bitsby.invoice_item(invoice, "paid", payment=payment))
    (url,) = button(tab_of(keeper, invoice.order), "/refresh/")

    text = said(keeper, keeper.post(url))

    assert "Bitsby was asked. The invoice is: paid." in text
    assert booked(invoice.order) == [(payment["id"], "10.00")]
    assert status_of(invoice.order) == "Being processed"
    assert [fields["invoiceId"] for fields in fake.asked(LIST)] == [str(invoice.bitsby_id)]
    assert "The invoice is: paid." in said(keeper, keeper.post(url))
    assert booked(invoice.order) == [(payment["id"], "10.00")]


def test_refreshing_that_fails_says_so(fake, invoice, keeper):
    """No answer, a refusal, and an invoice that Bitsby does not know: told, and nothing changed."""
    (url,) = button(tab_of(keeper, invoice.order), "/refresh/")

    assert "Bitsby does not know this invoice." in said(keeper, keeper.post(url))
    fake.on(LIST, bitsby.error(f"Blocked {EVIL}"))
    response = keeper.post(url, follow=True)
    assert "Bitsby could not be asked" in Page(response).text
    assert EVIL not in response.content.decode()
    fake.on(LIST, (500, {}, "<h1>Oops</h1>"))
    assert "Bitsby could not be asked" in said(keeper, keeper.post(url))
    invoice.refresh_from_db()
    assert invoice.status == "unpaid"


def test_cancelling_is_offered_only_while_bitsby_allows_it(place, invoice_for, keeper):
    """Unpaid and never opened: a button; opened, paid, ended or never created: none."""
    fresh = invoice_for(place())
    assert button(tab_of(keeper, fresh.order), "/cancel/") == [
        reverse("oscar_bitsby:dashboard-invoice-cancel", args=[fresh.pk])
    ]
    for values in (
        {"views": 1},
        {"status": "paid"},
        {"status": "expired"},
        {"status": "canceled"},
        {"status": "creating", "bitsby_id": None},
    ):
        invoice = invoice_for(place(), **values)
        assert button(tab_of(keeper, invoice.order), "/cancel/") == [], values


def test_a_cancelled_invoice_is_asked_about_and_logged(fake, invoice, keeper):
    """Bitsby cancels, says so in its list, and the invoice, the page and the log say it too."""
    remote = bitsby.invoice_item(invoice, views=0)
    fake.invoices.append(remote)
    fake.on(CANCEL, lambda fields: remote.update(status="canceled") or bitsby.success("canceled"))
    (url,) = button(tab_of(keeper, invoice.order), "/cancel/")

    assert "The invoice is canceled." in said(keeper, keeper.post(url, {"note": "he asked me to"}))

    invoice.refresh_from_db()
    assert invoice.status == "canceled"
    assert status_of(invoice.order) == "Pending"
    (entry,) = logged(keeper.user)
    assert "he asked me to" in entry
    assert "Only an unpaid invoice" in said(keeper, keeper.post(url))
    assert len(fake.asked(CANCEL)) == 1


@pytest.mark.parametrize(
    ("answer", "views", "text"),
    [
        (bitsby.error(f"Has views {EVIL}"), 1, "Has views"),
        ((500, {}, "<h1>Oops</h1>"), 0, "is not canceled"),
        (bitsby.success("Invoice canceled"), 0, "does not call it canceled"),
    ],
    ids=["refused", "no answer", "empty promise"],
)
def test_a_cancellation_that_bitsby_does_not_make_is_told(
    fake, invoice, keeper, answer, views, text
):
    """Only what the list says counts: the invoice stays open, and the page says why."""
    fake.invoices.append(bitsby.invoice_item(invoice, views=views))
    fake.on(CANCEL, answer)
    (url,) = button(tab_of(keeper, invoice.order), "/cancel/")

    response = keeper.post(url, follow=True)

    assert "The invoice is not canceled" in Page(response).text
    assert text in Page(response).text
    assert EVIL not in response.content.decode()
    invoice.refresh_from_db()
    assert invoice.status == "unpaid"
    assert (button(tab_of(keeper, invoice.order), "/cancel/") == []) == bool(views)


def test_a_lost_answer_to_a_cancellation_is_found_out(fake, invoice, keeper):
    """When Bitsby cancelled but its answer was lost, the list tells the truth."""
    remote = bitsby.invoice_item(invoice, views=0)
    fake.invoices.append(remote)
    fake.on(CANCEL, lambda fields: remote.update(status="canceled") or (502, {}, ""))
    (url,) = button(tab_of(keeper, invoice.order), "/cancel/")

    assert "The invoice is canceled." in said(keeper, keeper.post(url))


def test_cancelling_when_bitsby_is_gone_says_so(fake, invoice, keeper):
    """Neither the cancellation nor the question after it is answered: told, nothing changed."""
    for path in (CANCEL, LIST):
        fake.on(path, (503, {}, ""))
    (url,) = button(tab_of(keeper, invoice.order), "/cancel/")

    assert "The invoice is not canceled" in said(keeper, keeper.post(url))

    invoice.refresh_from_db()
    assert invoice.status == "unpaid"


def test_cancelling_what_was_paid_in_between_books_the_money(fake, invoice, keeper):
    """The buyer was quicker: the cancellation fails, and his money is booked."""
    payment = bitsby.transfer("10.00000000")
    fake.invoices.append(bitsby.invoice_item(invoice, "paid", payment=payment))
    fake.on(CANCEL, bitsby.error("Only an unpaid invoice can be canceled"))
    (url,) = button(tab_of(keeper, invoice.order), "/cancel/")

    assert "The invoice is not canceled" in said(keeper, keeper.post(url))

    assert booked(invoice.order) == [(payment["id"], "10.00")]


def test_an_invoice_of_a_deleted_order_can_be_refreshed_and_cancelled(fake, invoice, keeper):
    """Without an order, the actions lead back to the list of invoices."""
    remote = bitsby.invoice_item(invoice, views=0)
    fake.invoices.append(remote)
    fake.on(CANCEL, lambda fields: remote.update(status="canceled") or bitsby.success("canceled"))
    invoice.order.sources.all().delete()
    Order.objects.filter(pk=invoice.order.pk).delete()

    for name, text in (("refresh", "waiting for payment"), ("cancel", "is canceled")):
        url = reverse(f"oscar_bitsby:dashboard-invoice-{name}", args=[invoice.pk])
        response = keeper.post(url)
        assert response["Location"].startswith(reverse(INVOICES))
        assert text in said(keeper, response)
    assert len(logged(keeper.user)) == 1


def test_hostile_words_are_text_on_every_page(place, invoice_for, keeper):
    """Hashes, addresses, names, ids, errors and reasons do not become markup anywhere."""
    invoice = invoice_for(place(), "expired", uid=EVIL, failure=EVIL)
    WebhookDelivery.objects.create(invoice=invoice, body=EVIL, answered=400, outcome=EVIL)
    hostile = {
        "hash": EVIL,
        "address": EVIL,
        "blockchain": EVIL,
        "cryptocurrency": EVIL,
        "resolution_note": EVIL,
    }
    (bound,) = rows(
        1, invoice=invoice, fiat_value=8, currency="USD", review_reason="short", **hostile
    )
    rows(1, **hostile)
    rows(1, resolved_at=timezone.now(), resolution="dismissed", **hostile)
    for url in (
        reverse(INBOX),
        reverse(INBOX) + "?show=done",
        reverse(INVOICES),
        reverse("dashboard:order-detail", args=[invoice.order_number]),
        act_url(bound, "accept"),
        act_url(bound, "dismiss"),
        bind_url("dashboard", invoice.order),
    ):
        response = keeper.get(url)
        assert response.status_code == 200
        html = response.content.decode()
        assert EVIL not in html, url
        assert escape(EVIL)[:12] in html, url


def test_without_settings_the_navigation_is_as_before(keeper, settings):
    """A shop that has not set ``OSCAR_BITSBY`` has no entry for it in the dashboard."""
    shown = keeper.get(reverse("dashboard:index")).content
    del settings.OSCAR_BITSBY

    hidden = keeper.get(reverse("dashboard:index")).content

    assert reverse(INBOX).encode() in shown
    assert reverse(INBOX).encode() not in hidden


def test_the_pages_of_what_needs_attention_hold_all_of_it(place, invoice_for, keeper):
    """However many they are, each invoice stands on one page, the newest on the first."""
    order, now = place(), timezone.now()
    invoices = [
        invoice_for(order, "expired", created_at=now - dt.timedelta(minutes=number))
        for number in range(27)
    ]
    for invoice in invoices[:26]:
        rows(1, invoice=invoice, hash=f"of{invoice.pk}", review_reason="mismatch")

    pages = [
        Page(keeper.get(f"{reverse(INVOICES)}?attention=on&page={number}")) for number in (1, 2)
    ]

    shown = [
        [invoice.uid for invoice in invoices if any(invoice.uid in row for row in page.rows())]
        for page in pages
    ]
    assert shown == [[invoice.uid for invoice in part] for part in (invoices[:25], invoices[25:26])]
    assert keeper.get(f"{reverse(INVOICES)}?attention=on&page=3").status_code == 404
