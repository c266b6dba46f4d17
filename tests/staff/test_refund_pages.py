"""The pages of refunds, in the dashboard and in the Django admin, over the real views."""

import re
from decimal import Decimal

import pytest
from django.urls import reverse
from oscar.core.loading import get_model

from oscar_bitsby.choices import InvoiceStatus, MailCode, RefundState
from oscar_bitsby.models import BitsbyRefund, BuyerMail
from oscar_bitsby.staff import refund_flow
from tests.support.refunds import (
    ADDRESSES,
    book_payment,
    new_hash,
    request_refund,
    sent_refund,
    unbound_payment,
    with_address,
)
from tests.support.staff import (
    EVIL,
    PARTNER,
    Page,
    admin_log_of,
    assert_constant_queries,
    assert_escaped,
    bookings_of,
    log_in,
    message_after,
    payment_card,
    status_of,
)
from tests.support.unbound import receive

Partner = get_model("partner", "Partner")

pytestmark = pytest.mark.django_db

MAY_REFUND = ("oscar_bitsby.refund_payment", "order.view_order")
LIST = "oscar_bitsby:dashboard-refunds"
REASON = "Enter a reason: others may need it later."


@pytest.fixture
def staff(db):
    """The browser of a member of staff who may refund."""
    return log_in("staff", *MAY_REFUND, "order.change_order")


@pytest.fixture
def payment(invoice):
    """A booked payment of 10 dollars for an order of 10 dollars."""
    return book_payment(invoice)


@pytest.fixture
def over(invoice):
    """A booked payment of 12 dollars for an order of 10 dollars."""
    return book_payment(invoice, "12.00000000")


@pytest.fixture
def refund(staff, payment):
    """A refund that waits for an address."""
    return request_refund(staff.user, payment)


@pytest.fixture
def ready(refund):
    """A refund whose address is given."""
    return with_address(refund)


def request_url(interface, order):
    names = {
        "admin": "admin:oscar_bitsby_refund_request",
        "dashboard": "oscar_bitsby:dashboard-refund-order",
    }
    return reverse(names[interface], args=[order.pk])


def page_url(interface, refund):
    if interface == "admin":
        return reverse("admin:oscar_bitsby_refund", args=[refund.order_id, refund.pk])
    return reverse("oscar_bitsby:dashboard-refund", args=[refund.pk])


def ask(client, url, **values):
    """Fill in the form of a request; return the page that follows."""
    fields, _ = Page(client.get(url)).form_with("coin_amount")
    return client.post(url, fields | values)


def confirm(client, url, response):
    """Confirm the request that a page shows."""
    fields, _ = Page(response).form_with("confirm")
    del fields["change"]
    return client.post(url, fields)


def take_step(client, url, field, **values):
    """Send the form of a refund's page that has a field, as it is shown with other values."""
    form = next(f for f in Page(client.get(url)).forms if field in f["fields"])
    return client.post(url, form["fields"] | values)


def act(client, url, action, **values):
    return client.post(url, {"action": action, **values})


def state_of(refund):
    return BitsbyRefund.objects.get(pk=refund.pk).state


# Requesting


@pytest.mark.parametrize(
    ("values", "amount", "coins"),
    [
        ({"what": "full"}, "12.00", "12"),
        ({"what": "surplus"}, "2.00", "2"),
        ({"what": "other", "amount": "3,50"}, "3.50", "3.5"),
        ({"what": "full", "amount": "3.50"}, "3.50", "3.5"),
        ({"what": "surplus", "coin_amount": "1.95"}, "2.00", "1.95"),
    ],
    ids=["full", "surplus", "other", "typed-amount-counts", "other-coins"],
)
def test_refund_is_requested_as_chosen(staff, over, interface, values, amount, coins):
    """Amount and coins are those that the step of confirming has shown."""
    url = request_url(interface, over.invoice.order)

    asked = ask(staff, url, note="too much", **values)
    text = Page(asked).text
    response = confirm(staff, url, asked)

    assert f"{coins} USDT" in text
    refund = BitsbyRefund.objects.get()
    assert (refund.amount, refund.coin_amount) == (Decimal(amount), Decimal(coins))
    assert refund.proposed_coin_amount == Decimal(amount)
    assert (refund.note, refund.requested_by) == ("too much", staff.user)
    assert response["Location"] == page_url(interface, refund)
    assert admin_log_of(staff.user) == [f"Bitsby: {refund}: refund requested: too much"]


