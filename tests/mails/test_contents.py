"""Which e-mails buyers get, and what they say."""

import datetime as dt
import html

import pytest
from django.core import mail
from django.core.management.sql import emit_post_migrate_signal
from django.urls import reverse
from django.utils import timezone, translation
from oscar.core.loading import get_model

from oscar_bitsby import reconciliation
from oscar_bitsby.choices import MailCode
from oscar_bitsby.facade import start_payment
from oscar_bitsby.mails import context, event_types, outbox, sender
from oscar_bitsby.models import BitsbyPayment, BuyerMail
from oscar_bitsby.orders import signed_urls
from oscar_bitsby.reconciliation import refresh
from oscar_bitsby.staff import review
from tests.support import bitsby
from tests.support.invoices import expired_ago
from tests.support.mails import (
    assert_one_mail,
    expiring_in,
    html_of,
    local_time,
    sent_codes,
    url_of,
)

CommunicationEvent = get_model("order", "CommunicationEvent")
CommunicationEventType = get_model("communication", "CommunicationEventType")
Order = get_model("order", "Order")

ALL = [code for code, _ in MailCode.choices]

pytestmark = pytest.mark.django_db


def test_placed_mail_asks_for_payment(buy_and_reconcile):
    """The e-mail says how much to pay and by when, and not that the order is being processed."""
    order = buy_and_reconcile()

    kept = local_time(order.date_placed + dt.timedelta(hours=24))
    message = assert_one_mail(
        order, "waiting for your payment of $10.00", "Mug", f"until {kept} (Europe/Berlin)"
    )
    assert "waiting for your payment" in message.subject
    assert "processed shortly" not in message.body
    row = order.bitsby_mails.get()
    assert (row.code, row.status, row.tries) == (MailCode.PLACED, "sent", 1)


def test_placed_mail_warns_people_who_pay_in_cryptocurrency_for_the_first_time(buy_and_reconcile):
    """Both bodies say that the network must match, who pays the fee, and how to come back."""
    buy_and_reconcile()

    (message,) = mail.outbox
    for body in (message.body, message.alternatives[0][0]):
        assert "The coin and the network must match" in body
        assert "Wallets and exchanges deduct their fee from what you send: add it" in body
        assert "browser's Back button, or the link in this email" in html.unescape(body)


def test_placed_mail_says_nothing_of_bitsbys_page_where_the_shop_shows_how_to_pay(
    configure, buy_and_reconcile
):
    """The other warnings stay."""
    configure(PAYMENT_PAGE="shop")
    buy_and_reconcile()

    (message,) = mail.outbox
    for body in (message.body, message.alternatives[0][0]):
        assert "The coin and the network must match" in body
        assert "Back button" not in body


def test_registered_buyer_gets_the_mail(buy_and_reconcile, registered):
    """The e-mail goes to the account's address and is stored in Oscar's e-mails of the user."""
    order = buy_and_reconcile(registered)

    assert_one_mail(order, "waiting for your payment", to="ada@example.com")
    assert order.user.emails.get().subject == mail.outbox[0].subject


@pytest.mark.parametrize(
    ("amounts", "state"), [([], "waiting"), (["8.00000000"], "possible_mismatch")]
)
def test_placed_mail_names_only_the_expiry_of_a_live_invoice(buy, fake, amounts, state):
    """While an invoice is live, the e-mail has its expiry and no time of cancellation."""
    order = buy()
    invoice = start_payment(order)
    fake.payments = [bitsby.payment_item(bitsby.transfer(amount)) for amount in amounts]

    reconciliation.reconcile()

    assert_one_mail(order, f"Please pay by {local_time(invoice.expires_at)} (Europe/Berlin)")
    built = context.build_context(order.bitsby_mails.get())
    assert built["payment_status"].state == state
    assert (built["until"], built["kept_until"]) == (invoice.expires_at, None)


def test_placed_mail_names_no_deadline_without_a_hold(buy_and_reconcile, configure):
    """With ``HOLD_ORDER_FOR`` None, the e-mail of an order without an invoice names no deadline."""
    configure(HOLD_ORDER_FOR=None)
    order = buy_and_reconcile()

    message = assert_one_mail(order)
    assert "until" not in message.body
    assert "Please pay by" not in message.body


def test_received_payment_sends_one_mail(order, invoice, receive_payment):
    """However often reconcile runs, the buyer gets one e-mail about the payment."""
    report = receive_payment(invoice)
    reconciliation.reconcile()

    assert_one_mail(order, "received your payment of $10.00", "You don't need to do anything else")
    assert report.mails == 1
    assert "1 e-mail sent" in str(report)
    assert sent_codes() == [MailCode.PAID]


