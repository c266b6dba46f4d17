"""Alerts to the merchant: what is alerted, when, in which words, and by which e-mail."""

import datetime as dt
from contextlib import suppress
from decimal import Decimal

import pytest
from django.contrib.sites.models import Site
from django.core import mail
from django.db import transaction
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from oscar_bitsby import facade, reconciliation
from oscar_bitsby.choices import AlertCode, Resolution
from oscar_bitsby.exceptions import ConnectionFailed, GatewayError, Refused
from oscar_bitsby.mails import alert_digest, merchant_alerts
from oscar_bitsby.models import AuditRun, BitsbyPayment, GatewayState, MerchantAlert
from oscar_bitsby.ops import pruning
from oscar_bitsby.reconciliation import lease
from oscar_bitsby.settlement import refunds
from oscar_bitsby.settlement.payments import flag_for_review
from tests.checkout import mail_backends
from tests.support import bitsby
from tests.support.alerts import BY_MAIL, MAIL, send
from tests.support.buyer_refunds import ADDRESS, create_refund, give_address
from tests.support.mails import paid_item
from tests.support.staff import create_payments

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def alerts_by_mail(configure):
    configure(ALERTS=BY_MAIL)


def codes():
    return list(MerchantAlert.objects.order_by("pk").values_list("code", flat=True))


def statuses():
    return set(MerchantAlert.objects.values_list("mail_status", flat=True))


def flagged(reason="short", order=None, **values):
    """Create a payment and flag it for review."""
    (payment,) = create_payments(1, **{"review_reason": ""} | values)
    with transaction.atomic():
        flag_for_review(payment, reason, order)
    return payment


def sent_text():
    (message,) = mail.outbox
    return message.body


def test_alert_that_cannot_be_stored_does_not_undo_what_it_tells(order):
    """The statement fails, and the caller's transaction goes on and is committed."""
    with transaction.atomic():
        merchant_alerts.enqueue(AlertCode.KEY_REFUSED, reason=object())
        order.set_status("Being processed")

    order.refresh_from_db()
    assert (order.status, codes()) == ("Being processed", [])


# What is alerted


def test_run_that_finds_a_short_payment_alerts_of_it(fake, order, invoice, admin_client):
    """The e-mail names order, amount and reason, and its link opens where it is decided."""
    fake.payments = [paid_item(invoice, "9.50000000")]

    reconciliation.reconcile()

    message = next(one for one in mail.outbox if one.to == MAIL)
    assert message.subject == "[example.com] A payment needs a decision"
    assert f"Order {order.number}, 9.5 USDT (9.50 USD): less than the order's total." in (
        message.body
    )
    (url,) = (line for line in message.body.splitlines() if line.startswith("http"))
    page = admin_client.get(url.removeprefix("http://example.com"))
    assert order.number in page.content.decode()
    assert MerchantAlert.objects.get().mail_status == "sent"


def test_alert_belongs_to_the_transaction_that_flags_the_payment(order):
    """What is rolled back is not alerted."""
    (payment,) = create_payments(1, review_reason="")
    with transaction.atomic():
        flag_for_review(payment, "short", order)
        assert codes() == ["payment"]
        transaction.set_rollback(True)
    assert codes() == []


def test_very_small_payment_is_not_alerted():
    """Anybody can send many of them."""
    flagged("unmatched", is_dust=True)
    assert codes() == []


def test_payment_is_alerted_once_for_each_reason(order):
    """A further reason is alerted, and so is the same one again after a decision."""
    payment = flagged("short", order)
    flag_for_review(payment, "short", order)
    assert codes() == ["payment"]
    flag_for_review(payment, "status", order)
    assert codes() == ["payment"] * 2
    payment.resolved_at, payment.resolution = timezone.now(), Resolution.ACCEPTED
    payment.review_reason, payment.further_reasons = "over", ""
    payment.save()
    flag_for_review(payment, "short", order)
    assert codes() == ["payment"] * 3


def test_address_of_a_refund_is_alerted_without_the_address(order):
    """The text names the refund, and links to the page where it is marked as sent."""
    refund = create_refund(order)

    assert give_address(refund, ADDRESS).status_code == 303
    send()

    text = sent_text()
    assert f"Order {order.number}: the address for a refund of 2.5 USDT (2.50 USD) was" in text
    assert reverse("oscar_bitsby:dashboard-refund", args=[refund.pk]) in text
    assert ADDRESS not in text


