"""The forms of refunds: what to refund, and the steps of a refund that was requested."""

from decimal import Decimal
from typing import Any

from django import forms
from django.core.validators import MaxLengthValidator
from django.utils.formats import localize
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext_lazy, pgettext_lazy

from oscar_bitsby.settlement.refunds import Refundable
from oscar_bitsby.utils.money import CRYPTO_PLACES, parse_typed_amount

#: Attributes of inputs in both frames: the dashboard's class, and the admin's.
WIDE = {"class": "form-control vTextField"}
NUMBER = {**WIDE, "inputmode": "decimal", "autocomplete": "off"}
PASTED = {**WIDE, "autocomplete": "off", "spellcheck": "false", "autocapitalize": "none"}

#: Longer texts are no address or hash on any blockchain, and would not fit the columns.
MAX_PASTED = 200

FULL, SURPLUS, OTHER = "full", "surplus", "other"


def reason_field(*, required: bool) -> forms.CharField:
    """Return the field of the reason that staff give, which the admin log keeps."""
    return forms.CharField(
        label=gettext_lazy("Reason"),
        required=required,
        max_length=200,
        error_messages={
            "required": gettext_lazy("Enter a reason: others may need it later."),
            "max_length": ngettext_lazy(
                "The reason may have at most %(limit_value)d character.",
                "The reason may have at most %(limit_value)d characters.",
                "limit_value",
            ),
        },
        widget=forms.TextInput(attrs=WIDE),
    )


class AmountField(forms.CharField):
    """An amount that is typed with a decimal point or comma; None if nothing was typed."""

    def __init__(self, *, places: int, **options: Any) -> None:
        self.places = places
        options.setdefault("widget", forms.TextInput(attrs=NUMBER))
        super().__init__(required=False, **options)

    def clean(self, value: Any) -> Any:
        text = super().clean(value)
        if not text:
            return None
        try:
            return parse_typed_amount(text, self.places)
        except ValueError:
            raise forms.ValidationError(
                _(
                    "“%(text)s” is not an amount. Enter digits with at most %(places)d decimals,"
                    " without thousands separators, for example 12.50."
                )
                % {"text": text, "places": self.places}
            ) from None


class RefundForm(forms.Form):
    """How much to refund, in the order's currency and in coins, and why.

    Args:
        left: what can still be refunded.
        coins: the choices of coin and chain; empty if the payment determines them.
    """

    what = forms.ChoiceField(
        required=False,
        widget=forms.RadioSelect,
        error_messages={"invalid_choice": gettext_lazy("Choose how much you refund.")},
    )
    amount = AmountField(places=2, label=pgettext_lazy("bitsby", "Amount"))
    coin_amount = AmountField(places=CRYPTO_PLACES, label=gettext_lazy("Amount in coin"))
    coin = forms.ChoiceField(
        label=gettext_lazy("Coin and blockchain"),
        required=False,
        widget=forms.Select(attrs={"class": "form-control"}),
        error_messages={"invalid_choice": gettext_lazy("Choose a coin that is listed.")},
    )
    note = reason_field(required=False)
    #: The newest refund when the form was shown: see ``refund_flow``.
    seen = forms.IntegerField(required=False, widget=forms.HiddenInput)

    def __init__(
        self, *args: Any, left: Refundable, coins: list[tuple[str, str]], **options: Any
    ) -> None:
        super().__init__(*args, **options)
        self.left = left
        choices = [(FULL, FULL), (OTHER, OTHER)]
        if self.offers_surplus:
            choices.insert(1, (SURPLUS, SURPLUS))
        if left.amount is None:
            choices = []
        self._field("what").choices = choices
        self._field("coin").choices = coins
        self._field("coin").required = bool(coins)

    def _field(self, name: str) -> Any:
        return self.fields[name]

    @property
    def offers_surplus(self) -> bool:
        """Tell whether only a part of what is left is above the order's total."""
        left = self.left
        return left.amount is not None and 0 < left.surplus < left.amount

    @property
    def chosen(self) -> str:
        """What is chosen when the page is shown: what was sent, or the likely answer."""
        sent = self.data.get("what") if self.is_bound else ""
        return sent or (SURPLUS if self.offers_surplus else FULL)

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        if not self.errors and self.left.amount is not None:
            data["amount"] = self._chosen_amount(data, self.left.amount)
        return data

    def _chosen_amount(self, data: dict[str, Any], most: Decimal) -> Decimal | None:
        typed: Decimal | None = data.get("amount")
        if typed is None and data["what"] == OTHER:
            self.add_error("amount", _("Enter the amount to refund."))
        elif typed is not None and typed > most:
            text = _(
                "At most %(amount)s %(currency)s can still be refunded. Enter a smaller amount."
            )
            values = {"amount": localize(most), "currency": self.left.currency}
            self.add_error("amount", text % values)
        if typed is not None:
            # It counts whatever is chosen: nobody types an amount that is not meant.
            return typed
        return self.left.surplus if data["what"] == SURPLUS else most


def _pasted_field(label: Any, required: Any, too_long: Any) -> forms.CharField:
    return forms.CharField(
        label=label,
        # Not ``max_length``: browsers would silently cut off the end of what is pasted.
        validators=[MaxLengthValidator(MAX_PASTED)],
        error_messages={
            "required": required,
            "max_length": too_long,
            "null_characters_not_allowed": too_long,
        },
        widget=forms.TextInput(attrs=PASTED),
    )


class AddressForm(forms.Form):
    """An address that staff have from the buyer. Settlement checks it by the blockchain's rules."""

    address = _pasted_field(
        gettext_lazy("Address"),
        gettext_lazy("Enter the address that you got from the buyer."),
        gettext_lazy("This is not an address. Copy only the address from the wallet."),
    )


class SentForm(forms.Form):
    """The hash of the transaction that sent the coins."""

    transaction_hash = _pasted_field(
        gettext_lazy("Transaction hash"),
        gettext_lazy("Enter the transaction hash: your wallet shows it after sending."),
        gettext_lazy(
            "A transaction hash has 8 to 200 letters and digits. Copy only the hash, not a link."
        ),
    )
    cancel_order = forms.BooleanField(
        label=gettext_lazy("Cancel the order, too, and release its stock"), required=False
    )
    note = reason_field(required=False)


class ReasonForm(forms.Form):
    """Why a refund is cancelled, or its address removed."""

    note = reason_field(required=True)
