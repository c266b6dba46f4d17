"""Payments of a wrong amount that a run binds by itself, by the shop's rules."""

import datetime as dt
from decimal import Decimal

import pytest
from django.utils import timezone

from oscar_bitsby import reconciliation
from oscar_bitsby.choices import MailCode, Resolution, ReviewReason
from oscar_bitsby.exceptions import ConnectionFailed
from oscar_bitsby.models import BitsbyPayment, BitsbyRefund, BuyerMail
from tests.support import bitsby
from tests.support.settling import booked, reload, status_of

pytestmark = pytest.mark.django_db

MINUTE = dt.timedelta(minutes=1)


class Account:
    """Bitsby's account with its payments, which can be bound."""

    def __init__(self, fake, books):
        self.fake, self.books = fake, books
        self.answer = None
        fake.on("/invoices/bindPayment", self.bind)

    def bind(self, fields):
        """Bind a payment, unless ``answer`` says something else."""
        if self.answer is not None:
            return self.answer
        self.attach(fields)
        return bitsby.success("Invoice binded to payment")

    def lose_answer(self, fields):
        """Bind, but lose the answer."""
        self.attach(fields)
        return ConnectionError("lost")

    def attach(self, fields):
        remote = next(item for item in self.fake.invoices if item["id"] == fields["invoiceId"])
        payment = next(item for item in self.books.items if item["id"] == fields["paymentId"])
        remote |= {"status": "paid", "payment": payment, "wallet": payment["wallet"]}
        names = ("payment", "wallet")
        payment["invoice"] = {key: remote[key] for key in remote if key not in names}

    def send(self, coins, at=None):
        """Let somebody send coins, by default just now."""
        payment = bitsby.transfer(coins)
        self.books.add(payment, at=at)
        return payment

    @property
    def asked(self):
        """The fields of the requests to bind."""
        return self.fake.asked("/invoices/bindPayment")


@pytest.fixture
def account(fake, books):
    return Account(fake, books)


@pytest.fixture
def listed(fake, invoice_for):
    """Return a function that stores an invoice that began half an hour ago, and lists it."""

    def make(order, status="unpaid", **values):
        begin = timezone.now() - 30 * MINUTE
        defaults = {"created_at": begin, "expires_at": begin + 60 * MINUTE}
        invoice = invoice_for(order, status, **(defaults | values))
        fake.invoices.append(bitsby.invoice_item(invoice, status))
        return invoice

    return make


@pytest.fixture
def tolerant(configure):
    """One percent is tolerated."""
    configure(TOLERANCE=1)


@pytest.fixture
def asking(configure):
    """Short payments are bound, and the rest is asked for."""
    configure(SHORT_PAYMENTS="ask")


def payment():
    return BitsbyPayment.objects.get()


# What is bound


def test_payment_within_the_tolerance_settles_its_order(order, listed, account, tolerant):
    """Half a percent less is bound and booked by the run that sees it."""
    invoice = listed(order)
    sent = account.send("9.95000000")

    report = reconciliation.reconcile()

    assert account.asked == [{"invoiceId": str(invoice.bitsby_id), "paymentId": sent["id"]}]
    assert report.booked == 1
    assert booked(order) == [(sent["id"], Decimal("9.95"))]
    assert status_of(order) == "Being processed"
    assert payment().resolution == Resolution.TOLERATED
    reconciliation.reconcile()
    assert len(account.asked) == 1


def test_short_payment_is_bound_and_the_rest_asked_for(order, listed, account, asking):
    """60 % is booked, the order stays pending, and the buyer gets the mail."""
    listed(order)
    sent = account.send("6.00000000")

    reconciliation.reconcile()

    assert booked(order) == [(sent["id"], Decimal(6))]
    assert (status_of(order), payment().resolution) == ("Pending", Resolution.ASKED)
    assert BuyerMail.objects.filter(code=MailCode.REST).count() == 1


