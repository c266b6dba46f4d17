"""The e-mails about a refund: they ask for the address, repeat it, and say what was sent."""

import re

import pytest
from django.core import mail
from django.test import Client
from django.utils import timezone
from oscar.core.loading import get_model

from oscar_bitsby.choices import MailCode
from oscar_bitsby.mails import outbox, sender
from oscar_bitsby.models import BuyerMail
from oscar_bitsby.orders import signed_urls
from oscar_bitsby.settlement import refunds
from tests.support.buyer_refunds import ADDRESS, HASH, create_refund
from tests.support.mails import html_of, plain_text, sent_codes, url_of
from tests.support.refunds import book_payment, request_refund
from tests.support.staff import EVIL

Order = get_model("order", "Order")

pytestmark = pytest.mark.django_db

NOW = timezone.now()
#: The values of a refund while the e-mail of each code is true.
VALUES = {
    MailCode.REFUND_REQUESTED: {},
    MailCode.REFUND_ADDRESS: {
        "state": "address_given",
        "address": ADDRESS,
        "address_given_at": NOW,
    },
    MailCode.REFUND_SENT: {
        "state": "sent",
        "address": ADDRESS,
        "address_given_at": NOW,
        "transaction_hash": HASH,
        "closed_at": NOW,
    },
}
EACH_CODE = pytest.mark.parametrize("code", list(VALUES))


def send(code, order, **values):
    """Send the e-mail of a code about a new refund; return the refund."""
    refund = create_refund(order, **(VALUES[code] | values))
    outbox.enqueue(code, order, refund=refund)
    sender.send_pending()
    return refund


def texts_of(message):
    """Return both bodies, each with single spaces and without tags."""
    return [plain_text(message.body), plain_text(html_of(message))]


def assert_sent(order, *words, to="buyer@example.com"):
    """Assert that one e-mail about the order was sent, with words in both bodies; return it."""
    (message,) = mail.outbox
    assert message.to == [to]
    assert order.number in message.subject
    assert "\n" not in message.subject
    for text in texts_of(message):
        for word in words:
            assert word in text, (word, text)
    return message


def link_in(message):
    """Return the path of the refund's page in an e-mail."""
    (path,) = set(re.findall(r"http://example.com(/bitsby/refunds/\S+/)", message.body))
    return path


def outcome():
    """Return the status of the only e-mail, and why it was not sent."""
    row = BuyerMail.objects.get()
    return row.status, row.error


def test_request_says_how_much_and_where_to_give_the_address(order):
    """The e-mail has amount, coin and network, the link, and that we never ask for keys."""
    refund = send(MailCode.REFUND_REQUESTED, order)

    message = assert_sent(
        order,
        "2.5 USDT on Tron (TRC-20)",
        "$2.50",
        "The link is valid for 30 days",
        "an address on another network are lost",
        "We never ask for your private keys or seed phrase",
    )
    url = link_in(message)
    assert f'href="http://example.com{url}"' in html_of(message)
    assert signed_urls.refund_url(refund).split(":")[0] in url
    assert "2.5 USDT" in Client().get(url).content.decode()
    # The order's page is not what the buyer is to open.
    assert url_of(order) not in message.body


def test_address_is_repeated_as_it_was_given(order):
    """The buyer can check the address, and learns to contact the shop at once if it is wrong."""
    send(MailCode.REFUND_ADDRESS, order)

    message = assert_sent(order, ADDRESS, "2.5 USDT on Tron (TRC-20)", "contact us at once")
    for text in (message.body, html_of(message)):
        assert url_of(order) in text


def test_sent_refund_names_its_transaction(order):
    """The e-mail has amount, address and hash, and a link to a block explorer."""
    send(MailCode.REFUND_SENT, order)

    message = assert_sent(order, "2.5 USDT on Tron (TRC-20)", "$2.50", ADDRESS, HASH)
    for text in (message.body, html_of(message)):
        assert f"https://tronscan.org/#/transaction/{HASH}" in text
        assert url_of(order) in text