def test_nothing_is_requested_before_it_is_confirmed(staff, payment, interface):
    """The page says first what will happen."""
    url = request_url(interface, payment.invoice.order)

    page = Page(ask(staff, url))

    assert "What will happen" in page.text
    assert "The buyer (buyer@example.com) gets an e-mail with a link" in page.text
    assert payment.hash in page.text
    assert not BitsbyRefund.objects.exists()


def test_changing_a_request_keeps_what_was_typed(staff, over, interface):
    """Only a coin amount that was proposed is empty again, to follow another amount."""
    url = request_url(interface, over.invoice.order)
    fields, _ = Page(ask(staff, url, amount="3.50", note="too much")).form_with("confirm")
    del fields["confirm"]

    changed, _ = Page(staff.post(url, fields)).form_with("coin_amount")

    assert (changed["amount"], changed["coin_amount"], changed["note"]) == ("3.50", "", "too much")


@pytest.mark.parametrize(
    ("values", "error"),
    [
        ({"amount": "12.01"}, "At most 12.00 USD can still be refunded."),
        ({"amount": "1.234"}, "“1.234” is not an amount."),
        ({"amount": "lots"}, "“lots” is not an amount."),
        ({"amount": "-3"}, "“-3” is not an amount."),
        ({"amount": "0"}, "“0” is not an amount."),
        ({"amount": "1" * 300}, "is not an amount."),
        ({"what": "other"}, "Enter the amount to refund."),
        ({"what": "half"}, "Choose how much you refund."),
        ({"coin_amount": "1e5"}, "“1e5” is not an amount."),
        ({"note": "x" * 201}, "The reason may have at most 200 characters."),
    ],
)
def test_request_that_is_refused_keeps_what_was_typed(staff, over, interface, values, error):
    """The page says why, next to the field, and nothing is requested."""
    url = request_url(interface, over.invoice.order)
    typed = {"note": "too much", "coin_amount": "1.5"} | values

    page = Page(ask(staff, url, **typed))

    assert error in page.text
    fields, _ = page.form_with("coin_amount")
    assert {name: fields[name] for name in typed if name != "what"} == {
        name: value for name, value in typed.items() if name != "what"
    }
    assert not BitsbyRefund.objects.exists()


def test_refusal_by_settlement_keeps_what_was_typed(staff, over, interface):
    """A shifted decimal point is refused when the request is confirmed."""
    url = request_url(interface, over.invoice.order)

    asked = ask(staff, url, amount="2", coin_amount="200", note="too much")
    page = Page(confirm(staff, url, asked))

    assert "differ by 9900" in Page(asked).text
    assert "At most 10 of the coin can be sent." in page.text
    fields, _ = page.form_with("coin_amount")
    assert (fields["amount"], fields["coin_amount"], fields["note"]) == ("2", "200", "too much")


def test_markup_is_shown_as_text(staff, payment, interface):
    """In the request and on the refund's page."""
    url = request_url(interface, payment.invoice.order)

    assert_escaped(ask(staff, url, amount=EVIL))
    asked = ask(staff, url, note=EVIL)
    assert_escaped(asked)
    response = confirm(staff, url, asked)
    assert_escaped(staff.get(response["Location"]))


def test_second_click_requests_no_second_refund(staff, payment, interface):
    """It leads to the refund that the first click has requested, and says so."""
    url = request_url(interface, payment.invoice.order)
    asked = ask(staff, url)
    first = confirm(staff, url, asked)

    second = confirm(staff, url, asked)

    assert second["Location"] == first["Location"]
    assert "A refund of this payment is open." in message_after(staff, second)
    assert BitsbyRefund.objects.count() == 1


