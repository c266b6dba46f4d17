"""``bitsby_prune``: old rows are deleted, and those that accounting needs are kept."""

import datetime as dt
import io
import threading
from decimal import Decimal

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, connections, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from oscar.core.loading import get_model

from oscar_bitsby import reconciliation, settlement
from oscar_bitsby.choices import MailCode, MailStatus, Resolution, ReviewReason
from oscar_bitsby.gateway import parsing
from oscar_bitsby.models import BitsbyInvoice, BitsbyPayment, BuyerMail, WebhookDelivery
from oscar_bitsby.ops import pruning
from oscar_bitsby.staff import binding
from tests.support import bitsby

Transaction = get_model("payment", "Transaction")

pytestmark = pytest.mark.django_db

#: With the default WATCH_DAYS.
MIN_DAYS = 67
NOTHING = "0 deliveries, 0 e-mails, 0 payments of other projects, 0 dismissed payments\n"


def prune(*arguments):
    out = io.StringIO()
    call_command("bitsby_prune", *arguments, stdout=out, no_color=True)
    return out.getvalue()


def days_ago(days):
    return timezone.now() - dt.timedelta(days=days)


@pytest.fixture
def payment():
    """Return a function that stores a payment of another project, seen so many days ago."""

    def make(days=MIN_DAYS + 1, **values):
        defaults = {
            "bitsby_id": bitsby.new_id(),
            "bound_to": bitsby.new_id(),
            "amount": Decimal(10),
            "is_foreign": True,
            "transaction_at": days_ago(days),
            "seen_at": days_ago(days),
        }
        return BitsbyPayment.objects.create(**(defaults | values))

    return make


@pytest.fixture
def dismissed(payment):
    """Return a function that stores a payment that staff dismissed so many days ago."""

    def make(days=MIN_DAYS + 1, **values):
        defaults = {
            "bound_to": None,
            "is_foreign": False,
            "review_reason": ReviewReason.UNMATCHED,
            "resolution": Resolution.DISMISSED,
            "resolved_at": days_ago(days),
        }
        return payment(days, **(defaults | values))

    return make


@pytest.fixture
def delivery(invoice):
    """Return a function that stores a delivery that came so many days ago."""

    def make(days):
        return WebhookDelivery.objects.create(
            invoice=invoice, body="{}", received_at=days_ago(days)
        )

    return make


def kept(model):
    return set(model.objects.values_list("pk", flat=True))


# Deliveries


def test_deliveries_are_deleted_after_90_days(delivery):
    """Without options deliveries older than 90 days are deleted, and the output counts them."""
    young = {delivery(0).pk, delivery(89).pk}
    delivery(91), delivery(400)

    assert prune().startswith("deleted: 2 deliveries, 0 e-mails")
    assert kept(WebhookDelivery) == young
    assert prune() == f"deleted: {NOTHING}"


def test_age_of_deliveries_is_an_option(delivery):
    """``--deliveries 7`` deletes deliveries older than 7 days."""
    young = delivery(6).pk
    delivery(8)

    prune("--deliveries", "7")
    assert kept(WebhookDelivery) == {young}


# Payments of other projects


def test_foreign_payments_are_deleted_beyond_the_reach_of_syncs(payment):
    """They are deleted when no sync reaches them any more, and not a day earlier."""
    young = payment(MIN_DAYS - 1).pk
    payment(MIN_DAYS + 1)

    assert "1 payment of other projects" in prune()
    assert kept(BitsbyPayment) == {young}


def test_longer_watch_days_keep_foreign_payments_longer(payment, configure):
    """With ``WATCH_DAYS`` of 100 they are kept for 107 days."""
    configure(WATCH_DAYS=100)
    young = payment(106).pk
    payment(108)

    prune()
    assert kept(BitsbyPayment) == {young}


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
def test_payments_that_may_be_needed_are_kept(payment, values):
    """Payments that are booked, to review, resolved, recent or of unknown time are kept."""
    row = payment(**values)

    prune("--dismissed", "400")
    assert kept(BitsbyPayment) == {row.pk}


@pytest.mark.parametrize("how", ["invoice", "bound_to"])
def test_payments_of_our_invoices_are_kept(payment, dismissed, invoice, how):
    """A payment of an invoice of this shop is kept, however old and even if dismissed."""
    value = invoice if how == "invoice" else invoice.bitsby_id
    rows = {payment(**{how: value}).pk, dismissed(400, **{how: value}).pk}

    prune("--dismissed", "100")
    assert kept(BitsbyPayment) == rows


