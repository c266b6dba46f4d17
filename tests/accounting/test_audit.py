"""Test the comparison of an audit: each kind of difference is found, and nothing else."""

import datetime as dt
from decimal import Decimal

import pytest
from django.utils import timezone
from oscar.core.loading import get_model

from oscar_bitsby.models import BitsbyInvoice, BitsbyPayment, BitsbyRefund
from tests.support import auditing, bitsby
from tests.support.auditing import HOUR, run_audit
from tests.support.refunds import unbound_payment

Source = get_model("payment", "Source")
Transaction = get_model("payment", "Transaction")

pytestmark = pytest.mark.django_db


@pytest.fixture
def shop(fake, place, invoice_for, django_user_model):
    """A shop whose books equal Bitsby's lists: a booked, a waiting payment, and a sent refund."""
    user = django_user_model.objects.create_user("staff", is_staff=True, is_superuser=True)
    return auditing.fill_shop(fake, place, invoice_for, user)


def test_equal_books_are_proved(shop):
    """Booked, waiting, dismissed and refunded payments and those of others are no difference."""
    found = run_audit()

    assert (found.kinds, found.result.unproved, found.result.notes) == ([], [], [])
    (wallet,) = found.result.wallets
    assert wallet.as_dict() == {
        "wallet": bitsby.TRON,
        "coin": "usdt",
        "listed": "90",
        "booked": "20",
        "waiting": "8",
        "dismissed": "7",
        "other_projects": "55",
        "not_synced_yet": "0",
    }


def name_another_payment(fake, booked, waiting, refund):
    fake.invoices[0]["payment"] = fake.invoices[1]["payment"]


def change_project(fake, booked, waiting, refund):
    fake.payments[0]["invoice"]["projectId"] = str(bitsby.new_id())


def change_coin(fake, booked, waiting, refund):
    fake.payments[0]["wallet"] = bitsby.wallet(cryptocurrency="usdc")


def list_payment_of_2099(fake, booked, waiting, refund):
    auditing.finish_run()
    transfer = bitsby.transfer("1", transactionDatetime="2099-01-01 00:00:00")
    fake.payments.append(bitsby.payment_item(transfer))


def delete_payment(fake, booked, waiting, refund):
    waiting.delete()


def hide_payment(fake, booked, waiting, refund):
    BitsbyPayment.objects.filter(pk=waiting.pk).update(is_foreign=True)


def unlist_payment(fake, booked, waiting, refund):
    fake.payments = [one for one in fake.payments if one["id"] != str(waiting.bitsby_id)]


def list_strange_invoice(fake, booked, waiting, refund):
    fake.invoices.append(fake.invoices[0] | {"id": str(bitsby.new_id()), "status": "expired"})


def unlist_invoice(fake, booked, waiting, refund):
    del fake.invoices[0]


def list_paid_invoice_without_payment(fake, booked, waiting, refund):
    invoice = BitsbyInvoice.objects.first()
    invoice.pk, invoice.bitsby_id, invoice.order = None, bitsby.new_id(), None
    invoice.status = "expired"
    invoice.save()
    payment = bitsby.transfer(transactionDatetime=bitsby.written(invoice.created_at))
    fake.invoices.append(bitsby.invoice_item(invoice, "paid", payment=payment))


def change_coins(fake, booked, waiting, refund):
    BitsbyPayment.objects.filter(pk=booked.pk).update(amount=Decimal("9.99999999"))


def change_asked_amount(fake, booked, waiting, refund):
    BitsbyInvoice.objects.filter(pk=booked.invoice_id).update(amount=11)


def change_hash(fake, booked, waiting, refund):
    BitsbyPayment.objects.filter(pk=booked.pk).update(hash="0" * 64)


def change_binding(fake, booked, waiting, refund):
    BitsbyPayment.objects.filter(pk=booked.pk).update(bound_to=None)


def book_for_another_invoice(fake, booked, waiting, refund):
    other = BitsbyInvoice.objects.exclude(pk=booked.invoice_id).get()
    other.order.sources.get().debit(10, reference=str(booked.bitsby_id))
    booked.invoice.order.sources.get().delete()
    BitsbyPayment.objects.filter(pk=booked.pk).update(invoice=other)