def test_second_click_for_an_order_without_payments_requests_nothing(
    staff, order, invoice, interface
):
    """There the amount that is left would allow a second refund of a part."""
    source = order.sources.get()
    source.debit(Decimal("10.00"), reference="by hand")
    url = request_url(interface, order)
    asked = ask(staff, url, amount="3", coin="usdt/tron")
    first = confirm(staff, url, asked)

    second = confirm(staff, url, asked)

    assert BitsbyRefund.objects.count() == 1
    assert second["Location"] == first["Location"]
    assert "perhaps by a second click" in message_after(staff, second)


def test_order_without_a_payment_is_refunded_in_a_coin_that_is_chosen(
    staff, order, invoice, interface
):
    """The coins that its invoices reserved are offered, at the rate that they locked."""
    order.sources.get().debit(Decimal("10.00"), reference="by hand")
    url = request_url(interface, order)
    offered = Page(staff.get(url)).text

    asked = ask(staff, url, amount="4", coin="usdt/tron")
    confirm(staff, url, asked)

    assert "USDT, Tron (TRC-20)" in offered
    refund = BitsbyRefund.objects.get()
    assert (refund.payment, refund.cryptocurrency, refund.blockchain) == (None, "usdt", "tron")
    assert (refund.amount, refund.coin_amount) == (4, 4)


def test_order_without_money_cannot_be_refunded(staff, order, invoice, interface):
    """The page says why instead of offering a form."""
    response = staff.get(request_url(interface, order))

    assert "holds no money from Bitsby" in message_after(staff, response)


def test_refunded_payment_cannot_be_refunded_again(staff, payment, interface):
    """Nothing is left of it."""
    sent_refund(staff.user, payment)

    response = staff.get(request_url(interface, payment.invoice.order))

    assert "Nothing is left to refund" in message_after(staff, response)


def test_staff_choose_among_several_payments(staff, over, invoice_for, interface):
    """An order that was paid twice asks which payment goes back."""
    order = over.invoice.order
    second = book_payment(invoice_for(order))
    url = request_url(interface, order)

    page = Page(staff.get(url))
    (link,) = [link for link in page.links if link.endswith(f"{second.pk}/refund/")] or [
        link for link in page.links if link.endswith(f"payment={second.pk}")
    ]
    asked = ask(staff, link)
    confirm(staff, link, asked)

    assert "Which payment do you refund?" in page.text
    assert BitsbyRefund.objects.get().payment == second


def test_payment_without_an_order_can_be_refunded(staff):
    """It is recorded without an entry in a ledger, and the page says that nobody is asked."""
    payment = unbound_payment()
    url = reverse("oscar_bitsby:dashboard-refund-payment", args=[payment.pk])

    asked = ask(staff, url)
    page = message_after(staff, confirm(staff, url, asked))

    assert "no buyer is known" in Page(asked).text
    assert "find out the address and enter it" in page
    refund = BitsbyRefund.objects.get()
    assert (refund.amount, refund.coin_amount, refund.order) == (None, 8, None)


def test_buyer_who_paid_twice_is_asked_for_an_address(staff, offer):
    """The list leads from an unbound second payment to a refund of the order that it repeats."""
    paid = offer("13.03", InvoiceStatus.PAID)
    payment = receive("13.03", review_reason="unmatched")
    (url,) = [link for link in payment_card(staff, payment).links if link and "/refund/" in link]

    asked = ask(staff, url)
    page = message_after(staff, confirm(staff, url, asked))

    assert paid.order_number in Page(asked).text
    assert "The buyer gets an e-mail that asks for an address" in page
    refund = BitsbyRefund.objects.get()
    assert (refund.order, refund.payment, refund.is_booked) == (paid.order, payment, False)
    assert BuyerMail.objects.get(code=MailCode.REFUND_REQUESTED).order == paid.order