def test_refused_list_is_alerted_once_a_day(fake, invoice, move_time):
    """Bitsby's words are in the e-mail of the failing run."""
    fake.on("/payments/list", bitsby.error(f"Invalid token {bitsby.KEY}"))
    for _ in range(2):
        with pytest.raises(Refused):
            reconciliation.reconcile()
    assert codes() == ["key_refused"]
    assert "Invalid token ***" in sent_text()
    move_time(days=1)
    with pytest.raises(Refused):
        reconciliation.reconcile()
    assert codes() == ["key_refused"] * 2


def test_connection_failure_is_not_alerted_as_refusal(fake, invoice):
    """A short outage of Bitsby needs no person."""
    fake.on("/payments/list", ConnectionError("down"))
    with pytest.raises(ConnectionFailed):
        reconciliation.reconcile()
    assert codes() == []


@pytest.mark.parametrize(
    ("answer", "expected"),
    [(bitsby.error("You have a debt"), ["account_blocked"]), ((500, {}, "oops"), [])],
)
def test_refused_invoices_of_several_orders_are_alerted(place, fake, move_time, answer, expected):
    """One refused order is not alerted; neither is a server error."""
    fake.on("/invoices/create", answer)
    for number, order in enumerate([place(), place(), place()]):
        with pytest.raises(GatewayError):
            facade.start_payment(order)
        assert codes() == (expected if number else [])
        move_time(minutes=2)


@pytest.mark.parametrize("fails", [False, True])
def test_run_after_a_long_pause_alerts_once(fake, invoice, move_time, fails):
    """The first run that starts again tells since when none was completed, even if it fails."""
    reconciliation.reconcile()
    move_time(minutes=16)
    if fails:
        fake.on("/payments/list", ConnectionError("down"))
    for _ in range(2):
        try:
            reconciliation.reconcile()
        except ConnectionFailed:
            assert fails
    assert codes() == ["runs_overdue"]
    assert ("Runs complete again." in sent_text()) is not fails


def test_first_run_and_dry_runs_are_not_alerted_as_late(fake, invoice, move_time):
    """A new shop has no last run, and a dry run writes nothing."""
    reconciliation.reconcile()
    move_time(minutes=16)
    reconciliation.reconcile(dry_run=True)
    assert codes() == []


def test_balance_and_audit_have_texts():
    """The alerts that other steps enqueue say what happened and what to do."""
    for occasion, balance in (("low", "12.50"), ("negative", "-3.00")):
        details = {"balance": balance, "until": "2026-12-07 23:50 UTC"}
        merchant_alerts.enqueue(AlertCode.LOW_BALANCE, occasion=occasion, **details)
    merchant_alerts.enqueue(AlertCode.AUDIT_FAILED, differences="2")
    send()
    text = sent_text()
    assert "is 12.50 USD, less than" in text
    assert "is -3.00 USD. If it is still negative on Monday, " in text
    assert "the shop's records: 2." in text
    assert reverse("oscar_bitsby:dashboard-overview") in text


def test_nothing_is_stored_without_the_setting(configure, order, django_assert_num_queries):
    """Without addresses and URL there is no row, and a run sends no query for alerts."""
    configure(ALERTS={})
    flagged("short", order)
    assert codes() == []
    with django_assert_num_queries(1):
        # The shared row of the test.
        send()


def test_failed_enqueueing_does_not_stop_settling(monkeypatch, order, caplog):
    """A bug here costs an alert, and no payment."""
    monkeypatch.setattr(merchant_alerts, "alert_key", lambda *args: 1 / 0)
    payment = flagged("short", order)
    payment.refresh_from_db()
    assert payment.review_reason == "short"
    assert "alert not enqueued: payment: ZeroDivisionError" in caplog.text


# No longer true


def decide(payment):
    BitsbyPayment.objects.filter(pk=payment.pk).update(resolved_at=timezone.now())


def test_decided_payment_is_not_alerted(order):
    """What staff decide before the e-mail is left out, and an e-mail about nothing is not sent."""
    decide(flagged("short", order))
    send()
    assert mail.outbox == []
    assert statuses() == {"dropped"}
    flagged("short", order, hash="next")
    send()
    assert sent_text().count("less than the order's total") == 1