def test_settling_enqueues_and_the_next_run_sends(order, invoice, fake, mail_server, committed):
    """Settling a payment only enqueues the e-mail; the next run sends it."""
    mail_server("Refusing")
    fake.invoices = [bitsby.invoice_item(invoice, "paid", bitsby.transfer())]
    committed(refresh, invoice)
    row = order.bitsby_mails.get()
    assert (row.status, row.tries) == ("waiting", 0)
    mail_server()

    reconciliation.reconcile()

    assert_one_mail(order, "received your payment", "Mug")


@pytest.mark.parametrize(
    ("amount", "words"),
    [
        ("8.00000000", ["8 USDT", "$8.00", "less than the order total of $10.00"]),
        ("12.50000000", ["12.5 USDT", "$12.50", "more than the order total of $10.00"]),
    ],
)
def test_other_amount_sends_one_mail_with_the_next_steps(
    order, invoice, receive_payment, amount, words
):
    """After a short payment or overpayment the buyer learns the amount, and not to pay again."""
    receive_payment(invoice, amount)
    reconciliation.reconcile()

    assert_one_mail(order, *words, "don't pay again", "email you about the next steps")
    assert sent_codes() == [MailCode.OTHER_AMOUNT]


def test_late_payment_sends_a_mail(place, invoice_for, receive_payment):
    """After a payment for a cancelled order, the buyer learns that it arrived and is reviewed."""
    order = place(status="Cancelled")
    receive_payment(invoice_for(order, **expired_ago(hours=2)))

    assert_one_mail(
        order, "had already been cancelled when your payment arrived", "Your money isn't lost"
    )


def test_duplicate_payment_sends_a_mail(order, invoice_for, receive_payment):
    """After two payments there is one e-mail for each, and the second is about the duplicate."""
    expired, live = invoice_for(order, "expired", ended_at=timezone.now()), invoice_for(order)
    receive_payment(expired)
    mail.outbox.clear()
    receive_payment(live)

    assert_one_mail(order, "this is a duplicate payment", "Your money isn't lost")


def test_payment_of_an_expired_invoice_sends_a_mail_about_the_review(order, overdue_invoice, fake):
    """A payment that needs a review is confirmed, and the buyer is asked not to pay again."""
    payment = bitsby.transfer()
    fake.invoices = [bitsby.invoice_item(overdue_invoice, "expired", payment)]

    reconciliation.reconcile()

    assert_one_mail(order, "10 USDT", "We need to review it", "don't pay again")


def test_unmatched_payment_sends_no_mail(order, invoice, fake):
    """A payment that is bound to no order leads to no e-mail."""
    fake.payments = [bitsby.payment_item(bitsby.transfer("9.99"))]

    reconciliation.reconcile()

    assert BitsbyPayment.objects.get().review_reason == "unmatched"
    assert mail.outbox == []


def test_payment_bound_by_staff_sends_the_paid_mail(order, invoice, fake, staff_user, committed):
    """When staff bind a payment of a wrong amount, its buyer gets the e-mail about it."""
    fake.invoices = [bitsby.invoice_item(invoice, "paid", bitsby.transfer("8.00000000"))]
    refresh(invoice)
    committed(review.accept, BitsbyPayment.objects.get().pk, staff_user, "ok")
    reconciliation.reconcile()

    assert_one_mail(order, "received your payment of $8.00")
    assert order.bitsby_mails.get(code=MailCode.OTHER_AMOUNT).status == "dropped"


def test_payment_accepted_by_staff_sends_the_paid_mail(order, invoice, receive_payment, staff_user):
    """After the e-mail about the other amount, accepting it sends the e-mail about the payment."""
    receive_payment(invoice, "8.00000000")
    mail.outbox.clear()

    review.accept(BitsbyPayment.objects.get().pk, staff_user, "a good customer")
    reconciliation.reconcile()

    assert_one_mail(order, "received your payment of $8.00")


def test_reinstated_order_sends_the_paid_mail(
    order, invoice_for, fake, receive_payment, staff_user, monkeypatch
):
    """A late payment that reinstates its order sends the e-mail about the payment."""
    invoice = invoice_for(order, "expired", ended_at=timezone.now() - dt.timedelta(hours=2))
    fake.invoices = [bitsby.invoice_item(invoice, "expired")]
    reconciliation.reconcile()
    receive_payment(invoice)
    assert sent_codes() == [MailCode.CANCELLED, MailCode.OTHER_AMOUNT]
    mail.outbox.clear()
    monkeypatch.setattr(Order, "pipeline", {**Order.pipeline, "Cancelled": ("Being processed",)})
    review.reinstate(BitsbyPayment.objects.get().pk, staff_user, "late")
    reconciliation.reconcile()

    assert_one_mail(order, "received your payment")


