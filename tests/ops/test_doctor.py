"""``bitsby_doctor``: what is wrong with a shop's payments, and what to do."""

import datetime as dt
import io

import pytest
from django.contrib.sites.models import Site
from django.core.management import CommandError, call_command
from django.db import OperationalError, connection, connections
from django.db.migrations.recorder import MigrationRecorder
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone, translation

from oscar_bitsby import models, reconciliation
from oscar_bitsby.choices import AuditState, MailCode, MailStatus, ReviewReason
from oscar_bitsby.gateway import balance
from oscar_bitsby.models import AuditRun, BitsbyPayment, BuyerMail, GatewayState, WebhookDelivery
from tests.support import bitsby

pytestmark = pytest.mark.django_db

BALANCES, TARIFFS = "/billing/balances", "/billing/tarrifs"


@pytest.fixture(autouse=True)
def shop(settings):
    """A shop with a domain of its own."""
    Site.objects.update_or_create(pk=settings.SITE_ID, defaults={"domain": "shop.test"})
    Site.objects.clear_cache()
    yield
    Site.objects.clear_cache()


@pytest.fixture
def account(fake):
    """An account at Bitsby without problems."""
    fake.on(BALANCES, bitsby.success({"internal": "100.00", "partner": "0.00"}))
    fake.on(TARIFFS, bitsby.success([{"id": bitsby.PROJECT, "name": "Shop", "rate": "1.00"}]))
    return fake


@pytest.fixture
def completed_run(fake):
    """A run that has just completed."""
    reconciliation.reconcile()


def doctor(*arguments):
    """Return the output of the command and the text of its error."""
    out = io.StringIO()
    try:
        call_command("bitsby_doctor", *arguments, stdout=out, no_color=True)
    except CommandError as error:
        return out.getvalue(), str(error)
    return out.getvalue(), ""


def assert_doctor_reports(*texts, error="", offline=False):
    """Assert that the doctor's output has the texts, and how it ends; return the output."""
    said, found = doctor(*(["--offline"] if offline else []))
    for text in texts:
        assert text in said
    assert found == error
    return said


def assert_one_problem(*texts, offline=False):
    return assert_doctor_reports(*texts, error="1 problem.", offline=offline)


def assert_no_problem(*texts, offline=False):
    return assert_doctor_reports(*texts, offline=offline)


def test_shop_without_problems_gets_neither_problem_nor_hint(account, completed_run):
    """There is no problem or hint, the webhook's address is named, two requests are sent."""
    account.requests.clear()
    said, error = doctor()

    assert error == ""
    assert "[problem]" not in said
    assert "[hint]" not in said
    assert "http://shop.test/bitsby/webhook/" in said
    assert said.endswith("No problem found.\n")
    assert [path for path, _ in account.requests] == [BALANCES, TARIFFS]


def test_doctor_changes_nothing(account, completed_run, invoice):
    """The doctor only reads, except for the slots of its requests."""
    with CaptureQueriesContext(connection) as queries:
        doctor()
    written = [q["sql"] for q in queries if q["sql"].startswith(("INSERT", "UPDATE", "DELETE"))]
    assert all("gatewaystate" in sql for sql in written)


def test_offline_sends_no_requests(fake, completed_run):
    """``--offline`` sends no requests to Bitsby."""
    fake.requests.clear()
    said, error = doctor("--offline")
    assert (error, fake.requests) == ("", [])
    assert "Bitsby answers" not in said


def test_missing_settings_are_a_problem(settings):
    """Without settings the remedy is named, and checks that need settings are skipped."""
    del settings.OSCAR_BITSBY
    said = assert_one_problem("OSCAR_BITSBY is not set", "→ Set OSCAR_BITSBY")
    assert "bitsby_reconcile" not in said


def test_wrong_settings_are_a_problem(configure):
    """Errors of the system checks are reported with their remedies, and the command fails."""
    configure(API_KEY="", COLOUR="red")
    said, error = doctor()
    assert "unknown keys: COLOUR" in said
    assert "OSCAR_BITSBY['API_KEY'] is not set" in said
    assert error == "2 problems."


def test_unsupported_database_is_a_problem(monkeypatch, account):
    """On another database the doctor names the remedy, and skips the other checks."""
    monkeypatch.setattr(type(connections["default"]), "vendor", "mysql")
    said = assert_one_problem("[problem] The database mysql is not supported", "→ Use PostgreSQL")
    assert "bitsby_reconcile" not in said
    assert account.requests == []


def test_project_without_time_zones_is_a_problem(settings, account):
    """With ``USE_TZ = False`` the doctor names the remedy, and skips the other checks."""
    settings.USE_TZ = False
    said = assert_one_problem("[problem] USE_TZ is False", "→ Set USE_TZ = True")
    assert "bitsby_reconcile" not in said
    assert account.requests == []


