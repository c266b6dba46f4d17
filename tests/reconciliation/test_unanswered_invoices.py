"""Whatever Bitsby answers about one invoice concerns that invoice alone."""

import datetime as dt
import json

import pytest
import requests
from django.utils import timezone
from oscar.core.loading import get_model

from oscar_bitsby import reconciliation
from oscar_bitsby.exceptions import ConnectionFailed, RateLimited, ReplyNotUnderstood
from oscar_bitsby.models import BitsbyInvoice
from oscar_bitsby.reconciliation.invoice_refresh import UNKNOWN_INVOICE
from tests.support import bitsby
from tests.support.invoices import expired_ago
from tests.support.settling import reload, status_of

Order = get_model("order", "Order")

pytestmark = pytest.mark.django_db

HOUR = dt.timedelta(hours=1)
MINUTE = dt.timedelta(minutes=1)

#: Answers about one invoice, with a part of the reason that staff see.
STRANGE_ANSWERS = {
    "null": (bitsby.success(None), "a list was expected"),
    "an object": (bitsby.success({}), "a list was expected"),
    "a text": (bitsby.success("nothing"), "a list was expected"),
    "no data": ({"result": "success"}, "a list was expected"),
    "an empty list": (bitsby.success([]), UNKNOWN_INVOICE),
    "rubbish in a list": (bitsby.success([{"id": 5}]), "not as documented"),
    "an error": (bitsby.error("Invoice not found"), "Invoice not found"),
    "an error with NUL": (bitsby.error("no\x00thing"), "nothing"),
    "HTTP 400": ((400, {}, "bad request"), "HTTP 400"),
    "HTTP 401": ((401, {}, ""), "HTTP 401"),
    "HTTP 404": ((404, {}, "<h1>Not Found</h1>"), "HTTP 404"),
    "HTTP 500": ((500, {}, json.dumps({"detail": "oops"})), "HTTP 500"),
    "rubbish": ((200, {}, "\x00[{"), "not as documented"),
}
#: Kinds of answers, each with a number of runs: the first one for long, the others twice.
KINDS_AND_RUNS = [(kind, 2 if number else 30) for number, kind in enumerate(STRANGE_ANSWERS)]
#: Answers that concern every request, and the errors that they end a run with.
GENERAL_FAILURES = [
    (bitsby.error("Your requests are too frequent"), RateLimited),
    ((429, {}, ""), RateLimited),
    ((503, {}, ""), ConnectionFailed),
    (requests.ReadTimeout("too slow"), ConnectionFailed),
]


@pytest.fixture(params=STRANGE_ANSWERS)
def strange(request):
    """A strange answer about one invoice, and a part of its reason."""
    return STRANGE_ANSWERS[request.param]


@pytest.fixture
def answer_singly(fake):
    """Return a function that sets the answer to requests about one invoice, in both lists."""

    def answer(invoice, found):
        for path in ("/invoices/list", "/payments/list"):
            usual = getattr(fake, path.strip("/").replace("/", "_"))

            def either(fields, usual=usual):
                return found if fields.get("invoiceId") == str(invoice.bitsby_id) else usual(fields)

            fake.on(path, either)

    return answer


@pytest.fixture
def overdue(place, invoice_for):
    """Return a function that creates overdue invoices of orders of their own."""

    def make(count):
        return [invoice_for(place(), expires_at=timezone.now() - HOUR / 6) for _ in range(count)]

    return make


def list_as_expired(fake, invoices):
    fake.invoices = [bitsby.invoice_item(invoice, "expired") for invoice in invoices]


