"""Test how an audit reads Bitsby's lists: requests, aborts, and lists that change meanwhile."""

import datetime as dt
import uuid

import pytest
from django.utils import timezone

from oscar_bitsby.choices import AuditState
from oscar_bitsby.exceptions import GatewayError
from oscar_bitsby.gateway.client import BitsbyClient
from oscar_bitsby.models import AuditedItem, AuditRun
from oscar_bitsby.reconciliation import audit_lists
from oscar_bitsby.reconciliation.audit import audit
from oscar_bitsby.reconciliation.audit_lists import AuditTakenOver
from tests.support import bitsby

pytestmark = pytest.mark.django_db


class ForeignPayments:
    """The payments of another project, and what happens to the list before a request."""

    def __init__(self, fake, count):
        self.fake = fake
        self.before = {}
        fake.payments = [self.item(number) for number in range(count)]
        self.answer = fake.payments_list
        fake.on("/payments/list", self)

    def item(self, number):
        payment = bitsby.transfer(id=str(uuid.UUID(int=number)))
        return bitsby.payment_item(payment, {**FOREIGN, "projectId": str(uuid.UUID(int=1))})

    def __call__(self, fields):
        self.before.pop(len(self.asked), lambda: None)()
        return self.answer(fields)

    @property
    def asked(self):
        return [int(fields["offset"]) for fields in self.fake.asked("/payments/list")]


FOREIGN = {
    "id": str(uuid.UUID(int=2)),
    "status": "paid",
    "amountFiat": "10.00",
    "currencyFiat": "USD",
}


@pytest.mark.parametrize(
    ("count", "offsets"),
    [
        (0, [0]),
        (9, [0]),
        (30, [0, 30]),
        (100, [0, 50, 100]),
        # Once more the first page, whether it has changed.
        (120, [0, 50, 100, 0]),
    ],
)
def test_each_list_takes_one_request_more_than_it_has_pages(fake, count, offsets):
    """Each page is fetched once, and one further request shows that nothing is missing."""
    payments = ForeignPayments(fake, count)

    result = audit()

    assert payments.asked == offsets
    assert (result.state, result.run.payments_read) == (AuditState.PROVED, count)
    assert result.run.requests == len(offsets) + 1
    assert not AuditedItem.objects.exists()


def test_days_are_padded_on_both_sides(fake):
    """The API's filters get the days with the margin."""
    audit(dt.date(2026, 11, 1), dt.date(2026, 12, 1))

    for path in ("/payments/list", "/invoices/list"):
        (fields,) = fake.asked(path)
        assert (fields["startDate"], fields["endDate"]) == ("2026-10-30", "2026-12-03")


def test_aborted_audit_goes_on_where_it_stopped(fake):
    """What was read before the failure is not fetched again, and counts."""
    payments = ForeignPayments(fake, 120)
    fake.on(
        "/payments/list",
        lambda fields: bitsby.error("down") if fields["offset"] == "50" else payments(fields),
    )
    with pytest.raises(GatewayError):
        audit()
    fake.requests.clear()
    fake.on("/payments/list", payments)

    result = audit()

    assert payments.asked == [50, 100, 0]
    assert (result.state, result.run.payments_read) == (AuditState.PROVED, 120)
    assert AuditRun.objects.count() == 1


def test_audit_of_other_days_or_an_old_one_is_not_resumed(fake, move_time):
    """Another range starts anew, and so does the same one after some hours; the old one ends."""
    ForeignPayments(fake, 120)
    run = audit_lists.start(None, None)
    audit(dt.date(2026, 11, 1))
    move_time(hours=7)
    audit()

    run.refresh_from_db()
    assert AuditRun.objects.count() == 3
    assert (run.state, run.items.count()) == (AuditState.UNPROVED, 0)


def test_second_process_takes_over(fake):
    """The first one stops at its next page, and writes nothing more."""
    payments = ForeignPayments(fake, 120)
    payments.before[2] = lambda: audit_lists.start(None, None)

    with pytest.raises(AuditTakenOver):
        audit()
    assert audit().state == AuditState.PROVED
    assert AuditRun.objects.count() == 1


def test_new_items_before_the_others_are_no_reason_to_read_again(fake):
    """Items that are added at the beginning only repeat others on the next page."""
    payments = ForeignPayments(fake, 120)
    payments.before[2] = lambda: fake.payments.insert(0, payments.item(500))

    result = audit()

    assert payments.asked == [0, 50, 100, 0]
    assert result.state == AuditState.PROVED


