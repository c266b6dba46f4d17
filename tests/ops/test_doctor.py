"""``bitsby_doctor``: what is wrong with a shop's payments, and what to do about it."""

from __future__ import annotations

import datetime as dt
import io

import pytest
from django.contrib.sites.models import Site
from django.core.management import CommandError, call_command
from django.db import OperationalError, connection
from django.db.migrations.recorder import MigrationRecorder
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from oscar_bitsby import models, reconciliation
from oscar_bitsby.choices import MailCode, MailStatus, ReviewReason
from oscar_bitsby.models import BitsbyPayment, BuyerMail, GatewayState, WebhookDelivery
from tests import bitsby

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
    """The account at Bitsby, in good order."""
    fake.on(BALANCES, bitsby.success({"internal": "100.00", "partner": "0.00"}))
    fake.on(TARIFFS, bitsby.success([{"id": bitsby.PROJECT, "name": "Shop", "rate": "1.00"}]))
    return fake


@pytest.fixture
def passing(fake):
    """A pass that has just come to its end."""
    reconciliation.reconcile()


def doctor(*arguments):
    """Return what the doctor said, and whether it ended with an error."""
    out = io.StringIO()
    try:
        call_command("bitsby_doctor", *arguments, stdout=out, no_color=True)
    except CommandError as error:
        return out.getvalue(), str(error)
    return out.getvalue(), ""


def test_a_shop_in_good_order_hears_so(account, passing):
    """Nothing is wrong, the webhook's address is told, and two requests are enough."""
    account.requests.clear()
    said, error = doctor()

    assert error == ""
    assert "[problem]" not in said
    assert "[hint]" not in said
    assert "http://shop.test/bitsby/webhook/" in said
    assert said.endswith("No problem found.\n")
    assert [path for path, _ in account.requests] == [BALANCES, TARIFFS]


def test_it_changes_nothing(account, passing, invoice):
    """The doctor only reads, but for the slot that its requests take."""
    with CaptureQueriesContext(connection) as queries:
        doctor()
    written = [q["sql"] for q in queries if q["sql"].startswith(("INSERT", "UPDATE", "DELETE"))]
    assert all("gatewaystate" in sql for sql in written)


def test_offline_asks_nobody(fake, passing):
    """``--offline`` leaves Bitsby alone."""
    fake.requests.clear()
    said, error = doctor("--offline")
    assert (error, fake.requests) == ("", [])
    assert "Bitsby answers" not in said


def test_a_shop_without_settings_hears_what_to_set(settings):
    """A problem with its remedy, and nothing that rests on settings."""
    del settings.OSCAR_BITSBY
    said, error = doctor()
    assert error == "1 problem."
    assert "OSCAR_BITSBY is not set" in said
    assert "→ Set OSCAR_BITSBY" in said
    assert "pass" not in said


def test_wrong_settings_are_a_problem(settings):
    """What ``check`` finds is told here as well, with its remedy, and ends with an error."""
    settings.OSCAR_BITSBY = {**settings.OSCAR_BITSBY, "API_KEY": "", "COLOUR": "red"}
    said, error = doctor()
    assert "unknown keys: COLOUR" in said
    assert "OSCAR_BITSBY['API_KEY'] is not set" in said
    assert error == "2 problems."


def test_missing_tables_are_a_problem(monkeypatch, account):
    """Before ``migrate`` nothing else is looked at."""
    monkeypatch.setattr("oscar_bitsby.ops.doctor._migrations", lambda: 2)
    said, error = doctor()
    assert "2 migrations are not applied" in said
    assert error == "1 problem."


def test_a_migration_that_is_not_applied_is_named(account, passing, pytestconfig):
    """The database's own list of migrations counts."""
    if pytestconfig.option.nomigrations:
        pytest.skip("needs migrations")
    assert doctor("--offline")[1] == ""
    last = MigrationRecorder.Migration.objects.filter(app="oscar_bitsby").latest("name")
    last.delete()
    said, error = doctor("--offline")
    assert "1 migrations are not applied" in said
    assert error == "1 problem."


