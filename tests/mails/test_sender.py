"""Send the outbox: each e-mail once, and no failure stops an order or a run."""

import datetime as dt
from decimal import Decimal
from unittest.mock import Mock

import pytest
from django.conf import settings as shop_settings
from django.core import mail
from django.core.checks import run_checks
from django.db import DatabaseError, connection
from django.urls import reverse
from django.utils import timezone
from oscar.core.loading import get_class, get_model
from oscar.test import factories

from oscar_bitsby import reconciliation
from oscar_bitsby.choices import MailCode
from oscar_bitsby.exceptions import GatewayError
from oscar_bitsby.mails import outbox, sender
from oscar_bitsby.models import BuyerMail
from oscar_bitsby.orders import signed_urls
from oscar_bitsby.reconciliation import lease, refresh
from tests.checkout import mail_backends
from tests.support import bitsby
from tests.support.alerts import BY_MAIL
from tests.support.concurrency import failures, run_together
from tests.support.mails import assert_one_mail, paid_item, sent_codes

Dispatcher = get_class("communication.utils", "Dispatcher")
Order = get_model("order", "Order")


pytestmark = pytest.mark.django_db


def test_unreachable_mail_server_delays_only_the_mail(mail_server, buy, fake, guest):
    """The order is placed and its buyer can pay; a later run sends the e-mail."""
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

    assert_one_mail(order, "waiting for your payment")


def test_settling_and_cancelling_do_not_need_a_mail_server(mail_server, place, invoice_for, fake):
    """Payments are booked and orders cancelled; their e-mails wait."""
    mail_server("Refusing")
    orders = [place(), place()]
    old = timezone.now() - dt.timedelta(hours=3)
    invoices = [invoice_for(orders[0]), invoice_for(orders[1], expires_at=old, created_at=old)]
    fake.payments = [paid_item(invoices[0])]
    fake.invoices = [bitsby.invoice_item(invoices[1], "expired")]

    report = reconciliation.reconcile()

    assert (report.booked, report.cancelled, report.failures, report.mails) == (1, 1, 0, 0)
    assert list(Order.objects.order_by("pk").values_list("status", flat=True)) == [
        "Being processed",
        "Cancelled",
    ]
    mail_server()
    assert reconciliation.reconcile().mails == 2


def test_mail_fails_after_five_tries(mail_server, order, move_time, monkeypatch):
    """After five tries with growing delays, the e-mail counts as failed."""
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


def test_mail_older_than_a_day_is_not_sent(order, move_time):
    """An e-mail that could not be sent within a day counts as failed."""
    outbox.enqueue(MailCode.PLACED, order)
    move_time(hours=25)
    sender.send_pending()

    assert mail.outbox == []
    assert BuyerMail.objects.get().status == "failed"


def test_mail_of_a_crashed_sender_is_not_sent_again(mail_server, order, invoice, fake, move_time):
    """If the e-mail may have left, it is not sent again, and staff see the reason."""
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
    assert "may have been sent" in row.error


def test_mail_is_not_sent_again_after_a_broken_connection(mail_server, order):
    """A server that closes the connection may have accepted the e-mail."""
    mail_server("HangingUp")
    outbox.enqueue(MailCode.PLACED, order)
    sender.send_pending()
    mail_server()
    sender.send_pending()

    assert mail.outbox == []
    assert "may have been sent" in BuyerMail.objects.get().error


def test_error_after_sending_does_not_send_the_mail_again(monkeypatch, place, invoice_for, fake):
    """If storing a sent e-mail in Oscar's tables fails, it is not sent again."""

    def fail(*args, **kwargs):
        raise DatabaseError("no")

    monkeypatch.setattr(Dispatcher, "create_email", fail)
    order = place(user=factories.UserFactory(email="ada@example.com"))
    outbox.enqueue(MailCode.PLACED, order)
    sender.send_pending()
    sender.send_pending()

    assert len(mail.outbox) == 1
    assert BuyerMail.objects.get().status == "sent"


def test_failing_outbox_does_not_stop_the_order(monkeypatch, buy_and_reconcile):
    """If the outbox row cannot be written, the order is placed without it."""

    def fail(*args, **kwargs):
        raise DatabaseError("no such table")

    with monkeypatch.context() as broken:
        broken.setattr(type(BuyerMail.objects), "bulk_create", fail)
        order = buy_and_reconcile()

    assert order.status == "Pending"
    assert mail.outbox == []


@pytest.mark.parametrize("missing", ["user", "order", "address"])
def test_mail_without_recipient_is_dropped(place, missing):
    """An e-mail is dropped if its order, user or address no longer exists."""
    user = factories.UserFactory(email="" if missing == "address" else "ada@example.com")
    order = place(user=user)
    outbox.enqueue(MailCode.PLACED, order)
    if missing == "user":
        user.delete()
    elif missing == "order":
        order.delete()
    sender.send_pending()

    assert mail.outbox == []
    row = BuyerMail.objects.get()
    assert (row.status, row.order_number) == ("dropped", order.number)
    assert row.error