def test_invoices_and_booked_payments_are_kept(order, invoice, move_time):
    """After years the invoice, its payment and its transaction are still stored."""
    news = parsing.parse_invoice(bitsby.invoice_item(invoice, "paid", payment=bitsby.transfer()))
    settlement.settle(invoice, news)
    move_time(days=3000)

    prune("--dismissed", "100", "--deliveries", "1")
    counts = [m.objects.count() for m in (BitsbyInvoice, BitsbyPayment, Transaction)]
    assert counts == [1, 1, 1]


# Dismissed payments


def test_dismissed_payments_are_deleted_only_with_the_option(dismissed):
    """They are kept without ``--dismissed``; with it, older ones are deleted."""
    young, _ = dismissed(99), dismissed(101)
    prune()
    assert BitsbyPayment.objects.count() == 2

    assert "1 dismissed payment" in prune("--dismissed", "100")
    assert kept(BitsbyPayment) == {young.pk}


def test_recently_dismissed_payments_are_kept(dismissed):
    """The time of the dismissal counts as well as the age of the payment."""
    row = dismissed(400, resolved_at=days_ago(3))

    prune("--dismissed", "100")
    assert kept(BitsbyPayment) == {row.pk}


# Deleted rows are not imported again


def answer_by_day(fake):
    """Let the list of payments respect its date filters, as Bitsby's does."""

    def listed(fields):
        start, end = fields["startDate"], fields["endDate"]
        items = [one for one in fake.payments if start <= one["transactionDatetime"][:10] <= end]
        return bitsby.success(fake._page(items, fields))

    fake.on("/payments/list", listed)


def test_deleted_payments_are_not_imported_again(place, invoice_for, fake, move_time, dismissed):
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


# Mails to buyers


@pytest.fixture
def mail(order):
    """Return a function that stores an e-mail of so many days ago."""

    def make(days, **values):
        defaults = {
            "order": order,
            "code": MailCode.OTHER_AMOUNT,
            "key": f"{bitsby.new_id()}",
            "status": MailStatus.SENT,
            "created_at": days_ago(days),
        }
        return BuyerMail.objects.create(**(defaults | values))

    return make


def test_mails_are_deleted_after_180_days(mail):
    """Finished e-mails are deleted after 180 days, or after those of ``--mails``."""
    young, middle = mail(99).pk, mail(179).pk
    mail(181), mail(400, status=MailStatus.DROPPED), mail(400, status=MailStatus.FAILED)

    assert "deliveries, 3 e-mails," in prune()
    assert kept(BuyerMail) == {young, middle}
    assert "deliveries, 1 e-mail," in prune("--mails", "100")
    assert kept(BuyerMail) == {young}


@pytest.mark.parametrize("status", [MailStatus.WAITING, MailStatus.SENDING])
def test_unfinished_mails_are_kept(mail, status):
    """An e-mail that is still to be sent is kept, however old."""
    mail(400, status=status)
    assert "deliveries, 0 e-mails," in prune()


@pytest.mark.parametrize("code", [MailCode.PLACED, MailCode.PAID])
def test_first_and_paid_mails_are_kept(mail, code):
    """The first e-mail has the language, and the one about the payment prevents a second one."""
    mail(400, code=code)
    assert "deliveries, 0 e-mails," in prune()


def test_mails_about_payments_to_review_are_kept(mail, dismissed):
    """Without them a decision of staff could send an e-mail a second time."""
    decided, waiting = dismissed(400), dismissed(400, resolution="", resolved_at=None)
    mail(400, payment=decided)
    about = mail(400, payment=waiting).pk

    assert "deliveries, 1 e-mail," in prune()
    assert kept(BuyerMail) == {about}


# Transactions and options


def test_dry_run_only_counts(delivery, payment, dismissed):
    """``--dry-run`` deletes nothing and counts the rows that a real run then deletes."""
    delivery(100), payment(), dismissed(200)

    remote = prune("--dry-run", "--dismissed", "100")
    assert remote == (
        "would delete: 1 delivery, 0 e-mails, 1 payment of other projects, 1 dismissed payment\n"
    )
    assert (WebhookDelivery.objects.count(), BitsbyPayment.objects.count()) == (1, 2)
    assert prune("--dismissed", "100") == remote.replace("would delete", "deleted")