def test_refund_of_an_unknown_order_is_not_found(staff):
    """An order that does not exist gets no refund of an unbound payment."""
    url = reverse("oscar_bitsby:dashboard-refund-payment", args=[unbound_payment().pk])

    assert staff.get(f"{url}?order=999999").status_code == 404


# The refund's page


def test_address_told_by_telephone_is_entered(staff, refund, interface):
    """The page then shows it with the exact amount and a QR code; the log does not."""
    url = page_url(interface, refund)

    text = message_after(staff, take_step(staff, url, "address", address=ADDRESSES["tron"]))

    page = Page(staff.get(url))
    assert "The address is saved." in text
    assert f'value="{ADDRESSES["tron"]}"' in page.html
    assert 'value="10"' in page.html
    assert "<svg" in page.html
    assert "style=" not in page.html.partition("<svg")[2].partition("</svg>")[0]
    assert state_of(refund) == RefundState.ADDRESS_GIVEN
    assert admin_log_of(staff.user) == [f"Bitsby: {refund}: address entered"]


@pytest.mark.parametrize(
    ("address", "error"),
    [
        ("", "Enter the address that you got from the buyer."),
        (ADDRESSES["tron"][:-1] + "8", "its checksum does not match"),
        (ADDRESSES["ethereum"], "This is an Ethereum address."),
        ("T" * 201, "This is not an address."),
        (EVIL, "neither spaces nor special characters"),
        ("TXYZ\x00", "This is not an address."),
    ],
    ids=["nothing", "checksum", "other-chain", "too-long", "markup", "null"],
)
def test_wrong_address_is_refused_and_kept_in_the_form(staff, refund, interface, address, error):
    """The page says what is wrong with it."""
    url = page_url(interface, refund)

    response = act(staff, url, "address", address=address)

    page = Page(response)
    assert error in page.text
    assert page.form_with("address")[0]["address"] == address
    assert EVIL not in page.html
    assert state_of(refund) == RefundState.REQUESTED
    assert admin_log_of(staff.user) == []


def test_link_of_the_buyer_is_renewed(staff, refund, interface):
    """Earlier links become invalid."""
    text = message_after(staff, act(staff, page_url(interface, refund), "renew"))

    assert "Earlier links are no longer valid. The buyer gets it by e-mail." in text
    assert BitsbyRefund.objects.get().link_version == 2
    assert admin_log_of(staff.user) == [f"Bitsby: {refund}: link for the address renewed"]


def test_page_has_the_link_of_the_buyer(staff, client):
    """Also for a payment without an order, whose sender nobody can mail."""
    refund = request_refund(staff.user, unbound_payment(), None)
    page = Page(staff.get(page_url("dashboard", refund)))

    (link,) = re.findall(r'readonly value="http://testserver([^"]+)"', page.html)
    client.post(link, {"address": ADDRESSES["tron"]})

    assert "No e-mail is sent" in page.text
    assert state_of(refund) == RefundState.ADDRESS_GIVEN


def test_hash_books_the_refund(staff, ready, interface):
    """The page links the hash to the explorer, and says that nobody verifies it."""
    url, sent = page_url(interface, ready), new_hash()
    assert "Nobody verifies the hash" in Page(staff.get(url)).text

    text = message_after(staff, take_step(staff, url, "transaction_hash", transaction_hash=sent))

    assert "recorded as sent" in text
    assert f"https://tronscan.org/#/transaction/{sent}" in Page(staff.get(url)).links
    assert bookings_of(ready.order)[1:] == [(sent, "10.00")]
    assert admin_log_of(staff.user) == [f"Bitsby: {ready}: sent"]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "Enter the transaction hash: your wallet shows it after sending."),
        ("f" * 63, "This is not a transaction hash on Tron."),
        ("f" * 201, "A transaction hash has 8 to 200 letters and digits."),
        (EVIL, "This is not a transaction hash on Tron."),
    ],
    ids=["nothing", "too-short", "too-long", "markup"],
)
def test_wrong_hash_is_refused_and_kept_in_the_form(staff, ready, interface, text, error):
    """With the note."""
    values = {"transaction_hash": text, "note": "from the cold wallet"}

    page = Page(act(staff, page_url(interface, ready), "sent", **values))

    assert error in page.text
    fields, _ = page.form_with("transaction_hash")
    assert (fields["transaction_hash"], fields["note"]) == (text, "from the cold wallet")
    assert state_of(ready) == RefundState.ADDRESS_GIVEN