def change_status(fake, booked, waiting, refund):
    BitsbyInvoice.objects.filter(pk=booked.invoice_id).update(status="expired")


def leave_undecided(fake, booked, waiting, refund):
    BitsbyPayment.objects.filter(pk=waiting.pk).update(review_reason="")


def delete_transaction(fake, booked, waiting, refund):
    Transaction.objects.get(reference=str(booked.bitsby_id)).delete()
    Source.objects.filter(order=booked.invoice.order).update(amount_debited=0)


def delete_source(fake, booked, waiting, refund):
    booked.invoice.order.sources.all().delete()


def book_twice(fake, booked, waiting, refund):
    booked.invoice.order.sources.get().debit(10, reference=str(booked.bitsby_id))


def change_ledger_amount(fake, booked, waiting, refund):
    Transaction.objects.filter(reference=str(booked.bitsby_id)).update(amount=12)
    Source.objects.filter(order=booked.invoice.order).update(amount_debited=12)


def book_by_hand(fake, booked, waiting, refund):
    booked.invoice.order.sources.get().debit(1, reference="by hand")


def refund_by_hand(fake, booked, waiting, refund):
    booked.invoice.order.sources.get().refund(1, reference="by hand")


def delete_refund_transaction(fake, booked, waiting, refund):
    Transaction.objects.get(reference=refund.transaction_hash).delete()
    Source.objects.filter(order=refund.order).update(amount_refunded=0)


def leave_refund_unbooked(fake, booked, waiting, refund):
    delete_refund_transaction(fake, booked, waiting, refund)
    BitsbyRefund.objects.update(is_booked=False)


def change_source(fake, booked, waiting, refund):
    Source.objects.filter(order=booked.invoice.order).update(amount_debited=Decimal("10.01"))


def move_wallet(fake, booked, waiting, refund):
    BitsbyPayment.objects.filter(pk=waiting.pk).update(wallet_id="another")


PLANTED = [
    (delete_payment, ["payment_only_there", "wallet_sum"]),
    (hide_payment, ["payment_only_there", "wallet_sum"]),
    (unlist_payment, ["payment_only_here", "wallet_sum"]),
    (list_strange_invoice, ["invoice_only_there"]),
    (unlist_invoice, ["invoice_only_here"]),
    (list_paid_invoice_without_payment, ["payment_only_there"]),
    (change_coins, ["amount", "wallet_sum"]),
    (change_asked_amount, ["amount"]),
    (change_hash, ["hash"]),
    (change_binding, ["binding"]),
    (book_for_another_invoice, ["binding"]),
    (change_status, ["status"]),
    (leave_undecided, ["undecided"]),
    (delete_transaction, ["not_in_ledger"]),
    (delete_source, ["not_in_ledger"]),
    (book_twice, ["booked_twice"]),
    (change_ledger_amount, ["amount"]),
    (book_by_hand, ["transaction_only"]),
    (refund_by_hand, ["transaction_only"]),
    (delete_refund_transaction, ["refund_not_in_ledger"]),
    (leave_refund_unbooked, ["refund_not_in_ledger"]),
    (change_source, ["source_sum"]),
    (move_wallet, ["amount", "wallet_sum", "wallet_sum"]),
    (name_another_payment, ["binding"]),
    (change_project, ["binding"]),
    (change_coin, ["amount", "wallet_sum", "wallet_sum"]),
    (list_payment_of_2099, ["payment_only_there", "wallet_sum"]),
]


@pytest.mark.parametrize(("plant", "kinds"), PLANTED, ids=[plant.__name__ for plant, _ in PLANTED])
def test_each_planted_difference_is_found_with_its_ids(shop, fake, plant, kinds):
    """It is found by its kind, and nothing else is; each names ids and what to do."""
    plant(fake, *shop)

    found = run_audit()

    assert found.kinds == kinds
    for one in found.differences:
        assert one.text
        assert one.remedy
        assert (
            one.payment
            or one.invoice
            or one.refund
            or one.transaction
            or one.wallet
            or (one.order_number)
        )