def test_a_database_that_is_away_is_a_problem(settings, monkeypatch, account):
    """The doctor comes when things are broken, and says so without a traceback."""

    def fail():
        raise OperationalError("connection refused\nIs the server running?")

    monkeypatch.setattr("oscar_bitsby.ops.doctor._migrations", fail)
    said, error = doctor()
    assert "The database cannot be asked: connection refused." in said
    assert error == "1 problem."


def test_a_shop_without_a_site_is_a_problem(account, passing):
    """No mail can have a link, and the doctor does not stumble over it."""
    Site.objects.all().delete()
    Site.objects.clear_cache()
    said, error = doctor()
    assert "The shop has no site" in said
    assert error == "1 problem."


def test_an_invoice_that_is_paid_by_nobody_knows_what_is_no_job_for_a_pass(
    account, passing, order, invoice_for
):
    """Bitsby calls it paid and names no payment: people look at it, and passes do not help."""
    long_ago = timezone.now() - dt.timedelta(hours=2)
    invoice_for(
        order, created_at=long_ago, expires_at=long_ago, failure=models.PAID_WITHOUT_PAYMENT
    )
    said, error = doctor("--offline")
    assert "1 invoices are paid at Bitsby, which does not say by what payment" in said
    assert "still count as unpaid" not in said
    assert error == ""


def test_a_slot_that_is_not_free_is_no_problem_of_the_shop(account, passing, monkeypatch):
    """Somebody else was asking: the doctor says that it did not ask."""
    monkeypatch.setattr("oscar_bitsby.gateway.factory.BACKGROUND_MAX_WAIT", 0)
    GatewayState.objects.update(next_request_at=timezone.now() + dt.timedelta(seconds=5))
    said, error = doctor()
    assert "Bitsby was not asked" in said
    assert error == ""


def test_a_shop_whose_passes_never_ran_hears_so(account):
    """The commonest mistake: nothing looks for payments."""
    said, error = doctor()
    assert "No pass of bitsby_reconcile has ever come to its end" in said
    assert "--loop 60" in said
    assert error == "1 problem."


@pytest.mark.parametrize(
    ("minutes", "words"),
    [(16, "16 minutes ago"), (200, "3 hours ago"), (5000, "3 days ago")],
)
def test_passes_that_stopped_are_a_problem(account, passing, move_time, minutes, words):
    """More than a quarter of an hour without a pass, and somebody is told how long."""
    move_time(minutes=minutes)
    said, error = doctor()
    assert f"[problem] The last pass of bitsby_reconcile ended {words}" in said
    assert error == "1 problem."


def test_a_pass_ten_minutes_ago_is_well(account, passing, move_time):
    """A busy shop's passes may take a while."""
    move_time(minutes=10)
    assert doctor()[1] == ""


def test_a_pass_that_broke_off_or_only_tried_does_not_count(fake, invoice):
    """Only a pass that has asked all that it had to ask has looked."""
    reconciliation.reconcile(dry_run=True)
    fake.on("/payments/list", ConnectionError("away"))
    with pytest.raises(Exception, match="no answer"):
        reconciliation.reconcile()
    assert "has ever come to its end" in doctor("--offline")[0]


def test_deliveries_that_never_come_are_hinted_at(account, passing, invoice_for, order):
    """Invoices were paid, and Bitsby has not called: its address may be missing there."""
    paid = invoice_for(order, "paid")
    said, error = doctor()
    assert "no delivery has come" in said
    assert "→ Enter http://shop.test/bitsby/webhook/ in the project's settings" in said
    assert error == ""

    WebhookDelivery.objects.create(invoice=paid, body="{}")
    said, _ = doctor()
    assert "Deliveries have come to http://shop.test/bitsby/webhook/ lately" in said