@EACH_CODE
@pytest.mark.parametrize("status", ["Pending", "Being processed", "Cancelled", "Complete"])
@pytest.mark.parametrize("is_paid", [True, False])
def test_mail_does_not_depend_on_the_payment_status(place, code, status, is_paid):
    """The e-mails go out for paid, cancelled, pending and other orders."""
    order = place(status=status)
    if is_paid:
        order.sources.update(amount_debited=order.total_incl_tax)

    send(code, order)

    assert_sent(order, "2.5 USDT")


@EACH_CODE
def test_mail_goes_to_the_account_of_a_registered_buyer(order, django_user_model, code):
    """The account's address is used, as in all e-mails."""
    user = django_user_model.objects.create_user("ada", "ada@example.com", "secret")
    Order.objects.filter(pk=order.pk).update(user=user, guest_email="")
    order.refresh_from_db()

    send(code, order)

    assert_sent(order, "2.5 USDT", to="ada@example.com")


@pytest.mark.parametrize(
    ("code", "values", "reason"),
    [
        (
            MailCode.REFUND_REQUESTED,
            VALUES[MailCode.REFUND_ADDRESS],
            "the refund has its address",
        ),
        (MailCode.REFUND_REQUESTED, VALUES[MailCode.REFUND_SENT], "the refund was sent"),
        (MailCode.REFUND_REQUESTED, {"state": "cancelled"}, "the refund was cancelled"),
        (MailCode.REFUND_REQUESTED, {"link_version": 2}, "the refund has a newer link"),
        (MailCode.REFUND_ADDRESS, {"state": "requested"}, "the refund has no address"),
        (MailCode.REFUND_ADDRESS, {"state": "cancelled"}, "the refund was cancelled"),
        (
            MailCode.REFUND_ADDRESS,
            {**VALUES[MailCode.REFUND_ADDRESS], "link_version": 2},
            "the refund has a newer link",
        ),
    ],
)
def test_mail_that_is_no_longer_true_is_not_sent(order, code, values, reason):
    """An e-mail is dropped if the refund has changed since; the row says why."""
    refund = create_refund(order, **VALUES[code])
    outbox.enqueue(code, order, refund=refund)
    type(refund).objects.update(**values)

    sender.send_pending()

    assert mail.outbox == []
    assert outcome() == ("dropped", reason)


@EACH_CODE
def test_mail_about_a_deleted_refund_is_not_sent(order, code):
    """The row of the e-mail outlives the refund, and says why nothing was sent."""
    refund = create_refund(order, **VALUES[code])
    outbox.enqueue(code, order, refund=refund)
    refund.delete()

    sender.send_pending()

    assert mail.outbox == []
    assert outcome() == ("dropped", "the refund was deleted")


def test_each_link_has_its_own_mail(order):
    """A new link is mailed again, and the same one only once."""
    refund = send(MailCode.REFUND_REQUESTED, order)
    for version in (1, 2, 2):
        refund.link_version = version
        refund.save()
        outbox.enqueue(MailCode.REFUND_REQUESTED, order, refund=refund)
        sender.send_pending()

    assert len(mail.outbox) == 2


@EACH_CODE
def test_refund_without_an_order_sends_no_mail(code):
    """The sender of a payment without an order is not known; nothing is enqueued."""
    send(code, None)

    assert mail.outbox == []
    assert not BuyerMail.objects.exists()


@EACH_CODE
def test_order_without_an_address_sends_no_mail(order, code):
    """An order without an e-mail address gets none, and the row says why."""
    Order.objects.filter(pk=order.pk).update(guest_email="")
    order.refresh_from_db()

    send(code, order)

    assert mail.outbox == []
    assert outcome() == ("dropped", "the buyer has no e-mail address")


