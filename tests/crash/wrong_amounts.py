"""Operations about wrong amounts: refunds, rests and tolerated differences. See ``operations``."""

from contextlib import suppress
from decimal import Decimal

from django.conf import settings

from oscar_bitsby.choices import RefundState, Resolution, ReviewReason
from oscar_bitsby.exceptions import RefundRefused
from oscar_bitsby.models import BitsbyPayment, BitsbyRefund
from oscar_bitsby.settlement import refunds
from oscar_bitsby.staff import binding, review
from tests.crash import audit
from tests.crash.operations import OPERATIONS, Bind, Operation, Pay, bind_at_bitsby, invoiced, short
from tests.crash.shop import HOLD
from tests.support.refunds import ADDRESSES

__all__ = ["OPERATIONS"]

#: The hash of the shop's own transaction.
HASH = f"0x{'5e' * 32}"


def bind_and_ask(shop):
    """Let staff bind the short payment, and ask its buyer for the rest."""
    payment = shop.memo["payments"][0]
    binding.bind(shop.invoice(), payment, shop.staff, "it was meant", ask_for_rest=True)


def payment_of(shop):
    """Return the only payment of the shop."""
    return BitsbyPayment.objects.get(bitsby_id=shop.memo["payments"][0])


def wrong_payment(expected, **found):
    """Return what is wrong with the values of something, in words."""
    return [] if found == expected else [f"{found}, not {expected}"]


# Refunds.


class RequestRefund(Bind):
    """Staff requests the refund of a booked payment, and does it again after the crash."""

    #: The state of the refund at rest, and whether it is booked then.
    expected = (RefundState.REQUESTED, False)

    def prepare(self, shop):
        super().prepare(shop)
        Bind.act(self, shop)

    def act(self, shop):
        payment = payment_of(shop)
        refunds.request_refund(
            user=shop.staff, note="too little", payment=payment, amount=payment.fiat_value
        )

    def after(self, shop):
        with suppress(RefundRefused):
            self.act(shop)

    def expect(self, shop):
        found = [(one.state, one.is_booked) for one in BitsbyRefund.objects.all()]
        return super().expect(shop) + wrong_payment({"refunds": [self.expected]}, refunds=found)


class GiveAddress(RequestRefund):
    """The buyer gives the address of a refund, and does it again after the crash."""

    expected = (RefundState.ADDRESS_GIVEN, False)

    def prepare(self, shop):
        super().prepare(shop)
        RequestRefund.act(self, shop)

    def act(self, shop):
        refund = BitsbyRefund.objects.get()
        refunds.set_address(refund.pk, ADDRESSES[refund.blockchain])


class SendRefund(GiveAddress):
    """Staff marks a refund as sent, and does it again after the crash."""

    expected = (RefundState.SENT, True)
    cancels = False

    def prepare(self, shop):
        super().prepare(shop)
        GiveAddress.act(self, shop)

    def act(self, shop):
        refund = BitsbyRefund.objects.get()
        refunds.mark_sent(refund.pk, HASH, shop.staff, cancel_order=self.cancels)

    def expect(self, shop):
        found = payment_of(shop).resolution
        return super().expect(shop) + wrong_payment(
            {"resolution": Resolution.REFUNDED}, resolution=found
        )


class SendRefundAndCancel(SendRefund):
    """Staff marks a refund as sent and cancels its order in the same step."""

    cancels = True
    final_statuses = (audit.CANCELLED,)


class CancelRefund(GiveAddress):
    """Staff cancels a refund, and does it again after the crash."""

    expected = (RefundState.CANCELLED, False)

    def act(self, shop):
        refunds.cancel(BitsbyRefund.objects.get().pk, shop.staff, "the buyer pays the rest")


class SendRefundOfUnbound(SendRefund):
    """Staff marks the refund of a payment as sent that no invoice has."""

    expected = (RefundState.SENT, False)
    final_statuses = (audit.PENDING,)

    def prepare(self, shop):
        Bind.prepare(self, shop)
        refunds.request_refund(user=shop.staff, note="a stranger's", payment=payment_of(shop))
        GiveAddress.act(self, shop)


