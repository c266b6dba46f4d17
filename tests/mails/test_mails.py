"""Mails to the buyer: each tells the truth, once, and none can break what it tells of."""

from __future__ import annotations

import datetime as dt
import re
from decimal import Decimal

import pytest
from django.conf import settings as shop_settings
from django.contrib.auth.models import Permission
from django.core import mail
from django.core.checks import run_checks
from django.core.management.sql import emit_post_migrate_signal
from django.db import DatabaseError, connection
from django.test import Client
from django.urls import reverse
from django.utils import formats, timezone, translation
from oscar.core.loading import get_class, get_model
from oscar.test import factories

from oscar_bitsby import reconciliation
from oscar_bitsby.choices import MailCode
from oscar_bitsby.exceptions import GatewayError
from oscar_bitsby.facade import start_payment
from oscar_bitsby.mails import event_types, outbox, sender
from oscar_bitsby.mails.context import build_context
from oscar_bitsby.models import BitsbyPayment, BuyerMail
from oscar_bitsby.orders import signed_urls
from oscar_bitsby.reconciliation import refresh, run
from oscar_bitsby.staff import review
from tests import bitsby
from tests.checkout import mail_backends
from tests.shopping import go_to_preview, place_order
from tests.test_races import at_once, failures

CommunicationEvent = get_model("order", "CommunicationEvent")
CommunicationEventType = get_model("communication", "CommunicationEventType")
Dispatcher = get_class("communication.utils", "Dispatcher")
Order = get_model("order", "Order")

BACKENDS = "tests.checkout.mail_backends"
ALL = [code for code, _ in MailCode.choices]

pytestmark = pytest.mark.django_db


@pytest.fixture
def configure(settings):
    """Return a function that changes keys of ``OSCAR_BITSBY``."""

    def change(**values):
        settings.OSCAR_BITSBY = {**settings.OSCAR_BITSBY, **values}

    return change


@pytest.fixture
def mail_server(settings):
    """Return a function that gives the shop another mail server; none for one that works."""

    def change(name=None):
        locmem = "django.core.mail.backends.locmem.EmailBackend"
        settings.EMAIL_BACKEND = f"{BACKENDS}.{name}" if name else locmem

    return change


@pytest.fixture
def committed(django_capture_on_commit_callbacks):
    """Return a function that calls another one as if the test were no transaction."""

    def call(function, *args, **values):
        with django_capture_on_commit_callbacks(execute=True):
            return function(*args, **values)

    return call


@pytest.fixture
def buy(fake, guest, product, committed):
    """Return a function that places an order, without going to the payment page."""

    def buy_as(client=guest, method="bitsby"):
        go_to_preview(client, product, method)
        committed(place_order, client)
        return Order.objects.latest("pk")

    return buy_as


@pytest.fixture
def buy_and_hear(buy):
    """Return a function that places an order, after which a pass sends its mail."""

    def buy_as(*arguments):
        order = buy(*arguments)
        assert mail.outbox == []
        reconciliation.reconcile()
        return order

    return buy_as


@pytest.fixture
def registered(country):
    """The browser of a registered buyer, ada@example.com."""
    user = factories.UserFactory(email="ada@example.com", username="ada")
    client = Client()
    client.force_login(user, "django.contrib.auth.backends.ModelBackend")
    return client


@pytest.fixture
def staff_user():
    user = factories.UserFactory(email="staff@example.com", username="staff", is_staff=True)
    user.user_permissions.add(Permission.objects.get(codename="bind_payment"))
    return user


@pytest.fixture
def ended(order, invoice_for):
    """An invoice whose time ran out a minute ago, which nobody has noticed."""
    now = timezone.now()
    return invoice_for(
        order, created_at=now - dt.timedelta(hours=1), expires_at=now - dt.timedelta(minutes=1)
    )


@pytest.fixture
def long_invoice(order, invoice_for):
    """An invoice of twelve hours that has fifty minutes left."""
    return invoice_for(order, **ending_in(minutes=50, hours_in_all=12))


def ending_in(minutes, hours_in_all):
    end = timezone.now() + dt.timedelta(minutes=minutes)
    return {"created_at": end - dt.timedelta(hours=hours_in_all), "expires_at": end}


def html_of(message):
    ((html, kind),) = message.alternatives
    assert kind == "text/html"
    return html


def url_of(order):
    return f"http://example.com{signed_urls.order_url(order)}"


def shown(moment):
    """Return a time as English mails show it: the shop's local time."""
    with translation.override("en"):
        return formats.date_format(timezone.localtime(moment), "DATETIME_FORMAT")


def flat(text):
    """Return a text without tags, and with every gap one plain space."""
    text = re.sub(r"<style.*?</style>", "", text, flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]+>", " ", text).split())


def the_mail(order, *words, to="buyer@example.com"):
    """Return the one mail that was sent: it is about that order, in text and HTML, with words."""
    (message,) = mail.outbox
    assert message.to == [to]
    assert order.number in message.subject
    assert "\n" not in message.subject
    for text in (message.body, html_of(message)):
        assert url_of(order) in text
        for word in words:
            assert word in flat(text), (word, flat(text))
    return message


def sent_codes():
    rows = BuyerMail.objects.filter(status="sent").order_by("sent_at", "pk")
    assert rows.count() == len(mail.outbox)
    return [row.code for row in rows]


