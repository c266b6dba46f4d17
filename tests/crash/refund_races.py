"""Races about refunds and rests; see ``races``."""

from contextlib import suppress

from oscar_bitsby.choices import RefundState
from oscar_bitsby.exceptions import RefundRefused
from oscar_bitsby.models import BitsbyInvoice, BitsbyRefund
from oscar_bitsby.settlement import refunds
from tests.crash import audit
from tests.crash.operations import Pay, bind_at_bitsby
from tests.crash.races import RACES, READ, Race, click_pay, reconcile, refresh
from tests.crash.wrong_amounts import (
    HASH,
    Bind,
    PayRest,
    SendRefund,
    payment_of,
    wrong_payment,
)

__all__ = ["RACES"]


def request(shop):
    payment = payment_of(shop)
    with suppress(RefundRefused):
        refunds.request_refund(
            user=shop.staff, note="sent twice", payment=payment, amount=payment.fiat_value
        )


def send(shop, transaction_hash=HASH):
    with suppress(RefundRefused):
        refunds.mark_sent(BitsbyRefund.objects.get().pk, transaction_hash, shop.staff)


def send_otherwise(shop):
    send(shop, HASH.replace("5e", "6f"))


def cancel(shop):
    with suppress(RefundRefused):
        refunds.cancel(BitsbyRefund.objects.get().pk, shop.staff, "the buyer keeps it")


def bind_at_bitsby_and_refresh(shop):
    bind_at_bitsby(shop)
    refresh(shop)


class OneRefund:
    """Expects one refund at rest; ``states`` are those that it may have at rest."""

    states = (RefundState.SENT,)
    #: The fewest refunds at rest.
    fewest = 1

    def expect(self, shop):
        found = list(BitsbyRefund.objects.values_list("state", flat=True))
        is_right = self.fewest <= len(found) <= 1 and set(found) <= set(self.states)
        return super().expect(shop) + ([] if is_right else [f"the refunds are {found}"])


class RequestRequest(OneRefund, Race):
    """Three members of staff request the refund of one payment."""

    jobs = (request, request, request)
    states = (RefundState.REQUESTED,)

    def prepare(self, shop):
        Bind.prepare(self, shop)
        Bind.act(self, shop)


class SendSend(OneRefund, Race):
    """Two members of staff enter different hashes for one refund, and runs settle."""

    jobs = (send, send_otherwise, refresh, reconcile)
    held = ((0, READ), (1, READ))

    def prepare(self, shop):
        SendRefund().prepare(shop)


class SendCancel(SendSend):
    """One member of staff marks a refund as sent while another one cancels it."""

    jobs = (send, cancel, cancel)
    states = (RefundState.SENT, RefundState.CANCELLED)


class RequestSettle(OneRefund, Race):
    """Staff request the refund of a payment while it is bound at Bitsby and settled.

    Once it is booked, staff must enter an amount, which they have not done.
    """

    jobs = (request, bind_at_bitsby_and_refresh, reconcile)
    held = ((0, READ), (1, READ))
    states = (RefundState.REQUESTED,)
    fewest = 0
    final_statuses = (audit.PAID, audit.PENDING)

    def prepare(self, shop):
        Bind.prepare(self, shop)


class PayRestTwice(Race):
    """Four clicks on "pay" for a rest: one invoice is created for it."""

    jobs = (click_pay, click_pay, click_pay, reconcile)

    def prepare(self, shop):
        PayRest().prepare(shop)

    after = Pay.after

    def expect(self, shop):
        rests = BitsbyInvoice.objects.filter(is_for_rest=True, bitsby_id__isnull=False)
        return super().expect(shop) + wrong_payment({"rests": 1}, rests=rests.count())
