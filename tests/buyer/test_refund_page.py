"""The page of a refund: it asks for the address once, shows it, and later the transaction."""

import pytest
from django.test import Client
from django.utils import timezone
from django.utils.html import escape
from oscar.core.loading import get_model

from oscar_bitsby.choices import MailCode
from oscar_bitsby.models import BitsbyRefund
from oscar_bitsby.orders import signed_urls
from oscar_bitsby.settlement import refunds
from tests.support import bitsby
from tests.support.buyer_refunds import (
    ADDRESS,
    HASH,
    OTHER_ADDRESS,
    content_of,
    create_refund,
    give_address,
    open_refund,
)
from tests.support.concurrency import run_together
from tests.support.staff import EVIL, Page

Order = get_model("order", "Order")

pytestmark = pytest.mark.django_db

GIVEN = {"state": "address_given", "address": ADDRESS, "address_given_at": timezone.now()}
SENT = {**GIVEN, "state": "sent", "transaction_hash": HASH, "closed_at": timezone.now()}
ZERO_ON_TRON = "T9yD14Nj9j7xAB4dbGeiX9h8unkKHxuWwb"
BITCOIN = "bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdq"
ETHEREUM = "0xd8dA6BF26964aF9D7eEd9e03E53415D37aA96045"


@pytest.fixture
def refund(order):
    """A refund of 2.50 dollars in USDT on Tron, whose address is missing."""
    return create_refund(order)


def stored(refund):
    """Return the state and the address of a refund in the database."""
    return BitsbyRefund.objects.values_list("state", "address").get(pk=refund.pk)


def assert_refused(response, refund, typed, *words):
    """Assert that the page keeps what was typed and says what to do, and nothing was stored."""
    assert response.status_code == 200
    html = response.content.decode()
    assert f'value="{escape(typed)}"' in html
    assert 'role="alert"' in html
    assert 'aria-invalid="true"' in html
    for word in words:
        assert word in content_of(response), (word, content_of(response))
    assert stored(refund) == ("requested", "")


def test_page_says_what_is_sent_and_where(refund):
    """The page names order, amount, coin and network, and what loses the money."""
    text = content_of(open_refund(refund))

    assert "$2.50 as 2.5 USDT on Tron (TRC-20)" in text
    assert "Only use an address for USDT on Tron (TRC-20)" in text
    assert "an address on another network are lost" in text
    assert "Exchanges change their deposit addresses" in text
    assert "We never ask for your private keys or seed phrase" in text
    assert f"Refund for order {refund.order_number}" in open_refund(refund).content.decode()


def test_form_has_one_described_field_and_one_button(refund):
    """Screen readers find the label and the warning, and keyboards do not change the address."""
    page = Page(open_refund(refund))

    fields, _ = page.form_with("address")
    assert set(fields) == {"csrfmiddlewaretoken", "address"}
    (field,) = [tag for tag in page.html.split("<") if 'name="address"' in tag]
    for attribute in (
        'id="id_address"',
        'autocomplete="off"',
        'autocapitalize="none"',
        'spellcheck="false"',
        "required",
    ):
        assert attribute in field
    assert '<label for="id_address">' in page.html
    described_by = field.split('aria-describedby="')[1].split('"')[0].split()
    assert described_by
    for name in described_by:
        assert f'id="{name}"' in page.html


def test_opening_the_page_changes_nothing(refund):
    """Mail programs and link checkers open links: only a POST gives an address."""
    url = signed_urls.refund_url(refund)
    for method in ("get", "head"):
        assert getattr(Client(), method)(url, {"address": ADDRESS}).status_code == 200
    assert Client().put(url, {"address": ADDRESS}).status_code == 405

    assert stored(refund) == ("requested", "")


def test_address_is_stored_and_shown(refund):
    """After the POST a redirect leads to the page, which shows the address and its time."""
    response = give_address(refund, f"  {ADDRESS}\n")
    assert response.status_code == 303
    assert stored(refund) == ("address_given", ADDRESS)

    text = content_of(Client().get(response["Location"]))
    assert ADDRESS in text
    assert "Address saved" in text
    assert "If it's wrong, contact the shop at once" in text
    assert "We'll email you when the refund has been sent" in text
    assert 'name="address"' not in Client().get(response["Location"]).content.decode()


def test_given_address_is_mailed(refund, order):
    """The buyer gets an e-mail with the address, so that a stranger's entry is noticed."""
    give_address(refund, ADDRESS)

    (row,) = order.bitsby_mails.all()
    assert (row.code, row.refund) == (MailCode.REFUND_ADDRESS, refund)


def test_address_is_set_once(refund):
    """A second address is refused with a message, and the first one is shown."""
    give_address(refund, ADDRESS)

    response = give_address(refund, OTHER_ADDRESS)

    assert response.status_code == 409
    text = content_of(response)
    assert "this refund already has one" in text
    assert "contact the shop at once" in text
    assert ADDRESS in text
    assert OTHER_ADDRESS not in text
    assert stored(refund) == ("address_given", ADDRESS)