def paid(invoice, amount="10.00000000"):
    """Return what the list of payments says of an invoice paid by that amount of USDT."""
    return bitsby.payment_item(bitsby.transfer(amount), bitsby.invoice_item(invoice, "paid"))


# What is told, and when


def test_a_placed_order_waits_for_payment_and_is_not_processed(buy_and_hear):
    """The mail of an order says what to pay and until when, and not that it is being processed."""
    order = buy_and_hear()

    kept = shown(order.date_placed + dt.timedelta(hours=2))
    message = the_mail(
        order, "waiting for your payment of $10.00", "Mug", f"until {kept} (Europe/Berlin)"
    )
    assert "waiting for your payment" in message.subject
    assert "processed shortly" not in message.body
    row = order.bitsby_mails.get()
    assert (row.code, row.status, row.tries) == (MailCode.PLACED, "sent", 1)


def test_a_registered_buyer_is_written_to_as_well(buy_and_hear, registered):
    """The mail goes to the account's address, and Oscar's record of mails has it."""
    order = buy_and_hear(registered)

    the_mail(order, "waiting for your payment", to="ada@example.com")
    assert order.user.emails.get().subject == mail.outbox[0].subject


def test_the_deadline_is_told_once_it_is_known(buy):
    """A mail that leaves when there is an invoice says until when that one can be paid."""
    order = buy()
    invoice = start_payment(order)

    reconciliation.reconcile()

    the_mail(order, f"Please pay until {shown(invoice.expires_at)} (Europe/Berlin)")


def test_who_may_have_paid_is_told_until_when_the_page_is_open_and_no_other_end(buy, fake):
    """While an invoice is live nobody knows when the order ends, whatever else was seen."""
    order = buy()
    invoice = start_payment(order)
    fake.payments = [bitsby.payment_item(bitsby.transfer("8.00000000"))]
    reconciliation.reconcile()

    the_mail(order, f"Please pay until {shown(invoice.expires_at)} (Europe/Berlin)")
    context = build_context(order.bitsby_mails.get())
    assert context["payment_status"].state == "possible_mismatch"
    assert (context["until"], context["kept_until"]) == (invoice.expires_at, None)


def test_no_deadline_is_told_where_there_is_none(buy_and_hear, configure):
    """With ``CANCEL_AFTER`` None, the order's mail does not threaten with an end."""
    configure(CANCEL_AFTER=None)
    order = buy_and_hear()

    message = the_mail(order)
    assert "until" not in message.body


def test_received_money_is_told_once(order, invoice, fake):
    """However often a pass looks, the buyer is thanked once for the payment."""
    fake.payments = [paid(invoice)]

    report = reconciliation.reconcile()
    reconciliation.reconcile()

    the_mail(order, "received your payment of $10.00", "You need not do anything else")
    assert report.mails == 1
    assert "1 e-mails sent" in str(report)
    assert sent_codes() == [MailCode.PAID]


def test_no_page_and_no_delivery_waits_for_a_mail_server(
    order, invoice, fake, mail_server, committed
):
    """Whoever settles a payment only notes the mail; the next pass sends it."""
    mail_server("Refusing")
    fake.invoices = [bitsby.invoice_item(invoice, "paid", bitsby.transfer())]
    committed(refresh, invoice)
    row = order.bitsby_mails.get()
    assert (row.status, row.tries) == ("waiting", 0)
    mail_server()

    reconciliation.reconcile()

    the_mail(order, "received your payment", "Mug")


@pytest.mark.parametrize(
    ("amount", "words"),
    [
        ("8.00000000", ["8 USDT", "$8.00", "less than the $10.00"]),
        ("12.50000000", ["12.5 USDT", "$12.50", "more than the $10.00"]),
    ],
)
def test_another_amount_is_told_with_what_happens_next(order, invoice, fake, amount, words):
    """Who paid too little or too much is told what arrived, and not to pay again; once."""
    fake.payments = [paid(invoice, amount)]

    reconciliation.reconcile()
    reconciliation.reconcile()

    the_mail(order, *words, "do not pay again", "write to you about what happens next")
    assert sent_codes() == [MailCode.OTHER_AMOUNT]


def test_late_money_is_not_lost(place, invoice_for, fake):
    """Who paid for a cancelled order learns that the money has arrived and that somebody looks."""
    order = place(status="Cancelled")
    invoice = invoice_for(order, "expired", ended_at=timezone.now())
    fake.payments = [paid(invoice)]

    reconciliation.reconcile()

    the_mail(order, "had been cancelled before your payment came", "Your money is not lost")


def test_a_second_payment_is_told_as_one_too_many(order, invoice_for, fake):
    """Who pays twice is thanked once, and told of the other payment."""
    invoices = [invoice_for(order, "expired", ended_at=timezone.now()), invoice_for(order)]
    fake.payments = [paid(invoices[0])]
    reconciliation.reconcile()
    mail.outbox.clear()
    fake.payments = [paid(invoices[1]), *fake.payments]
    reconciliation.reconcile()

    the_mail(order, "one too many", "Your money is not lost")


def test_money_on_an_expired_invoice_is_told_as_being_looked_at(order, ended, fake):
    """A payment that does not count by itself is told of, and nobody is asked to pay again."""
    payment = bitsby.transfer()
    fake.invoices = [bitsby.invoice_item(ended, "expired", payment)]

    reconciliation.reconcile()

    the_mail(order, "10 USDT", "We have to look at it", "do not pay again")


