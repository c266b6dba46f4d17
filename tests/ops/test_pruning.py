"""``bitsby_prune``: old rows are deleted, and those that accounting needs are kept."""

import datetime as dt
import io
from decimal import Decimal

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from oscar.core.loading import get_model

from oscar_bitsby import reconciliation, settlement
from oscar_bitsby.choices import MailCode, MailStatus, RefundState, Resolution, ReviewReason
from oscar_bitsby.gateway import parsing
from oscar_bitsby.models import (
    AuditedItem,
    AuditRun,
    BitsbyInvoice,
    BitsbyPayment,
    BitsbyRefund,
    BuyerMail,
    WebhookDelivery,
)
from oscar_bitsby.ops import pruning
from oscar_bitsby.staff import binding
from tests.support import bitsby
from tests.support.concurrency import run_together
from tests.support.refunds import ADDRESSES, new_hash

Transaction = get_model("payment", "Transaction")

pytestmark = pytest.mark.django_db

#: With the default WATCH_DAYS.
MIN_DAYS = 67
NOTHING = (
    "0 deliveries, 0 e-mails, 0 payments of other projects, 0 dismissed payments,"
    " 0 failed attempts, 0 alerts, 0 audits, 0 addresses of refunds\n"
)


def prune(*arguments):
    out = io.StringIO()
    call_command("bitsby_prune", *arguments, stdout=out, no_color=True)
    return out.getvalue()


def days_ago(days):
    return timezone.now() - dt.timedelta(days=days)


@pytest.fixture
def store_foreign_payment():
    """Return a function that stores a payment of another project, seen so many days ago."""

    def store(days=MIN_DAYS + 1, **values):
        defaults = {
            "bitsby_id": bitsby.new_id(),
            "bound_to": bitsby.new_id(),
            "amount": Decimal(10),
            "is_foreign": True,
            "transaction_at": days_ago(days),
            "seen_at": days_ago(days),
        }
        return BitsbyPayment.objects.create(**(defaults | values))

    return store


@pytest.fixture
def store_dismissed_payment(store_foreign_payment):
    """Return a function that stores a payment that staff dismissed so many days ago."""

    def store(days=MIN_DAYS + 1, **values):
        defaults = {
            "bound_to": None,
            "is_foreign": False,
            "review_reason": ReviewReason.UNMATCHED,
            "resolution": Resolution.DISMISSED,
            "resolved_at": days_ago(days),
        }
        return store_foreign_payment(days, **(defaults | values))

    return store


@pytest.fixture
def store_delivery(invoice):
    """Return a function that stores a delivery that came so many days ago."""

    def store(days):
        return WebhookDelivery.objects.create(
            invoice=invoice, body="{}", received_at=days_ago(days)
        )

    return store


def stored_keys(model):
    return set(model.objects.values_list("pk", flat=True))


# Failed attempts


@pytest.fixture
def store_attempt(place, invoice_for):
    """Return a function that stores a failed attempt of a new order, ended so many days ago."""

    def store(days=31, order_status="Cancelled", **values):
        defaults = {"bitsby_id": None, "uid": "", "ended_at": days_ago(days), "failure": "down"}
        return invoice_for(place(status=order_status), "expired", **(defaults | values))

    return store


def test_failed_attempts_of_ended_orders_are_deleted_after_watch_days(store_attempt, place):
    """Attempts that never became an invoice are deleted, and the output counts them."""
    kept = {
        store_attempt(29).pk,
        # The order's note will say why its attempts failed.
        store_attempt(order_status="Pending").pk,
        # Bitsby knows it.
        store_attempt(bitsby_id=bitsby.new_id()).pk,
    }
    store_attempt(), store_attempt(order_status="Being processed")
    orphan = store_attempt()
    orphan.order.delete()

    assert "3 failed attempts" in prune("--dry-run")
    assert "3 failed attempts" in prune()
    assert stored_keys(BitsbyInvoice) == kept
    assert prune() == f"deleted: {NOTHING}"