def test_difference_names_the_order(shop, fake):
    """A difference of a booked payment has the payment, the invoice and the order's number."""
    booked = shop[0]
    change_hash(fake, *shop)

    (difference,) = run_audit().differences

    assert difference.order_number == booked.invoice.order_number
    assert difference.payment == str(booked.bitsby_id)
    assert difference.invoice == str(booked.invoice.bitsby_id)


def test_audit_of_some_days_leaves_others_out(shop, fake):
    """The last day is not included, and a difference outside of the days is not reported."""
    today = timezone.now().astimezone(dt.timezone.utc).date()
    day = dt.timedelta(days=1)
    change_coins(fake, *shop)
    change_source(fake, *shop)

    assert run_audit(today - 30 * day, today - 2 * day).kinds == []
    assert run_audit(today - 2 * day, today + day).kinds == ["amount", "source_sum", "wallet_sum"]


def test_payment_after_the_last_run_is_not_synced_yet(shop, fake):
    """While runs are completed, a newer payment is said to be not synced yet."""
    auditing.finish_run()
    fake.payments.append(
        bitsby.payment_item(
            bitsby.transfer(transactionDatetime=bitsby.written(timezone.now() + HOUR))
        )
    )

    found = run_audit()

    assert found.kinds == []
    assert "not synced yet: 1 listed payments" in found.result.notes[0]
    assert found.result.wallets[0].not_synced_yet == 10


def test_payment_that_appeared_late_is_no_difference_yet(shop, fake):
    """Bitsby may list it after the run that came next, so nothing is proved, and nobody alarmed."""
    auditing.finish_run()
    at = bitsby.written(timezone.now() - HOUR)
    fake.payments.append(bitsby.payment_item(bitsby.transfer(transactionDatetime=at)))

    found = run_audit()

    assert found.kinds == []
    assert "1 listed payments are not recorded, and may have appeared" in found.result.unproved[0]
    assert found.result.state == "unproved"


def test_hash_in_capitals_is_the_same(shop, fake):
    """Block explorers and APIs write hexadecimal digits in both cases."""
    fake.payments[0]["hash"] = fake.payments[0]["hash"].upper()

    assert run_audit().kinds == []


def test_payment_from_before_a_missed_run_is_a_difference(shop, fake, move_time):
    """When runs have stopped, a payment that nobody recorded is a difference."""
    auditing.finish_run()
    move_time(hours=1)
    at = bitsby.written(timezone.now() - HOUR / 2)
    fake.payments.append(bitsby.payment_item(bitsby.transfer(transactionDatetime=at)))

    assert run_audit().kinds == ["payment_only_there", "wallet_sum"]


def test_invoice_whose_answer_was_lost_is_no_difference(shop, fake, invoice_for, place):
    """An unpaid invoice of an attempt that failed is said to be left out."""
    attempt = invoice_for(place(), "expired", bitsby_id=None)
    attempt.bitsby_id = bitsby.new_id()
    data = f'{{"orderId": "{attempt.order_number}"}}'
    fake.invoices.append(bitsby.invoice_item(attempt, "expired", serviceData=data))

    found = run_audit()

    assert found.kinds == []
    assert "the answers with them got lost" in found.result.notes[0]


def test_rows_without_a_time_are_not_provable_by_days(shop, fake):
    """Bitsby's filter may leave them out, which is said, and no difference."""
    waiting = unbound_payment(transaction_at=None)
    BitsbyPayment.objects.filter(pk=waiting.pk).update(seen_at=timezone.now() - HOUR)
    today = timezone.now().astimezone(dt.timezone.utc).date()

    found = run_audit(today - dt.timedelta(days=2), None)

    assert found.kinds == []
    assert "1 recorded payments have no transaction time" in found.result.unproved[0]
    assert run_audit().kinds == ["payment_only_here", "wallet_sum"]


def test_undocumented_status_is_not_provable(shop, fake):
    """A status that the documentation does not name is said to be so."""
    fake.invoices[0]["status"] = "refunding"

    found = run_audit()

    assert found.kinds == []
    assert found.result.unproved == ["invoices have a status that is not documented: refunding"]
    assert found.result.state == "unproved"