def test_strangers_money_is_told_to_nobody(order, invoice, fake):
    """A payment that is bound to no order leads to no mail."""
    fake.payments = [bitsby.payment_item(bitsby.transfer("9.99"))]

    reconciliation.reconcile()

    assert BitsbyPayment.objects.get().review_reason == "unmatched"
    assert mail.outbox == []


def test_a_wrong_amount_that_staff_knew_of_is_thanked_for(
    order, invoice, fake, staff_user, committed
):
    """When staff bind a payment of another amount, its buyer hears that it is received."""
    fake.invoices = [bitsby.invoice_item(invoice, "paid", bitsby.transfer("8.00000000"))]
    refresh(invoice)
    committed(review.resolve_as_bound, BitsbyPayment.objects.get().pk, staff_user, "ok")
    reconciliation.reconcile()

    the_mail(order, "received your payment of $8.00")
    assert order.bitsby_mails.get(code=MailCode.OTHER_AMOUNT).status == "dropped"


def test_a_wrong_amount_that_staff_accept_later_is_thanked_for(order, invoice, fake, staff_user):
    """What the first mail promises, the second keeps: somebody looked, and all is well."""
    fake.payments = [paid(invoice, "8.00000000")]
    reconciliation.reconcile()
    mail.outbox.clear()

    review.accept(BitsbyPayment.objects.get().pk, staff_user, "a good customer")
    reconciliation.reconcile()

    the_mail(order, "received your payment of $8.00")


def test_an_order_that_staff_settle_again_is_told_as_paid(
    place, invoice_for, fake, staff_user, settings
):
    """Late money that revives its order after all is told of as received."""
    pipeline = {**settings.OSCAR_ORDER_STATUS_PIPELINE, "Cancelled": ("Being processed",)}
    order = place()
    invoice = invoice_for(order, "expired", ended_at=timezone.now() - dt.timedelta(hours=2))
    fake.invoices = [bitsby.invoice_item(invoice, "expired")]
    reconciliation.reconcile()
    fake.payments = [paid(invoice)]
    reconciliation.reconcile()
    assert sent_codes() == [MailCode.CANCELLED, MailCode.OTHER_AMOUNT]
    mail.outbox.clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Order, "pipeline", pipeline)
        review.reinstate(BitsbyPayment.objects.get().pk, staff_user, "late")
    reconciliation.reconcile()

    the_mail(order, "received your payment")


@pytest.mark.parametrize(("minutes", "hours"), [(50, 12), (59, 6), (40, 3)])
def test_a_long_time_to_pay_is_reminded_of_once(order, invoice_for, fake, minutes, hours):
    """In the last quarter and the last hour, the buyer is told until when to pay."""
    invoice = invoice_for(order, **ending_in(minutes, hours))

    with timezone.override("Asia/Tokyo"):
        reconciliation.reconcile()
        reconciliation.reconcile()

    the_mail(
        order,
        "still waiting for your payment of $10.00",
        f"until {shown(invoice.expires_at)} (Europe/Berlin)",
    )
    assert sent_codes() == [MailCode.REMINDER]


@pytest.mark.parametrize(("minutes", "hours"), [(10, 1), (61, 12), (50, 3), (4, 12)])
def test_nobody_is_reminded_too_early_or_too_late_or_of_a_short_time(
    order, invoice_for, fake, minutes, hours
):
    """Not before the last quarter and hour, not in the last minutes, not of an hour in all."""
    invoice_for(order, **ending_in(minutes, hours))

    reconciliation.reconcile()

    assert mail.outbox == []


def test_who_has_paid_is_not_reminded(order, long_invoice, fake):
    """The pass that finds the payment thanks for it and reminds nobody."""
    fake.payments = [paid(long_invoice)]

    reconciliation.reconcile()

    assert sent_codes() == [MailCode.PAID]


@pytest.mark.parametrize("amount", ["9.50000000", "5.50000000", "19.00000000"])
def test_who_may_have_paid_a_wrong_amount_is_not_reminded(order, long_invoice, fake, amount):
    """While an unbound payment waits that may be this buyer's, nobody asks the buyer to pay."""
    fake.payments = [bitsby.payment_item(bitsby.transfer(amount))]

    reconciliation.reconcile()

    assert mail.outbox == []


def test_who_has_money_waiting_is_not_reminded(order, long_invoice, fake):
    """A payment of this order that staff must look at keeps the reminder back."""
    BitsbyPayment.objects.create(
        bitsby_id=bitsby.new_id(), amount=10, invoice=long_invoice, review_reason="fiat_value"
    )

    reconciliation.reconcile()

    assert mail.outbox == []


def test_an_invoice_that_ran_out_is_told_with_the_way_to_pay_again(order, ended, fake):
    """The buyer learns once that the time is over, how long the order is kept, and where to pay."""
    fake.invoices = [bitsby.invoice_item(ended, "expired")]

    reconciliation.reconcile()
    reconciliation.reconcile()

    the_mail(
        order,
        f"keep it for you until {shown(ended.expires_at + dt.timedelta(hours=1))}",
        "To pay $10.00, get a new amount",
        "do not pay again",
    )
    assert sent_codes() == [MailCode.EXPIRED]