def test_payment_of_the_rest_within_the_tolerance_settles_the_order(
    order, listed, account, asking, tolerant
):
    """The same rules hold for an invoice that asks for the rest."""
    first = listed(order)
    account.send("6.00000000")
    reconciliation.reconcile()
    rest = listed(order, amount=Decimal(4), is_for_rest=True, wallets=bitsby.stored_wallets("4.00"))
    account.send("3.98000000")

    reconciliation.reconcile()

    assert [fields["invoiceId"] for fields in account.asked] == [
        str(first.bitsby_id),
        str(rest.bitsby_id),
    ]
    assert status_of(order) == "Being processed"
    assert not BitsbyPayment.objects.needs_review().exists()


def test_invoice_that_has_just_expired_is_paid(order, listed, account, tolerant):
    """The money was sent in time, and the invoice expired before it was seen."""
    now = timezone.now()
    end = now - 30 * MINUTE
    listed(order, "expired", created_at=end - 60 * MINUTE, expires_at=end, ended_at=end)
    account.send("9.95000000", at=now - 40 * MINUTE)

    reconciliation.reconcile()

    assert status_of(order) == "Being processed"


# What is not bound


@pytest.mark.parametrize("coins", ["9.95000000", "6.00000000"])
def test_by_default_nothing_is_bound(order, listed, account, coins):
    """Staff decide, and no request is sent."""
    listed(order)
    account.send(coins)

    reconciliation.reconcile()

    assert account.asked == []
    assert payment().review_reasons == ["unmatched"]


@pytest.mark.parametrize("coins", ["9.89000000", "10.11000000", "6.00000000"])
def test_difference_beyond_the_tolerance_is_not_bound(order, listed, account, tolerant, coins):
    """Staff decide about more than one percent."""
    listed(order)
    account.send(coins)

    reconciliation.reconcile()

    assert account.asked == []


def test_cap_limits_the_tolerance(order, listed, account, configure):
    """Half a percent of ten dollars is more than the cap of four cents."""
    configure(TOLERANCE={"PERCENT": 1, "USD": "0.04"})
    listed(order)
    account.send("9.95000000")

    reconciliation.reconcile()

    assert account.asked == []


@pytest.mark.parametrize("coins", ["10.00000000", "12.00000000"])
def test_short_payments_are_less_than_the_invoice(order, listed, account, asking, coins):
    """Without a tolerance, exact and larger amounts that Bitsby did not match are for staff."""
    listed(order)
    account.send(coins)

    reconciliation.reconcile()

    assert account.asked == []


def test_short_payment_of_less_than_half_is_for_staff(order, listed, account, asking):
    """Binding would end the invoice that its buyer may be about to pay in full."""
    listed(order)
    account.send("4.99000000")

    reconciliation.reconcile()

    assert account.asked == []


def test_two_short_payments_of_one_invoice_are_for_staff(order, listed, account, asking):
    """Together they may be the total: the buyer must not be asked for the rest."""
    listed(order)
    account.send("6.00000000")
    account.send("4.00000000")

    reconciliation.reconcile()

    assert (account.asked, BuyerMail.objects.filter(code=MailCode.REST).exists()) == ([], False)


def test_dust_is_not_bound(order, listed, account, asking):
    """A payment of nearly nothing is spam."""
    listed(order)
    account.send("0.01000000")

    reconciliation.reconcile()

    assert account.asked == []


def own_wallet(**values):
    return [{**one, **values} for one in bitsby.stored_wallets("10.00")]


@pytest.mark.parametrize(
    "values",
    [
        {"wallets": own_wallet(id=str(bitsby.new_id()))},
        {"wallets": own_wallet(cryptocurrency="trx")},
        {"wallets": own_wallet(amount="")},
        {"created_at": -5 * MINUTE},
        {
            "created_at": -90 * MINUTE,
            "expires_at": -30 * MINUTE,
            "ended_at": -30 * MINUTE,
            "status": "expired",
        },
        {"status": "canceled", "ended_at": 0 * MINUTE},
        {"amount": Decimal(11), "wallets": own_wallet()},
    ],
    ids=["wallet", "coin", "rate", "older", "too late", "canceled", "another total"],
)
def test_wallet_coin_and_time_must_fit(order, listed, account, tolerant, values):
    """Only an invoice that asked for it then, there and in that coin fits."""
    now = timezone.now()
    moments = {
        name: now + value for name, value in values.items() if isinstance(value, type(MINUTE))
    }
    listed(order, **({"status": "unpaid"} | values | moments))
    account.send("9.95000000", at=now - 10 * MINUTE)

    reconciliation.reconcile()

    assert account.asked == []