@pytest.mark.parametrize(
    ("template", "in_text", "in_html"),
    [
        ("oscar_bitsby/mails/expired.txt", True, True),
        ("oscar_bitsby/mails/base.txt", True, False),
        ("oscar_bitsby/mails/base.html", False, True),
    ],
)
def test_theme_replaces_one_block_of_a_mail(
    settings, tmp_path, order, invoice, template, in_text, in_html
):
    """A block of a mail's texts changes both bodies, a block of a frame one of them."""
    path = tmp_path / template
    path.parent.mkdir(parents=True)
    block = "bitsby_hint" if template.endswith("expired.txt") else "bitsby_greeting"
    path.write_text(
        f'{{% extends "{template}" %}}{{% block {block} %}}Call us, we\'re in.{{% endblock %}}'
    )
    settings.TEMPLATES = [{**settings.TEMPLATES[0], "DIRS": [tmp_path]}]

    texts = context.render(BuyerMail(code=MailCode.EXPIRED, order=order, invoice=invoice))

    assert ("Call us, we're in." in texts["body"], "Call us, we're in." in texts["html"]) == (
        in_text,
        in_html,
    )
    for body in (texts["body"], texts["html"]):
        assert f"We haven't received a payment for your order {order.number} in time." in body


@pytest.mark.parametrize(("minutes", "hours"), [(50, 12), (59, 6), (40, 3)])
def test_reminder_is_sent_once_before_the_invoice_expires(order, invoice_for, fake, minutes, hours):
    """In the last quarter and the last hour, the buyer is reminded until when to pay."""
    invoice = invoice_for(order, **expiring_in(minutes, hours))

    with timezone.override("Asia/Tokyo"):
        reconciliation.reconcile()
        reconciliation.reconcile()

    assert_one_mail(
        order,
        "still waiting for your payment of $10.00",
        f"until {local_time(invoice.expires_at)} (Europe/Berlin)",
    )
    assert sent_codes() == [MailCode.REMINDER]


@pytest.mark.parametrize(("minutes", "hours"), [(10, 1), (61, 12), (50, 3), (4, 12)])
def test_no_reminder_too_early_too_late_or_for_short_invoices(
    order, invoice_for, fake, minutes, hours
):
    """Not before the last quarter and hour, not in the last minutes, not for one hour in all."""
    invoice_for(order, **expiring_in(minutes, hours))

    reconciliation.reconcile()

    assert mail.outbox == []


def test_no_reminder_after_the_payment(long_invoice, receive_payment):
    """The run that finds the payment sends the e-mail about it and no reminder."""
    receive_payment(long_invoice)

    assert sent_codes() == [MailCode.PAID]


@pytest.mark.parametrize("amount", ["9.50000000", "5.50000000", "14.90000000"])
def test_no_reminder_on_a_possible_mismatch(long_invoice, fake, amount):
    """While an unmatched payment may be this buyer's, the buyer is not asked to pay."""
    fake.payments = [bitsby.payment_item(bitsby.transfer(amount))]

    reconciliation.reconcile()

    assert mail.outbox == []


def test_no_reminder_while_a_payment_is_under_review(long_invoice, fake):
    """A payment of this order that needs a review prevents the reminder."""
    long_invoice.payments.create(bitsby_id=bitsby.new_id(), amount=10, review_reason="fiat_value")

    reconciliation.reconcile()

    assert mail.outbox == []


def test_expired_mail_says_how_to_pay_again(order, overdue_invoice, fake):
    """The buyer learns that the invoice expired, how long the order is kept, and where to pay."""
    reconciliation.reconcile()
    reconciliation.reconcile()

    assert_one_mail(
        order,
        f"We'll hold it until {local_time(overdue_invoice.expires_at + dt.timedelta(hours=1))}",
        "To pay $10.00, request a new quote",
        "don't pay again",
    )
    assert sent_codes() == [MailCode.EXPIRED]


def test_each_expired_invoice_sends_a_mail(order, overdue_invoice, invoice_for, fake, move_time):
    """A second invoice of the order that expires, too, sends another e-mail."""
    reconciliation.reconcile()
    second = invoice_for(order, expires_at=timezone.now() + dt.timedelta(minutes=1))
    fake.invoices.append(bitsby.invoice_item(second, "expired"))
    move_time(minutes=2)
    reconciliation.reconcile()

    assert sent_codes() == [MailCode.EXPIRED] * 2