def test_the_webhooks_token_is_not_told(account, passing, settings):
    """What the doctor says can be sent to somebody for help."""
    settings.OSCAR_BITSBY = {**settings.OSCAR_BITSBY, "WEBHOOK_TOKEN": "hush-hush-hush-hush"}
    said, _ = doctor()
    assert "/bitsby/webhook/<WEBHOOK_TOKEN>/" in said
    assert "hush" not in said
    assert bitsby.KEY not in said


def test_a_site_without_a_domain_is_hinted_at(account, passing):
    """Links in mails would lead to example.com."""
    Site.objects.update(domain="example.com")
    Site.objects.clear_cache()
    assert "links in mails lead nowhere" in doctor()[0]


def test_clocks_that_are_apart_are_hinted_at(account, passing, monkeypatch):
    """A machine whose clock is off is named."""
    monkeypatch.setattr(
        "oscar_bitsby.ops.doctor.db_now", lambda: timezone.now() + dt.timedelta(seconds=90)
    )
    assert "are 90 seconds apart" in doctor()[0]


def test_waiting_money_overdue_invoices_and_failed_mails_are_told(
    account, passing, order, invoice_for
):
    """What staff have to decide, what a pass should have ended, what could not be sent."""
    long_ago = timezone.now() - dt.timedelta(hours=2)
    invoice_for(order, created_at=long_ago, expires_at=long_ago)
    BitsbyPayment.objects.create(
        bitsby_id=bitsby.new_id(), amount=1, review_reason=ReviewReason.UNMATCHED
    )
    BuyerMail.objects.create(order=order, code=MailCode.PAID, key="x", status=MailStatus.FAILED)
    said, error = doctor()
    assert "1 payments wait for staff" in said
    assert "1 invoices are over for more than an hour" in said
    assert "1 mails to buyers could not be sent" in said
    assert error == "1 problem."


@pytest.mark.parametrize(
    ("answer", "words", "is_problem"),
    [
        (bitsby.error("Invalid token"), "Bitsby refuses: /billing/balances: Invalid token", True),
        (ConnectionError("away"), "Bitsby cannot be reached", True),
        ((200, {}, "<html>"), "Bitsby's answer was of no use", True),
        (bitsby.success({"internal": "-3.50"}), "The balance at Bitsby is -3.50", True),
    ],
)
def test_what_bitsby_says_of_the_account_is_told(account, passing, answer, words, is_problem):
    """A key that is refused, a gateway that is away or talks nonsense, a debt that blocks."""
    values = answer
    if isinstance(answer, dict) and answer["result"] == "success":
        values = bitsby.success({**answer["data"], "partner": "0.00"})
    account.on(BALANCES, values)
    said, error = doctor()
    assert words in said
    assert bool(error) == is_problem
    assert bitsby.KEY not in said


def test_a_project_that_the_account_does_not_list_is_hinted_at(account, passing):
    """The projects that are there are named; an empty list says nothing."""
    account.on(TARIFFS, bitsby.success([{"id": "other", "name": "Other"}]))
    said, error = doctor()
    assert f"does not have {bitsby.PROJECT}" in said
    assert "are: other" in said
    assert error == ""

    account.on(TARIFFS, bitsby.success([]))
    assert "[hint]" not in doctor()[0]


def test_the_money_inbox_says_that_nobody_looks(admin_client, fake, move_time):
    """Staff whose money is missing learn that no pass runs, and since when."""
    inbox = reverse("oscar_bitsby:dashboard-inbox")
    assert "No payment check has completed yet" in admin_client.get(inbox).content.decode()
    reconciliation.reconcile()
    assert "No payment check" not in admin_client.get(inbox).content.decode()
    move_time(minutes=16)
    assert "No payment check has completed since" in admin_client.get(inbox).content.decode()


def test_a_shop_without_the_shared_row_has_not_been_looked_at(account):
    """The row is made by the first request or pass."""
    GatewayState.objects.all().delete()
    assert "has ever come to its end" in doctor("--offline")[0]