def test_each_invoice_of_an_order_runs_out_for_itself(order, ended, invoice_for, fake, move_time):
    """Who asked for a new amount and let that expire as well is told again."""
    fake.invoices = [bitsby.invoice_item(ended, "expired")]
    reconciliation.reconcile()
    second = invoice_for(order, expires_at=timezone.now() + dt.timedelta(minutes=1))
    fake.invoices.append(bitsby.invoice_item(second, "expired"))
    move_time(minutes=2)
    reconciliation.reconcile()

    assert sent_codes() == [MailCode.EXPIRED] * 2


def test_who_pays_again_already_is_not_told_that_the_time_is_over(order, ended, fake):
    """A buyer who found the end out and has a new invoice gets no mail about the old one."""
    fake.invoices = [bitsby.invoice_item(ended, "expired")]
    start_payment(order)
    reconciliation.reconcile()

    assert mail.outbox == []
    assert order.bitsby_mails.get().status == "dropped"


def test_of_two_ends_that_wait_to_be_told_the_newer_is(order, invoice_for, fake):
    """After a silence of the mail server, the buyer hears once that the time is over."""
    ended = timezone.now() - dt.timedelta(minutes=20)
    for minutes in (10, 0):
        at = ended - dt.timedelta(minutes=minutes)
        invoice = invoice_for(order, "expired", expires_at=at, ended_at=at)
        outbox.enqueue(MailCode.EXPIRED, order, invoice=invoice)

    sender.send_pending()

    the_mail(order, "To pay $10.00")
    assert BuyerMail.objects.get(status="sent").invoice == invoice


@pytest.mark.parametrize("patience", [dt.timedelta(), dt.timedelta(minutes=3)])
def test_an_order_that_is_cancelled_at_once_is_not_offered_again(
    configure, order, ended, fake, patience
):
    """Without time to pay again, the buyer hears only that the order is cancelled."""
    configure(CANCEL_AFTER=patience)
    fake.invoices = [bitsby.invoice_item(ended, "expired")]

    reconciliation.reconcile()
    assert MailCode.EXPIRED not in sent_codes()
    with pytest.MonkeyPatch.context() as patch:
        later = timezone.now() + dt.timedelta(minutes=5)
        patch.setattr("django.utils.timezone.now", lambda: later)
        reconciliation.reconcile()

    assert sent_codes() == [MailCode.CANCELLED]


def test_a_cancelled_order_is_told_with_what_to_do(order, ended, fake, move_time):
    """The buyer learns that nothing is owed, that sent money is not lost, and how to order."""
    fake.invoices = [bitsby.invoice_item(ended, "expired")]
    reconciliation.reconcile()
    mail.outbox.clear()
    move_time(hours=2)

    reconciliation.reconcile()
    reconciliation.reconcile()

    message = the_mail(order, "it is not lost", "order again", "You owe us nothing")
    assert "is cancelled" in message.subject


# Whose mails they are


@pytest.mark.parametrize("mails", [True, False])
def test_orders_of_other_methods_keep_oscars_mail(configure, buy, mails):
    """What the shop's own methods send stays as it was."""
    configure(OTHER_METHODS=[("cod", "Pay on delivery")], MAILS=mails)

    order = buy(method="cod")

    (message,) = mail.outbox
    assert "processed shortly" in " ".join(message.body.split())
    assert message.subject == f"Confirmation of order {order.number}"
    assert not BuyerMail.objects.exists()


def test_a_shop_can_keep_oscars_mail(configure, buy, fake, move_time):
    """With ``MAILS`` False, Oscar's own mail is sent, and no other, whatever happens."""
    configure(MAILS=False)
    order = buy()
    invoice = start_payment(order)
    fake.invoices = [bitsby.invoice_item(invoice, "expired")]
    for hours in (1, 2):
        move_time(hours=hours)
        reconciliation.reconcile()

    order.refresh_from_db()
    assert order.status == "Cancelled"
    (message,) = mail.outbox
    assert "processed shortly" in " ".join(message.body.split())
    assert not BuyerMail.objects.exists()


def test_mails_that_wait_when_they_are_switched_off_are_dropped(configure, order, fake):
    """What was noted before ``MAILS`` became False is not sent after."""
    outbox.enqueue(MailCode.PLACED, order)
    configure(MAILS=False)
    reconciliation.reconcile()

    assert mail.outbox == []
    row = BuyerMail.objects.get()
    assert (row.status, row.error) == ("dropped", "the mails are switched off")


def test_the_language_of_all_mails_is_the_one_of_placing(buy_and_hear, guest, fake, committed):
    """A pass that runs in no language writes in the buyer's, amounts and texts."""
    guest.defaults["HTTP_ACCEPT_LANGUAGE"] = "de"
    order = buy_and_hear()
    first = mail.outbox.pop()
    invoice = start_payment(order)
    fake.payments = [paid(invoice)]
    with translation.override("en"):
        reconciliation.reconcile()

    assert set(order.bitsby_mails.values_list("language", flat=True)) == {"de"}
    for message in (first, mail.outbox[0]):
        assert "10,00\xa0$" in message.body
        assert message.body.startswith("Hallo")
        assert "10,00\xa0$" in html_of(message)


def test_a_language_that_the_shop_gave_up_is_replaced(order, invoice, fake):
    """A mail in a language that is no more is written in the shop's own."""
    outbox.enqueue(MailCode.PLACED, order)
    BuyerMail.objects.update(language="tlh")
    sender.send_pending()

    the_mail(order, "waiting for your payment of $10.00")