def test_rows_about_a_failed_attempt_survive_it(store_attempt):
    """An e-mail about the attempt's order stays, and a payment keeps its invoice."""
    attempt, with_payment = store_attempt(), store_attempt()
    values = {"order_number": attempt.order_number, "language": "en"}
    mail = BuyerMail.objects.create(code=MailCode.EXPIRED, key="a", invoice=attempt, **values)
    BitsbyPayment.objects.create(bitsby_id=bitsby.new_id(), invoice=with_payment, amount=1)

    assert "1 failed attempt," in prune()
    assert stored_keys(BitsbyInvoice) == {with_payment.pk}
    mail.refresh_from_db()
    assert mail.invoice_id is None


def test_age_of_failed_attempts_is_watch_days(store_attempt, configure):
    """With a longer ``WATCH_DAYS`` attempts are kept longer."""
    configure(WATCH_DAYS=40)
    store_attempt(39)

    assert "0 failed attempts" in prune()


# Deliveries


def test_deliveries_are_deleted_after_90_days(store_delivery):
    """Without options deliveries older than 90 days are deleted, and the output counts them."""
    young = {store_delivery(0).pk, store_delivery(89).pk}
    store_delivery(91), store_delivery(400)

    assert prune().startswith("deleted: 2 deliveries, 0 e-mails")
    assert stored_keys(WebhookDelivery) == young
    assert prune() == f"deleted: {NOTHING}"


def test_age_of_deliveries_is_an_option(store_delivery):
    """``--deliveries 7`` deletes deliveries older than 7 days."""
    young = store_delivery(6).pk
    store_delivery(8)

    prune("--deliveries", "7")
    assert stored_keys(WebhookDelivery) == {young}


# Payments of other projects


@pytest.mark.parametrize(("values", "days"), [({}, MIN_DAYS), ({"WATCH_DAYS": 100}, 107)])
def test_foreign_payments_are_deleted_beyond_the_reach_of_syncs(
    store_foreign_payment, configure, values, days
):
    """They are deleted when no sync reaches them any more, and not a day earlier."""
    configure(**values)
    young = store_foreign_payment(days - 1).pk
    store_foreign_payment(days + 1)

    assert "1 payment of other projects" in prune()
    assert stored_keys(BitsbyPayment) == {young}


@pytest.mark.parametrize(
    "values",
    [
        {"is_foreign": False},
        {"is_foreign": False, "review_reason": "unmatched"},
        {"review_reason": "unknown_invoice"},
        {"booked_at": timezone.now()},
        {"resolution": "accepted", "resolved_at": timezone.now()},
        {"transaction_at": None},
        {"transaction_at": timezone.now()},
        {"seen_at": timezone.now()},
    ],
    ids=lambda values: "-".join(values),
)
def test_payments_that_may_be_needed_are_kept(store_foreign_payment, values):
    """Payments that are booked, to review, resolved, recent or of unknown time are kept."""
    row = store_foreign_payment(**values)

    prune("--dismissed", "400")
    assert stored_keys(BitsbyPayment) == {row.pk}


@pytest.mark.parametrize("how", ["invoice", "bound_to"])
def test_payments_of_our_invoices_are_kept(
    store_foreign_payment, store_dismissed_payment, invoice, how
):
    """A payment of an invoice of this shop is kept, however old and even if dismissed."""
    value = invoice if how == "invoice" else invoice.bitsby_id
    rows = {
        store_foreign_payment(**{how: value}).pk,
        store_dismissed_payment(400, **{how: value}).pk,
    }

    prune("--dismissed", "100")
    assert stored_keys(BitsbyPayment) == rows


def test_invoices_and_booked_payments_are_kept(order, invoice, move_time):
    """After years the invoice, its payment and its transaction are still stored."""
    news = parsing.parse_invoice(bitsby.invoice_item(invoice, "paid", payment=bitsby.transfer()))
    settlement.settle(invoice, news)
    move_time(days=3000)

    prune("--dismissed", "100", "--deliveries", "1")
    counts = [m.objects.count() for m in (BitsbyInvoice, BitsbyPayment, Transaction)]
    assert counts == [1, 1, 1]


# Dismissed payments


def test_dismissed_payments_are_deleted_only_with_the_option(store_dismissed_payment):
    """They are kept without ``--dismissed``; with it, older ones are deleted."""
    young, _ = store_dismissed_payment(99), store_dismissed_payment(101)
    prune()
    assert BitsbyPayment.objects.count() == 2

    assert "1 dismissed payment" in prune("--dismissed", "100")
    assert stored_keys(BitsbyPayment) == {young.pk}