@pytest.mark.parametrize("total", ["9.90", "10.00", "6.00", "19.00"])
@pytest.mark.parametrize("status", ["unpaid", "expired", "paid"])
def test_payment_that_another_order_may_be_paid_by_is_not_bound(
    order, place, listed, account, tolerant, total, status
):
    """If another invoice of these days is plausible, staff decide, even if it is paid."""
    listed(order)
    listed(place(total), status, wallets=bitsby.stored_wallets(total))
    account.send("9.95000000")

    reconciliation.reconcile()

    assert account.asked == []
    assert BitsbyPayment.objects.needs_review().count() == 1


def test_short_payment_that_fits_two_invoices_is_not_bound(order, place, listed, account, asking):
    """Both asked for more, in the same wallet at the same time."""
    listed(order)
    listed(place("100.00"), wallets=bitsby.stored_wallets("100.00"))
    account.send("3.00000000")

    reconciliation.reconcile()

    assert account.asked == []


def test_paid_invoice_expects_no_short_payment(order, place, listed, account, asking):
    """An order of the same hour that is paid in full does not make it ambiguous."""
    listed(order)
    listed(place("100.00"), "paid", wallets=bitsby.stored_wallets("100.00"))
    account.send("6.00000000")

    reconciliation.reconcile()

    assert [amount for _, amount in booked(order)] == [6]


@pytest.mark.parametrize("total", ["100.00", "3.00"])
def test_invoices_of_quite_other_amounts_do_not_matter(
    order, place, listed, account, tolerant, total
):
    """Another buyer of the same hour does not stop it."""
    listed(order)
    listed(place(total), wallets=bitsby.stored_wallets(total))
    account.send("9.95000000")

    reconciliation.reconcile()

    assert status_of(order) == "Being processed"


@pytest.mark.parametrize("status", ["Being processed", "Cancelled"])
def test_only_pending_orders_are_paid(order, listed, account, tolerant, status):
    """Whatever staff did with the order, they decide about the payment."""
    listed(order)
    account.send("9.95000000")
    type(order).objects.update(status=status)

    reconciliation.reconcile()

    assert account.asked == []


def test_order_with_money_is_not_paid_again(order, listed, account, tolerant):
    """Another source holds money of the order: staff decide."""
    listed(order)
    order.sources.update(amount_debited=5)
    account.send("9.95000000")

    reconciliation.reconcile()

    assert account.asked == []


def test_second_payment_of_the_same_order_is_not_bound(order, listed, account, tolerant):
    """The first one paid it in the same run."""
    listed(order)
    account.send("9.95000000")
    account.send("9.96000000")

    reconciliation.reconcile()

    assert len(account.asked) == 1
    assert BitsbyPayment.objects.needs_review().count() == 1


def test_payment_with_a_refund_is_not_bound(order, listed, account, configure):
    """It is to be sent back."""
    listed(order)
    account.send("9.95000000")
    reconciliation.reconcile()
    BitsbyRefund.objects.create(payment=payment(), coin_amount=9)
    configure(TOLERANCE=1)

    reconciliation.reconcile()

    assert account.asked == []


def test_rest_that_could_not_be_asked_for_is_not_bound(order, listed, account, asking, configure):
    """The rest would be below ``MIN_AMOUNT``."""
    configure(MIN_AMOUNT=5)
    listed(order)
    account.send("6.00000000")

    reconciliation.reconcile()

    assert account.asked == []


def test_dry_run_binds_nothing(order, listed, account, tolerant):
    """It asks Bitsby for no change."""
    listed(order)
    account.send("9.95000000")
    reconciliation.reconcile(dry_run=True)

    assert account.asked == []


# Failures


