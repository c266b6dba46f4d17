"""``bitsby_prune``: what a busy shop no longer needs goes, and what accounting needs stays."""

from __future__ import annotations

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
from tests import bitsby

Transaction = get_model("payment", "Transaction")

pytestmark = pytest.mark.django_db

#: With the default WATCH_DAYS.
FEWEST = 67
NOTHING = "0 deliveries, 0 mails, 0 payments of other projects, 0 dismissed payments\n"


def prune(*arguments):
    out = io.StringIO()
    call_command("bitsby_prune", *arguments, stdout=out, no_color=True)
    return out.getvalue()


def days_ago(days):
    return timezone.now() - dt.timedelta(days=days)


@pytest.fixture
def payment():
    """Return a function that stores a payment of another project, seen so many days ago."""

    def make(days=FEWEST + 1, **values):
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

    def make(days=FEWEST + 1, **values):
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


def test_deliveries_go_after_ninety_days(delivery):
    """Without options the older ones go, the younger ones stay, and a line says how many."""
    young = {delivery(0).pk, delivery(89).pk}
    delivery(91), delivery(400)

    assert prune().startswith("deleted: 2 deliveries, 0 mails")
    assert kept(WebhookDelivery) == young
    assert prune() == f"deleted: {NOTHING}"


def test_the_age_of_deliveries_can_be_chosen(delivery):
    """``--deliveries 7`` keeps a week."""
    young = delivery(6).pk
    delivery(8)

    prune("--deliveries", "7")
    assert kept(WebhookDelivery) == {young}


# Payments of other projects


def test_payments_of_other_projects_go_when_no_look_reaches_them(payment):
    """They go when they are older than every look at Bitsby, and not a day before."""
    young = payment(FEWEST - 1).pk
    payment(FEWEST + 1)

    assert "1 payments of other projects" in prune()
    assert kept(BitsbyPayment) == {young}


def test_a_longer_watch_keeps_them_longer(payment, settings):
    """With ``WATCH_DAYS`` of a hundred they stay for a hundred and seven days."""
    settings.OSCAR_BITSBY = {**settings.OSCAR_BITSBY, "WATCH_DAYS": 100}
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
def test_what_accounting_or_staff_may_need_stays(payment, values):
    """Booked, open, decided, young or of an unknown time: a payment that is so much as that."""
    row = payment(**values)

    prune("--dismissed", "400")
    assert kept(BitsbyPayment) == {row.pk}


@pytest.mark.parametrize("how", ["invoice", "bound_to"])
def test_what_is_bound_to_an_invoice_of_ours_stays(payment, dismissed, invoice, how):
    """Neither age nor a dismissal removes a payment that one of our invoices has."""
    value = invoice if how == "invoice" else invoice.bitsby_id
    rows = {payment(**{how: value}).pk, dismissed(400, **{how: value}).pk}

    prune("--dismissed", "100")
    assert kept(BitsbyPayment) == rows


def test_invoices_and_booked_money_stay(order, invoice, move_time):
    """Years later the invoice, its payment and the books are there."""
    news = parsing.parse_invoice(bitsby.invoice_item(invoice, "paid", payment=bitsby.transfer()))
    settlement.settle(invoice, news)
    move_time(days=3000)

    prune("--dismissed", "100", "--deliveries", "1")
    counts = [m.objects.count() for m in (BitsbyInvoice, BitsbyPayment, Transaction)]
    assert counts == [1, 1, 1]


# Dismissed payments


def test_dismissed_payments_go_only_when_asked_for(dismissed):
    """Without ``--dismissed`` they stay for good; with it, those older than that go."""
    young, _ = dismissed(99), dismissed(101)
    prune()
    assert BitsbyPayment.objects.count() == 2

    assert "1 dismissed payments" in prune("--dismissed", "100")
    assert kept(BitsbyPayment) == {young.pk}


def test_what_was_dismissed_only_lately_stays(dismissed):
    """An old payment that staff have decided about this week is not forgotten this week."""
    row = dismissed(400, resolved_at=days_ago(3))

    prune("--dismissed", "100")
    assert kept(BitsbyPayment) == {row.pk}


# Nothing comes back


def answer_by_day(fake):
    """Let the list of payments heed its days, as Bitsby's does."""

    def listed(fields):
        start, end = fields["startDate"], fields["endDate"]
        items = [one for one in fake.payments if start <= one["transactionDatetime"][:10] <= end]
        return bitsby.success(fake._page(items, fields))

    fake.on("/payments/list", listed)


def test_nothing_that_was_pruned_comes_back(place, invoice_for, fake, move_time, dismissed):
    """Neither a far look nor staff's search for an order's payment takes in again what went."""
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

    fewest = pruning.min_payment_days()
    move_time(days=fewest - 1)
    assert prune("--dismissed", str(fewest)) == f"deleted: {NOTHING}"
    move_time(days=1, hours=1)
    prune("--dismissed", str(fewest))
    assert not BitsbyPayment.objects.exists()

    # Something is watched still, and a day has passed since the last far look.
    invoice_for(place())
    report = reconciliation.reconcile()
    binding.refresh_payments(order)
    assert len(fake.asked("/payments/list")) >= 3
    assert report.payments == 0
    assert not BitsbyPayment.objects.exists()


# Mails to buyers


@pytest.fixture
def mail(order):
    """Return a function that stores what is noted of a mail so many days ago."""

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


def test_what_is_noted_of_mails_goes_after_half_a_year(mail):
    """Sent or not, what is over goes after 180 days; ``--mails 100`` keeps a hundred."""
    young, middle = mail(99).pk, mail(179).pk
    mail(181), mail(400, status=MailStatus.DROPPED), mail(400, status=MailStatus.FAILED)

    assert "deliveries, 3 mails," in prune()
    assert kept(BuyerMail) == {young, middle}
    assert "deliveries, 1 mails," in prune("--mails", "100")
    assert kept(BuyerMail) == {young}