def test_recently_dismissed_payments_are_kept(store_dismissed_payment):
    """The time of the dismissal counts as well as the age of the payment."""
    row = store_dismissed_payment(400, resolved_at=days_ago(3))

    prune("--dismissed", "100")
    assert stored_keys(BitsbyPayment) == {row.pk}


# Deleted rows are not imported again


def answer_by_day(fake):
    """Let the list of payments respect its date filters, as Bitsby's does."""

    def listed(fields):
        start, end = fields["startDate"], fields["endDate"]
        items = [one for one in fake.payments if start <= one["transactionDatetime"][:10] <= end]
        return bitsby.success(fake._page(items, fields))

    fake.on("/payments/list", listed)


def test_deleted_payments_are_not_imported_again(place, invoice_for, fake, move_time):
    """Neither a full sync nor staff's search for payments imports a deleted payment again."""
    order = place()
    invoice_for(order)
    transfer = bitsby.transfer()
    foreign = bitsby.payment_item(
        transfer,
        {
            "id": str(bitsby.new_id()),
            "projectId": str(bitsby.new_id()),
            "createDatetime": bitsby.written(timezone.now()),
            "timeToPayDatetime": bitsby.written(timezone.now()),
            "amountFiat": "10.00",
            "currencyFiat": "USD",
            "status": "paid",
        },
    )
    unbound = bitsby.payment_item()
    fake.payments = [foreign, unbound]
    answer_by_day(fake)
    assert reconciliation.reconcile().payments == 2
    BitsbyPayment.objects.filter(bitsby_id=unbound["id"]).update(
        resolution=Resolution.DISMISSED, resolved_at=timezone.now()
    )
    assert set(BitsbyPayment.objects.values_list("is_foreign", flat=True)) == {True, False}

    min_days = pruning.min_payment_days()
    move_time(days=min_days - 1)
    assert prune("--dismissed", str(min_days)) == f"deleted: {NOTHING}"
    move_time(days=1, hours=1)
    prune("--dismissed", str(min_days))
    assert not BitsbyPayment.objects.exists()

    # An invoice is watched, and the last full sync was more than a day ago.
    invoice_for(place())
    report = reconciliation.reconcile()
    binding.refresh_payments(order)
    assert len(fake.asked("/payments/list")) >= 3
    assert report.payments == 0
    assert not BitsbyPayment.objects.exists()


# Refunds


@pytest.fixture
def store_refund(invoice):
    """Return a function that stores a refund with an address, closed so many days ago."""

    def store(days, state=RefundState.SENT, **values):
        defaults = {
            "state": state,
            "amount": 10,
            "currency": "USD",
            "cryptocurrency": "usdt",
            "blockchain": "tron",
            "coin_amount": Decimal("10.5"),
            "address": ADDRESSES["tron"],
            "transaction_hash": new_hash() if state == RefundState.SENT else "",
            "requested_at": days_ago(400),
            "closed_at": None if days is None else days_ago(days),
        }
        return BitsbyRefund.objects.create(**(defaults | values))

    return store


def addresses():
    """Return the primary keys of the refunds that have an address."""
    return set(BitsbyRefund.objects.exclude(address="").values_list("pk", flat=True))


@pytest.mark.parametrize(("values", "days"), [({}, 180), ({"REFUND_ADDRESS_DAYS": 30}, 30)])
def test_addresses_of_closed_refunds_are_erased(store_refund, configure, values, days):
    """After ``REFUND_ADDRESS_DAYS`` the addresses of sent and cancelled refunds are erased."""
    configure(**values)
    kept = {
        store_refund(days - 1).pk,
        # The coins are not sent yet.
        store_refund(None, RefundState.ADDRESS_GIVEN).pk,
    }
    store_refund(days + 1), store_refund(days + 1, RefundState.CANCELLED)

    assert prune("--dry-run").endswith("2 addresses of refunds\n")
    assert len(addresses()) == 4
    assert prune().endswith("2 addresses of refunds\n")
    assert addresses() == kept
    assert prune() == f"deleted: {NOTHING}"