def test_hostile_titles_are_text_in_html(buy_and_hear, product):
    """Whatever stands in a product's title, the HTML mail shows it as text; the text as it is."""
    product.title = "<script>alert(1)</script> & co"
    product.save()

    order = buy_and_hear()

    (message,) = mail.outbox
    assert "<script>" not in html_of(message)
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; co" in html_of(message)
    assert "<script>alert(1)</script> & co" in message.body
    assert url_of(order) in message.body


def test_a_mail_names_nobody(buy_and_hear, registered):
    """Who reads a mail over somebody's shoulder learns what was ordered, and not by whom."""
    order = buy_and_hear(registered)

    (message,) = mail.outbox
    for text in (message.subject, message.body, html_of(message)):
        for secret in (order.shipping_address.line1, order.shipping_address.name, "ada"):
            assert secret not in text


def test_the_link_follows_the_shops_domain_and_scheme(settings, buy_and_hear):
    """Links are absolute: Oscar's scheme and the site's domain."""
    settings.OSCAR_URL_SCHEMA = "https"
    order = buy_and_hear()

    assert f"\nhttps://example.com{signed_urls.order_url(order)}\n" in mail.outbox[0].body


# Staff's texts


def test_the_mails_stand_in_oscars_dashboard_and_can_be_edited_there(
    admin_client, order, invoice, fake
):
    """What staff write in the dashboard is what the buyer reads."""
    event_types.ensure_all_exist()
    page = admin_client.get(reverse("dashboard:comms-list")).content.decode()
    assert all(code in page for code in ALL)
    admin_client.post(
        reverse("dashboard:comms-update", args=[MailCode.PAID]),
        {
            "name": "Paid",
            "email_subject_template": "Thanks for {{ order.number }}",
            "email_body_template": "Hurray! {{ order_url }}",
            "email_body_html_template": "<b>Hurray!</b> {{ order_url }}",
        },
    )
    fake.payments = [paid(invoice)]
    reconciliation.reconcile()

    message = the_mail(order, "Hurray!")
    assert message.subject == f"Thanks for {order.number}"
    assert message.body == f"Hurray! {url_of(order)}"


def test_the_order_notes_which_mails_were_sent(order, invoice, fake):
    """Oscar's own record of what was told about an order has ours."""
    fake.payments = [paid(invoice)]
    reconciliation.reconcile()

    event = CommunicationEvent.objects.get(order=order)
    assert event.event_type.code == MailCode.PAID


def test_event_types_are_made_by_migrating_and_not_twice():
    """``migrate`` makes what is missing and leaves what staff have written."""
    CommunicationEventType.objects.filter(code__in=ALL).delete()
    CommunicationEventType.objects.create(
        code=MailCode.PAID, name="Ours", email_subject_template="Thanks"
    )
    for _ in range(2):
        emit_post_migrate_signal(verbosity=0, interactive=False, db="default")

    rows = CommunicationEventType.objects.filter(code__startswith="BITSBY_")
    assert sorted(rows.values_list("code", flat=True)) == sorted(ALL)
    assert rows.get(code=MailCode.PAID).email_subject_template == "Thanks"


def test_a_shop_that_does_not_use_the_app_has_no_event_types(settings):
    """Without ``OSCAR_BITSBY`` nothing is added to the dashboard's list."""
    CommunicationEventType.objects.filter(code__in=ALL).delete()
    del settings.OSCAR_BITSBY

    event_types.ensure_all_exist()

    assert not CommunicationEventType.objects.filter(code__in=ALL).exists()


def test_a_broken_text_of_staff_is_tried_again_when_it_is_mended(order, invoice, fake):
    """A template that cannot be rendered breaks nothing, and its mail goes out later."""
    event_types.ensure_all_exist()
    broken = CommunicationEventType.objects.filter(code=MailCode.PAID)
    broken.update(email_body_template="{% broken %}")
    fake.payments = [paid(invoice)]
    assert reconciliation.reconcile().booked == 1
    assert mail.outbox == []
    broken.update(email_body_template=None)
    reconciliation.reconcile()

    the_mail(order, "received your payment")


def test_an_empty_text_switches_its_mail_off(order, invoice, fake):
    """A mail whose subject is empty is not sent."""
    event_types.ensure_all_exist()
    CommunicationEventType.objects.filter(code=MailCode.PAID).update(email_subject_template="")
    fake.payments = [paid(invoice)]
    reconciliation.reconcile()

    assert mail.outbox == []
    assert BuyerMail.objects.get().status == "dropped"


# What goes wrong


def test_a_mail_server_that_is_down_holds_up_nothing_and_is_asked_again(
    mail_server, buy, fake, guest
):
    """The order is placed and its buyer goes on; the next pass sends the mail."""
    mail_server("Refusing")
    order = buy()
    assert guest.get(signed_urls.pay_url(order))["Location"].startswith("https://dash.bitsby.app/")
    reconciliation.reconcile()
    row = BuyerMail.objects.get()
    assert (row.status, row.tries) == ("waiting", 1)
    assert "no mail today" in row.error
    mail_server()

    reconciliation.reconcile()
    reconciliation.reconcile()

    the_mail(order, "waiting for your payment")