@pytest.mark.parametrize("status", [MailStatus.WAITING, MailStatus.SENDING])
def test_a_mail_that_nobody_has_given_up_stays(mail, status):
    """However old: what becomes of it is a pass's to say."""
    mail(400, status=status)
    assert "deliveries, 0 mails," in prune()


@pytest.mark.parametrize("code", [MailCode.PLACED, MailCode.PAID])
def test_what_later_mails_of_an_order_rest_on_stays(mail, code):
    """The first mail tells an order's language, and who was thanked is not thanked again."""
    mail(400, code=code)
    assert "deliveries, 0 mails," in prune()


def test_a_mail_about_money_that_staff_have_yet_to_decide_stays(mail, dismissed):
    """What they decide could otherwise be told to the buyer a second time."""
    decided, waiting = dismissed(400), dismissed(400, resolution="", resolved_at=None)
    mail(400, payment=decided)
    about = mail(400, payment=waiting).pk

    assert "deliveries, 1 mails," in prune()
    assert kept(BuyerMail) == {about}


# How it is done


def test_a_dry_run_counts_and_deletes_nothing(delivery, payment, dismissed):
    """``--dry-run`` says what would go, which is what then goes."""
    delivery(100), payment(), dismissed(200)

    remote = prune("--dry-run", "--dismissed", "100")
    assert remote == (
        "would delete: 1 deliveries, 0 mails, 1 payments of other projects, 1 dismissed payments\n"
    )
    assert (WebhookDelivery.objects.count(), BitsbyPayment.objects.count()) == (1, 2)
    assert prune("--dismissed", "100") == remote.replace("would delete", "deleted")


def test_many_rows_go_in_short_transactions(delivery, payment, monkeypatch):
    """No transaction deletes more than a batch, and none is left over."""
    monkeypatch.setattr(pruning, "BATCH", 3)
    for _ in range(7):
        delivery(100), payment()
    with CaptureQueriesContext(
        connection,
    ) as queries:
        assert prune() == (
            "deleted: 7 deliveries, 0 mails, 7 payments of other projects, 0 dismissed payments\n"
        )
    sizes = [query["sql"].count(",") + 1 for query in queries if query["sql"].startswith("DELETE")]
    assert sorted(sizes) == [1, 1, 3, 3, 3, 3]
    assert not WebhookDelivery.objects.exists()
    assert not BitsbyPayment.objects.exists()


def test_batches_are_a_thousand_rows():
    """What is documented as the size of a transaction."""
    assert pruning.BATCH == 1000


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--deliveries", "0"], "deliveries must be at least 1 days old"),
        (["--deliveries", "-5"], "deliveries must be at least 1 days old"),
        (["--deliveries", "999999999999"], "more than a hundred years"),
        (["--deliveries", "soon"], "invalid int value"),
        (["--mails", "66"], "mails must be at least 67 days old to be deleted"),
        (["--dismissed", "66"], "at least 67 days old to be deleted: a younger one would be found"),
        (["--dismissed", "999999999999"], "more than a hundred years"),
        (["--dismissed", ""], "invalid int value"),
    ],
)
def test_bad_input_is_named(delivery, arguments, says):
    """A number that makes no sense ends with a message that says why, and deletes nothing."""
    delivery(400)
    with pytest.raises(CommandError, match=says):
        prune(*arguments)
    assert WebhookDelivery.objects.count() == 1


def test_without_usable_settings_nothing_is_deleted(delivery, settings):
    """How long payments are watched is a setting: without it the command says what is missing."""
    delivery(400)
    settings.OSCAR_BITSBY = None
    with pytest.raises(CommandError, match="OSCAR_BITSBY is not set"):
        prune()
    assert WebhookDelivery.objects.count() == 1


# Beside other work

on_postgresql = pytest.mark.skipif(
    "connection.vendor != 'postgresql'", reason="row locks need PostgreSQL"
)


def in_thread(job):
    """Run the job on a connection of its own to its end; return what it returned or raised."""
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
    assert not thread.is_alive(), "pruning waits for somebody's lock"
    return results[0]


@on_postgresql
@pytest.mark.django_db(transaction=True)
def test_it_leaves_out_what_somebody_works_with(payment):
    """A row that is locked at the moment is neither waited for nor deleted; the next time it is."""
    rows = [payment() for _ in range(3)]
    with transaction.atomic():
        BitsbyPayment.objects.select_for_update().get(pk=rows[1].pk)
        assert "2 payments of other projects" in in_thread(prune)
    assert kept(BitsbyPayment) == {rows[1].pk}
    assert "1 payments of other projects" in prune()


@on_postgresql
@pytest.mark.django_db(transaction=True)
def test_it_can_be_run_while_a_pass_runs(order, invoice, fake, payment, delivery):
    """In the middle of a pass it deletes what is old; the pass settles what is new."""
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
        "deleted: 1 deliveries, 0 mails, 5 payments of other projects, 0 dismissed payments\n"
    ]
    assert (report.booked, report.failures) == (1, 0)
    assert Transaction.objects.count() == 1
    assert BitsbyPayment.objects.get().booked_at is not None


@on_postgresql
def test_deliveries_are_found_by_their_index(delivery):
    """PostgreSQL can serve the query by the index on the time of arrival, without sorting all."""
    rows = WebhookDelivery.objects.filter(received_at__lt=days_ago(90))
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
        plan = rows.order_by("received_at", "pk").explain()
    assert "received_at" in plan
    assert "Index" in plan