def test_erasing_an_address_keeps_the_rest_of_the_refund(store_refund):
    """Amounts and hash are stored as long as the accounting is."""
    refund = store_refund(181)

    assert prune().endswith("1 address of refunds\n")
    after = BitsbyRefund.objects.get()
    assert after.address == ""
    for name in ("amount", "coin_amount", "transaction_hash", "state", "closed_at"):
        assert getattr(after, name) == getattr(refund, name)


def test_payments_with_a_refund_are_kept(
    store_refund, store_foreign_payment, store_dismissed_payment
):
    """A refund of any state keeps its payment, foreign or dismissed."""
    foreign, dismissed = store_foreign_payment(), store_dismissed_payment(200)
    store_refund(181, payment=foreign), store_refund(181, "cancelled", payment=dismissed)

    prune("--dismissed", "100")
    assert stored_keys(BitsbyPayment) == {foreign.pk, dismissed.pk}


# Mails to buyers


@pytest.fixture
def store_mail(order):
    """Return a function that stores an e-mail of so many days ago."""

    def store(days, **values):
        defaults = {
            "order": order,
            "code": MailCode.OTHER_AMOUNT,
            "key": f"{bitsby.new_id()}",
            "status": MailStatus.SENT,
            "created_at": days_ago(days),
        }
        return BuyerMail.objects.create(**(defaults | values))

    return store


def test_mails_are_deleted_after_180_days(store_mail):
    """Finished e-mails are deleted after 180 days, or after those of ``--mails``."""
    young, middle = store_mail(99).pk, store_mail(179).pk
    store_mail(181)
    store_mail(400, status=MailStatus.DROPPED)
    store_mail(400, status=MailStatus.FAILED)

    assert "deliveries, 3 e-mails," in prune()
    assert stored_keys(BuyerMail) == {young, middle}
    assert "deliveries, 1 e-mail," in prune("--mails", "100")
    assert stored_keys(BuyerMail) == {young}


@pytest.mark.parametrize(
    "values",
    [
        {"status": MailStatus.WAITING},
        {"status": MailStatus.SENDING},
        # The first e-mail has the language, and the one about the payment prevents a second one.
        {"code": MailCode.PLACED},
        {"code": MailCode.PAID},
    ],
)
def test_mails_that_may_be_needed_are_kept(store_mail, values):
    """Unfinished e-mails, the first one and the one about the payment are kept, however old."""
    store_mail(400, **values)
    assert "deliveries, 0 e-mails," in prune()


def test_mails_about_payments_to_review_are_kept(store_mail, store_dismissed_payment):
    """Without them a decision of staff could send an e-mail a second time."""
    decided = store_dismissed_payment(400)
    waiting = store_dismissed_payment(400, resolution="", resolved_at=None)
    store_mail(400, payment=decided)
    about = store_mail(400, payment=waiting).pk

    assert "deliveries, 1 e-mail," in prune()
    assert stored_keys(BuyerMail) == {about}


# Transactions and options


def test_dry_run_only_counts(store_delivery, store_foreign_payment, store_dismissed_payment):
    """``--dry-run`` deletes nothing and counts the rows that a real run then deletes."""
    store_delivery(100), store_foreign_payment(), store_dismissed_payment(200)

    remote = prune("--dry-run", "--dismissed", "100")
    assert remote == (
        "would delete: 1 delivery, 0 e-mails, 1 payment of other projects, 1 dismissed payment,"
        " 0 failed attempts, 0 alerts, 0 audits, 0 addresses of refunds\n"
    )
    assert (WebhookDelivery.objects.count(), BitsbyPayment.objects.count()) == (1, 2)
    assert prune("--dismissed", "100") == remote.replace("would delete", "deleted")


def test_rows_are_deleted_in_batches(store_delivery, store_foreign_payment, monkeypatch):
    """No transaction deletes more rows than a batch, which is 1000, and no row is left over."""
    assert pruning.BATCH == 1000
    monkeypatch.setattr(pruning, "BATCH", 3)
    for _ in range(7):
        store_delivery(100), store_foreign_payment()
    with CaptureQueriesContext(connection) as queries:
        assert prune() == (
            "deleted: 7 deliveries, 0 e-mails, 7 payments of other projects, 0 dismissed payments,"
            " 0 failed attempts, 0 alerts, 0 audits, 0 addresses of refunds\n"
        )
    sizes = [query["sql"].count(",") + 1 for query in queries if query["sql"].startswith("DELETE")]
    assert sorted(sizes) == [1, 1, 3, 3, 3, 3]
    assert not WebhookDelivery.objects.exists()
    assert not BitsbyPayment.objects.exists()