def test_settling_and_cancelling_do_not_need_a_mail_server(mail_server, place, invoice_for, fake):
    """Money is booked and orders are cancelled; their mails wait."""
    mail_server("Refusing")
    orders = [place(), place()]
    old = timezone.now() - dt.timedelta(hours=3)
    invoices = [invoice_for(orders[0]), invoice_for(orders[1], expires_at=old, created_at=old)]
    fake.payments = [paid(invoices[0])]
    fake.invoices = [bitsby.invoice_item(invoices[1], "expired")]

    report = reconciliation.reconcile()

    assert (report.booked, report.cancelled, report.failures, report.mails) == (1, 1, 0, 0)
    assert list(Order.objects.order_by("pk").values_list("status", flat=True)) == [
        "Being processed",
        "Cancelled",
    ]
    mail_server()
    assert reconciliation.reconcile().mails == 2


def test_a_server_that_stays_down_is_asked_a_few_times_only(
    mail_server, order, move_time, monkeypatch
):
    """After five tries, ever further apart, a mail is given up."""
    mail_server("Refusing")
    tries = []
    refuse = mail_backends.Refusing.send_messages
    monkeypatch.setattr(
        mail_backends.Refusing,
        "send_messages",
        lambda backend, messages: tries.append(timezone.now()) or refuse(backend, messages),
    )
    start = timezone.now()
    outbox.enqueue(MailCode.PLACED, order)
    Order.objects.update(date_placed=start + dt.timedelta(days=2))
    for _ in range(24 * 6):
        sender.send_pending()
        move_time(minutes=10)

    assert len(tries) == 5
    assert tries[-1] - start > dt.timedelta(hours=7)
    row = BuyerMail.objects.get()
    assert (row.status, row.tries) == ("failed", 5)


def test_old_news_is_not_sent(order, move_time):
    """What could not be sent within a day is given up."""
    outbox.enqueue(MailCode.PLACED, order)
    move_time(hours=25)
    sender.send_pending()

    assert mail.outbox == []
    assert BuyerMail.objects.get().status == "failed"


def test_a_process_that_dies_while_sending_is_not_repeated(
    mail_server, order, invoice, fake, move_time
):
    """Where nobody knows whether a mail went out, it is not sent again, and staff see why."""
    mail_server("Dying")
    outbox.enqueue(MailCode.PLACED, order)
    with pytest.raises(SystemExit):
        sender.send_pending()
    mail_server()
    reconciliation.reconcile()
    assert BuyerMail.objects.get().status == "sending"
    move_time(minutes=20)
    reconciliation.reconcile()

    assert mail.outbox == []
    row = BuyerMail.objects.get()
    assert row.status == "failed"
    assert "may have gone out" in row.error


def test_a_connection_that_broke_while_sending_is_not_repeated(mail_server, order):
    """A server that hangs up may have taken the mail, so it is not given it again."""
    mail_server("HangingUp")
    outbox.enqueue(MailCode.PLACED, order)
    sender.send_pending()
    mail_server()
    sender.send_pending()

    assert mail.outbox == []
    assert "may have gone out" in BuyerMail.objects.get().error


def test_what_fails_after_a_mail_has_left_does_not_send_it_again(
    monkeypatch, place, invoice_for, fake
):
    """Oscar's records of a sent mail may fail; the buyer gets no second one for that."""

    def fail(*args, **kwargs):
        raise DatabaseError("no")

    monkeypatch.setattr(Dispatcher, "create_email", fail)
    order = place(user=factories.UserFactory(email="ada@example.com"))
    outbox.enqueue(MailCode.PLACED, order)
    sender.send_pending()
    sender.send_pending()

    assert len(mail.outbox) == 1
    assert BuyerMail.objects.get().status == "sent"


def test_an_outbox_that_cannot_be_written_holds_up_nothing(monkeypatch, buy_and_hear):
    """Without its outbox row an order is placed all the same."""

    def fail(*args, **kwargs):
        raise DatabaseError("no such table")

    with monkeypatch.context() as broken:
        broken.setattr(type(BuyerMail.objects), "bulk_create", fail)
        order = buy_and_hear()

    assert order.status == "Pending"
    assert mail.outbox == []


@pytest.mark.parametrize("gone", ["user", "order", "address"])
def test_who_is_gone_is_not_written_to(place, gone):
    """A deleted order or user, or one without an address, ends the mail and nothing else."""
    user = factories.UserFactory(email="" if gone == "address" else "ada@example.com")
    order = place(user=user)
    outbox.enqueue(MailCode.PLACED, order)
    if gone == "user":
        user.delete()
    elif gone == "order":
        order.delete()
    sender.send_pending()

    assert mail.outbox == []
    row = BuyerMail.objects.get()
    assert (row.status, row.order_number) == ("dropped", order.number)
    assert row.error


TAKEN_OVER = "the shop deals with the order in another way"


@pytest.mark.parametrize(
    ("code", "status", "why"),
    [
        (MailCode.PLACED, "Being processed", TAKEN_OVER),
        (MailCode.PLACED, "Cancelled", "the order is cancelled"),
        (MailCode.PAID, "Cancelled", "the order is cancelled"),
        (MailCode.EXPIRED, "Being processed", TAKEN_OVER),
        (MailCode.CANCELLED, "Being processed", TAKEN_OVER),
        (MailCode.CANCELLED, "Pending", "the order is expired"),
    ],
)
def test_what_is_not_true_any_more_is_not_sent(order, invoice_for, code, status, why):
    """A mail that waited too long for its server is dropped, with the reason."""
    invoice = invoice_for(order, "expired", ended_at=timezone.now())
    outbox.enqueue(code, order, invoice=invoice)
    Order.objects.update(status=status)
    sender.send_pending()

    assert mail.outbox == []
    row = BuyerMail.objects.get()
    assert row.status == "dropped"
    assert row.error == why