def test_missing_tables_are_a_problem(monkeypatch, account):
    """Before ``migrate`` the other checks are skipped."""
    monkeypatch.setattr("oscar_bitsby.ops.doctor._migrations", lambda: 2)
    assert_one_problem("2 migrations are not applied")


def test_unapplied_migrations_are_counted(account, completed_run, pytestconfig):
    """The number comes from the database's own list of migrations."""
    if pytestconfig.option.nomigrations:
        pytest.skip("needs migrations")
    assert_no_problem(offline=True)
    MigrationRecorder.Migration.objects.filter(app="oscar_bitsby").latest("name").delete()
    assert_one_problem("1 migration is not applied", offline=True)


def test_unreachable_database_is_a_problem(settings, monkeypatch, account):
    """A database error is reported in one line, without a traceback."""

    def fail():
        raise OperationalError("connection refused\nIs the server running?")

    monkeypatch.setattr("oscar_bitsby.ops.doctor._migrations", fail)
    assert_one_problem("The database cannot be reached: connection refused.")


def test_missing_site_is_a_problem(account, completed_run):
    """Without a site e-mails cannot have links, and the doctor says so."""
    Site.objects.all().delete()
    Site.objects.clear_cache()
    assert_one_problem("The shop has no site")


def test_paid_invoice_without_payment_is_a_warning(account, completed_run, order, invoice_for):
    """An invoice that is paid without a known payment needs staff and is not called overdue."""
    long_ago = timezone.now() - dt.timedelta(hours=2)
    invoice_for(
        order, created_at=long_ago, expires_at=long_ago, failure=models.PAID_WITHOUT_PAYMENT
    )
    said = assert_no_problem(
        "1 invoice is paid at Bitsby, but the API does not name the payment", offline=True
    )
    assert "should have expired" not in said


def test_rate_limit_in_use_is_a_warning(account, completed_run, monkeypatch):
    """If no slot comes free, the doctor says that it did not check Bitsby."""
    monkeypatch.setattr("oscar_bitsby.gateway.factory.BACKGROUND_MAX_WAIT", 0)
    GatewayState.objects.update(next_request_at=timezone.now() + dt.timedelta(seconds=5))
    assert_no_problem("Bitsby was not checked")


@pytest.mark.parametrize("has_row", [True, False])
def test_missing_reconciliation_is_a_problem(account, has_row):
    """A shop that never ran ``bitsby_reconcile``, even without the row, is told how to run it."""
    if not has_row:
        GatewayState.objects.all().delete()
    assert_one_problem("No run of bitsby_reconcile has completed", "--loop 60", offline=not has_row)


@pytest.mark.parametrize(
    ("minutes", "words"),
    [(16, "16 minutes ago"), (200, "3 hours ago"), (5000, "3 days ago")],
)
def test_stopped_reconciliation_is_a_problem(account, completed_run, move_time, minutes, words):
    """After 15 minutes without a run the doctor says when the last run completed."""
    move_time(minutes=minutes)
    assert_one_problem(f"[problem] The last run of bitsby_reconcile completed {words}")


def test_run_ten_minutes_ago_is_no_problem(account, completed_run, move_time):
    """Runs of a busy shop may take several minutes."""
    move_time(minutes=10)
    assert_no_problem()


def test_failed_and_dry_runs_do_not_count(fake, invoice):
    """Only a real run that sent all its requests counts as completed."""
    reconciliation.reconcile(dry_run=True)
    fake.on("/payments/list", ConnectionError("away"))
    with pytest.raises(Exception, match="no answer"):
        reconciliation.reconcile()
    assert "No run of bitsby_reconcile has completed" in doctor("--offline")[0]


@pytest.fixture
def delivered(invoice_for, place):
    """Return a function that stores a delivery about an invoice of an own order."""

    def store(status="unpaid", answered=503, outcome="asked", minutes=60, invoice=None):
        invoice = invoice or invoice_for(place(), status)
        received = timezone.now() - dt.timedelta(minutes=minutes)
        WebhookDelivery.objects.create(
            invoice=invoice, body="{}", answered=answered, outcome=outcome, received_at=received
        )
        return invoice

    return store


def test_deliveries_that_were_answered_or_settled_later_are_fine(account, completed_run, delivered):
    """A 503 is explained once its invoice is paid or over, or while it is new."""
    delivered("paid", 200, "settled")
    assert_no_problem("Answers to the newest 1 delivery: 200 (1).\n")
    delivered("paid")
    delivered("expired")
    delivered("paid", None, "")
    said = assert_no_problem("newest 4 deliveries: 200 (1), 503 (2), no answer (1). The invoices")
    assert "[hint]" not in said
    delivered(minutes=10)
    said = assert_no_problem("503 (3), no answer (1). Bitsby sends those without 200 again")
    assert "[hint]" not in said