def test_rows_are_deleted_in_batches(delivery, payment, monkeypatch):
    """No transaction deletes more rows than a batch, and no row is left over."""
    monkeypatch.setattr(pruning, "BATCH", 3)
    for _ in range(7):
        delivery(100), payment()
    with CaptureQueriesContext(
        connection,
    ) as queries:
        assert prune() == (
            "deleted: 7 deliveries, 0 e-mails, 7 payments of other projects, 0 dismissed payments\n"
        )
    sizes = [query["sql"].count(",") + 1 for query in queries if query["sql"].startswith("DELETE")]
    assert sorted(sizes) == [1, 1, 3, 3, 3, 3]
    assert not WebhookDelivery.objects.exists()
    assert not BitsbyPayment.objects.exists()


def test_batches_are_a_thousand_rows():
    """A batch has the documented size."""
    assert pruning.BATCH == 1000


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--deliveries", "0"], "deliveries must be at least 1 day old"),
        (["--deliveries", "-5"], "deliveries must be at least 1 day old"),
        (["--deliveries", "999999999999"], "more than a hundred years"),
        (["--deliveries", "soon"], "invalid int value"),
        (["--mails", "66"], "e-mails must be at least 67 days old to be deleted"),
        (
            ["--dismissed", "66"],
            "at least 67 days old to be deleted: a later one would be imported",
        ),
        (["--dismissed", "999999999999"], "more than a hundred years"),
        (["--dismissed", ""], "invalid int value"),
    ],
)
def test_invalid_ages_are_refused(delivery, arguments, says):
    """An invalid age is an error that says why, and nothing is deleted."""
    delivery(400)
    with pytest.raises(CommandError, match=says):
        prune(*arguments)
    assert WebhookDelivery.objects.count() == 1


def test_invalid_settings_delete_nothing(delivery, settings):
    """Without ``WATCH_DAYS`` of valid settings the command fails and deletes nothing."""
    delivery(400)
    settings.OSCAR_BITSBY = None
    with pytest.raises(CommandError, match="OSCAR_BITSBY is not set"):
        prune()
    assert WebhookDelivery.objects.count() == 1


# Concurrency

on_postgresql = pytest.mark.skipif(
    "connection.vendor != 'postgresql'", reason="row locks need PostgreSQL"
)


def in_thread(job):
    """Run the job in a thread with its own connection; return its result or its error."""
    results = []

    def run():
        try:
            results.append(job())
        except Exception as error:
            results.append(error)
        finally:
            connections.close_all()

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(60)
    assert not thread.is_alive(), "pruning waits for a lock"
    return results[0]


@on_postgresql
@pytest.mark.django_db(transaction=True)
def test_locked_rows_are_skipped(payment):
    """A locked row is neither waited for nor deleted; a later run deletes it."""
    rows = [payment() for _ in range(3)]
    with transaction.atomic():
        BitsbyPayment.objects.select_for_update().get(pk=rows[1].pk)
        assert "2 payments of other projects" in in_thread(prune)
    assert kept(BitsbyPayment) == {rows[1].pk}
    assert "1 payment of other projects" in prune()


@on_postgresql
@pytest.mark.django_db(transaction=True)
def test_pruning_during_a_run(order, invoice, fake, payment, delivery):
    """Pruning in the middle of a run deletes old rows, and the run settles the new payment."""
    delivery(400)
    for _ in range(5):
        payment()
    news = bitsby.invoice_item(invoice, "paid")
    fake.payments = [bitsby.payment_item(invoice=news)]
    pruned = []

    def answer(fields):
        pruned.append(in_thread(prune))
        return fake.payments_list(fields)

    fake.on("/payments/list", answer)
    report = reconciliation.reconcile()

    assert pruned == [
        "deleted: 1 delivery, 0 e-mails, 5 payments of other projects, 0 dismissed payments\n"
    ]
    assert (report.booked, report.failures) == (1, 0)
    assert Transaction.objects.count() == 1
    assert BitsbyPayment.objects.get().booked_at is not None


@on_postgresql
def test_deliveries_are_selected_by_index(delivery):
    """PostgreSQL can use the index on ``received_at`` for the query."""
    rows = WebhookDelivery.objects.filter(received_at__lt=days_ago(90))
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
        plan = rows.order_by("received_at", "pk").explain()
    assert "received_at" in plan
    assert "Index" in plan