def test_what_was_noted_before_is_noted_once_and_is_no_error(order, caplog):
    """Passes, pages and deliveries note the same; the second one finds it there."""
    for _ in range(2):
        outbox.enqueue(MailCode.PAID, order)

    assert BuyerMail.objects.count() == 1
    assert caplog.records == []


def test_an_expiry_is_not_told_to_who_has_paid_meanwhile(order, ended, fake):
    """Money that comes between noting and sending makes the mail about the end untrue."""
    outbox.enqueue(MailCode.EXPIRED, order, invoice=ended)
    fake.payments = [paid(ended)]
    reconciliation.reconcile()

    assert sent_codes() == [MailCode.PAID]


@pytest.mark.parametrize("word", ["paid", "expired"])
def test_a_cancelled_order_that_money_came_for_is_not_told_that_none_did(
    order, invoice_for, fake, word
):
    """Between cancelling and its mail a payment came: the buyer hears of that instead."""
    Order.objects.update(status="Cancelled")
    invoice = invoice_for(order, "expired", ended_at=timezone.now())
    outbox.enqueue(MailCode.CANCELLED, order)
    remote = bitsby.invoice_item(invoice, word)
    fake.payments = [bitsby.payment_item(bitsby.transfer(), remote)]
    reconciliation.reconcile()

    assert sent_codes() == [MailCode.OTHER_AMOUNT]


# Passes


@pytest.mark.django_db(transaction=True)
def test_mails_come_after_all_money(mail_server, place, invoice_for, fake):
    """When the first mail of a pass leaves, the pass has settled everything."""
    invoices = [invoice_for(place()) for _ in range(3)]
    fake.payments = [paid(invoice) for invoice in invoices]
    seen = []
    mail_server("Slow")
    mail_backends.Slow.meanwhile = lambda: seen.extend(
        Order.objects.values_list("status", flat=True)
    )

    report = reconciliation.reconcile()

    assert seen == ["Being processed"] * 3
    assert report.mails == 3


def test_a_slow_mail_server_gets_a_few_seconds_of_a_pass(monkeypatch, mail_server, place):
    """What a pass cannot send in its time is left to the next one."""

    class Clock:
        now = 0.0

        def monotonic(self):
            return self.now

    clock = Clock()
    monkeypatch.setattr(sender, "time", clock)
    send_mail = sender.send
    monkeypatch.setattr(
        sender, "send", lambda pk: setattr(clock, "now", clock.now + 15) or send_mail(pk)
    )
    for _ in range(4):
        outbox.enqueue(MailCode.PLACED, place())

    assert sender.send_pending() == 2
    assert sender.send_pending() == 2
    assert len(mail.outbox) == 4


def test_a_pass_says_between_mails_that_it_runs_and_stops_when_it_was_replaced(place):
    """A pass whose lease was lost sends no more mails."""
    for _ in range(3):
        outbox.enqueue(MailCode.PLACED, place())
    calls = []

    def renew_lease():
        calls.append(1)
        if len(calls) == 2:
            raise run.PassLost("another pass has taken over")

    sender.send_pending_safely(renew_lease)

    assert len(mail.outbox) == 1


def test_mails_go_out_while_bitsby_is_down(order, invoice, fake):
    """A gateway that does not answer keeps no mail back."""
    outbox.enqueue(MailCode.PLACED, order)
    fake.on("/payments/list", (500, {}, "down"))
    with pytest.raises(GatewayError):
        reconciliation.reconcile()

    the_mail(order, "waiting for your payment")


def test_mails_go_out_when_something_unforeseen_ends_a_pass(order, fake, monkeypatch):
    """Whatever breaks a pass, buyers do not wait for it to be mended."""
    outbox.enqueue(MailCode.PLACED, order)

    def fail(*args, **kwargs):
        raise RuntimeError("unforeseen")

    monkeypatch.setattr("oscar_bitsby.reconciliation.expiry.cancel_unpaid_orders", fail)
    with pytest.raises(RuntimeError, match="unforeseen"):
        reconciliation.reconcile()

    the_mail(order, "waiting for your payment")


def test_who_may_have_paid_is_not_told_that_nothing_was_seen(order, ended, fake):
    """The mail about the end says what the page says: perhaps it was you, do not pay again."""
    fake.invoices = [bitsby.invoice_item(ended, "expired")]
    wallet = bitsby.wallet()
    seen_at = timezone.now() - dt.timedelta(minutes=30)
    payment = bitsby.transfer("8.00000000", transactionDatetime=bitsby.written(seen_at))
    fake.payments = [bitsby.payment_item(payment, wallet=wallet)]

    reconciliation.reconcile()

    message = the_mail(order, "A payment of another amount was seen that may be yours")
    assert "not seen a payment" not in message.body