class SettleRebound(SendRefundOfUnbound):
    """A run that finds a payment bound at Bitsby after it was refunded."""

    def prepare(self, shop):
        super().prepare(shop)
        SendRefundOfUnbound.act(self, shop)
        bind_at_bitsby(shop)

    act = Operation.act
    after = Operation.after

    def expect(self, shop):
        reason = payment_of(shop).review_reason
        expected = {"reason": ReviewReason.REBOUND}
        return Bind.expect(self, shop) + wrong_payment(expected, reason=reason)


# Rests.


class BindAndAsk(Bind):
    """Staff binds a short payment and asks for the rest, again after the crash; it is paid."""

    def act(self, shop):
        bind_and_ask(shop)

    def after(self, shop):
        self.act(shop)
        Pay.after(self, shop)


class BindAndAskLeft(BindAndAsk):
    """The same, but neither staff nor the buyer does anything after the crash."""

    final_statuses = (audit.PENDING,)

    after = Operation.after

    def expect(self, shop):
        bound = [item for item in shop.state()["payments"] if item.get("invoice")]
        found, expected = payment_of(shop).resolution, Resolution.ASKED if bound else ""
        return super().expect(shop) + wrong_payment({"resolution": expected}, resolution=found)


class PayRest(BindAndAsk):
    """The click that creates the invoice for the rest; the buyer pays it."""

    def prepare(self, shop):
        super().prepare(shop)
        bind_and_ask(shop)

    def act(self, shop):
        shop.click_pay()

    after = Pay.after


class SettleRest(PayRest):
    """A run that finds the payment of the rest."""

    def prepare(self, shop):
        super().prepare(shop)
        shop.pay(invoiced(shop))

    act = Operation.act
    after = Operation.after


class FlagMissingRest(PayRest):
    """A run that finds that the rest was not paid in time."""

    final_statuses = (audit.PENDING,)

    def prepare(self, shop):
        super().prepare(shop)
        shop.later(HOLD)

    act = Operation.act
    after = Operation.after

    def expect(self, shop):
        reason = payment_of(shop).review_reason
        expected = {"reason": ReviewReason.REST_MISSING}
        return super().expect(shop) + wrong_payment(expected, reason=reason)


class AskAgain(FlagMissingRest):
    """Staff asks for a missing rest once more, and does it again after the crash; it is paid."""

    final_statuses = (audit.PAID,)

    def prepare(self, shop):
        super().prepare(shop)
        shop.reconcile()

    def act(self, shop):
        review.ask(payment_of(shop).pk, shop.staff, "the buyer called")

    def after(self, shop):
        self.act(shop)
        Pay.after(self, shop)

    expect = Operation.expect


# Runs that bind.


class BindByRun(Operation):
    """A run that binds a payment of a little less, by the shop's tolerance."""

    rules = {"TOLERANCE": 5}
    part = Decimal("0.98")
    resolution = Resolution.TOLERATED

    def prepare(self, shop):
        shop.memo["payments"] = [short(shop, invoiced(shop), self.part)]
        self.configure()

    def after(self, shop):
        self.configure()
        # A binding whose answer was lost is not asked for again at once.
        for _ in range(2):
            shop.run_until_stable()
            shop.later(11 * 60)

    def configure(self):
        """Set the shop's rules; this process and the audit keep them."""
        settings.OSCAR_BITSBY = {**settings.OSCAR_BITSBY, **self.rules}

    def expect(self, shop):
        found = payment_of(shop).resolution
        expected = {"resolution": self.resolution}
        return super().expect(shop) + wrong_payment(expected, resolution=found)


class AskByRun(BindByRun):
    """A run that binds a short payment and asks for the rest, which is paid."""

    rules = {"SHORT_PAYMENTS": "ask"}
    part = Decimal("0.7")
    resolution = Resolution.ASKED

    def after(self, shop):
        super().after(shop)
        Pay.after(self, shop)