HANDLED_OTHERWISE = "the shop handles the order in another way"


@pytest.mark.parametrize(
    ("code", "status", "why"),
    [
        (MailCode.PLACED, "Being processed", HANDLED_OTHERWISE),
        (MailCode.PLACED, "Cancelled", "the order is cancelled"),
        (MailCode.PAID, "Cancelled", "the order is cancelled"),
        (MailCode.EXPIRED, "Being processed", HANDLED_OTHERWISE),
        (MailCode.CANCELLED, "Being processed", HANDLED_OTHERWISE),
        (MailCode.CANCELLED, "Pending", "the payment window has closed"),
    ],
)
def test_outdated_mail_is_dropped_with_the_reason(order, invoice_for, code, status, why):
    """An e-mail that is no longer true when it could be sent is dropped."""
    invoice = invoice_for(order, "expired", ended_at=timezone.now())
    outbox.enqueue(code, order, invoice=invoice)
    Order.objects.update(status=status)
    sender.send_pending()

    assert mail.outbox == []
    row = BuyerMail.objects.get()
    assert row.status == "dropped"
    assert row.error == why


def test_mail_is_enqueued_once(order, caplog):
    """Runs, pages and deliveries enqueue the same e-mail; there is one row and no error."""
    for _ in range(2):
        outbox.enqueue(MailCode.PAID, order)

    assert BuyerMail.objects.count() == 1
    assert caplog.records == []


def test_expired_mail_is_dropped_after_a_payment(order, overdue_invoice, receive_payment):
    """A payment between enqueuing and sending drops the e-mail about the expiry."""
    outbox.enqueue(MailCode.EXPIRED, order, invoice=overdue_invoice)
    receive_payment(overdue_invoice)

    assert sent_codes() == [MailCode.PAID]


@pytest.mark.parametrize("status", ["paid", "expired"])
def test_cancelled_mail_is_dropped_after_a_payment(order, invoice_for, fake, status):
    """A payment between cancelling and sending sends the e-mail about that payment instead."""
    Order.objects.update(status="Cancelled")
    invoice = invoice_for(order, "expired", ended_at=timezone.now())
    outbox.enqueue(MailCode.CANCELLED, order)
    remote = bitsby.invoice_item(invoice, status)
    fake.payments = [bitsby.payment_item(bitsby.transfer(), remote)]
    reconciliation.reconcile()

    assert sent_codes() == [MailCode.OTHER_AMOUNT]


# Sending in reconcile runs


@pytest.mark.django_db(transaction=True)
def test_run_sends_mails_after_settling_everything(mail_server, place, invoice_for, fake):
    """When the first e-mail of a run leaves, the run has settled everything."""
    invoices = [invoice_for(place()) for _ in range(3)]
    fake.payments = [paid_item(invoice) for invoice in invoices]
    seen = []
    mail_server("Slow")
    mail_backends.Slow.meanwhile = lambda: seen.extend(
        Order.objects.values_list("status", flat=True)
    )

    report = reconciliation.reconcile()

    assert seen == ["Being processed"] * 3
    assert report.mails == 3


def test_run_sends_mails_for_a_limited_time(monkeypatch, place):
    """The e-mails that exceed a run's time are sent by the next one."""
    send_mail, clock = sender.send, Mock(monotonic=Mock(return_value=0))

    def send_slowly(pk):
        clock.monotonic.return_value += 15
        return send_mail(pk)

    monkeypatch.setattr(sender, "time", clock)
    monkeypatch.setattr(sender, "send", send_slowly)
    for _ in range(4):
        outbox.enqueue(MailCode.PLACED, place())

    assert sender.send_pending() == 2
    assert sender.send_pending() == 2
    assert len(mail.outbox) == 4


def test_run_that_lost_its_lease_stops_sending(place):
    """The lease is renewed between e-mails; without it no more are sent."""
    for _ in range(3):
        outbox.enqueue(MailCode.PLACED, place())
    lost = lease.LeaseLost("another run has taken over")

    sender.send_pending_safely(Mock(side_effect=[None, lost]))

    assert len(mail.outbox) == 1


def test_mails_are_sent_while_bitsby_is_down(order, invoice, fake):
    """A failing gateway does not delay e-mails."""
    outbox.enqueue(MailCode.PLACED, order)
    fake.on("/payments/list", (500, {}, "down"))
    with pytest.raises(GatewayError):
        reconciliation.reconcile()

    assert_one_mail(order, "waiting for your payment")


def test_mails_are_sent_when_a_run_fails(order, fake, monkeypatch):
    """An unexpected error in a run does not delay e-mails."""
    outbox.enqueue(MailCode.PLACED, order)

    def fail(*args, **kwargs):
        raise RuntimeError("unforeseen")

    monkeypatch.setattr("oscar_bitsby.reconciliation.expiry.cancel_unpaid_orders", fail)
    with pytest.raises(RuntimeError, match="unforeseen"):
        reconciliation.reconcile()

    assert_one_mail(order, "waiting for your payment")