@pytest.mark.parametrize(
    ("outcome", "words", "remedy"),
    [
        ("asked", "Bitsby does not call its invoice paid", "set WEBHOOK_TOKEN"),
        ("no answer: away", "no answer: away", "Run bitsby_reconcile by hand"),
        ("", "its processing was interrupted", "Run bitsby_reconcile by hand"),
    ],
)
def test_delivery_that_settled_nothing_is_a_warning(
    account, completed_run, delivered, outcome, words, remedy
):
    """The newest one is named with its order, its outcome and what to do; answers are counted."""
    delivered("paid", 200, "settled")
    delivered(minutes=120)
    invoice = delivered(outcome=outcome, answered=503 if outcome else None)

    said = assert_no_problem("[hint] 2 webhook deliveries settled nothing, most recently", remedy)

    assert f"that of order {invoice.order_number}: {words}. Answers to the newest 3" in said
    assert "have arrived at" not in said


def test_missing_deliveries_are_a_warning(account, completed_run, invoice_for, order):
    """If invoices were paid without a delivery, the address to enter at Bitsby is named."""
    paid = invoice_for(order, "paid")
    assert_no_problem(
        "no webhook delivery has arrived",
        "→ Enter http://shop.test/bitsby/webhook/ in the project's settings",
    )

    WebhookDelivery.objects.create(invoice=paid, body="{}", answered=200)
    assert_no_problem("Webhook deliveries have arrived at http://shop.test/bitsby/webhook/")


def test_webhook_token_is_not_shown(account, completed_run, configure):
    """The output has no secret, so that it can be sent to others."""
    configure(WEBHOOK_TOKEN="hush-hush-hush-hush")
    said, _ = doctor()
    assert "/bitsby/webhook/<WEBHOOK_TOKEN>/" in said
    assert "hush" not in said
    assert bitsby.KEY not in said


@pytest.mark.parametrize(
    "domain",
    ["example.com", "www.example.com", "localhost:8000", "shop.localhost", "127.0.0.1", "[::1]:80"],
)
def test_domain_that_leads_nowhere_is_never_ok(account, completed_run, domain, delivered):
    """Links in e-mails would not work, and no line that is ok has such a domain."""
    Site.objects.update(domain=domain)
    Site.objects.clear_cache()
    for delivery in ({}, {"status": "paid", "answered": 200}):
        said, _ = doctor()
        assert f"[hint] The site's domain is {domain}, so links in e-mails do not work" in said
        assert not [line for line in said.splitlines() if "[ok]" in line and domain in line]
        WebhookDelivery.objects.all().delete()
        delivered(**delivery)


@pytest.mark.parametrize("domain", ["myexample.com", "192.0.2.7", "[shop"])
def test_domain_that_only_looks_like_a_placeholder_is_fine(completed_run, domain):
    """A name that ends like one of them, a public address, and what is no host at all."""
    Site.objects.update(domain=domain)
    Site.objects.clear_cache()
    assert "links in e-mails" not in doctor("--offline")[0]


@pytest.mark.parametrize(
    ("amount", "error", "words"),
    [
        ("100.00", "", "[ok] The balance at Bitsby is 100.00 USD. It was fetched 5 minutes ago."),
        ("4.00", "", "[hint] The balance at Bitsby is 4.00 USD, less than BALANCE_MIN (10 USD)."),
        ("-3.50", "1 problem.", "[problem] The balance at Bitsby is -3.50 USD."),
    ],
)
def test_offline_the_stored_balance_is_reported(
    completed_run, configure, amount, error, words, move_time
):
    """Without requests the doctor says what a run has fetched, and when."""
    configure(BALANCE_MIN=10)
    GatewayState.objects.update(balance=amount, balance_fetched_at=timezone.now())
    move_time(minutes=5)
    with translation.override("de"):
        said = assert_doctor_reports(words, error=error, offline=True)
    assert ("Bitsby blocks new invoices" in said) is (amount != "100.00")


def test_low_balance_of_the_account_is_a_warning(account, completed_run, configure):
    """The balance that Bitsby answers counts, and is not stored."""
    configure(BALANCE_MIN=200)
    assert_no_problem("[hint] The balance at Bitsby is 100.00 USD, less than BALANCE_MIN (200 USD)")
    assert balance.last_known() is None