@pytest.mark.parametrize(
    "change",
    [
        lambda items: items.pop(3),
        lambda items: items.reverse(),
    ],
    ids=["removed", "reversed"],
)
def test_list_that_changes_while_it_is_read_is_read_again(fake, change):
    """An item that disappears or moves may hide another one, so the list is read again."""
    payments = ForeignPayments(fake, 120)
    payments.before[2] = lambda: change(fake.payments)

    result = audit()

    assert payments.asked[-4:] == [0, 50, 100, 0]
    assert len(payments.asked) >= 8
    assert (result.state, result.run.payments_read) == (AuditState.PROVED, len(fake.payments))


def test_list_that_never_stays_the_same_proves_nothing(fake):
    """After three readings the audit ends without a proof, and says why."""
    payments = ForeignPayments(fake, 120)
    for number in range(20):
        payments.before[number] = fake.payments.reverse

    result = audit()

    assert result.state == AuditState.UNPROVED
    assert "changed each of the 3 times" in result.unproved[0]


def test_item_twice_on_a_page_is_no_change(fake):
    """An exact copy hides nothing. One with another amount may be anything."""
    ForeignPayments(fake, 20)
    fake.payments.append(dict(fake.payments[3]))
    assert audit().state == AuditState.PROVED

    fake.payments[3]["amount"] = "1.00000000"
    assert audit().state == AuditState.UNPROVED


def test_what_a_changing_list_hides_is_not_missing(fake, offer):
    """While items disappear between two pages, nobody is told that ours are not listed."""
    from tests.support.refunds import unbound_payment

    offer("10.00", created_at=timezone.now() - dt.timedelta(days=1))
    past = timezone.now() - dt.timedelta(hours=1)
    unbound_payment(wallet_id=bitsby.TRON, seen_at=past, transaction_at=past)
    payments = ForeignPayments(fake, 120)
    for number in range(1, 20):
        payments.before[number] = lambda: fake.payments.pop(3)
    found = []

    result = audit(report=found.append)

    assert [one.kind for one in found if one.kind != "invoice_only_here"] == []
    assert "changed each of the 3 times" in result.unproved[0]
    assert "1 recorded payments are not in the list that was read" in result.unproved[1]


def test_items_that_a_killed_audit_has_left_are_deleted(fake):
    """It was killed after its result was stored; the next audit deletes what it had read."""
    ForeignPayments(fake, 20)
    audit()
    AuditedItem.objects.create(
        run=AuditRun.objects.get(), is_payment=True, bitsby_id=uuid.uuid4(), amount=1
    )

    audit()

    assert not AuditedItem.objects.exists()


def test_list_that_ignores_the_offset_proves_nothing(fake):
    """A server that sends the same page again and again is left, and nothing is proved."""
    payments = ForeignPayments(fake, 50)
    fake.on("/payments/list", lambda fields: payments({**fields, "offset": 0}))

    result = audit()

    assert result.state == AuditState.UNPROVED
    assert "the same page again and again" in result.unproved[0]


def test_unreadable_item_proves_nothing(fake):
    """An item that is not as documented may be anything."""
    fake.payments = [{"id": "?"}]

    result = audit()

    assert result.state == AuditState.UNPROVED
    assert result.unproved == ["1 payments at Bitsby are not as documented"]


def test_missing_payments_are_confirmed_by_a_second_reading(fake, offer):
    """A payment of ours that a changing list has hidden is found by reading it again."""
    from tests.support.refunds import unbound_payment

    offer("10.00", created_at=timezone.now() - dt.timedelta(days=1))
    past = timezone.now() - dt.timedelta(hours=1)
    ours = unbound_payment(wallet_id=bitsby.TRON, seen_at=past, transaction_at=past)
    payments = ForeignPayments(fake, 120)
    item = bitsby.payment_item(
        bitsby.transfer(
            "8", id=str(ours.bitsby_id), hash=ours.hash, transactionDatetime=bitsby.written(past)
        )
    )
    payments.before[4] = lambda: fake.payments.insert(60, item)

    result = audit(client=BitsbyClient(bitsby.KEY))

    assert payments.asked == [0, 50, 100, 0] * 2
    assert [one for one in result.counts if one.startswith("payment")] == []