def test_hash_of_another_refund_is_refused(staff, ready, place, invoice_for, interface):
    """One transaction is one refund."""
    other = sent_refund(staff.user, book_payment(invoice_for(place())))

    page = Page(
        act(staff, page_url(interface, ready), "sent", transaction_hash=other.transaction_hash)
    )

    assert "already entered for another refund" in page.text
    assert state_of(ready) == RefundState.ADDRESS_GIVEN


def test_two_clicks_book_one_refund(staff, ready, interface):
    """The second one shows what was entered, and that the refund is sent."""
    url, sent = page_url(interface, ready), new_hash()
    act(staff, url, "sent", transaction_hash=sent)

    page = Page(act(staff, url, "sent", transaction_hash=sent))

    assert "the refund is “sent”" in page.text
    assert f"You entered: Transaction hash {sent}" in page.text
    assert len(bookings_of(ready.order)) == 2
    assert len(admin_log_of(staff.user)) == 1


def test_order_is_cancelled_only_if_staff_choose_it(staff, ready, interface):
    """The box is not ticked when the page is shown."""
    url = page_url(interface, ready)
    assert 'name="cancel_order"' in Page(staff.get(url)).html
    assert " checked" not in Page(staff.get(url)).html

    act(staff, url, "sent", transaction_hash=new_hash(), cancel_order="on")

    assert status_of(ready.order) == "Cancelled"


def test_order_that_cannot_be_cancelled_is_not_offered_it(staff, ready, interface):
    """Because the shop's pipeline forbids it."""
    type(ready.order).objects.update(status="Complete")

    assert "cancel_order" not in Page(staff.get(page_url(interface, ready))).html


@pytest.mark.parametrize(
    ("action", "state", "logged"),
    [
        ("cancel", RefundState.CANCELLED, "refund cancelled"),
        ("reopen", RefundState.REQUESTED, "address removed"),
    ],
)
def test_refund_is_cancelled_or_reopened_with_a_reason(
    staff, ready, interface, action, state, logged
):
    """Without a reason nothing changes."""
    url = page_url(interface, ready)
    assert REASON in Page(act(staff, url, action)).text
    assert state_of(ready) == RefundState.ADDRESS_GIVEN

    message_after(staff, act(staff, url, action, note="wrong address"))

    assert state_of(ready) == state
    assert admin_log_of(staff.user) == [f"Bitsby: {ready}: {logged}: wrong address"]


def test_unknown_step_does_nothing(staff, refund, interface):
    """The page says so."""
    url = page_url(interface, refund)

    assert "Nothing was done" in message_after(staff, act(staff, url, "steal"))
    assert state_of(refund) == RefundState.REQUESTED


def test_opening_pages_changes_nothing(staff, refund, interface):
    """A GET has no effect, whatever its parameters say."""
    before = BitsbyRefund.objects.values().get()

    staff.get(page_url(interface, refund), {"action": "cancel", "note": "x"})
    staff.get(request_url(interface, refund.order), {"confirm": "1", "amount": "1"})

    assert BitsbyRefund.objects.values().get() == before


# The list