@pytest.mark.parametrize(
    ("argument", "says"),
    [
        ("--deliveries=0", "deliveries must be at least 1 day old"),
        ("--deliveries=-5", "deliveries must be at least 1 day old"),
        ("--deliveries=999999999999", "more than a hundred years"),
        ("--deliveries=soon", "invalid int value"),
        ("--mails=66", "e-mails must be at least 67 days old to be deleted"),
        ("--dismissed=66", "at least 67 days old to be deleted: a later one would be imported"),
        ("--dismissed=999999999999", "more than a hundred years"),
        ("--dismissed=", "invalid int value"),
    ],
)
def test_invalid_ages_are_refused(store_delivery, argument, says):
    """An invalid age is an error that says why, and nothing is deleted."""
    store_delivery(400)
    with pytest.raises(CommandError, match=says):
        prune(argument)
    assert WebhookDelivery.objects.count() == 1


def test_invalid_settings_delete_nothing(store_delivery, settings):
    """Without ``WATCH_DAYS`` of valid settings the command fails and deletes nothing."""
    store_delivery(400)
    settings.OSCAR_BITSBY = None
    with pytest.raises(CommandError, match="OSCAR_BITSBY is not set"):
        prune()
    assert WebhookDelivery.objects.count() == 1


# Concurrency

on_postgresql = pytest.mark.skipif(
    "connection.vendor != 'postgresql'", reason="row locks need PostgreSQL"
)


@on_postgresql
@pytest.mark.django_db(transaction=True)
def test_locked_rows_are_skipped(store_foreign_payment):
    """A locked row is neither waited for nor deleted; a later run deletes it."""
    rows = [store_foreign_payment() for _ in range(3)]
    with transaction.atomic():
        BitsbyPayment.objects.select_for_update().get(pk=rows[1].pk)
        (pruned,) = run_together(prune)
        assert "2 payments of other projects" in pruned
    assert stored_keys(BitsbyPayment) == {rows[1].pk}
    assert "1 payment of other projects" in prune()


@on_postgresql
@pytest.mark.django_db(transaction=True)
def test_pruning_during_a_run_keeps_the_new_payment(
    order, invoice, fake, store_foreign_payment, store_delivery
):
    """Pruning in the middle of a run deletes old rows, and the run settles the new payment."""
    store_delivery(400)
    for _ in range(5):
        store_foreign_payment()
    news = bitsby.invoice_item(invoice, "paid")
    fake.payments = [bitsby.payment_item(invoice=news)]
    pruned = []

    def answer(fields):
        pruned.extend(run_together(prune))
        return fake.payments_list(fields)

    fake.on("/payments/list", answer)
    report = reconciliation.reconcile()

    assert pruned == [
        "deleted: 1 delivery, 0 e-mails, 5 payments of other projects, 0 dismissed payments,"
        " 0 failed attempts, 0 alerts, 0 audits, 0 addresses of refunds\n"
    ]
    assert (report.booked, report.failures) == (1, 0)
    assert Transaction.objects.count() == 1
    assert BitsbyPayment.objects.get().booked_at is not None


@on_postgresql
def test_deliveries_are_selected_by_index(store_delivery):
    """PostgreSQL can use the index on ``received_at`` for the query."""
    rows = WebhookDelivery.objects.filter(received_at__lt=days_ago(90))
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
        plan = rows.order_by("received_at", "pk").explain()
    assert "received_at" in plan
    assert "Index" in plan


def test_records_of_audits_are_kept_for_90_days():
    """Older ones are deleted, but the newest; what an aborted audit has read is deleted soon."""
    long_ago = timezone.now() - dt.timedelta(days=91)
    AuditRun.objects.create(state="proved", started_at=long_ago)
    kept = AuditRun.objects.create(started_at=long_ago, touched_at=long_ago)
    AuditedItem.objects.create(run=kept, is_payment=True, bitsby_id=bitsby.new_id(), amount=1)

    assert "1 audit," in prune("--dry-run")
    assert "1 audit," in prune()

    assert [run.state for run in AuditRun.objects.all()] == ["unproved"]
    assert not AuditedItem.objects.exists()