def test_second_click_leads_to_the_same_page(refund, order):
    """The same address again is no error, and sends no second e-mail."""
    for _ in range(2):
        response = give_address(refund, ADDRESS)
        assert response.status_code == 303

    assert stored(refund) == ("address_given", ADDRESS)
    assert order.bitsby_mails.count() == 1


def test_an_address_that_came_meanwhile_is_kept(refund, monkeypatch):
    """If staff enter an address while the buyer submits another, the buyer is told."""
    set_address = refunds.set_address

    def set_after_staff(pk, address, **values):
        set_address(pk, OTHER_ADDRESS)
        return set_address(pk, address, **values)

    monkeypatch.setattr(refunds, "set_address", set_after_staff)
    response = give_address(refund, ADDRESS)

    assert response.status_code == 409
    assert OTHER_ADDRESS in content_of(response)
    assert stored(refund) == ("address_given", OTHER_ADDRESS)


def test_link_that_is_replaced_meanwhile_stores_nothing(refund, monkeypatch):
    """If staff renew the link while the buyer submits by the old one, only the new one counts."""
    set_address = refunds.set_address

    def set_after_renewal(pk, address, **values):
        refunds.renew_link(pk, None)
        return set_address(pk, address, **values)

    monkeypatch.setattr(refunds, "set_address", set_after_renewal)
    response = give_address(refund, ADDRESS)

    assert "This link was replaced by a newer one." in content_of(response)
    assert stored(refund) == ("requested", "")


@pytest.mark.django_db(transaction=True)
def test_two_addresses_at_once_store_one(refund):
    """Of two POSTs at the same time, one is stored, and the other is refused."""
    answers = run_together(
        *(lambda a=address: give_address(refund, a) for address in (ADDRESS, OTHER_ADDRESS))
    )

    assert sorted(answer.status_code for answer in answers) == [303, 409]
    assert stored(refund)[0] == "address_given"


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("", "Paste the address"),
        ("   ", "Paste the address"),
        (ADDRESS[:-1] + "u", "checksum"),
        (ADDRESS[:-1], "not an address on Tron"),
        (BITCOIN, "Enter an address for USDT on Tron"),
        (ETHEREUM, "Enter an address for USDT on Tron"),
        ("T" * 201, "This is not an address."),
        (EVIL, "Copy only the address"),
        (f'"><img src=x onerror=alert(1)>{ADDRESS}', "Copy only the address"),
        (f"{ADDRESS[:20]} {ADDRESS[20:]}", "Copy only the address"),
        (f"{ADDRESS}\x00", "not an address"),
        (f"{ADDRESS}\u202e", "Copy only the address"),
        ("%(pk)s {{ refund }}", "Copy only the address"),
        (bitsby.wallet()["address"], "This is an address of the shop"),
        (ZERO_ON_TRON, "coins sent to it are lost"),
    ],
    ids=lambda value: ascii(value)[:20],
)
def test_wrong_address_is_refused_and_kept_in_the_field(refund, invoice, typed, words):
    """Each mistake gets a message that says what to do, and what was typed can be corrected."""
    response = give_address(refund, typed)

    assert_refused(response, refund, typed, words)
    assert EVIL not in response.content.decode()


def test_wrong_address_is_followed_by_a_right_one(refund):
    """A refused address does not use up the one try."""
    give_address(refund, BITCOIN)

    assert give_address(refund, ADDRESS).status_code == 303
    assert stored(refund) == ("address_given", ADDRESS)


@pytest.mark.parametrize(
    ("coin", "chain", "address", "network"),
    [
        ("btc", "bitcoin", BITCOIN, "BTC on Bitcoin"),
        ("eth", "ethereum", ETHEREUM, "ETH on Ethereum"),
        ("usdt", "bnbSmartChain", ETHEREUM, "USDT on BNB Smart Chain (BEP-20)"),
        ("coin", "newChain", "anything1234", "COIN on newChain"),
    ],
)
def test_page_asks_for_the_chain_that_was_paid(order, coin, chain, address, network):
    """Each chain takes its own addresses; one that we do not know, any plain text."""
    refund = create_refund(order, cryptocurrency=coin, blockchain=chain)
    assert f"Only use an address for {network}." in content_of(open_refund(refund))

    assert give_address(refund, address).status_code == 303
    assert stored(refund) == ("address_given", address)


def test_form_needs_a_csrf_token(refund):
    """Another site cannot give an address for the buyer."""
    client = Client(enforce_csrf_checks=True)
    assert give_address(refund, ADDRESS, client).status_code == 403
    assert stored(refund) == ("requested", "")

    fields, _ = Page(open_refund(refund, client)).form_with("address")
    response = client.post(signed_urls.refund_url(refund), {**fields, "address": ADDRESS})
    assert response.status_code == 303


@pytest.mark.parametrize("values", [{}, GIVEN, SENT])
def test_page_is_private(order, values):
    """The URL grants access, so it is not stored, indexed or sent to other sites."""
    headers = open_refund(create_refund(order, **values)).headers

    assert "no-store" in headers["Cache-Control"]
    assert headers["Referrer-Policy"] == "same-origin"
    assert headers["X-Robots-Tag"] == "noindex"