def test_list_shows_open_refunds_and_those_to_be_sent_first(staff, refund, place, invoice_for):
    """Each with the next step; closed ones are on a tab of their own."""
    urgent = with_address(request_refund(staff.user, book_payment(invoice_for(place()))))
    closed = sent_refund(staff.user, book_payment(invoice_for(place())))

    rows = Page(staff.get(reverse(LIST))).rows()[1:]
    others = Page(staff.get(reverse(LIST) + "?show=closed")).rows()[1:]

    assert [row.split()[0] for row in rows] == [urgent.order_number, refund.order_number]
    assert "Send the coins and enter the transaction hash" in rows[0]
    assert "buyer@example.com" in rows[1]
    assert "$10.00 10 USDT waiting for an address" in rows[1]
    assert [row.split()[0] for row in others] == [closed.order_number]


def test_empty_list_says_where_refunds_are_requested(staff):
    text = Page(staff.get(reverse(LIST))).text

    assert "No refund is open." in text
    assert "Request one from the order's page" in text


def test_list_costs_no_query_per_refund(staff, place, invoice_for):
    """However many refunds a page has."""

    def create(numbers):
        for _ in numbers:
            request_refund(staff.user, book_payment(invoice_for(place())))

    assert_constant_queries(staff, reverse(LIST), create)


def test_rows_of_an_order_have_what_its_tab_shows(staff, ready):
    """The dashboard's order tab lists an order's refunds by these."""
    (row,) = refund_flow.refunds_of(ready.order, refund_flow.dashboard_url)

    assert row["url"] == page_url("dashboard", ready)
    assert (row["state"], row["badge"]) == ("to be sent", "badge-warning")
    assert (row["amount"], row["currency"], row["coins"]) == (Decimal("10.00"), "USD", "10 USDT")


# Who may


@pytest.mark.parametrize("permissions", [("oscar_bitsby.bind_payment",), (PARTNER,)])
def test_pages_need_the_permission_to_refund(refund, interface, permissions):
    """Also to read them, because they show addresses."""
    client = log_in("other", *permissions, "order.view_order", "order.change_order")

    for url in (request_url(interface, refund.order), page_url(interface, refund), reverse(LIST)):
        assert client.get(url).status_code == 403
        assert client.post(url, {"action": "cancel", "note": "x"}).status_code in (403, 405)
    assert state_of(refund) == RefundState.REQUESTED


def test_pages_need_a_login(client, refund, interface):
    """A stranger is sent to the login."""
    for url in (request_url(interface, refund.order), page_url(interface, refund)):
        assert "login" in client.get(url)["Location"]


def test_partners_users_cannot_refund(order, refund):
    """Not even their own orders: the money is the shop's."""
    client = log_in("partner", *MAY_REFUND, PARTNER, is_staff=False)
    Partner.objects.get(name="Shop").users.add(client.user)

    assert client.get(page_url("dashboard", refund)).status_code == 403
    assert client.get(request_url("dashboard", order)).status_code == 403


def test_navigation_offers_refunds_to_those_who_may(staff):
    """Others do not see the entry."""
    other = log_in("other", "oscar_bitsby.bind_payment")
    page = reverse("dashboard:index")

    assert reverse(LIST) in Page(staff.get(page)).links
    assert reverse(LIST) not in Page(other.get(page)).links


# The admin


def test_order_in_the_admin_links_to_its_refunds(staff, refund):
    """While a refund of its only payment is open, no other one can be requested."""
    change = reverse("admin:order_order_change", args=[refund.order_id])

    page = Page(staff.get(change))

    assert request_url("admin", refund.order) not in page.links
    assert page_url("admin", refund) in page.links
    assert "Refund of 10 USDT: waiting for an address" in page.text


def test_order_without_bitsby_offers_no_refund_in_the_admin(staff, order):
    """Nothing of it came through Bitsby."""
    change = reverse("admin:order_order_change", args=[order.pk])

    assert request_url("admin", order) not in Page(staff.get(change)).links


def test_admin_shows_a_refund_only_under_its_order(staff, refund, place):
    """The address in the URL must be true."""
    url = reverse("admin:oscar_bitsby_refund", args=[place().pk, refund.pk])

    assert staff.get(url).status_code == 404