def test_dry_run_sends_nothing(order, long_invoice, fake):
    """``--dry-run`` neither enqueues nor sends."""
    outbox.enqueue(MailCode.PLACED, order)
    reconciliation.reconcile(dry_run=True)

    assert mail.outbox == []
    assert BuyerMail.objects.get().status == "waiting"


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("turn", range(4))
def test_concurrent_senders_send_each_mail_once(place, turn):
    """Of senders that find the same e-mails at the same moment, one sends each."""
    for _ in range(3):
        outbox.enqueue(MailCode.PLACED, place())
    results = run_together(*[sender.send_pending] * 4)

    assert failures(results) == []
    assert sum(results) == 3
    assert len({message.subject for message in mail.outbox}) == len(mail.outbox) == 3


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("turn", range(4))
def test_concurrent_settlements_send_one_mail(order, invoice, fake, turn):
    """Runs and pages that settle a payment at the same moment send one e-mail."""
    fake.invoices = [bitsby.invoice_item(invoice, "paid", bitsby.transfer())]
    fake.payments = [bitsby.payment_item(invoice=fake.invoices[0], **fake.invoices[0]["payment"])]

    results = run_together(
        reconciliation.reconcile, lambda: refresh(invoice), lambda: refresh(invoice)
    )
    reconciliation.reconcile()

    assert failures(results) == []
    assert sent_codes() == [MailCode.PAID]
    assert order.sources.get().amount_debited == Decimal("10.00")


@pytest.mark.django_db(transaction=True)
def test_nothing_is_sent_inside_a_transaction(mail_server, order, invoice, fake):
    """When an e-mail leaves, its cause is committed and no lock is held."""
    inside = []
    mail_server("Slow")
    mail_backends.Slow.meanwhile = lambda: inside.append(connection.in_atomic_block)
    fake.invoices = [bitsby.invoice_item(invoice, "paid", bitsby.transfer())]
    refresh(invoice)
    reconciliation.reconcile()

    assert inside == [False]


def test_admin_shows_sent_and_dropped_mails(admin_client, place):
    """The admin lists the e-mails and the reasons of those that were not sent."""
    order = place(user=factories.UserFactory(email=""))
    outbox.enqueue(MailCode.PLACED, order)
    sender.send_pending()
    url = reverse("admin:oscar_bitsby_buyermail_changelist")
    page = admin_client.get(url).content.decode()

    assert order.number in page
    assert "no e-mail address" in page
    assert admin_client.get(url, {"q": order.number}).context["cl"].result_count == 1
    change = f"{url}{BuyerMail.objects.get().pk}/change/"
    assert admin_client.get(change).status_code == 200
    assert admin_client.post(change, {"status": "sent"}).status_code == 403


@pytest.mark.filterwarnings("ignore:The EMAIL_.* setting is deprecated")
@pytest.mark.parametrize(
    ("backend", "seconds", "values", "warns"),
    [
        ("smtp", None, {"MAILS": True}, True),
        ("smtp", 10, {"MAILS": True}, False),
        ("smtp", None, {"MAILS": False}, False),
        ("smtp", None, {"MAILS": False, "ALERTS": BY_MAIL}, True),
        ("locmem", None, {"MAILS": True}, False),
    ],
)
def test_missing_email_timeout_gets_a_warning(settings, configure, backend, seconds, values, warns):
    """``check --deploy`` names ``EMAIL_TIMEOUT`` when its absence could delay settling."""
    settings.EMAIL_BACKEND = f"django.core.mail.backends.{backend}.EmailBackend"
    settings.EMAIL_TIMEOUT = seconds
    configure(**values)

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
def test_missing_timeout_of_the_default_mailer_gets_a_warning(settings, mailers, warns):
    """In Django's newer setting the time-out is an option of the default mailer."""
    # Django refuses both kinds of settings beside one another.
    for name in [name for name in dir(settings) if name.startswith("EMAIL_")]:
        if settings.is_overridden(name):
            delattr(settings, name)
    settings.MAILERS = mailers

    found = run_checks(tags=["oscar_bitsby"], include_deployment_checks=True)

    assert [message.id for message in found] == (["oscar_bitsby.W004"] if warns else [])
    assert all("{'timeout': 10" in message.hint for message in found)


def test_api_key_is_redacted_from_stored_errors(mail_server, order, monkeypatch):
    """An error that repeats the API key is redacted before it is stored."""
    key = shop_settings.OSCAR_BITSBY["API_KEY"]

    def refuse(backend, messages):
        raise ConnectionError(f"proxy says {key}\x00")

    mail_server("Refusing")
    monkeypatch.setattr(mail_backends.Refusing, "send_messages", refuse)
    outbox.enqueue(MailCode.PLACED, order)
    sender.send_pending()

    row = BuyerMail.objects.get()
    assert "proxy says ***" in row.error