@pytest.mark.parametrize(("kind", "runs"), KINDS_AND_RUNS)
def test_strange_answer_about_one_invoice_stops_no_other(
    overdue, fake, answer_singly, kind, runs, move_time
):
    """Of four overdue invoices one is answered strangely: the other three orders are cancelled."""
    odd, *others = overdue(4)
    list_as_expired(fake, others)
    answer_singly(odd, STRANGE_ANSWERS[kind][0])

    for _ in range(runs):
        reconciliation.reconcile()
        move_time(minutes=61 // (runs - 1))

    assert [reload(invoice).status for invoice in others] == ["expired"] * 3
    assert {status_of(invoice.order) for invoice in others} == {"Cancelled"}
    assert (reload(odd).status, status_of(odd.order)) == ("unpaid", "Pending")


def test_strange_answer_is_stored_for_staff_until_the_next_readable_one(
    overdue, fake, answer_singly, strange, move_time
):
    """The invoice keeps since when and why it has no answer; a readable answer clears both."""
    (odd,) = overdue(1)
    answer_singly(odd, bitsby.error("Not now"))
    reconciliation.reconcile()
    since = reload(odd).unanswered_since
    assert since is not None
    move_time(minutes=5)
    answer, reason = strange
    answer_singly(odd, answer)

    report = reconciliation.reconcile()

    odd = reload(odd)
    assert odd.unanswered_since == since
    assert reason in odd.unanswered_reason
    assert "\x00" not in odd.unanswered_reason
    assert odd.last_refreshed_at - since >= 5 * MINUTE
    assert report.failures == 0

    answer_singly(odd, bitsby.success([bitsby.invoice_item(odd)]))
    reconciliation.reconcile()
    odd = reload(odd)
    assert (odd.unanswered_since, odd.unanswered_reason) == (None, "")


def test_invoice_without_an_answer_is_fetched_less_often(overdue, fake, answer_singly, move_time):
    """After an hour, an invoice that is answered strangely is fetched every ten minutes."""
    (odd,) = overdue(1)
    answer_singly(odd, (500, {}, ""))
    move_time(minutes=70)
    for _ in range(30):
        reconciliation.reconcile()
        move_time(minutes=1)

    assert len(fake.asked("/invoices/list")) == 3


def test_many_invoices_without_an_answer_take_turns(overdue, fake, answer_singly):
    """Of eight overdue invoices that the list does not show, five are fetched in each run."""
    invoices = overdue(8)
    fake.on("/invoices/list", lambda fields: (404 if "invoiceId" in fields else 200, {}, "[]"))
    with pytest.raises(ReplyNotUnderstood):
        # An answer about many invoices that cannot be read ends the run.
        reconciliation.reconcile()
    fake.on(
        "/invoices/list",
        lambda fields: (404, {}, "") if "invoiceId" in fields else bitsby.success([]),
    )
    for _ in range(2):
        reconciliation.reconcile()

    asked = [
        fields["invoiceId"] for fields in fake.asked("/invoices/list") if "status" not in fields
    ]
    assert len(asked) == 10
    assert set(asked) == {str(invoice.bitsby_id) for invoice in invoices}


def test_order_whose_invoice_has_no_answer_is_not_cancelled(
    place, invoice_for, fake, answer_singly, strange
):
    """It stays pending, and the orders that are due with it are cancelled."""
    odd, *others = [invoice_for(place(), **expired_ago(hours=2)) for _ in range(4)]
    list_as_expired(fake, others)
    answer_singly(odd, strange[0])

    report = reconciliation.reconcile()

    assert report.cancelled == 3
    assert status_of(odd.order) == "Pending"
    assert strange[1] in reload(odd).unanswered_reason


@pytest.mark.parametrize(("kind", "runs"), KINDS_AND_RUNS)
def test_flagged_invoice_without_an_answer_does_not_stop_the_run(
    place, overdue, invoice_for, fake, answer_singly, kind, runs, move_time
):
    """Each run syncs payments and goes on, though a flagged invoice is answered strangely."""
    flagged = invoice_for(place(), webhook_pending_since=timezone.now())
    expired = overdue(1)
    list_as_expired(fake, expired)
    answer, reason = STRANGE_ANSWERS[kind]
    answer_singly(flagged, answer)
    for _ in range(runs):
        paid = invoice_for(place())
        fake.add_paid(paid)

        assert reconciliation.reconcile().booked == 1

        assert status_of(paid.order) == "Being processed"
        move_time(minutes=1)
    assert reload(expired[0]).status == "expired"
    assert reason in reload(flagged).unanswered_reason


def test_flagged_invoice_is_fetched_again_after_an_unusable_answer(
    place, invoice_for, fake, answer_singly, move_time
):
    """An error does not clear the flag: the invoice is fetched again ten minutes later."""
    flagged = invoice_for(place(), webhook_pending_since=timezone.now())
    answer_singly(flagged, (500, {}, ""))
    for _ in range(9):
        reconciliation.reconcile()
        move_time(minutes=1)
    assert len(fake.asked("/invoices/list")) == 1
    move_time(minutes=2)
    paid = bitsby.invoice_item(flagged, "paid", payment=bitsby.transfer())
    answer_singly(flagged, bitsby.success([paid]))

    assert reconciliation.reconcile().booked == 1

    assert reload(flagged).webhook_pending_since is None


@pytest.mark.parametrize("is_flagged", [True, False])
def test_strange_answer_about_the_payments_of_one_invoice_stops_no_other(
    place, invoice_for, overdue, fake, answer_singly, strange, is_flagged
):
    """A paid invoice whose payment cannot be fetched is shown to staff, and the run goes on."""
    values = {"webhook_pending_since": timezone.now()} if is_flagged else {}
    paid = invoice_for(place(), expires_at=timezone.now() - HOUR / 6, **values)
    others = overdue(3)
    list_as_expired(fake, others)
    fake.invoices.append(bitsby.invoice_item(paid, "paid"))
    answer_singly(paid, strange[0])
    fake.on("/invoices/list", fake.invoices_list)

    report = reconciliation.reconcile()

    assert report.ended == 3
    paid = reload(paid)
    assert (paid.status, status_of(paid.order)) == ("unpaid", "Pending")
    assert paid.failure == "Bitsby reports it as paid without naming the payment"


@pytest.mark.parametrize(("failure", "error"), GENERAL_FAILURES)
def test_failure_that_concerns_every_request_ends_the_run(
    overdue, fake, answer_singly, failure, error
):
    """The rate limit and a lost connection end the run, and what was settled stays settled."""
    odd, *others = overdue(4)
    list_as_expired(fake, others)
    answer_singly(odd, failure)

    with pytest.raises(error):
        reconciliation.reconcile()

    assert {reload(invoice).status for invoice in others} == {"expired"}
    assert reload(odd).unanswered_since is None


def test_invoice_whose_answer_is_lost_comes_after_the_others(overdue, fake, answer_singly):
    """A run that ended at one invoice is followed by one that fetches the other one first."""
    odd, other = overdue(2)[::-1]
    list_as_expired(fake, [other])
    answer_singly(odd, requests.ReadTimeout("too slow"))

    for _ in range(2):
        with pytest.raises(ConnectionFailed):
            reconciliation.reconcile()

    assert reload(other).status == "expired"


def test_dry_run_stores_no_missing_answer(overdue, fake, answer_singly, strange):
    """A dry run goes on after a strange answer, and writes nothing."""
    odd, *others = overdue(4)
    list_as_expired(fake, others)
    answer_singly(odd, strange[0])
    before = BitsbyInvoice.objects.values().get(pk=odd.pk)

    report = reconciliation.reconcile(dry_run=True)

    assert report.ended == 3
    assert BitsbyInvoice.objects.values().get(pk=odd.pk) == before


def test_report_counts_invoices_without_an_answer(overdue, fake, answer_singly):
    """The run's output and log say about how many invoices there was no answer, and why."""
    (odd,) = overdue(1)
    answer_singly(odd, (500, {}, ""))

    report = reconciliation.reconcile()

    assert "1 invoice without an answer" in str(report)