@EACH_CODE
def test_mails_can_be_switched_off(configure, order, code):
    """With ``MAILS`` False, nothing is enqueued."""
    configure(MAILS=False)

    send(code, order)

    assert not BuyerMail.objects.exists()


@pytest.mark.parametrize(
    ("coin", "chain", "words", "explorer"),
    [
        ("eth", "ethereum", "2.5 ETH on Ethereum", "https://etherscan.io/tx/"),
        ("usdt", "ethereum", "2.5 USDT on Ethereum (ERC-20)", "https://etherscan.io/tx/"),
        ("usdt", "bnbSmartChain", "2.5 USDT on BNB Smart Chain (BEP-20)", "https://bscscan.com/tx"),
        ("btc", "bitcoin", "2.5 BTC on Bitcoin", "https://mempool.space/tx/"),
        ("usdt", "newChain", "2.5 USDT on newChain", None),
    ],
)
def test_networks_have_the_names_of_wallets(order, coin, chain, words, explorer):
    """A network is named as wallets do; one that we do not know keeps its code, without a link."""
    send(MailCode.REFUND_SENT, order, cryptocurrency=coin, blockchain=chain)

    message = assert_sent(order, words)
    assert f"{words} (" not in message.body
    for text in (message.body, html_of(message)):
        assert (explorer in text) if explorer else ("block explorer" not in text)


@EACH_CODE
def test_hostile_texts_are_escaped(order, code):
    """Codes of coins come from another system: markup in them is escaped."""
    send(code, order, cryptocurrency=EVIL, blockchain=EVIL)

    (message,) = mail.outbox
    assert EVIL.upper() not in html_of(message)
    assert EVIL not in html_of(message)
    assert "&lt;SCRIPT&gt;" in html_of(message)


def test_refund_without_a_value_names_the_coins(order):
    """For money whose value is not known, the e-mails name the coins only."""
    send(MailCode.REFUND_SENT, order, amount=None, currency="")

    message = assert_sent(order, "Amount: 2.5 USDT")
    assert "None" not in message.body
    assert "$" not in message.body


def test_mails_use_the_language_of_placing_the_order(order):
    """An e-mail about a refund is in the language of the order's first one."""
    outbox.enqueue(MailCode.PLACED, order)
    BuyerMail.objects.update(language="de", status="sent")
    refund = create_refund(order)
    outbox.enqueue(MailCode.REFUND_REQUESTED, order, refund=refund)
    sender.send_pending()

    (message,) = mail.outbox
    assert message.body.startswith("Guten Tag")
    assert "2,50\xa0$" in message.body
    assert "2.5 USDT" in message.body


def test_buyer_follows_a_refund_by_its_mails(order, invoice, staff_user):
    """From the request to the transaction: each step mails what the next one needs, and once."""
    client = Client()
    refund = request_refund(staff_user, book_payment(invoice))
    BuyerMail.objects.exclude(code=MailCode.REFUND_REQUESTED).delete()
    sender.send_pending()
    first = link_in(mail.outbox[-1])
    client.post(first, {"address": ADDRESS})
    sender.send_pending()
    assert ADDRESS in mail.outbox[-1].body

    refunds.reopen(refund.pk, staff_user, "wrong address")
    sender.send_pending()
    second = link_in(mail.outbox[-1])
    assert (client.get(first).status_code, client.get(second).status_code) == (410, 200)
    client.post(second, {"address": ADDRESS})
    sender.send_pending()
    refunds.mark_sent(refund.pk, HASH, staff_user)
    sender.send_pending()

    assert HASH in mail.outbox[-1].body
    assert HASH in client.get(second).content.decode()
    assert sent_codes() == [
        MailCode.REFUND_REQUESTED,
        MailCode.REFUND_ADDRESS,
        MailCode.REFUND_REQUESTED,
        MailCode.REFUND_ADDRESS,
        MailCode.REFUND_SENT,
    ]