@pytest.mark.parametrize("values", [{}, GIVEN, SENT])
def test_page_needs_no_exception_from_a_content_security_policy(order, values):
    """The page's own part has no inline styles and scripts."""
    html = open_refund(create_refund(order, **values)).content.decode()
    part = html[html.index('id="content_inner"') :].split("<footer")[0]

    for inline in ("style=", "<script>", "<style", "onclick", "javascript:"):
        assert inline not in part


def test_page_opens_with_atomic_requests(refund):
    """Settling opens its own transaction, and a shop with ATOMIC_REQUESTS must not add one."""
    view = Client().get(signed_urls.refund_url(refund)).resolver_match.func

    assert "default" in view._non_atomic_requests


def test_sent_refund_shows_its_transaction(order):
    """The page has amount, address and hash, and a link to the block explorer."""
    response = open_refund(create_refund(order, **SENT))

    text = content_of(response)
    assert "Your refund has been sent" in text
    for word in ("$2.50 as 2.5 USDT on Tron (TRC-20)", ADDRESS, HASH):
        assert word in text
    assert f"https://tronscan.org/#/transaction/{HASH}" in Page(response).links


def test_erased_address_is_not_missed(order):
    """When the address was erased, the transaction stays."""
    text = content_of(open_refund(create_refund(order, **(SENT | {"address": ""}))))

    assert HASH in text
    assert "address" not in text


def test_cancelled_refund_takes_no_address(order):
    """A cancelled refund says so, and an address for it is refused."""
    refund = create_refund(order, state="cancelled")
    assert "This refund has been cancelled" in content_of(open_refund(refund))

    response = give_address(refund, ADDRESS)
    assert response.status_code == 409
    assert "wasn't saved, because this refund has been cancelled" in content_of(response)
    assert stored(refund) == ("cancelled", "")


def test_address_entered_by_staff_is_shown(order, django_user_model):
    """The buyer sees which address staff entered, and that it was the shop."""
    user = django_user_model.objects.create_user("staff", "staff@example.com", "secret")
    text = content_of(open_refund(create_refund(order, **GIVEN, address_given_by=user)))

    assert "The shop has entered the wallet address for you" in text
    assert ADDRESS in text
    assert "staff" not in text


@pytest.mark.parametrize("has_order", [True, False])
def test_refund_without_an_email_address(order, has_order):
    """Without an order or its e-mail address, the page works and promises no e-mail."""
    Order.objects.filter(pk=order.pk).update(guest_email="")
    refund = create_refund(order if has_order else None)

    assert give_address(refund, ADDRESS).status_code == 303
    text = content_of(open_refund(refund))
    assert "We'll email you" not in text
    assert "This page will show when the refund has been sent" in text


def test_refund_of_a_deleted_order_names_its_number(order):
    """The page still works when the order was deleted."""
    refund = create_refund(order)
    number = order.number
    order.delete()

    assert f"Refund for order {number}" in open_refund(refund).content.decode()
    assert give_address(refund, ADDRESS).status_code == 303


# The order's page


def order_page(order):
    """Return the order's page for its buyer."""
    return Client().get(signed_urls.order_url(order))


def test_order_page_links_to_the_page_while_the_address_is_missing(refund, order):
    """The buyer finds the refund on the order's page, and gives the address from there."""
    page = Page(order_page(order))
    assert "We need a wallet address for your refund" in page.text
    assert "$2.50 as 2.5 USDT on Tron (TRC-20)" in page.text
    (url,) = [link for link in page.links if link and "/refunds/" in link]

    assert Client().post(url, {"address": ADDRESS}).status_code == 303
    page = Page(order_page(order))
    assert "We have the wallet address and will send your refund" in page.text
    assert not [link for link in page.links if link and "/refunds/" in link]
    # The link of an order does not expire, and it is shown to more people.
    assert ADDRESS not in page.text


def test_order_page_shows_what_was_sent(order):
    """A sent refund has its hash and a link to the explorer, a cancelled one its state only."""
    create_refund(order, **SENT)
    create_refund(order, state="cancelled", coin_amount=1)

    page = Page(order_page(order))
    assert "Your refunds" in page.text
    assert HASH in page.text
    assert f"https://tronscan.org/#/transaction/{HASH}" in page.links
    assert "This refund has been cancelled" in page.text


def test_order_page_shows_only_its_own_refunds(place, refund):
    """The page of another order, and one without refunds, shows none."""
    text = content_of(order_page(place()))

    assert "refund" not in text.lower()


def test_hostile_codes_are_escaped(order):
    """Codes of coins and chains come from another system."""
    refund = create_refund(order, cryptocurrency=EVIL, blockchain=EVIL)

    for response in (open_refund(refund), order_page(order), give_address(refund, EVIL)):
        html = response.content.decode()
        assert EVIL not in html
        assert EVIL.upper() not in html