def test_no_expired_mail_after_a_new_invoice(order, overdue_invoice, fake):
    """A buyer who already has a new invoice gets no e-mail about the old one."""
    start_payment(order)
    reconciliation.reconcile()

    assert mail.outbox == []
    assert order.bitsby_mails.get().status == "dropped"


def test_only_the_newest_expired_invoice_sends_a_mail(order, invoice_for, fake):
    """Of two expired invoices in the outbox, only the newer one sends an e-mail."""
    for minutes in (30, 20):
        at = timezone.now() - dt.timedelta(minutes=minutes)
        invoice = invoice_for(order, "expired", expires_at=at, ended_at=at)
        outbox.enqueue(MailCode.EXPIRED, order, invoice=invoice)

    sender.send_pending()

    assert_one_mail(order, "To pay $10.00")
    assert BuyerMail.objects.get(status="sent").invoice == invoice


@pytest.mark.parametrize("patience", [dt.timedelta(), dt.timedelta(minutes=3)])
def test_no_expired_mail_without_time_to_pay_again(
    configure, overdue_invoice, fake, move_time, patience
):
    """Without time to pay again, the buyer only gets the e-mail about the cancellation."""
    configure(CANCEL_AFTER=patience)
    reconciliation.reconcile()
    assert MailCode.EXPIRED not in sent_codes()

    move_time(minutes=5)
    reconciliation.reconcile()

    assert sent_codes() == [MailCode.CANCELLED]


def test_cancelled_mail_says_what_to_do(order, overdue_invoice, fake, move_time):
    """The buyer learns that nothing is owed, sent money is not lost, and how to order again."""
    reconciliation.reconcile()
    mail.outbox.clear()
    move_time(hours=2)

    reconciliation.reconcile()
    reconciliation.reconcile()

    message = assert_one_mail(order, "it isn't lost", "order them again", "You owe us nothing")
    assert "has been cancelled" in message.subject


def test_expired_mail_on_a_possible_mismatch_says_so(order, overdue_invoice, fake):
    """On a possible mismatch the e-mail does not claim that no payment was received."""
    seen_at = timezone.now() - dt.timedelta(minutes=30)
    payment = bitsby.transfer("8.00000000", transactionDatetime=bitsby.written(seen_at))
    fake.payments = [bitsby.payment_item(payment)]

    reconciliation.reconcile()

    message = assert_one_mail(
        order, "We've seen a payment for a different amount. It may be yours."
    )
    assert "haven't received a payment" not in message.body


# The shop's own e-mails, languages and links


def assert_oscars_mail(order):
    """Assert that only Oscar's own e-mail about an order was sent."""
    (message,) = mail.outbox
    assert "processed shortly" in " ".join(message.body.split())
    assert message.subject == f"Confirmation of order {order.number}"
    assert not BuyerMail.objects.exists()


@pytest.mark.parametrize("mails", [True, False])
def test_orders_of_other_methods_keep_oscars_mail(configure, buy, mails):
    """The e-mail about orders of the shop's own methods does not change."""
    configure(OTHER_METHODS=[("cod", "Pay on delivery")], MAILS=mails)

    assert_oscars_mail(buy(method="cod"))


def test_shop_can_keep_oscars_mail(configure, buy, fake, move_time):
    """With ``MAILS`` False only Oscar's own e-mail is sent."""
    configure(MAILS=False)
    order = buy()
    fake.invoices = [bitsby.invoice_item(start_payment(order), "expired")]
    for hours in (1, 2):
        move_time(hours=hours)
        reconciliation.reconcile()

    order.refresh_from_db()
    assert order.status == "Cancelled"
    assert_oscars_mail(order)


def test_waiting_mails_are_dropped_when_mails_are_switched_off(configure, order, fake):
    """E-mails that were enqueued before ``MAILS`` became False are not sent."""
    outbox.enqueue(MailCode.PLACED, order)
    configure(MAILS=False)
    reconciliation.reconcile()

    assert mail.outbox == []
    row = BuyerMail.objects.get()
    assert (row.status, row.error) == ("dropped", "e-mails are switched off")