def test_payment_waits_for_its_decision_however_long(order, move_time):
    """After days without runs, an open payment is still alerted; other alerts are not sent."""
    flagged("short", order)
    merchant_alerts.enqueue(AlertCode.KEY_REFUSED, reason="no")
    move_time(days=3)
    send()
    assert "A payment needs a decision" in sent_text()
    assert "Bitsby refuses" not in sent_text()


@pytest.mark.parametrize("code", ["key_refused", "account_blocked", "low_balance", "audit_failed"])
def test_solved_problem_is_not_alerted(code, order, invoice_for, move_time):
    """A completed run, a new invoice, enough balance or an audit without differences solves it."""
    merchant_alerts.enqueue(code)
    move_time(minutes=1)
    GatewayState.ensure_exists()
    if code == "key_refused":
        lease.Lease("").finish()
    elif code == "account_blocked":
        invoice_for(order)
    elif code == "low_balance":
        GatewayState.objects.update(balance=Decimal("0.00"))
    else:
        AuditRun.objects.create(state="proved")
    send()
    assert mail.outbox == []
    assert statuses() == {"dropped"}


def test_refund_with_a_newer_address_is_alerted_once(order, staff_user):
    """The alert about the address that staff removed is left out."""
    refund = create_refund(order)
    give_address(refund, ADDRESS)
    refunds.reopen(refund.pk, staff_user, "wrong chain")
    refund.refresh_from_db()
    give_address(refund, ADDRESS, Client())
    send()
    assert sent_text().count("the address for a refund") == 1


# The e-mail


def test_alerts_wait_for_one_email_in_fifteen_minutes(order, move_time):
    """The first goes at once; all that follow go together, each in one e-mail only."""
    flagged("short", order)
    send()
    for number in range(3):
        flagged("over", order, hash=f"later{number}")
    move_time(minutes=14)
    send()
    assert len(mail.outbox) == 1
    move_time(minutes=2)
    send(), send()
    assert [one.to for one in mail.outbox] == [MAIL, MAIL]
    assert mail.outbox[1].subject == "[example.com] A payment needs a decision (3)"
    assert mail.outbox[1].body.count("more than the order's total") == 3


def test_payment_with_two_reasons_is_listed_once(order):
    """Its text has both reasons."""
    payment = flagged("short", order)
    flag_for_review(payment, "status", order)
    send()
    (message,) = mail.outbox
    assert message.subject == "[example.com] A payment needs a decision"
    assert message.body.count(f"Order {order.number}") == 1
    assert "less than the order's total" in message.body
    assert statuses() == {"sent"}
    assert len(codes()) == 2


def test_email_describes_a_limited_number_of_a_kind(order):
    """Hundreds of payments make one short e-mail."""
    for number in range(alert_digest.MAX_OF_A_KIND + 5):
        flagged("short", order, hash=f"many{number}")
    merchant_alerts.enqueue(AlertCode.KEY_REFUSED, reason="no")
    send()
    text = sent_text()
    assert text.count("less than the order's total") == alert_digest.MAX_OF_A_KIND
    assert "and 5 more:" in text
    assert "Bitsby refuses the shop's requests, so" in text
    assert statuses() == {"sent"}


def test_refused_email_is_tried_five_times(mail_server, order, move_time):
    """A mail server that is down delays the alert, with growing pauses, and then it has failed."""
    mail_server("Refusing")
    flagged("short", order)
    for tries in range(1, 5):
        send()
        alert = MerchantAlert.objects.get()
        assert (alert.mail_status, alert.mail_tries) == ("waiting", tries)
        move_time(hours=9)
    send()
    alert = MerchantAlert.objects.get()
    assert (alert.mail_status, alert.error) == ("failed", "ConnectionRefusedError")


@pytest.mark.parametrize("server", ["Dying", "HangingUp"])
def test_email_that_may_have_left_is_sent_again(mail_server, order, move_time, server):
    """A kill or a broken connection while sending loses no alert."""
    mail_server(server)
    flagged("short", order)
    with suppress(SystemExit):
        send()
    assert statuses() == {"sending" if server == "Dying" else "waiting"}
    mail_server()
    send()
    assert mail.outbox == []
    move_time(minutes=16)
    send(), send()
    assert len(mail.outbox) == 1
    assert statuses() == {"sent"}