def test_a_dry_run_sends_nothing(order, long_invoice, fake):
    """``--dry-run`` neither notes nor sends."""
    outbox.enqueue(MailCode.PLACED, order)
    reconciliation.reconcile(dry_run=True)

    assert mail.outbox == []
    assert BuyerMail.objects.get().status == "waiting"


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("turn", range(4))
def test_two_processes_never_send_the_same_mail(place, turn):
    """Of senders that find the same mails at the same moment, one sends each."""
    for _ in range(3):
        outbox.enqueue(MailCode.PLACED, place())
    results = at_once(*[sender.send_pending] * 4)

    assert failures(results) == []
    assert sum(results) == 3
    assert len({message.subject for message in mail.outbox}) == len(mail.outbox) == 3


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("turn", range(4))
def test_passes_and_pages_that_settle_at_once_send_one_mail(order, invoice, fake, turn):
    """Whoever settles first, the buyer is thanked once."""
    fake.invoices = [bitsby.invoice_item(invoice, "paid", bitsby.transfer())]
    fake.payments = [bitsby.payment_item(invoice=fake.invoices[0], **fake.invoices[0]["payment"])]

    results = at_once(
        reconciliation.reconcile,
        lambda: refresh(invoice),
        lambda: refresh(invoice),
    )
    reconciliation.reconcile()

    assert failures(results) == []
    assert sent_codes() == [MailCode.PAID]
    assert order.sources.get().amount_debited == Decimal("10.00")


@pytest.mark.django_db(transaction=True)
def test_nothing_is_sent_inside_a_transaction(mail_server, order, invoice, fake):
    """When a mail leaves, what it tells of is committed and no lock is held."""
    inside = []
    mail_server("Slow")
    mail_backends.Slow.meanwhile = lambda: inside.append(connection.in_atomic_block)
    fake.invoices = [bitsby.invoice_item(invoice, "paid", bitsby.transfer())]
    refresh(invoice)
    reconciliation.reconcile()

    assert inside == [False]


def test_staff_see_the_mails_in_the_admin(admin_client, order):
    """The admin lists what was sent to whom, and why something was not."""
    outbox.enqueue(MailCode.PLACED, order)
    order.user = factories.UserFactory(email="")
    order.save()
    sender.send_pending()
    page = admin_client.get(reverse("admin:oscar_bitsby_buyermail_changelist")).content.decode()

    assert order.number in page
    assert "no address" in page
    found = admin_client.get(
        reverse("admin:oscar_bitsby_buyermail_changelist"), {"q": order.number}
    )
    assert found.context["cl"].result_count == 1
    row = BuyerMail.objects.get()
    change = reverse("admin:oscar_bitsby_buyermail_change", args=[row.pk])
    assert admin_client.get(change).status_code == 200
    assert admin_client.post(change, {"status": "sent"}).status_code == 403


@pytest.mark.filterwarnings("ignore:The EMAIL_.* setting is deprecated")
@pytest.mark.parametrize(
    ("backend", "seconds", "mails", "warns"),
    [
        ("smtp", None, True, True),
        ("smtp", 10, True, False),
        ("smtp", None, False, False),
        ("locmem", None, True, False),
    ],
)
def test_a_mail_server_without_an_end_is_warned_of(
    settings, configure, backend, seconds, mails, warns
):
    """``check --deploy`` names ``EMAIL_TIMEOUT`` where its lack could hold up settling."""
    settings.EMAIL_BACKEND = f"django.core.mail.backends.{backend}.EmailBackend"
    settings.EMAIL_TIMEOUT = seconds
    configure(MAILS=mails)

    found = run_checks(tags=["oscar_bitsby"], include_deployment_checks=True)

    assert [message.id for message in found] == (["oscar_bitsby.W004"] if warns else [])
    assert all("EMAIL_TIMEOUT = 10" in message.hint for message in found)


@pytest.mark.parametrize(
    ("mailers", "warns"),
    [
        ({"default": {"BACKEND": "django.core.mail.backends.smtp.EmailBackend"}}, True),
        ({"default": {"OPTIONS": {"host": "mail.example"}}}, True),
        ({"default": {"OPTIONS": {"timeout": 10}}}, False),
        ({"default": {"BACKEND": "django.core.mail.backends.locmem.EmailBackend"}}, False),
    ],
)
def test_one_of_several_mail_servers_without_an_end_is_warned_of(settings, mailers, warns):
    """In Django's newer setting the time-out is one of the options of the shop's usual server."""
    # Django refuses both kinds of settings beside one another.
    for name in [name for name in dir(settings) if name.startswith("EMAIL_")]:
        if settings.is_overridden(name):
            delattr(settings, name)
    settings.MAILERS = mailers

    found = run_checks(tags=["oscar_bitsby"], include_deployment_checks=True)

    assert [message.id for message in found] == (["oscar_bitsby.W004"] if warns else [])
    assert all("{'timeout': 10" in message.hint for message in found)


def test_the_key_is_in_no_mail_and_no_row(mail_server, order, monkeypatch):
    """An error that repeats the API key is cleaned of it before it is stored."""
    key = shop_settings.OSCAR_BITSBY["API_KEY"]

    def refuse(backend, messages):
        raise ConnectionError(f"proxy says {key}\x00")

    mail_server("Refusing")
    monkeypatch.setattr(mail_backends.Refusing, "send_messages", refuse)
    outbox.enqueue(MailCode.PLACED, order)
    sender.send_pending()

    row = BuyerMail.objects.get()
    assert "proxy says ***" in row.error