def test_mails_use_the_language_of_placing_the_order(buy_and_reconcile, guest, receive_payment):
    """A run in another language writes texts and amounts in the buyer's language."""
    guest.defaults["HTTP_ACCEPT_LANGUAGE"] = "de"
    order = buy_and_reconcile()
    invoice = start_payment(order)
    with translation.override("en"):
        receive_payment(invoice)

    assert set(order.bitsby_mails.values_list("language", flat=True)) == {"de"}
    assert len(mail.outbox) == 2
    for message in mail.outbox:
        assert "10,00\xa0$" in message.body
        assert message.body.startswith("Guten Tag")
        assert "10,00\xa0$" in html_of(message)


def test_removed_language_is_replaced_by_the_shops(order, invoice, fake):
    """An e-mail in a language that is no longer available uses the shop's."""
    outbox.enqueue(MailCode.PLACED, order)
    BuyerMail.objects.update(language="tlh")
    sender.send_pending()

    assert_one_mail(order, "waiting for your payment of $10.00")


def test_hostile_titles_are_escaped_in_html(buy_and_reconcile, product):
    """A product's title is escaped in the HTML body and unchanged in the text body."""
    product.title = "<script>alert(1)</script> & co"
    product.save()

    order = buy_and_reconcile()

    (message,) = mail.outbox
    assert "<script>" not in html_of(message)
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; co" in html_of(message)
    assert "<script>alert(1)</script> & co" in message.body
    assert url_of(order) in message.body


def test_mail_contains_no_personal_data(buy_and_reconcile, registered):
    """An e-mail says what was ordered, and not by whom."""
    order = buy_and_reconcile(registered)

    (message,) = mail.outbox
    for text in (message.subject, message.body, html_of(message)):
        for secret in (order.shipping_address.line1, order.shipping_address.name, "ada"):
            assert secret not in text


def test_link_uses_the_shops_domain_and_scheme(settings, buy_and_reconcile):
    """Links are absolute, with Oscar's scheme and the site's domain."""
    settings.OSCAR_URL_SCHEMA = "https"
    order = buy_and_reconcile()

    assert f"\nhttps://example.com{signed_urls.order_url(order)}\n" in mail.outbox[0].body


# Texts that staff edit


def test_staff_can_edit_the_mails_in_oscars_dashboard(
    admin_client, order, invoice, receive_payment
):
    """The templates that staff write in the dashboard are used."""
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
    receive_payment(invoice)

    message = assert_one_mail(order, "Hurray!")
    assert message.subject == f"Thanks for {order.number}"
    assert message.body == f"Hurray! {url_of(order)}"


def test_sent_mails_are_communication_events_of_the_order(order, invoice, receive_payment):
    """Oscar's communication events of an order include the app's e-mails."""
    receive_payment(invoice)

    event = CommunicationEvent.objects.get(order=order)
    assert event.event_type.code == MailCode.PAID


def test_migrate_creates_missing_event_types_only():
    """``migrate`` creates the missing event types and keeps what staff have written."""
    CommunicationEventType.objects.filter(code__in=ALL).delete()
    CommunicationEventType.objects.create(
        code=MailCode.PAID, name="Ours", email_subject_template="Thanks"
    )
    for _ in range(2):
        emit_post_migrate_signal(verbosity=0, interactive=False, db="default")

    rows = CommunicationEventType.objects.filter(code__startswith="BITSBY_")
    assert sorted(rows.values_list("code", flat=True)) == sorted(ALL)
    assert rows.get(code=MailCode.PAID).email_subject_template == "Thanks"


def test_event_types_are_not_created_without_settings(settings):
    """Without ``OSCAR_BITSBY`` nothing is added to the dashboard's list."""
    CommunicationEventType.objects.filter(code__in=ALL).delete()
    del settings.OSCAR_BITSBY

    event_types.ensure_all_exist()

    assert not CommunicationEventType.objects.filter(code__in=ALL).exists()


def test_mail_with_a_broken_template_is_sent_after_its_repair(order, invoice, receive_payment):
    """A template that cannot be rendered breaks nothing else, and its e-mail is sent later."""
    event_types.ensure_all_exist()
    broken = CommunicationEventType.objects.filter(code=MailCode.PAID)
    broken.update(email_body_template="{% broken %}")
    assert receive_payment(invoice).booked == 1
    assert mail.outbox == []
    broken.update(email_body_template=None)
    reconciliation.reconcile()

    assert_one_mail(order, "received your payment")


def test_empty_template_switches_a_mail_off(invoice, receive_payment):
    """An e-mail with an empty subject is not sent."""
    event_types.ensure_all_exist()
    CommunicationEventType.objects.filter(code=MailCode.PAID).update(email_subject_template="")
    receive_payment(invoice)

    assert mail.outbox == []
    assert BuyerMail.objects.get().status == "dropped"