@pytest.mark.parametrize("server", ["Dying", "HangingUp"])
def test_email_that_may_have_left_is_sent_five_times_at_most(mail_server, move_time, server):
    """A refused key whose e-mail leaves but always ends in an error is not alerted for ever."""
    mail_server(server)
    merchant_alerts.enqueue(AlertCode.KEY_REFUSED, reason="no")
    for _ in range(24 * 3):
        with suppress(SystemExit):
            send()
        move_time(minutes=20)
    alert = MerchantAlert.objects.get()
    assert (alert.mail_status, alert.mail_tries) == ("failed", 5)


def test_second_process_sends_nothing_while_the_first_one_does(mail_server, order):
    """Two runs at the same time, after a lost lease, send one e-mail."""
    mail_server("Slow")
    flagged("short", order)
    flags = []
    mail_backends.Slow.meanwhile = lambda: (
        flagged("over", order, hash="meanwhile"),
        send(),
        flags.extend(MerchantAlert.objects.order_by("pk").values_list("mail_status", flat=True)),
    )
    send()
    assert flags == ["sending", "waiting"]


def test_email_that_another_process_has_just_sent_is_not_sent_again(order):
    """Of two processes that saw the same alerts, one sends them."""
    flagged("short", order)
    alert_digest.send_due(send)
    assert len(mail.outbox) == 1


def test_failing_mail_server_does_not_fail_a_run(mail_server, fake, order, invoice):
    """The payment is booked and the run completed, although nothing can be e-mailed."""
    mail_server("Refusing")
    flagged("short", order)
    fake.payments = [paid_item(invoice)]
    assert reconciliation.reconcile().booked == 1


def test_foreign_texts_add_no_header_and_no_line(order):
    """A site's name or Bitsby's words with line breaks stay in their line."""
    Site.objects.update(name="Shop\nBcc: evil@example.com")
    Site.objects.clear_cache()
    merchant_alerts.enqueue(AlertCode.KEY_REFUSED, reason="no\r\n\r\nhttps://evil.example.com/")
    send()
    (message,) = mail.outbox
    assert message.subject.startswith("[Shop Bcc: evil@example.com] Bitsby refuses")
    assert message.recipients() == MAIL
    assert "no https://evil" in message.body


def test_text_that_cannot_be_built_does_not_hold_up_the_others(order, monkeypatch):
    """The alert of a strange row names its order, and the rest is as always."""
    flagged("short", order)
    merchant_alerts.enqueue(AlertCode.RUNS_OVERDUE, order_number="7", last_run="2026-13-45T99:00")
    send()
    assert "less than the order's total" in sent_text()
    assert "Payments were not checked: 7" in sent_text()


def test_email_is_in_the_language_of_the_shop(order, settings):
    """Runs have no language of their own."""
    settings.LANGUAGE_CODE = "de"
    flagged("short", order)
    send()
    assert "weniger" in sent_text()


def test_admin_lists_alerts_and_changes_nothing(order, admin_client):
    """Staff see what was alerted and why not."""
    decide(flagged("short", order))
    send()
    page = admin_client.get(
        reverse("admin:oscar_bitsby_merchantalert_changelist"), {"q": order.number}
    ).content.decode()
    assert order.number in page
    assert "the payment is resolved" in page
    alert = MerchantAlert.objects.get()
    url = reverse("admin:oscar_bitsby_merchantalert_change", args=[alert.pk])
    assert admin_client.get(url).status_code == 200
    assert admin_client.post(url, {"code": "x"}).status_code == 403


def test_old_alerts_are_pruned(order):
    """After 90 days they are deleted, even those that a removed setting has left unsent."""
    for status, days in (("sent", 91), ("sent", 89), ("waiting", 91)):
        MerchantAlert.objects.create(
            code="payment",
            key=f"{status}{days}",
            mail_status=status,
            created_at=timezone.now() - dt.timedelta(days=days),
        )
    assert pruning.prune().alerts == 2
    assert set(MerchantAlert.objects.values_list("key", flat=True)) == {"sent89"}