@pytest.mark.parametrize(
    ("state", "error", "words"),
    [
        (AuditState.PROVED, "", "[ok] The last audit, 3 days ago, found no differences."),
        (AuditState.DIFFERENT, "1 problem.", "[problem] The last audit, 3 days ago, found 3"),
        (AuditState.UNPROVED, "", "[hint] The last audit, 3 days ago, could not be completed"),
    ],
)
def test_last_finished_audit_is_reported(completed_run, state, error, words):
    """Its age and result are reported; one that still runs does not count."""
    finished = timezone.now() - dt.timedelta(days=3)
    AuditRun.objects.create(state=state, finished_at=finished, differences={"hash": 2, "amount": 1})
    AuditRun.objects.create(state=AuditState.RUNNING)
    assert_doctor_reports(words, error=error, offline=True)


def test_clock_difference_is_a_warning(account, completed_run, monkeypatch):
    """A machine whose clock differs from the database's is reported."""
    monkeypatch.setattr(
        "oscar_bitsby.ops.doctor.db_now", lambda: timezone.now() + dt.timedelta(seconds=90)
    )
    assert "differ by 90 seconds" in doctor()[0]


def test_reviews_overdue_invoices_and_failed_mails_are_counted(
    account, completed_run, order, invoice_for
):
    """The numbers of payments to review, overdue invoices and unsent e-mails are reported.

    Very small payments are not counted.
    """
    long_ago = timezone.now() - dt.timedelta(hours=2)
    invoice_for(order, created_at=long_ago, expires_at=long_ago)
    for is_dust in (False, True):
        BitsbyPayment.objects.create(
            bitsby_id=bitsby.new_id(),
            amount=1,
            review_reason=ReviewReason.UNMATCHED,
            is_dust=is_dust,
        )
    BuyerMail.objects.create(order=order, code=MailCode.PAID, key="x", status=MailStatus.FAILED)
    assert_one_problem(
        "1 payment needs a decision by staff",
        "1 invoice should have expired more than an hour ago",
        "1 e-mail to buyers could not be sent",
    )


def test_invoices_without_an_answer_are_a_warning(account, completed_run, place, invoice_for):
    """Their number and the newest reason are named; they do not count as overdue as well."""
    long_ago = timezone.now() - dt.timedelta(hours=5)
    values = {"created_at": long_ago, "expires_at": long_ago, "unanswered_since": long_ago}
    older = {"last_refreshed_at": long_ago, "unanswered_reason": "HTTP 404"}
    newest = {"last_refreshed_at": timezone.now(), "unanswered_reason": "HTTP 500"}
    ended = {"status": "expired", "ended_at": long_ago}
    invoice_for(place(), **values, **older)
    invoice = invoice_for(place(), **values, **newest, **ended)

    said = assert_no_problem("[hint] Bitsby gives no usable answer about 2 invoices")
    assert f"most recently that of order {invoice.order_number}: HTTP 500." in said
    assert "no invoice is overdue" not in said

    # Nobody needs the answer any more.
    models.BitsbyInvoice.objects.filter(pk=invoice.pk).update(order_awaits_payment=False)
    assert_no_problem(" about 1 invoice, ", ": HTTP 404.")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (bitsby.error("Invalid token"), "Bitsby refuses: /billing/balances: Invalid token"),
        (ConnectionError("away"), "Bitsby cannot be reached"),
        ((200, {}, "<html>"), "Bitsby's answer cannot be used"),
        (
            bitsby.success({"internal": "-3.50", "partner": "0.00"}),
            "The balance at Bitsby is -3.50",
        ),
    ],
)
def test_problems_of_the_account_are_reported(account, completed_run, answer, words):
    """A refused key, no answer, a strange answer and a negative balance are problems."""
    account.on(BALANCES, answer)
    said, error = doctor()
    assert words in said
    assert error
    assert bitsby.KEY not in said


def test_unlisted_project_is_a_warning(account, completed_run):
    """The listed projects are named; an empty list is no reason for a warning."""
    account.on(TARIFFS, bitsby.success([{"id": "other", "name": "Other"}]))
    assert_no_problem(f"does not contain {bitsby.PROJECT}", "projects: other")

    account.on(TARIFFS, bitsby.success([]))
    assert "[hint]" not in doctor()[0]


def test_payments_to_review_warns_when_reconciliation_stopped(admin_client, fake, move_time):
    """Staff see that reconciliation does not run, and since when."""
    inbox = reverse("oscar_bitsby:dashboard-inbox")
    assert (
        "No run of bitsby_reconcile has completed yet" in admin_client.get(inbox).content.decode()
    )
    reconciliation.reconcile()
    assert "No run of bitsby_reconcile" not in admin_client.get(inbox).content.decode()
    move_time(minutes=16)
    assert (
        "No run of bitsby_reconcile has completed since" in admin_client.get(inbox).content.decode()
    )