def test_refusal_is_not_repeated_in_every_run(order, listed, account, asking, move_time):
    """The pauses double, the order is unharmed, and staff decide about the invoice anew."""
    invoice = listed(order, expires_at=timezone.now() + 600 * MINUTE)
    account.answer = bitsby.error("Invoice is already binded")
    account.send("6.00000000")
    asked = []
    for _ in range(12):
        reconciliation.reconcile()
        asked.append(len(account.asked))
        move_time(minutes=5)

    assert asked == [1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3]
    row = reload(invoice)
    assert (row.asks_for_rest, row.webhook_pending_since) == (False, None)
    assert (status_of(order), payment().review_reasons) == ("Pending", ["unmatched"])


def test_refusal_of_one_payment_does_not_stop_the_next(order, place, listed, account, tolerant):
    """Each payment is about one order."""
    other = place("100.00")
    listed(order)
    second = listed(other, wallets=bitsby.stored_wallets("100.00"))
    account.send("99.90000000")
    account.send("9.95000000")
    binding = account.bind

    def refuse_second(fields):
        is_second = fields["invoiceId"] == str(second.bitsby_id)
        return bitsby.error("No") if is_second else binding(fields)

    account.fake.on("/invoices/bindPayment", refuse_second)
    reconciliation.reconcile()

    assert (status_of(order), status_of(other)) == ("Being processed", "Pending")


@pytest.mark.parametrize("is_up", [True, False])
def test_lost_answer_is_settled(order, listed, account, asking, is_up):
    """Whether the binding was carried out is fetched at once or, if that fails, by the next run."""
    listed(order)
    account.send("6.00000000")
    account.fake.on("/invoices/bindPayment", account.lose_answer)
    if is_up:
        reconciliation.reconcile()
    else:
        account.fake.on("/invoices/list", ConnectionError("down"))
        with pytest.raises(ConnectionFailed):
            reconciliation.reconcile()
        assert status_of(order) == "Pending"
        account.fake.on("/invoices/list", account.fake.invoices_list)
        reconciliation.reconcile()

    assert len(account.asked) == 1
    assert (status_of(order), payment().resolution) == ("Pending", Resolution.ASKED)
    assert len(booked(order)) == 1


def test_binding_that_takes_effect_late_does_not_pay_the_order(order, listed, account, asking):
    """Without an answer Bitsby may still bind: then the rest is asked for, as it was decided."""
    listed(order)
    sent = account.send("6.00000000")
    account.answer = ConnectionError("lost")
    reconciliation.reconcile()
    assert booked(order) == []

    account.attach(account.asked[0])
    reconciliation.reconcile()

    assert booked(order) == [(sent["id"], Decimal(6))]
    assert (status_of(order), payment().resolution) == ("Pending", Resolution.ASKED)


def test_all_is_written_before_bitsby_is_asked(order, listed, account, asking):
    """A process that dies while Bitsby answers leaves what the next run needs."""
    invoice = listed(order)
    account.send("6.00000000")
    seen = []

    def die(fields):
        row = reload(invoice)
        seen.append((row.asks_for_rest, row.webhook_pending_since is None))
        seen.append((payment().binding_asked_at is None, payment().failed_bindings))
        raise SystemExit

    account.fake.on("/invoices/bindPayment", die)
    with pytest.raises(SystemExit):
        reconciliation.reconcile()

    assert seen == [(True, False), (False, 1)]


def test_one_run_binds_a_bounded_number(place, listed, account, tolerant):
    """Buyers need the slots, too: three in a run, the others in the next one."""
    orders = [place(f"{10**power}.00") for power in range(1, 6)]
    for order in orders:
        listed(order, wallets=bitsby.stored_wallets(order.total_incl_tax))
        account.send(f"{order.total_incl_tax * Decimal('0.995'):.8f}")

    for expected in (3, 5):
        reconciliation.reconcile()
        assert len(account.asked) == expected
    assert {status_of(order) for order in orders} == {"Being processed"}


def test_payment_that_staff_have_dismissed_is_not_bound(order, listed, account, configure):
    """A decision by staff stays."""
    listed(order)
    account.send("9.95000000")
    reconciliation.reconcile()
    BitsbyPayment.objects.update(resolution=Resolution.DISMISSED, resolved_at=timezone.now())
    configure(TOLERANCE=1)

    reconciliation.reconcile()

    assert account.asked == []
    assert payment().review_reason == ReviewReason.UNMATCHED
