"""Test that a month's export and its audit say the same, with the simulator."""

import csv
import datetime as dt
import io
import json
from collections import defaultdict
from decimal import Decimal

import pytest
from django.core.management import CommandError, call_command
from oscar.core.loading import get_model

from oscar_bitsby.facade import start_payment
from oscar_bitsby.models import BitsbyInvoice, BitsbyPayment
from oscar_bitsby.simulator.process import running_simulator
from oscar_bitsby.simulator.wallets import WALLETS
from oscar_bitsby.staff import binding, review
from tests.support import bitsby
from tests.support.refunds import sent_refund
from tests.support.simulator import gateway_settings, pay

Source = get_model("payment", "Source")
Transaction = get_model("payment", "Transaction")

pytestmark = pytest.mark.django_db(transaction=True)

TODAY = dt.datetime.now(dt.timezone.utc).date()
DAYS = ("--from", f"{TODAY - dt.timedelta(days=15)}", "--to", f"{TODAY + dt.timedelta(days=15)}")
NUMBERS = ("listed", "booked", "waiting", "dismissed", "other_projects", "not_synced_yet")
USDT, BITCOIN = WALLETS[0], next(one for one in WALLETS if one.cryptocurrency == "btc")


@pytest.fixture(scope="module")
def simulator():
    with running_simulator(webhooks=False) as simulator:
        yield simulator


@pytest.fixture
def shop(configure, simulator):
    configure(**gateway_settings(simulator))
    simulator.control("reset", {})
    simulator.control("ratelimit", {"seconds": 0})
    return simulator


@pytest.fixture
def month(shop, place, django_user_model):
    """Orders that are paid, paid with less and accepted, and refunded; and payments of no order.

    The last ones are a second payment that waits, a dismissed one, and one of another project.
    """
    user = django_user_model.objects.create_user("staff", is_staff=True, is_superuser=True)
    for _ in range(3):
        start_payment(place())
    paid, short, refunded = BitsbyInvoice.objects.order_by("pk")
    pay(shop, paid)
    second = pay(shop, paid)
    less = send(shop, short, "0.9", USDT)
    send(shop, refunded, "1", BITCOIN)
    unwanted = send(shop, paid, "0.3", BITCOIN)
    (foreign,) = shop.control("seed", {"invoices": 1, "projectId": str(bitsby.new_id())})["ids"]
    shop.control("pay", {"invoiceId": foreign})
    call_command("bitsby_reconcile")

    binding.bind(short, less, user)
    review.accept(row(less).pk, user, "close enough")
    review.dismiss(row(unwanted).pk, user, "a test")
    sent_refund(user, BitsbyPayment.objects.get(invoice=refunded))
    call_command("bitsby_reconcile")
    return paid, row(second)


def send(simulator, invoice, share, wallet):
    """Send a part of what an invoice asks for to a wallet; return the id of the payment."""
    asked = next(one["amount"] for one in invoice.wallets if one["id"] == wallet.id)
    amount = f"{Decimal(asked) * Decimal(share):.8f}"
    fields = {"invoiceId": str(invoice.bitsby_id), "amount": amount, "wallet": wallet.id}
    return simulator.control("pay", fields)["paymentId"]


def row(payment_id):
    return BitsbyPayment.objects.get(bitsby_id=payment_id)


def export():
    """Return the rows of the month's export."""
    out = io.StringIO()
    call_command("bitsby_export", *DAYS, stdout=out)
    return list(csv.DictReader(io.StringIO(out.getvalue())))


def audit():
    """Return the exit status of the month's audit and its result."""
    out, status = io.StringIO(), 0
    try:
        call_command("bitsby_audit", *DAYS, "--json", stdout=out, stderr=io.StringIO())
    except CommandError as error:
        status = error.returncode
    return status, json.loads(out.getvalue())


def test_export_and_audit_of_a_month_agree(month):
    """Each wallet has the coins, and the ledger the money, that the export's rows add up to."""
    coins, money = defaultdict(Decimal), defaultdict(Decimal)
    for one in export():
        if one["kind"] == "refund":
            money["refunded"] += Decimal(one["worth"])
            continue
        part = "booked" if one["booked"] else one["decision"] or "waiting"
        coins[one["coin"], part] += Decimal(one["coin_amount"])
        money[part] += Decimal(one["worth"] or 0)

    status, result = audit()

    assert (status, result["state"], result["differences"]) == (0, "proved", [])
    wallets = {
        one["coin"]: {key: Decimal(one[key]) for key in NUMBERS} for one in result["wallets"]
    }
    assert set(wallets) == {"usdt", "btc"}
    for coin, sums in wallets.items():
        for part in ("booked", "waiting", "dismissed"):
            assert sums[part] == coins[coin, part], (coin, part)
        assert sums["listed"] == sum(sums[part] for part in NUMBERS[1:])
    assert wallets["usdt"]["other_projects"] > 0
    assert all(coins[key] for key in (("usdt", "waiting"), ("btc", "dismissed"), ("btc", "booked")))
    sources = Source.objects.all()
    assert money["booked"] == sum(one.amount_debited for one in sources) > 20
    assert money["refunded"] == sum(one.amount_refunded for one in sources) == 10


def test_differences_in_a_month_are_found_by_the_command(month, move_time):
    """Each is named with its order or payment, and the exit status is 1."""
    paid, second = month
    missing = str(second.bitsby_id)
    second.delete()
    # No run comes any more that could record it.
    move_time(hours=1)
    BitsbyPayment.objects.filter(invoice=paid).update(hash="0" * 64)
    Source.objects.filter(order=paid.order).update(amount_debited=11)
    Transaction.objects.filter(txn_type="Refund").delete()

    status, result = audit()

    assert status == 1
    assert result["counts"] == {
        "payment_only_there": 1,
        "hash": 1,
        "source_sum": 2,
        "refund_not_in_ledger": 1,
        "wallet_sum": 1,
    }
    by_kind = {one["kind"]: one for one in result["differences"]}
    assert by_kind["payment_only_there"]["payment"] == missing
    assert by_kind["hash"]["order_number"] == paid.order_number
